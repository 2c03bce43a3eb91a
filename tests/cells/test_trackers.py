"""What all trackers have in common: the same three calls, one run over all attempts, and no harm where one fails.

W&B's client writes offline here; test_tracking has its server, and what else is its own.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from commandline import run_in_process
from wandb_files import list_rows, merge, read_run

from benchmark.cells import plan
from benchmark.errors import UsageError
from benchmark.settings.runtime import Runtime
from benchmark.tracking import tracker
from benchmark.words import cell_words
from benchmark.words.runtime_words import read_runtime, split
from results import record

NAME = "simclr t=0.2 s0"
SMALL = ["dataset.limit=180", "view_size=16", "backbone=test_resnet", "stem=native", "batch_size=32", "epochs=1"]
SMALL += ["threads=1", "device=cpu", "evaluate_every=0"]


class Run(NamedTuple):
    """A run as its tracker shows it."""

    name: str
    steps: list[int]  # of the losses
    losses: list[float]
    accuracy: float | None


def read_wandb(out: Path, project: str) -> list[Run]:
    parts: dict[str, list[dict[str, list[dict[str, Any]]]]] = {}
    for path in sorted(out.glob("*/wandb/offline-run-*")):
        part = read_run(path)
        parts.setdefault(part["run"][0]["run_id"], []).append(part)
    runs = []
    for attempts in parts.values():
        lines = [line for part in attempts for line in list_rows(part) if "loss" in line]
        accuracy = merge([update for part in attempts for update in part.get("summary", [])]).get("metrics/linear_top1")
        (name,) = {part["run"][0]["display_name"] for part in attempts}
        runs.append(Run(name, [line["step"] for line in lines], [line["loss"] for line in lines], accuracy))
    return runs


def read_tensorboard(out: Path, project: str) -> list[Run]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = []
    for path in sorted((out / "tensorboard").iterdir()):
        events = EventAccumulator(str(path)).Reload()
        tags = events.Tags()["scalars"]
        losses = events.Scalars("loss") if "loss" in tags else []
        accuracy = events.Scalars("metrics/linear_top1")[-1].value if "metrics/linear_top1" in tags else None
        run = Run(path.name, [loss.step for loss in losses], [loss.value for loss in losses], accuracy)
        runs.append(run)
    return runs


def read_trackio(out: Path, project: str) -> list[Run]:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    runs = []
    for run in trackio.Api().runs(project):
        if run.config["_Group"] != out.name:
            continue
        lines = SQLiteStorage.get_logs(project, run.name, run_id=run.id)
        losses = [line for line in lines if "loss" in line]
        accuracy = lines[-1].get("metrics/linear_top1")
        runs.append(Run(run.name, [line["step"] for line in losses], [line["loss"] for line in losses], accuracy))
    return runs


READERS: dict[str, Callable[[Path, str], list[Run]]] = {
    "wandb": read_wandb,
    "tensorboard": read_tensorboard,
    "trackio": read_trackio,
}
CALLS = {"wandb": "wandb.Run.log", "tensorboard": "torch.utils.tensorboard.SummaryWriter.add_scalar"}
CALLS |= {"trackio": "trackio.Run.log"}
TITLES = {"wandb": "W&B", "tensorboard": "TensorBoard", "trackio": "Trackio"}


@pytest.fixture(params=list(READERS))
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A tracker; what it changes of the environment is put back."""
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    monkeypatch.setenv("HF_TOKEN", "hf_none")  # with which Trackio would ask its site who one is
    for variable in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield request.param
    if request.param == "wandb":
        import wandb

        wandb.teardown()


def make_runtime(name: str, out: Path) -> Runtime:
    return Runtime(
        out=str(out), tracker=name, wandb="offline" if name == "wandb" else "auto", wandb_project=f"p-{name}"
    )


def attempt(
    runs: tracker.Tracker, name: str, out: Path, steps: range, ends: bool, cell: str = "one"
) -> tuple[dict[str, Any], list[str]]:
    """An attempt at a cell, interrupted or to its end; its record, and what was said."""
    settings = {"method": "simclr", "dataset": {"name": "digits"}, "backbone": "resnet18", "options": {"t": 0.2}}
    content = {
        "key": f"0123{cell}",
        "protocol": "p",
        "versions": {},
        "commit": None,
        "dirty": None,
        "settings": settings,
    }
    content |= {"status": "finished", "reason": None, "metrics": {"linear_top1": 0.5}, "cost": {"seconds": 1.0}}
    content |= {"resolved": {}}
    folder, lines = out / f"simclr-digits-{cell}", list[str]()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with runs.cell(content, folder, NAME, make_runtime(name, out), True, lines.append) as run:
            for step in steps:
                run.log({"step": step, "epoch": 0, "loss": 1 / step})
            if not ends:
                raise KeyboardInterrupt
            run.end(content)
    except KeyboardInterrupt:
        pass
    return content, lines


