"""The accuracy on the validation split while a cell trains: what it is, that training does not notice, what it ends."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import fork_pair, run_in_process
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from benchmark.cells import validation_curve
from benchmark.cells.validation_curve import METRIC, ValidationCurve, affordable_interval
from benchmark.contract import short_training
from benchmark.contract.short_training import StopAt
from benchmark.display.progress import ProgressDisplay
from benchmark.evaluate.features import extract
from benchmark.settings.address import hash_cell
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training import build
from benchmark.training import train as loop
from benchmark.training.distributed import World
from benchmark.training.stop import Stop, Stopped
from benchmark.training.train import Outcome
from benchmark.words import cell_words

# 162 training images: 5 steps an epoch.
SMALL = ["methods=simclr", "dataset.limit=180", "view_size=16", "backbone=test_resnet", "stem=native", "batch_size=32"]
SMALL += ["epochs=4", "log_every=3"]
HERE = ["threads=1", "device=cpu", "wandb=off", "checkpoint_every=1e9"]
CPU = torch.device("cpu")
TIMES = ("seconds", "evaluation_seconds", "images_per_second")


def read_cell(*words: str) -> Settings:
    keys = {word.partition("=")[0] for word in words}
    return cell_words.read([*words, *(word for word in SMALL if word.partition("=")[0] not in keys)]).cells[0]


def train(settings: Settings, folder: Path, stop: Stop | None = None, **how: str) -> Outcome:
    """Train the cell in this process, without what a cell is then evaluated by."""
    engine, batches = short_training.prepare(settings, World())
    runtime, display = Runtime(log_every=3, checkpoint_every=1e9, **how), ProgressDisplay(1)  # type: ignore[arg-type]
    data = build.load_dataset(settings.dataset)
    curve = ValidationCurve(settings, runtime, engine.method, data, batches, engine.precision, folder, display)
    folder.mkdir(exist_ok=True)
    stop = stop or Stop()
    return loop.train(engine, batches, settings, runtime, hash_cell(settings), folder, stop, display, measure=curve.ask)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a cell's log, without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def read_state(folder: Path) -> dict[str, Tensor]:
    """Every number that the training left: parameters, running statistics, memories, momenta, and the watch's sums."""
    whole = torch.load(folder / "last.pt", weights_only=True)
    state = {name: whole[name] for name in ("method", "optimiser", "watch")}

    def flatten(tree: Any, name: str) -> dict[str, Any]:
        if isinstance(tree, dict | list | tuple):
            pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
            return {key: value for part, each in pairs for key, value in flatten(each, f"{name}.{part}").items()}
        return {name: torch.as_tensor(tree)} if isinstance(tree, Tensor | int | float) else {}

    return flatten(state, "")


@pytest.mark.parametrize(
    "words",
    [
        ["methods=simclr"],
        ["methods=simclr", "precision=fp64", "microbatch=16"],
        ["methods=moco", "moco.queue=64", "batch_norm=shuffle:4"],
        ["methods=swav", "batch_norm=split:2"],
        ["methods=pcl", "pcl.warmup_epochs=1"],
        ["methods=gan"],
    ],
    ids=lambda words: "-".join(words),
)
def test_the_training_does_not_notice(words: list[str], tmp_path: Path) -> None:
    settings = read_cell(*words, "epochs=2")
    views = [train(settings, tmp_path / every, evaluate_every=every).views for every in ("1", "0")]
    lines, plain = read_log(tmp_path / "1"), read_log(tmp_path / "0")
    assert [line for line in lines if "loss" in line] == plain
    curve = [line for line in lines if METRIC in line]
    assert [line["epoch"] for line in curve] == [1, 2]
    assert all(0 <= line[METRIC] <= 1 for line in curve)
    assert [curve[-1]["views"]] * 2 == views
    before, after = read_state(tmp_path / "0"), read_state(tmp_path / "1")
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_accuracy_is_that_of_the_protocol_on_the_validation_images(tmp_path: Path) -> None:
    """By scikit-learn's neighbours on what the checkpoint's encoder makes of the images."""
    settings = read_cell("epochs=2")
    train(settings, tmp_path, evaluate_every="2")
    data = build.load_dataset(settings.dataset)
    method, _ = build.build_method(settings, data, CPU)
    method.load_state_dict(torch.load(tmp_path / "last.pt", weights_only=True)["method"])
    batches = build.build_batches(settings, method, data, World(), CPU, "fp32")
    features = extract(method.encoder, data, batches.normalise, batches.size, CPU)
    neighbours = KNeighborsClassifier(20, metric="cosine", weights=lambda distance: np.exp(-distance / 0.07))
    neighbours.fit(*(x.numpy() for x in features.train))
    assert read_log(tmp_path)[-2][METRIC] == neighbours.score(*(x.numpy() for x in features.validation))


