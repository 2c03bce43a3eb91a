"""launcher=local: the same numbers as in one process, and nothing lost when a worker or the launcher dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE, run_in_process

from benchmark.__main__ import main
from benchmark.cells import past_costs
from benchmark.display.duration import format_duration
from benchmark.errors import UsageError
from benchmark.launch import in_process, shares
from benchmark.launch.worker import Lines
from benchmark.settings import address
from benchmark.settings.cell import restore
from benchmark.settings.runtime import Runtime
from benchmark.words import cell_words

SMALL = [
    "methods=simclr",
    "dataset.limit=60",
    "view_size=16",
    "backbone=test_resnet",
    "stem=native",
    "batch_size=8",
    "augmentation=flip",
    "epochs=8",
    "log_every=1",
    "checkpoint_every=0.2",
    "threads=1",
    "device=cpu",
]
LOCAL = ("launcher=local", "workers=2")
STEPS = list(range(1, 49))


def start(out: Path, environment: dict[str, str], *more: str) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "benchmark", "run", *SMALL, *more, f"out={out}"]
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(out: Path, environment: dict[str, str], *more: str) -> tuple[int, str]:
    """(exit code, what it said) of a launcher in this process; its workers are processes in any case."""
    result = run_in_process(["run", *SMALL, *more, f"out={out}"], environment)
    return result.returncode, result.stderr


def read_records(out: Path) -> dict[str, dict[str, Any]]:
    """Each cell's record, by the name of its folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/record.json"))}


def read_metrics(out: Path) -> dict[str, dict[str, float]]:
    return {name: record["metrics"] for name, record in read_records(out).items()}


def read_steps(folder: Path) -> list[int]:
    """The steps that a cell's log has."""
    path = folder / "log.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line)["step"] for line in text.splitlines(keepends=True) if line.endswith("\n")]


def find_workers(out: Path) -> list[int]:
    """The processes of all workers that were started, first to last."""
    logs = sorted(out.glob(".local*/worker-*.log"))
    lines = [line for log in logs for line in log.read_text().splitlines()]
    return [int(line.split()[-1]) for line in lines if line.startswith("worker, process ")]


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> Any:
    """What `happened` says, once it is true."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        result = condition()
        if result:
            return result
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def find_busy_worker(out: Path, least: int) -> tuple[int, Path] | None:
    """A worker and its cell, which has a checkpoint and has logged so many steps."""
    for process in find_workers(out):
        for link in Path(f"/proc/{process}/fd").glob("*"):
            try:
                folder = Path(os.readlink(link)).parent
            except OSError:
                continue
            if folder.parent == out and (folder / "last.pt").exists() and max(read_steps(folder), default=0) >= least:
                return process, folder
    return None


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cells, one after the other in one process, which is this one: it has imported torch before."""
    import torch

    out = tmp_path_factory.mktemp("here")
    threads = torch.get_num_threads()
    assert main(["run", *SMALL, "seeds=0,1,2", f"out={out}"]) == 0
    torch.set_num_threads(threads)
    return out


@pytest.mark.slow
def test_whoever_dies_the_others_and_the_same_command_go_on(
    tmp_path: Path, environment: dict[str, str], here: Path
) -> None:
    """A worker is killed, then the launcher is stopped while its worker starts, stopped in a cell, and killed."""
    command = ("seeds=0,1,2", *LOCAL)
    process = start(tmp_path, environment, *command)
    worker, cell = wait_for(lambda: find_busy_worker(tmp_path, 5), process)
    os.kill(worker, signal.SIGKILL)
    printed = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 1, printed
    reason = "worker killed by signal 9 (SIGKILL: the out-of-memory killer, perhaps)"
    outcomes = {name: (record["status"], record["reason"]) for name, record in read_records(tmp_path).items()}
    assert outcomes.pop(cell.name) == ("failed", reason)
    assert list(outcomes.values()) == [("finished", None)] * 2
    assert reason in printed
    assert reason in (cell / "error.txt").read_text()
    assert len(find_workers(tmp_path)) == 3, "another took its place"
    assert (cell / "last.pt").exists()

    process = start(tmp_path, environment, *command)
    wait_for(lambda: len(find_workers(tmp_path)) == 1, process)
    process.terminate()
    printed = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert "stopped by SIGTERM; nothing is lost: the same command goes on from here" in printed
    for number in (signal.SIGINT, signal.SIGKILL):
        least = read_steps(cell)[-1] + 5
        process = start(tmp_path, environment, *command)
        worker, same = wait_for(lambda least=least: find_busy_worker(tmp_path, least), process)
        process.send_signal(number)
        printed = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), printed
        assert "Traceback" not in printed
        wait_for(lambda worker=worker: not is_alive(worker))
        assert same == cell
        assert least <= read_steps(cell)[-1] < STEPS[-1]
        assert read_records(tmp_path)[cell.name]["reason"] == reason, "stopped is not failed"

    code, printed = run(tmp_path, environment, *command)
    assert code == 0, printed
    assert read_metrics(tmp_path) == read_metrics(here)
    assert read_steps(cell) == STEPS, "no step twice"
    assert not (cell / "error.txt").exists()


