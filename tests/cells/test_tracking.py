"""W&B, read back from what the client writes offline and sends to a server on this machine; test_trackers has what all
trackers have in common."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE, fork, run_in_process
from PIL import Image

pytest.importorskip("wandb", reason="wandb is not installed")

from wandb_files import list_rows, merge, read_run
from wandb_server import KEY, Server

from benchmark.settings.runtime import Runtime
from benchmark.tracking import wandb_file, wandb_run
from results.report import wandb_report

CELL = [
    "temperature=0.3",
    "dataset.limit=180",
    "view_size=16",
    "backbone=test_resnet",
    "stem=native",
    "batch_size=32",
    "epochs=4",
    "log_every=2",
    "evaluate_every=2",
    "threads=1",
    "device=cpu",
]
FAILS = '''"""A method that fails."""
from methods.method import Method

class Failing(Method):
    def forward(self, batch, at):
        raise RuntimeError("no such luck")
'''


@pytest.fixture
def clean_environment(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """An environment without W&B's variables, whose home is empty."""
    (tmp_path / "home").mkdir()
    others = {name: value for name, value in environment.items() if not name.startswith(("WANDB_", "NETRC"))}
    return others | {"HOME": str(tmp_path / "home")}


def build_call(*words: str, methods: str = "simclr") -> list[str]:
    return [sys.executable, "-m", "benchmark", *run_words(*words, methods=methods)]


def run_words(*words: str, methods: str = "simclr") -> list[str]:
    return ["run", f"methods={methods}", *CELL, *words]