def test_the_test_images_are_not_there_to_be_seen_and_references_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_curve, "REFERENCES", 50)
    settings = read_cell()
    data = replace(build.load_dataset(settings.dataset), test=None)  # type: ignore[arg-type]
    method, _ = build.build_method(settings, data, CPU)
    batches = build.build_batches(settings, method, data, World(), CPU, "fp32")
    runtime, display = Runtime(evaluate_every="1"), ProgressDisplay(1)
    curves = [ValidationCurve(settings, runtime, method, data, batches, "fp32", tmp_path, display) for _ in range(2)]
    assert curves[0].describe() == {
        "every": 1,
        "k": 20,
        "references": 50,
        "images": 18,
        "share": pytest.approx(0.0177, abs=1e-4),
    }
    assert torch.equal(curves[0].rows, curves[1].rows)
    assert data.train.labels[curves[0].rows].bincount().tolist() == [5] * 10
    assert 0 <= curves[0].ask(1).numbers[METRIC] <= 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cell, trained in one go."""
    folder = tmp_path_factory.mktemp("whole")
    train(read_cell(), folder, evaluate_every="2")
    return folder


@pytest.mark.parametrize("steps", [4, 5, 7, 10, 14, 19])
def test_a_training_that_is_stopped_and_goes_on_has_the_same_curve(steps: int, whole: Path, tmp_path: Path) -> None:
    """Before, at and behind the end of an epoch; evaluations are at 2 and 4 epochs, of 5 steps each."""
    with pytest.raises(Stopped):
        train(read_cell(), tmp_path, stop=StopAt(steps), evaluate_every="2")
    train(read_cell(), tmp_path, evaluate_every="2")
    curves = [[line for line in read_log(folder) if METRIC in line] for folder in (tmp_path, whole)]
    assert curves[0] == curves[1]


def test_a_kill_behind_an_evaluation_and_before_its_checkpoint_repeats_it(tmp_path: Path) -> None:
    settings = read_cell()
    train(settings, tmp_path / "whole", evaluate_every="1")
    with pytest.raises(Stopped):
        train(settings, tmp_path / "parts", stop=StopAt(7), evaluate_every="1")
    log = tmp_path / "parts" / "log.jsonl"
    ahead = [json.dumps(line) for line in read_log(tmp_path / "whole") if line["step"] in (9, 10)]
    log.write_text(log.read_text() + "".join(f"{line}\n" for line in ahead))
    train(settings, tmp_path / "parts", evaluate_every="1")
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")


def test_a_cell_below_the_threshold_is_stopped_and_stands(tmp_path: Path, environment: dict[str, str]) -> None:
    words = ["run", *SMALL, *HERE, f"out={tmp_path}", "evaluate_every=1"]
    result = run_in_process([*words, "stop_below=99.9@2"], environment)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.glob("*/record.json")
    folder, record = path.parent, json.loads(path.read_text())
    assert (record["status"], record["metrics"], record["cost"]["views"]) == ("stopped", {}, 10 * 32 * 2)
    accuracy = 100 * read_log(folder)[-2][METRIC]
    assert record["reason"] == f"validation kNN {accuracy:.1f} % at epoch 2: stop_below=99.9@2"
    assert record["reason"] in result.stderr
    printed = " ".join(result.stdout.split())
    assert f"1 stopped: {record['reason']}" in printed
    assert "runs that did not finish are counted, never averaged in" in printed
    assert run_in_process(words, environment).returncode == 0
    assert json.loads(path.read_text()) == record, "it stands as a collapsed one does"
    path.unlink()
    assert run_in_process(words, environment).returncode == 0
    assert json.loads(path.read_text())["status"] == "finished", "and trains whole without its record"
    assert [line["epoch"] for line in read_log(folder) if METRIC in line] == [1, 2, 3, 4]


def test_a_cell_above_the_threshold_is_not_stopped_and_its_epoch_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though auto would measure nothing in so short a training; and the last epoch stops nothing."""
    assert train(read_cell("epochs=3"), tmp_path / "a", stop_below="0.1@2").whole
    assert [line["epoch"] for line in read_log(tmp_path / "a") if METRIC in line] == [2]
    assert train(read_cell("epochs=3"), tmp_path / "b", stop_below="100@3").whole
    assert "stops no training" in capsys.readouterr().err
    assert train(read_cell("epochs=3"), tmp_path / "c", stop_below="100@9").whole
    assert "stop_below=100@9 stops no training of 3 epochs" in capsys.readouterr().err


def test_of_several_thresholds_each_holds_until_the_next(tmp_path: Path) -> None:
    outcome = train(read_cell(), tmp_path / "cell", stop_below="100@2,0.1@1")
    assert (outcome.status, outcome.views) == ("stopped", 10 * 32 * 2)
    assert [line["epoch"] for line in read_log(tmp_path / "cell") if METRIC in line] == [1, 2]


