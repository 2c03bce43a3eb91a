"""One cell, whatever happens to it: killed, stopped, failed, collapsed, run twice, run by two processes."""

import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from multiprocessing import Process
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import PATIENCE, fork, run_in_process, run_in_subprocess, wait_until
from PIL import Image

from benchmark.cells import machine
from benchmark.cells import run as run_cell
from benchmark.cells.validation_curve import METRIC
from benchmark.settings.presets import digits
from results.frames.frame import load
from results.record import unpack
from results.statistics.summaries import summarise

SMALL = [
    "methods=simclr",
    "dataset.limit=180",
    "view_size=16",
    "backbone=test_resnet",
    "stem=native",
    "batch_size=32",
    "epochs=6",
    "log_every=1",
    "checkpoint_every=0",
    "threads=1",
]


def run(
    out: Path,
    environment: dict[str, str],
    *words: str,
    command: str = "run",
    small: bool = True,
    launcher: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    keys = {word.partition("=")[0] for word in words}
    base = [word for word in SMALL if word.partition("=")[0] not in keys] if small else []
    call = [command, *base, *words, f"out={out}"]
    return run_in_subprocess(call, environment, launcher=launcher) if launcher else run_in_process(call, environment)


def read_records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("*/record.json"))]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The small cell's folder and record, trained without any disturbance."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    out = tmp_path_factory.mktemp("reference")
    result = run(out, environment)
    assert result.returncode == 0, result.stderr
    return out, read_records(out)[0]


def test_a_copy_without_its_repository_is_told_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = machine.read_commit.__wrapped__  # another test of this process may have asked before, in its own environment
    monkeypatch.setenv("BENCHMARK_COMMIT", "29ef7f7")
    assert ask() == {"commit": "29ef7f7", "dirty": None}
    monkeypatch.setenv("BENCHMARK_COMMIT", "")
    assert ask()["commit"] != ""


def test_a_record_holds_what_the_number_can_be_traced_by(reference: tuple[Path, dict[str, Any]]) -> None:
    out, record = reference
    assert record["status"] == "finished"
    assert {"linear_top1", "knn20_top1", "knn200_top1", "effective_rank", "alignment", "uniformity"} <= set(
        record["metrics"]
    )
    assert record["cost"]["views"] == 6 * 5 * 32 * 2, "epochs x steps x batch x views"
    assert record["cost"]["processes"] == 1
    assert record["cost"]["peak_memory_bytes"] > 10**8
    assert record["settings"]["options"]["temperature"] == float(digits()["simclr.temperature"].value)
    assert (record["resolved"]["stem"], record["resolved"]["family"]) == ("native", "end_to_end")
    kind = {"results_version": 1, "precision": record["resolved"]["precision"], "compile": False, "tf32": False}
    assert kind.items() <= record["resolved"].items()
    # scikit-learn's 1,797 digits: a quarter is the test set; of the 180 that are kept all are references.
    test = {"images": 449, "order": record["resolved"]["test"]["order"], "classes": 10, "largest_class": 46 / 449}
    assert record["resolved"]["test"] == test | {"references": 180}
    assert set(record["correct"]) == {"linear_top1", "knn20_top1"}
    for name, text in record["correct"].items():
        bits = np.unpackbits(np.frombuffer(unpack(text), dtype=np.uint8), count=449)
        assert bits.mean() == pytest.approx(record["metrics"][name])
    folder = out / f"simclr-digits-{record['key']}"
    assert (folder / "settings.json").is_file()
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 31))