@pytest.mark.slow
def test_two_launchers_at_once_train_each_cell_once_and_as_one_process_does(
    tmp_path: Path, environment: dict[str, str], here: Path
) -> None:
    leftovers = environment | {"RANK": "3", "WORLD_SIZE": "8"}  # by a cluster: nobody launched with it
    both = [start(tmp_path, leftovers, "seeds=0,1,2", "launcher=local", "workers=1") for _ in range(2)]
    printed = [process.communicate(timeout=PATIENCE)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) in ([0, 0], [0, 3]), printed
    assert all("no record: " in one for one, code in zip(printed, codes, strict=True) if code == 3)
    assert all("note: RANK=3, WORLD_SIZE=8 of the environment: not used" in one for one in printed)
    assert read_metrics(tmp_path) == read_metrics(here)
    assert [read_steps(tmp_path / name) for name in read_records(tmp_path)] == [STEPS] * 3
    assert len(list(tmp_path.glob(".local*"))) == 2, "each with its own logs"
    assert len(find_workers(tmp_path)) == 2, "a start a worker, not one a cell"
    assert all("[3/3] simclr seed=2 on cpu" in one for one in printed)


ELSEWHERE = """
import os, pathlib, sys
del os.waitid, os.sched_getaffinity
mark = pathlib.Path(os.environ["MARK"])
if "benchmark.launch.worker" in sys.orig_argv and not mark.exists():
    mark.touch()
    os._exit(9)
"""


@pytest.mark.slow
def test_a_worker_that_dies_before_its_first_cell_is_replaced_also_on_macos(
    tmp_path: Path, environment: dict[str, str], here: Path
) -> None:
    """macOS has none of those functions with Python 3.11 and 3.12."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ELSEWHERE)
    path = f"{tmp_path / 'site'}:{environment['PYTHONPATH']}"
    elsewhere = environment | {"PYTHONPATH": path, "MARK": str(tmp_path / "mark")}
    process = start(tmp_path / "runs", elsewhere, "seeds=0", "launcher=local", "workers=1")
    printed = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, printed
    assert "worker 0 ended with exit code 9 before it began a cell; see " in printed
    (own,) = read_metrics(tmp_path / "runs").items()
    assert own in read_metrics(here).items()


@pytest.mark.slow
def test_ctrl_z_suspends_the_workers_too(tmp_path: Path, environment: dict[str, str]) -> None:
    process = start(tmp_path, environment, "seeds=0,1", "launcher=local", "workers=1")
    worker, cell = wait_for(lambda: find_busy_worker(tmp_path, 5), process)

    def read_state(number: int) -> str:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]

    process.send_signal(signal.SIGTSTP)
    wait_for(lambda: (read_state(process.pid), read_state(worker)) == ("T", "T"))
    steps = read_steps(cell)
    process.send_signal(signal.SIGCONT)
    wait_for(lambda: len(read_steps(cell)) > len(steps), process)
    process.terminate()
    printed = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 128 + signal.SIGTERM, printed


def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    out = tmp_path / "runs"
    small = [word for word in SMALL if not word.startswith("batch_size")]
    words = ["run", *small, "batch_size=32,5000", "launcher=local", "workers=1", f"out={out}"]
    result = run_in_process(words, environment)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: batch_size=5000: digits has 50 images to train on"
    assert "Traceback" not in result.stderr
    code, printed = run(out, environment | {"TORCHELASTIC_RUN_ID": "none"}, *LOCAL)
    assert (code, printed) == (2, "error: launcher=local starts its own processes: run it without torchrun\n")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["workers=2"], "workers=2 is for launcher=local, not for launcher=here"),
        (["per_device=2"], "per_device=2 is for launcher=local"),
        (["launcher=local", "workers=-1"], "workers=-1: at least 0 is needed"),
        (["launcher=local", "per_device=0"], "per_device=0: at least 1 is needed"),
        (["launcher=locl"], "did you mean 'local'"),
    ],
)
def test_words_that_cannot_be_meant(words: list[str], parts: str) -> None:
    with pytest.raises(UsageError, match=parts):
        cell_words.read(["methods=simclr", *words])


def test_devices() -> None:
    two = Runtime(launcher="local", per_device=2)
    assert shares.share_devices(two, gpus=2) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert shares.share_devices(Runtime(device="cuda:1"), gpus=2) == ["cuda:1"]
    assert shares.share_devices(Runtime(device="cuda"), gpus=0) == ["cuda"], "the worker refuses it"
    assert shares.share_devices(Runtime(device="cpu", workers=3), gpus=2) == ["cpu"] * 3
    assert set(shares.share_devices(Runtime(), gpus=0)) == {"cpu"}
    with pytest.raises(UsageError, match=r"workers=2 .* per_device=2"):
        shares.share_devices(Runtime(workers=2), gpus=1)
    with pytest.raises(UsageError, match=r"per_device=2 is for GPUs"):
        shares.share_devices(two, gpus=0)


def find_shapes(*words: str) -> list[past_costs.Shape]:
    return [past_costs.find_shape(address.identify(cell)) for cell in cell_words.read(list(words)).cells]


def test_beside_other_work_a_process_takes_the_threads_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in shares.SHARED_OUT:
        monkeypatch.delenv(name, raising=False)
    cores = len(os.sched_getaffinity(0))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        deadline = time.monotonic() + PATIENCE
        while shares.busy_cores() < cores - 0.5 and time.monotonic() < deadline:
            pass
        threads, note = shares.spare_threads(Runtime())
        assert threads == 1
        assert (f"{cores} of {cores} cores busy: threads=1" in note) == (cores > 1)
        assert shares.spare_threads(Runtime(threads=3)) == (3, "")
        for name in shares.SHARED_OUT:
            with monkeypatch.context() as patched:
                patched.setenv(name, "1")
                assert shares.spare_threads(Runtime()) == (0, "")
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_every_command_that_computes_takes_the_threads_that_are_left(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`plan` too, in a process that it starts, or it would forecast several times what `run` takes."""
    monkeypatch.setattr(in_process, "spare_threads", lambda runtime: (1, "other work"))
    out = f"out={tmp_path}"
    for words in (
        ["run", "methods=random", "backbone=test_resnet", "dataset.limit=100", out],
        ["evaluate", "evaluations=knn", out],
        ["profile", "methods=pixels"],
    ):
        assert "note: other work" in run_in_process(words, environment).stderr, words