@pytest.mark.parametrize("reached", [False, True])
def test_a_trial_is_pruned_for_its_best_accuracy_also_where_that_lies_before_a_kill(
    reached: bool, tmp_path: Path
) -> None:
    settings, log = replace(read_cell("epochs=3"), prune_below="0@1,100@2"), tmp_path / "cell" / "log.jsonl"
    with pytest.raises(Stopped):
        train(settings, log.parent, stop=StopAt(7))
    (first,) = (line for line in map(json.loads, log.read_text().splitlines()) if METRIC in line)
    if reached:
        log.write_text(json.dumps(first | {METRIC: 1.0}) + "\n")
    outcome = train(settings, log.parent)
    assert outcome.status == ("" if reached else "pruned")
    if not reached:
        assert outcome.reason is not None
        assert outcome.reason.endswith("% by epoch 2: the median of earlier trials at epoch 2 is 100 %")
        assert torch.load(log.parent / "last.pt", weights_only=True)["step"] < 10, "a kill now would judge it again"


def test_auto_is_some_ten_times_where_that_is_cheap_and_less_often_where_not() -> None:
    assert affordable_interval(1e-6, 100) == 10
    assert affordable_interval(0.0029, 1000) == 100
    assert affordable_interval(1e-6, 25) == 3
    assert affordable_interval(1e-6, 3) == 1
    assert affordable_interval(0.01, 90) == 30
    assert affordable_interval(0.029, 90) == 90
    assert affordable_interval(0.031, 90) == 0


def test_auto_says_once_that_a_short_training_has_no_curve_and_why(tmp_path: Path, environment: dict[str, str]) -> None:
    short = ["epochs=1" if word.startswith("epochs") else word for word in SMALL]
    result = run_in_process(["run", *short, *HERE, "seeds=0,1", f"out={tmp_path}"], environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("evaluate_every=EPOCHS measures it all the same") == 1


PLUGIN = '''
from torch import nn

from methods.method import Method


class Wrapped(nn.Module):
    """A backbone that counts its calls, and draws random numbers in eval mode too."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.calls = 0
        FIELDS

    def forward(self, x):
        self.calls += 1
        return nn.functional.dropout(self.inner(x), 0.1, training=True)


class Mine(Method):
    views = ("crop", "crop")

    def __init__(self, config, encoder, width, images):
        super().__init__(config, Wrapped(encoder), width, images)
        self.head = nn.Linear(width, 8)

    def forward(self, batch, at):
        return {f"z{i}": self.head(self.encoder(view)) for i, view in enumerate(batch.views)}

    def loss(self, rows, at):
        return {"loss": (rows["z0"] - rows["z1"]).square().mean() + self.encoder.calls}
'''


def test_a_plugin_s_method_has_a_curve_and_does_not_notice_it(
    tmp_path: Path, write_plugin: Callable[[str], str]
) -> None:
    settings = read_cell(f"methods={write_plugin(PLUGIN.replace('FIELDS', ''))}")
    for every in ("1", "0"):
        train(settings, tmp_path / every, evaluate_every=every)
    lines = read_log(tmp_path / "1")
    assert [line for line in lines if "loss" in line] == read_log(tmp_path / "0")
    assert sum(METRIC in line for line in lines) == 4


def test_an_encoder_that_cannot_be_copied_costs_the_curve_and_not_the_cell(
    tmp_path: Path, write_plugin: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = PLUGIN.replace("FIELDS", "import threading; self.lock = threading.Lock()")
    outcome = train(read_cell(f"methods={write_plugin(source)}"), tmp_path / "cell", evaluate_every="4")
    assert (outcome.whole, outcome.reason) == (True, None)
    assert "no accuracy at epoch 4: TypeError: cannot pickle" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_measure_the_same_curve(tmp_path: Path, environment: dict[str, str]) -> None:
    words = ["run", *SMALL, *HERE, "precision=fp64", "evaluate_every=2", "stop_below=100@4", "batch_norm=split:2"]
    codes, printed = fork_pair([*words, f"out={tmp_path / 'two'}"], environment, tmp_path)
    assert codes == [0, 0], printed
    assert run_in_process([*words, f"out={tmp_path / 'one'}"], environment).returncode == 0
    folders = [next((tmp_path / name).glob("simclr-*")) for name in ("two", "one")]
    two, one = ([line for line in read_log(folder) if METRIC in line] for folder in folders)
    assert [line["epoch"] for line in two] == [2, 4]
    assert two == one


def test_a_line_that_is_no_evaluation_fails_no_cell() -> None:
    line = {METRIC: 0.5, "evaluation_seconds": 0.1, "seconds": 2.0}
    others = [{METRIC: 0.5}, line | {METRIC: "x"}, line | {"seconds": None}]
    assert (
        validation_curve.summarise([line, *others]) == validation_curve.summarise([line]) == {"validation_seconds": 0.1}
    )