def test_a_split_by_the_runs_seed_is_that_split_under_another_name(tmp_path: Path, environment: dict[str, str]) -> None:
    """Its cells are one configuration of another protocol than the fixed split's, and pixels depend on the seed too."""
    words = ["methods=random,pixels", "seeds=0,1", "dataset.split_seed=seed,0,1", "dataset.limit=60", "view_size=8"]
    result = run(tmp_path, environment, *words)
    assert result.returncode == 0, result.stderr
    cells = {
        (r["settings"]["method"], r["settings"]["seed"], r["settings"]["dataset"]["split_seed"]): r
        for r in read_records(tmp_path)
    }
    assert len(cells) == 10, "two seeds of either by the run's seed; of the fixed splits pixels once each"
    for seed in (0, 1):
        assert cells["random", seed, "seed"]["metrics"] == cells["random", seed, seed]["metrics"]
        assert cells["pixels", seed, "seed"]["metrics"] == cells["pixels", None, seed]["metrics"]
    assert cells["random", 0, "seed"]["metrics"] != cells["random", 0, 1]["metrics"]
    protocols = {split: {r["protocol"] for (_, _, own), r in cells.items() if own == split} for split in ("seed", 0, 1)}
    assert [len(each) for each in protocols.values()] == [1, 1, 1]
    assert len(set.union(*protocols.values())) == 3
    frame, problems = load(tmp_path)
    assert problems == []
    summary = summarise(frame)
    assert sorted(zip(summary["method"], summary["dataset.split_seed"].map(str), summary["seeds"], strict=True)) == [
        ("pixels", "0", 1),
        ("pixels", "1", 1),
        ("pixels", "seed", 2),
        ("random", "0", 2),
        ("random", "1", 2),
        ("random", "seed", 2),
    ]
    result = run(
        tmp_path,
        environment,
        f"cells={cells['random', 1, 'seed']['key']}",
        "evaluations=knn",
        command="evaluate",
        small=False,
    )
    assert result.returncode == 0, result.stderr


