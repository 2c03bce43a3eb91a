"""What may be recorded as a CUDA graph, told on a CPU; the recording itself is tested on a GPU (tests/gpu)."""

from pathlib import Path

import pytest
import torch
from commandline import run_in_process
from torch import Tensor, nn

import methods
from benchmark.contract import short_training
from benchmark.training.distributed import World
from benchmark.training.engine import Engine
from benchmark.training.recorded.step import Recorder, inspect
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


def test_on_a_cpu_steps_run_one_by_one_and_nothing_is_said() -> None:
    engine, batches = short_training.prepare(short_training.settings("simclr"), World())
    notes: list[str] = []
    recorder = Recorder(engine, "auto", notes.append)
    for step in range(5):
        recorder.gradient(batches.get(step % 2, batches.order(0)), AT._replace(step=step))
    assert recorder.recording is None
    assert notes == []


def test_record_on_without_a_gpu_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    result = run_in_process(["run", "methods=simclr", "record=on", "device=cpu"], environment, tmp_path)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "record=on: a CUDA graph needs a GPU" in result.stderr
    assert not list(tmp_path.glob("runs/*"))