def run(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def read_record(out: Path) -> dict[str, Any]:
    (path,) = out.glob("simclr-*/record.json")
    return json.loads(path.read_text())


OFF = """
import sys
from benchmark.__main__ import main
main(sys.argv[1:])
print([name for name in sys.modules if name.partition(".")[0] == "wandb"])
"""


@pytest.fixture(scope="module")
def untracked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The cell's record where W&B is installed and no key is configured."""
    folder = tmp_path_factory.mktemp("untracked")
    others = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "NETRC"))}
    environment = others | {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(folder)}
    result = run([sys.executable, "-c", OFF, *run_words(f"out={folder / 'runs'}")], environment, folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\n[]\n"), "nothing of wandb is imported, by timm neither"
    assert not list(folder.rglob("*wandb*"))
    return read_record(folder / "runs")


@pytest.mark.slow
def test_a_stopped_cell_goes_on_in_the_same_run(
    clean_environment: dict[str, str], tmp_path: Path, untracked: dict[str, Any]
) -> None:
    """Offline: stopped by a signal, finished by a worker of launcher=local; both parts are what the files say."""
    out = tmp_path / "sweep"
    words = ("wandb=offline", "wandb_project=p", "wandb_entity=me", f"out={out}")
    process = fork(run_words(*words), clean_environment, Path(os.devnull), tmp_path)
    log = out / f"simclr-digits-{untracked['key']}" / "log.jsonl"
    while process.is_alive() and not (log.exists() and log.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.terminate()
    process.join(PATIENCE)
    assert process.exitcode == 143
    result = run_in_process(
        run_words(*words, "launcher=local", "workers=1"), clean_environment, tmp_path
    )  # whose worker is a process
    assert result.returncode == 0, result.stderr
    assert f"wandb sync {out}/*/wandb/offline-run-*" in result.stderr

    record, lines = read_record(out), [json.loads(line) for line in log.read_text().splitlines()]
    assert record["metrics"] == untracked["metrics"], "tracking draws no random numbers"
    first, second = map(read_run, sorted(log.parent.glob("wandb/offline-run-*")))
    for part in (first, second):
        start = part["run"][0]
        assert start["run_id"] == first["run"][0]["run_id"]
        assert start["run_id"].startswith(f"{record['key']}-"), "and is not that of the same cell in another folder"
        assert start["resume"] is True
        assert (start["run_group"], start["job_type"], start["project"], start["entity"]) == (
            "sweep",
            "simclr",
            "p",
            "me",
        )
        assert start["display_name"] == "simclr s0"
        config = start["config"]["update"]
        assert {name: config[name] for name in record["settings"]} == record["settings"]
        assert (config["key"], config["protocol"]) == (record["key"], record["protocol"])
    *losses, pictures = list_rows(first) + list_rows(second)
    assert losses == [{name: value for name, value in line.items() if name != "steps"} for line in lines]
    assert pictures["step"] == lines[-1]["step"]
    (grid,) = log.parent.glob(f"wandb/*/files/{pictures['neighbours.path']}")
    looks = json.loads((log.parent / "looks.json").read_text())
    with Image.open(grid) as copy, Image.open(BytesIO(b64decode(looks["neighbours"]["png"]))) as original:
        assert copy.tobytes() == original.convert("RGB").tobytes()
    (features,) = log.parent.glob(f"wandb/*/files/{pictures['features.path']}")
    traces = json.loads(features.read_text())["data"]
    points = {(x, y, trace["name"]) for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True)}
    projection = looks["projection"]
    assert points == {
        (x, y, str(c)) for x, y, c in zip(projection["x"], projection["y"], projection["label"], strict=True)
    }
    assert list_rows(first)
    assert list_rows(second)
    assert (first["exit"][0]["exit_code"], second["exit"][0].get("exit_code", 0)) == (143, 0)
    summary = merge(second["summary"])
    assert {name: summary[f"metrics/{name}"] for name in record["metrics"]} == record["metrics"]
    assert {name: summary[f"cost/{name}"] for name in record["cost"]} == record["cost"]
    assert (summary["status"], summary["reason"]) == ("finished", None)
    assert merge(second["config"])["resolved"] == record["resolved"]
    assert second["run"][-1]["tags"] == ["digits", "test_resnet", "finished"]
    assert {"step", "epoch"} <= {metric.get("name") for metric in second["metric"]}
    # What the panels of a report ask for is there.
    assert {wandb_report.ACCURACY, wandb_report.SECONDS, wandb_report.STATUS} <= summary.keys()
    assert {wandb_report.STEP, wandb_report.LOSS} <= lines[0].keys()
    curve = [line for line in losses if wandb_report.VALIDATION in line]
    assert [line["epoch"] for line in curve] == [2, 4]
    assert all(wandb_report.CURVE_AXES.keys() <= line.keys() for line in curve)
    assert config["options"]["temperature"] == 0.3
    assert not list((tmp_path / "home").iterdir()), "nothing in the home"
    assert {path.name for path in tmp_path.iterdir()} == {"home", "sweep"}, "nor in the working directory"


@pytest.mark.slow
def test_a_dead_network_costs_a_warning(
    clean_environment: dict[str, str], tmp_path: Path, untracked: dict[str, Any]
) -> None:
    """A key, and nobody where it should be used: one line for two cells, which are kept offline; one of them fails."""
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "failing.py").write_text(FAILS)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        site = f"http://127.0.0.1:{closed.getsockname()[1]}"
        keyed = clean_environment | {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": site}
        keyed |= {"PYTHONPATH": f"{clean_environment['PYTHONPATH']}:{tmp_path}"}
        out = tmp_path / "runs"
        result = run(build_call(f"out={out}", methods="simclr,extra.failing"), keyed, tmp_path)
    assert result.returncode == 1, result.stderr
    assert result.stderr.count("W&B") == 2, "the warning, and how to send what was kept"
    assert f"W&B: {site} does not answer; runs are kept offline" in result.stderr
    assert "Traceback" not in result.stderr
    assert read_record(out)["metrics"] == untracked["metrics"]
    (failed,) = out.glob("extra*/wandb/offline-run-*")
    assert read_run(failed)["exit"][0]["exit_code"] == 1
    assert merge(read_run(failed)["summary"])["reason"] == "RuntimeError: no such luck"


ALONE = (
    f"PATIENCE = {PATIENCE}"
    + """
import json, os, signal, sys, time
from pathlib import Path
from benchmark.settings.runtime import Runtime
from benchmark.tracking import site, tracker, wandb_run

site.PROBE = wandb_run.INIT = PATIENCE  # a server that answers is waited for
start, modes = wandb_run._start, []
wandb_run._start = lambda *arguments: modes.append(arguments[-1]) or start(*arguments)

def log_cells(out, mode, *numbers, during=lambda run: None):
    # Cells that log ten lines each, the lines to the user, and in which mode runs were started.
    runs, lines = tracker.Tracker(), []
    for number in numbers:
        settings = {"method": "simclr", "dataset": {"name": "digits"}, "backbone": "resnet18"}
        content = {"key": f"key{number}", "protocol": "p", "versions": {}, "commit": None, "dirty": None,
                   "settings": settings, "status": "finished", "reason": None, "metrics": {"linear_top1": 0.5},
                 "cost": {"seconds": 1.0}, "resolved": {}}
        folder = Path(out) / f"cell{number}"
        folder.mkdir(parents=True, exist_ok=True)
        runtime = Runtime(out=out, wandb=mode, wandb_project="proj")
        with runs.cell(content, folder, f"cell {number}", runtime, True, lines.append) as run:
            for step in range(1, 11):
                run.log({"step": step, "epoch": 0, "loss": 1 / step})
            during(run)
            run.end(content)
    return {"lines": lines, "modes": modes}
"""
)


def run_alone(script: str, environment: dict[str, str], folder: Path, *arguments: str) -> dict[str, Any]:
    result = run([sys.executable, "-c", ALONE + script, *arguments], environment, folder)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_online_the_server_gets_what_was_logged_and_of_a_resumed_run_the_rest(
    clean_environment: dict[str, str], tmp_path: Path
) -> None:
    script = """
def stop(run):
    raise KeyboardInterrupt
try:
    log_cells("runs", "online", 1, during=stop)
except KeyboardInterrupt:
    print("{}")
"""
    with Server() as server:
        run_alone(script, clean_environment | server.environment(), tmp_path)
        count = len(server.lines())
        report = run_alone(
            "print(json.dumps(log_cells('runs', 'online', 1)))", clean_environment | server.environment(), tmp_path
        )
    assert (count, report["lines"]) == (10, [])
    requests = dict(server.calls[::-1])
    assert requests["RunResumeStatus"]["name"] == requests["UpsertBucket"]["name"]
    assert requests["UpsertBucket"]["name"].startswith("key1-")
    assert requests["UpsertBucket"]["groupName"] == "runs"
    assert {run for run, _ in server.streams} == {requests["UpsertBucket"]["name"]}
    lines = [line for line in server.lines() if "loss" in line]
    assert [(line["step"], line["loss"]) for line in lines] == [(step, 1 / step) for step in range(1, 11)], "once each"
    assert server.streams[-1][1].get("exitcode") == 0


def test_a_server_that_says_nothing_delays_one_cell_once(clean_environment: dict[str, str], tmp_path: Path) -> None:
    """It takes connections, so that only the client finds out. What follows is offline, and is not delayed again."""
    script = "wandb_run.INIT = 1.0; print(json.dumps(log_cells('runs', 'online', 1, 2)))"
    with Server() as server:
        server.open.clear()
        report = run_alone(script, clean_environment | server.environment(), tmp_path)
    assert len(report["lines"]) == 1
    assert "kept offline" in report["lines"][0]
    assert [
        len(list((tmp_path / "runs" / cell).glob("wandb/offline-run-*/*.wandb"))) for cell in ("cell1", "cell2")
    ] == [1, 1]
    assert report["modes"] == ["online", "offline", "offline"], "no other cell waits for that server"


def test_a_server_that_falls_silent_holds_up_the_end_no_longer_than_asked(
    clean_environment: dict[str, str], tmp_path: Path
) -> None:
    script = """
wandb_run.FINISH = 1.0
report = log_cells("runs", "online", 1, 2, during=lambda run: Path("logged").touch() or time.sleep(1))
print(json.dumps(report))
"""
    with Server() as server:
        command = [sys.executable, "-c", ALONE + script]
        environment = clean_environment | server.environment()
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        while process.poll() is None and not (tmp_path / "logged").exists():
            time.sleep(0.01)
        server.open.clear()
        report = json.loads(process.communicate(timeout=PATIENCE)[0].splitlines()[-1])
    assert len(report["lines"]) == 1
    assert "wandb sync" in report["lines"][0]
    assert list((tmp_path / "runs" / "cell2").glob("wandb/offline-run-*")), "the next one does not try again"


def test_a_client_that_dies_takes_nothing_with_it(clean_environment: dict[str, str], tmp_path: Path) -> None:
    script = """
def kill(run):
    for one in Path("/proc").glob("[0-9]*/stat"):
        words = one.read_text().split()
        if words[1] == "(wandb-core)" and words[3] == str(os.getpid()):
            os.kill(int(words[0]), signal.SIGKILL)
    time.sleep(0.5)
    for step in range(11, 1000):
        run.log({"step": step, "loss": 0.0})
print(json.dumps(log_cells("runs", "offline", 1, 2, during=kill)))
"""
    report = run_alone(script, clean_environment, tmp_path)
    assert len(report["lines"]) == 1
    assert report["lines"][0].startswith("W&B: ")


def test_a_file_cut_short_is_seen_and_one_whose_end_is_not_its_last_record_is_whole(
    clean_environment: dict[str, str], tmp_path: Path
) -> None:
    """Short on a full disk, of which the client says nothing; its account of the machine may come behind the exit. Long
    files are written in blocks."""
    from wandb.proto import wandb_internal_pb2 as kinds

    script = """
def log(run):
    for step in range(11, 1500):
        run.log({"step": step, "loss": 1 / step, "why": "x" * (step % 50)})
print(json.dumps(log_cells("runs", "offline", 1, during=log)))
"""
    assert run_alone(script, clean_environment, tmp_path)["lines"] == []
    (path,) = tmp_path.glob("runs/cell1/wandb/offline-run-*/*.wandb")
    assert wandb_file.has_end(path)
    whole = path.read_bytes()
    assert len(whole) > 3 * wandb_file.BLOCK
    for size in (len(whole) - 1, len(whole) - 30, len(whole) // 2, 7, 0):
        path.write_bytes(whole[:size])
        assert not wandb_file.has_end(path), size
    late = kinds.Record(environment=kinds.EnvironmentRecord(os="an operating system")).SerializeToString()
    longer = whole + bytes(4) + len(late).to_bytes(2, "little") + b"\1" + late
    path.write_bytes(longer)
    assert len(whole) // wandb_file.BLOCK == len(longer) // wandb_file.BLOCK, "the record is not over two blocks"
    assert wandb_file.has_end(path)
    path.write_bytes(longer[:-1])
    assert not wandb_file.has_end(path)


@pytest.mark.parametrize(
    ("variables", "netrc", "expected"),
    [
        ({}, "", "off"),
        ({"WANDB_API_KEY": KEY}, "", "online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, "", "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "disabled"}, "", "off"),
        ({"WANDB_MODE": "offline"}, "", "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "Offline"}, "", "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_DISABLED": "true"}, "", "off"),
        ({"WANDB_API_KEY": KEY, "WANDB_DISABLED": "false"}, "", "online"),
        ({}, "machine api.wandb.ai login user password x\n", "online"),
        ({}, "machine github.com login user password x\n", "off"),
        ({"WANDB_BASE_URL": "https://wandb.my.org"}, "machine api.wandb.ai login user password x\n", "off"),
        ({"WANDB_BASE_URL": "https://wandb.my.org"}, "machine wandb.my.org login user password x\n", "online"),
        ({}, "machine api.wandb.ai login", "off"),
    ],
)
def test_auto_is_online_where_a_key_is_configured(
    variables: dict[str, str], netrc: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith(("WANDB_", "NETRC"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / ".netrc").write_text(netrc)
    assert wandb_run.mode(Runtime()) == expected
    assert wandb_run.mode(Runtime(wandb="offline")) == "offline", "what is asked for by name counts first"


@pytest.mark.parametrize(("command", "expected"), [("offline", "offline"), ("disabled", "off")])
def test_what_the_client_was_told_in_a_folder_is_obeyed_and_shown(
    command: str, expected: str, clean_environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run([str(Path(sys.executable).with_name("wandb")), command], clean_environment, tmp_path)
    assert result.returncode == 0, result.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE")
    assert wandb_run.mode(Runtime()) == expected
    words = ["methods=random", *CELL[1:], f"out={tmp_path}/runs"]
    result = run_in_process(
        ["run", *words], {name: text for name, text in os.environ.items() if name != "WANDB_MODE"}, tmp_path
    )
    assert f"W&B: {expected}, by `wandb offline` or the like, in W&B's settings\n" in result.stderr
    refusal = run_in_process(run_words(f"out={tmp_path}/runs"), clean_environment | {"WANDB_MODE": "OFFLIEN"}, tmp_path)
    assert (refusal.returncode, "did you mean 'offline'?" in refusal.stderr) == (2, True)


def test_a_mode_in_capitals_is_obeyed(
    clean_environment: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import wandb

    wandb.teardown()  # whoever used the client in this process before had another environment
    request.addfinalizer(wandb.teardown)
    words = ["run", "methods=random", *CELL[1:], f"out={tmp_path}/runs"]
    result = run_in_process(words, clean_environment | {"WANDB_MODE": "OFFLINE"}, tmp_path)
    assert "W&B: offline, by WANDB_MODE=OFFLINE\n" in result.stderr
    assert len(list(tmp_path.glob("runs/*/wandb/offline-run-*"))) == 1


def test_what_is_not_installed_is_said_before_any_cell_runs(clean_environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()  # such as the client leaves behind: no package
    block = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
    script = block + "from benchmark.__main__ import main; sys.exit(main(sys.argv[1:]))"
    result = run(
        [sys.executable, "-c", script, *run_words("wandb=offline", f"out={tmp_path}/runs")], clean_environment, tmp_path
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: wandb=offline: wandb is not installed; pip install '.[wandb]'\n"
    assert not (tmp_path / "runs").exists()