def test_the_same_command_again_runs_nothing(
    reference: tuple[Path, dict[str, Any]], environment: dict[str, str]
) -> None:
    out, record = reference
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    result = run(out, environment)
    assert result.returncode == 0, result.stderr
    assert f"{100 * record['metrics']['linear_top1']:.1f}" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_unequal_classes_and_few_references_are_told_beside_the_numbers(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Of images without a signal the probe says the larger class: top-1 is high, balanced accuracy is chance."""
    for split, counts in (("train", (30, 6)), ("test", (20, 4))):
        for name, count in zip(("common", "rare"), counts, strict=True):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (16, 16), (90, 90, 90)).save(tmp_path / "images" / split / name / f"{i}.png")
    words = ["methods=pixels", "dataset=folder", f"dataset.root={tmp_path / 'images'}", "dataset.side=16"]
    result = run(tmp_path / "runs", environment, *words, "view_size=16", small=False)
    assert result.returncode == 0, result.stderr
    (record,) = read_records(tmp_path / "runs")
    test = {"images": 24, "classes": 2, "largest_class": 20 / 24, "references": 36}
    assert test.items() <= record["resolved"]["test"].items()
    assert (record["metrics"]["linear_top1"], record["metrics"]["linear_balanced"]) == (pytest.approx(20 / 24), 0.5)
    printed = " ".join(result.stdout.split())
    assert re.search(r"83\.3 ± \d+\.\d 50\.0", printed), "linear top-1 with what 24 images leave open, linear balanced"
    assert "24 test images; largest class 83.3 %, above 1.5 times an equal share of 50.0 %" in printed
    assert "kNN-200: only 36 references, all of them vote" in printed
    assert "kNN-20:" not in printed


@pytest.mark.slow
def test_killed_six_times_from_its_start_to_its_evaluation(tmp_path: Path, environment: dict[str, str]) -> None:
    """The same command finishes the cell with the metrics and the log of the undisturbed one."""
    smaller = [{"dataset.limit=180": "dataset.limit=90", "epochs=6": "epochs=12"}.get(word, word) for word in SMALL]

    def start(name: str) -> Process:
        words = ["run", *smaller, "evaluate_every=4", f"out={tmp_path / name}"]
        return fork(words, environment, tmp_path / "printed.txt")

    def read_log(name: str) -> list[dict[str, Any]]:
        text = "".join(path.read_text() for path in (tmp_path / name).glob("*/log.jsonl"))
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def kill_behind(lines: int, delay: float) -> None:
        process = start("killed")
        wait_until(lambda: len(read_log("killed")) >= lines or not process.is_alive(), f"{lines} lines of log")
        process.join(delay)
        process.kill()
        process.join()
        ended = (process.exitcode, len(read_records(tmp_path / "killed")))
        assert ended in ((-signal.SIGKILL, 0), (-signal.SIGKILL, 1), (0, 1)), (tmp_path / "printed.txt").read_text()

    draw = random.Random(0)
    for lines in (0, 3, 8, 13, 19, 27):  # of 24 steps and 3 evaluations: the last kill is in that of the trained cell
        kill_behind(lines, draw.uniform(0, 0.1))
    for name in ("killed", "whole"):
        process = start(name)
        process.join(PATIENCE)
        assert process.exitcode == 0
    (killed,), (whole,) = read_records(tmp_path / "killed"), read_records(tmp_path / "whole")
    assert killed["metrics"] == whole["metrics"]
    assert killed["key"] == whole["key"]
    curves = []
    for log in (read_log("killed"), read_log("whole")):
        steps = [line["step"] for line in log if "loss" in line]
        assert steps == list(range(1, 25)), "no step is logged twice or left out"
        curves.append([(line["epoch"], line[METRIC]) for line in log if METRIC in line])
    assert curves[0] == curves[1], "nor an evaluation"
    assert [epoch for epoch, _ in curves[0]] == [4, 8, 12]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal_it_goes_on_where_it_was(
    number: signal.Signals,
    code: int,
    tmp_path: Path,
    environment: dict[str, str],
    reference: tuple[Path, dict[str, Any]],
) -> None:
    words = [*(w for w in SMALL if not w.startswith("checkpoint_every")), f"out={tmp_path}"]
    process = fork(["run", *words], environment, tmp_path / "printed.txt")
    log = tmp_path / f"simclr-digits-{reference[1]['key']}" / "log.jsonl"
    while process.is_alive() and not (log.exists() and log.read_text().count("\n") >= 3):
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.join(PATIENCE)
    printed = (tmp_path / "printed.txt").read_text()
    assert process.exitcode == code
    assert "the same command goes on" in printed
    assert "Traceback" not in printed
    assert (log.parent / "last.pt").is_file()
    assert not (log.parent / "record.json").exists()
    assert "interrupted" in run(tmp_path, environment, command="status", small=False).stdout
    assert run(tmp_path, environment).returncode == 0
    assert read_records(tmp_path)[0]["metrics"] == reference[1]["metrics"]


@pytest.mark.slow
def test_a_terminal_that_closes_stops_it_behind_a_checkpoint(tmp_path: Path, environment: dict[str, str]) -> None:
    """What is written to it from then on is an error, which must not become the cell's."""
    words = [word for word in SMALL if not word.startswith(("checkpoint_every", "epochs"))]
    terminal, own = pty.openpty()
    process = fork(["run", *words, "epochs=1000", f"out={tmp_path}"], environment, Path(os.ttyname(own)))
    lines = 0
    while lines < 3:
        os.read(terminal, 1 << 16)  # the progress bar, which must not have to wait
        lines = sum(path.read_text().count("\n") for path in tmp_path.glob("*/log.jsonl"))
    os.close(own)
    os.close(terminal)
    process.join(PATIENCE)
    assert process.exitcode == 128 + signal.SIGHUP
    assert len(list(tmp_path.glob("*/last.pt"))) == 1
    assert read_records(tmp_path) == []


def test_a_loss_that_is_not_finite_stops_the_cell_and_is_recorded(tmp_path: Path, environment: dict[str, str]) -> None:
    result = run(tmp_path, environment, "learning_rate=1e30", "head_norm=false")
    record = read_records(tmp_path)[0]
    assert result.returncode == 0, result.stderr
    assert record["status"] == "collapsed"
    assert record["reason"].startswith("non-finite loss at step ")
    assert record["metrics"] == {}
    assert "non-finite loss" in result.stdout + result.stderr


PLUGIN = '''"""A method that fails."""
from methods.method import Method

class Failing(Method):
    def forward(self, batch, at):
        raise RuntimeError("no such luck")
'''


@pytest.mark.slow
def test_a_cell_that_fails_leaves_the_others_and_is_tried_again(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "failing.py").write_text(PLUGIN)
    environment = environment | {"PYTHONPATH": f"{environment['PYTHONPATH']}:{tmp_path}"}
    out = tmp_path / "runs"
    result = run(out, environment, "methods=extra.failing,random")
    assert result.returncode == 1
    records = {record["settings"]["method"]: record for record in read_records(out)}
    assert records["random"]["status"] == "finished"
    assert records["extra.failing"]["status"] == "failed"
    assert records["extra.failing"]["reason"] == "RuntimeError: no such luck"
    assert "Traceback" in next(out.glob("extra*/error.txt")).read_text()
    assert "fails: RuntimeError: no such luck" in run(out, environment, "methods=extra.failing", command="plan").stdout
    (tmp_path / "extra" / "failing.py").write_text(PLUGIN.replace("no such luck", "still no luck"))
    words = ["run", "methods=extra.failing,random", *SMALL[1:], f"out={out}"]
    process = fork(words, environment, tmp_path / "printed.txt")  # which has not imported the plugin
    process.join(PATIENCE)
    assert process.exitcode == 1
    reasons = {json.loads(path.read_text())["reason"] for path in out.glob("extra*/record.json")}
    assert reasons == {f"RuntimeError: {luck} luck" for luck in ("no such", "still no")}, "other code is another cell"


@pytest.mark.slow
def test_two_commands_on_one_folder_train_a_cell_once(tmp_path: Path, environment: dict[str, str]) -> None:
    places = [tmp_path / "first.txt", tmp_path / "second.txt"]
    processes = [fork(["run", *SMALL, f"out={tmp_path}"], environment, place) for place in places]
    for process in processes:
        process.join(PATIENCE)
    texts, codes = [place.read_text() for place in places], [process.exitcode for process in processes]
    assert sorted(codes) in ([0, 0], [0, 3]), texts
    assert all("no record: simclr-digits-" in one for one, code in zip(texts, codes, strict=True) if code == 3)
    assert len(read_records(tmp_path)) == 1
    lines = next(tmp_path.glob("*/log.jsonl")).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 31))