def test_a_run_goes_on_after_an_interruption_and_is_its_folder_s_own(name: str, tmp_path: Path) -> None:
    """The second attempt begins behind a checkpoint of step 4, as after a SIGKILL."""
    lines = attempt(tracker.Tracker(), name, tmp_path / "mine", range(1, 7), ends=False)[1]
    lines += attempt(tracker.Tracker(), name, tmp_path / "mine", range(5, 11), ends=True)[1]
    lines += attempt(tracker.Tracker(), name, tmp_path / "theirs", range(1, 3), ends=True)[1]
    assert lines == []
    (mine,), (theirs,) = (READERS[name](tmp_path / out, f"p-{name}") for out in ("mine", "theirs"))
    assert mine.steps == list(range(1, 11)), "each point once"
    assert mine.losses == pytest.approx([1 / step for step in range(1, 11)])
    assert (mine.accuracy, theirs.accuracy) == (0.5, 0.5)
    assert theirs.steps == [1, 2], "the same cell of another folder is another run"
    assert mine.name.startswith(NAME)
    assert theirs.name.startswith(NAME)


def test_one_that_fails_is_said_once_and_ends_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError("no such luck")

    package, kind, method = CALLS[name].rsplit(".", 2)
    monkeypatch.setattr(getattr(importlib.import_module(package), kind), method, fail)
    runs, lines = tracker.Tracker(), list[str]()
    for cell in ("one", "two"):
        lines += attempt(runs, name, tmp_path / "runs", range(1, 10), ends=True, cell=cell)[1]
    assert lines == [f"{TITLES[name]}: OSError: no such luck; nothing more is sent to it"]


@pytest.mark.parametrize("name", list(READERS))
def test_one_that_is_not_installed_is_said_before_anything_trains(
    name: str, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    result = run_in_process(["run", "methods=random", *SMALL, f"tracker={name}", f"out={tmp_path}/runs"], environment)
    line = f"error: tracker={name}: {name} is not installed; pip install '.[{name}]'"
    assert (result.returncode, result.stderr.splitlines()[-1]) == (2, line)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tracker=tensorbord"], "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        (["tracker=none,trackio"], "tracker=none,trackio: none stands alone"),
        (["tracker=trackio", "wandb=offline"], "wandb=offline is for tracker=wandb, not for tracker=trackio"),
        (["tracker=wandb,trackio", "wandb=off"], "tracker=wandb,trackio and wandb=off: give one of them"),
    ],
)
def test_words_that_cannot_be_meant(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read_runtime(split(words))
    assert str(raised.value).startswith(message)


def test_a_sweep_on_another_process_has_names_by_what_varies_and_a_full_disk_costs_a_line(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Trackio's folder cannot be made; TensorBoard gets all there is."""
    for package in ("tensorboard", "trackio"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    (tmp_path / "file").touch()
    words = ["run", "methods=simclr", "temperature=0.2", "learning_rate=0.1,0.2", *SMALL, f"out={tmp_path}/runs"]
    words += ["launcher=local", "workers=1", "tracker=tensorboard,trackio"]
    result = run_in_process(words, environment | {"TRACKIO_DIR": f"{tmp_path}/file/trackio"}, tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("Trackio: ") == 1, result.stderr
    runs = read_tensorboard(tmp_path / "runs", "")
    assert [run.name[:-9] for run in runs] == ["simclr lr=0.1 s0", "simclr lr=0.2 s0"]
    records = [content for _, content in record.find(tmp_path / "runs") if isinstance(content, dict)]
    accuracies = [content["metrics"]["linear_top1"] for content in records]
    assert sorted(run.accuracy or 0 for run in runs) == pytest.approx(sorted(accuracies))


def test_names_are_short_and_say_what_varies_within_a_method() -> None:
    words = ["methods=simclr,moco", "simclr.temperature=0.1,0.2", "batch_size=64,128", "seeds=0,1", "moco.queue=256"]
    names = list(plan.write_titles(cell_words.read(words).cells, short=True).values())
    assert len(set(names)) == len(names) == 12
    assert "simclr t=0.2 bs=64 s0" in names
    assert "moco bs=128 s1" in names