def test_the_longest_expected_cell_goes_first() -> None:
    by_work = find_shapes("methods=simclr", "epochs=2,8,4")
    assert past_costs.sort_longest_first(by_work, []) == [1, 2, 0]
    crops = find_shapes("methods=simclr", "augmentation=simclr,simclr+6x16", "seeds=0,1")
    assert past_costs.sort_longest_first(crops, []) == [2, 3, 0, 1], "equal ones as they were given"
    simclr, moco, random = find_shapes("methods=simclr,moco,random", "seeds=0")
    assert past_costs.sort_longest_first([random, simclr, moco], []) == [1, 2, 0]
    ran = [past_costs.PastRun(simclr, 10.0), past_costs.PastRun(moco, 30.0)]
    assert past_costs.sort_longest_first([random, simclr, moco], ran) == [2, 1, 0], "what ran says more"
    other_seed = find_shapes("methods=moco", "seeds=1")[0]
    assert past_costs.PastCosts(ran).seconds(other_seed) == pytest.approx(30)
    few, many = find_shapes("methods=moco", "epochs=10,100")
    costs = past_costs.PastCosts([past_costs.PastRun(few, 6)])
    assert costs.seconds(many) == pytest.approx(60, rel=0.1), "in proportion to its work"


def test_what_another_method_took_is_no_guess() -> None:
    """`random` ends in seconds, and would promise the same of a training of hours."""
    random, simclr, longer = find_shapes("methods=random,simclr", "epochs=10,20")
    ran = [past_costs.PastRun(random, 6.0)]
    assert past_costs.estimate_alike([random, simclr, longer], ran) == pytest.approx([6])
    assert past_costs.estimate_alike([longer], [*ran, past_costs.PastRun(simclr, 60)]) == pytest.approx([120], rel=0.1)


def test_time_left() -> None:
    (cell,) = find_shapes("methods=simclr")
    assert past_costs.estimate_time_left([(cell, 5.0, None)], [cell], [], 2) is None
    assert past_costs.estimate_time_left([(cell, 5.0, 15.0)], [cell] * 4, [], 1) == pytest.approx(15 + 4 * 20)
    ran = [past_costs.PastRun(cell, 10.0)]
    assert past_costs.estimate_time_left([(cell, 5.0, None)], [cell], ran, 2) == pytest.approx(10), "no less than one"
    assert [format_duration(seconds) for seconds in (45, 600, 9000)] == ["45 s", "10 min", "2.5 h"]


def test_a_cell_goes_through_json_unchanged() -> None:
    words = ["methods=simclr,moco,random,supervised", "dataset.limit=100", "temperature=0.1,1"]
    for cell in cell_words.read(words).cells:
        copy = restore(json.loads(json.dumps(asdict(cell))))
        assert copy == cell
        assert address.hash_cell(copy) == address.hash_cell(cell)


def test_lines_come_whole_out_of_pieces() -> None:
    lines = Lines()
    assert lines.complete(b'{"a": 1}\n{"b"') == [{"a": 1}]
    assert lines.complete(b": 2}") == []
    assert lines.complete(b"\n") == [{"b": 2}]
