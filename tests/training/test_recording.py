"""What may be recorded as a CUDA graph, told on a CPU; the recording itself is tested on a GPU (tests/gpu)."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commandline import run_in_process
from torch import Tensor, nn

import methods
from benchmark.contract import short_training
from benchmark.training.distributed import World
from benchmark.training.engine import Engine
from benchmark.training.recorded import step, views
from benchmark.training.recorded.inspection import inspect
from benchmark.training.recorded.step import Recorder
from methods.method import Batch, Method, Progress

AT = Progress(1, 20, 0, 4)
# Singular values, and whether a Cholesky factor was found.
WAITING = {"mmcr", "wmse"}
# `one_hot` looks for the largest label on a CPU alone.
TRAINED = [name for name in methods.names() if methods.describe(name).trains and name != "supcon"]


@pytest.mark.parametrize("name", TRAINED)
def test_every_method_is_recorded_but_those_that_wait(name: str) -> None:
    engine, batches = short_training.prepare(short_training.settings(name), World())
    obstacle = inspect(engine, batches.get(1, batches.order(0)), AT)[2]
    assert (obstacle is not None) == (name in WAITING), obstacle
    assert obstacle is None or "waits for the device" in obstacle


def test_an_inspected_step_gives_the_step_s_gradient() -> None:
    slopes = []
    for inspected in (False, True):
        engine, batches = short_training.prepare(short_training.settings("simclr"), World())
        batch = batches.get(1, batches.order(0))
        rows, scalars = inspect(engine, batch, AT)[:2] if inspected else engine.gradient(batch, AT)
        assert not any(row.requires_grad for row in rows.values())
        assert not scalars["loss"].requires_grad
        slopes.append(torch.cat([p.grad.flatten() for p in engine.method.parameters() if p.grad is not None]))
    assert torch.equal(*slopes)


class Plugin(Method):
    """A method of a user's own."""

    views = ("crop",)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        return {"z": self.encoder(batch.views[0])}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": rows["z"].square().mean()}


class Dropped(Plugin):
    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": nn.functional.dropout(rows["z"], 0.5).square().mean()}


class Waiting(Plugin):
    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": rows["z"].square().mean() / rows["z"].abs().max().item()}


class Growing(Plugin):
    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": rows["z"].square().mean() * (at.step / at.steps)}


class Phased(Plugin):
    def phase(self, at: Progress) -> bool:
        return at.epoch < 2

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": rows["z"].square().mean() * (1 if at.epoch < 2 else 2)}


@pytest.mark.parametrize(
    ("kind", "obstacle"),
    [
        (Plugin, None),
        (Dropped, "draws random numbers"),
        (Waiting, "waits for the device"),
        (Growing, "at.step"),
        (Phased, None),
    ],
)
def test_what_a_plugin_must_avoid_is_named(kind: type[Method], obstacle: str | None) -> None:
    method = kind(kind.Config(), nn.Sequential(nn.Flatten(), nn.Linear(48, 4)), 4, 100)
    engine = Engine(method, World(), torch.device("cpu"), "fp32", 0, 0)
    batch = Batch([torch.randn(8, 3, 4, 4)], torch.arange(8))
    reason = inspect(engine, batch, AT)[2]
    assert reason is None if obstacle is None else obstacle in str(reason)


class Numbered(Plugin):
    """That wants a number for `at.step`."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.norm = nn.BatchNorm1d(4)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = self.norm(self.encoder(batch.views[0]))
        return {"z": z * torch.rand(4, generator=torch.Generator().manual_seed(at.step))}


def test_a_method_that_takes_no_tensor_for_the_step_runs_step_by_step() -> None:
    trained, notes = list[Tensor](), list[str]()
    for rehearses in (False, True):
        torch.manual_seed(0)
        method = Numbered(Numbered.Config(), nn.Sequential(nn.Flatten(), nn.Linear(48, 4)), 4, 100)
        engine = Engine(method, World(), torch.device("cpu"), "fp32", 0, 0, rehearses=rehearses)
        recorder = Recorder(engine, "auto", notes.append)
        for number in range(4):
            method.zero_grad()
            recorder.gradient(Batch([torch.randn(8, 3, 4, 4)], torch.arange(8)), AT._replace(step=number))
        trained.append(torch.cat([method.norm.running_mean, *(p.grad.flatten() for p in method.parameters())]))
    assert torch.equal(*trained), "batch norm has counted twice, or gradients are added up"
    assert recorder.recording is None
    assert recorder.obstacle


def test_a_capture_that_fails_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(work: Callable[[], None]) -> Callable[[], None]:
        work()
        raise RuntimeError("out of memory")

    monkeypatch.setattr(step, "capture", fail)
    monkeypatch.setattr(step, "_find_obstacle", lambda engine: None)
    engine, batches = short_training.prepare(short_training.settings("simclr", "batch_norm=local"), World())
    recorder, slopes = Recorder(engine, "auto", print), list[Tensor]()
    for _ in range(5):  # the fourth is captured
        engine.method.zero_grad()
        recorder.gradient(batches.get(0, batches.order(0)), AT)
        slopes.append(torch.cat([p.grad.flatten() for p in engine.method.parameters() if p.grad is not None]))
    assert recorder.obstacle == "RuntimeError: out of memory"
    assert all(torch.equal(slopes[0], other) for other in slopes)


def test_what_is_no_longer_replayed_is_freed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(work: Callable[[], None]) -> Callable[[], None]:
        work()
        return lambda: None

    monkeypatch.setattr(step, "capture", record)
    monkeypatch.setattr(step, "_find_obstacle", lambda engine: None)
    engine, batches = short_training.prepare(short_training.settings("moco"), World())
    recorder = Recorder(engine, "auto", print)
    for number in range(6):
        rows, _ = recorder.gradient(batches.get(0, batches.order(0)), AT._replace(step=number))
        recorder.after_step(rows, AT._replace(step=number))
    recording = weakref.ref(recorder.recording)
    assert recorder.recording is not None
    assert recorder.recording.hook is not None
    gc.disable()
    try:
        recorder.recording = None
        assert recording() is None, "a graph keeps all the memory of a step"
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["simclr", "pirl", "jigsaw", "swav"])
def test_views_by_a_graph_are_the_usual_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "capture", lambda work: work)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    small = "+2x8" if name == "swav" else ""
    _, batches = short_training.prepare(short_training.settings(name, f"augmentation=byol{small}"), World())
    recorded, order = views.RecordedViews(batches), batches.order(0)
    for number in range(5):
        fetched = batches.fetch(number % batches.per_epoch, order)
        usual, batch = batches.augment(fetched), recorded(fetched)
        assert torch.equal(batch.index, usual.index)
        assert recorded.replay is not None or number < views.WARM_UP
        for own, view in zip(batch.views, usual.views, strict=True):
            assert own.stride() == view.stride()
            assert ((own - view).abs() < 1e-3).float().mean() > 0.999


def test_on_a_cpu_steps_run_one_by_one_and_nothing_is_said() -> None:
    engine, batches = short_training.prepare(short_training.settings("simclr"), World())
    notes: list[str] = []
    recorder = Recorder(engine, "auto", notes.append)
    for number in range(5):
        recorder.gradient(batches.get(number % 2, batches.order(0)), AT._replace(step=number))
    assert recorder.recording is None
    assert notes == []


def test_record_on_without_a_gpu_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    result = run_in_process(["run", "methods=simclr", "record=on", "device=cpu"], environment, tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "record=on: a CUDA graph needs a GPU" in result.stderr
    assert not list(tmp_path.glob("runs/*"))