@pytest.mark.slow
def test_two_processes_under_torchrun_give_the_same_records(tmp_path: Path, environment: dict[str, str]) -> None:
    """In float64, where sums in another order change nothing that a metric shows; batch norm is synchronised, or over
    micro-batches that are the same images."""
    words = ("precision=fp64", "epochs=2", "microbatch=0,16")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    result = run(tmp_path / "two", environment, *words, launcher=launcher)
    assert result.returncode == 0, result.stderr
    assert run(tmp_path / "one", environment, *words).returncode == 0
    assert [record["settings"]["microbatch"] for record in read_records(tmp_path / "one")] in ([0, 16], [16, 0])
    for two, one in zip(read_records(tmp_path / "two"), read_records(tmp_path / "one"), strict=True):
        assert two["cost"].pop("processes") == 2
        assert two["key"] == one["key"]
        assert two["cost"]["views"] == one["cost"]["views"]
        assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-4)
        losses = [
            [json.loads(line)["loss"] for line in next(out.glob(f"*-{one['key']}/log.jsonl")).open()]
            for out in (tmp_path / "two", tmp_path / "one")
        ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_what_was_trained_compiled_does_not_go_on_without(
    tmp_path: Path, environment: dict[str, str], reference: tuple[Path, dict[str, Any]]
) -> None:
    shutil.copytree(reference[0], tmp_path / "out")
    (folder,) = (tmp_path / "out").glob("simclr-*")
    (folder / "record.json").unlink()
    state = torch.load(folder / "last.pt", weights_only=True)
    torch.save(state | {"compiled": True}, folder / "last.pt")
    assert run(tmp_path / "out", environment).returncode == 1
    assert "trained with compile=true" in read_records(tmp_path / "out")[0]["reason"]


def test_a_broken_record_is_neither_believed_nor_overwritten(
    tmp_path: Path, environment: dict[str, str], reference: tuple[Path, dict[str, Any]]
) -> None:
    folder = tmp_path / f"simclr-digits-{reference[1]['key']}"
    folder.mkdir()
    (folder / "record.json").write_text('{"schema": 1, "key')
    result = run(tmp_path, environment)
    assert result.returncode == 2
    assert str(folder / "record.json") in result.stderr
    assert (folder / "record.json").read_text() == '{"schema": 1, "key'
    assert "Traceback" not in result.stderr


def test_two_validation_images_are_one_line_however_healthy(tmp_path: Path, environment: dict[str, str]) -> None:
    noise = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(7):
            image = Image.fromarray(noise.integers(256, size=(20, 20, 3), dtype=np.uint8))
            image.save(tmp_path / "images" / name / f"{number}.png")
    words = ["dataset=folder", f"dataset.root={tmp_path / 'images'}", "dataset.limit=0", "batch_size=4", "epochs=1"]
    assert run(tmp_path / "runs", environment, *words, "methods=simclr,moco", "batch_norm=sync").returncode == 0
    records = read_records(tmp_path / "runs")
    assert [(one["status"], round(one["metrics"]["effective_rank"])) for one in records] == [("finished", 1)] * 2


def test_a_metric_that_is_no_number_fails_its_cell_alone() -> None:
    def measure() -> Generator[tuple[str, float], None, dict[str, str]]:
        yield "uniformity", float("nan")
        return {}

    with pytest.raises(ValueError, match="the metric uniformity is nan"):
        run_cell._judge(measure(), True)
