"""Where a training step's time goes, and what the encoder alone would take for the same passes, in one process.

Methods take turns, step by step, so that a machine that slows down does so for all of them; medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmark import optim, run, train
from benchmark.batches import Batches
from benchmark.config import Settings
from benchmark.distributed import World
from benchmark.engine import Engine, resolve_precision
from methods.method import Batch, Progress
from methods.parts.heads import MomentumCopy

T = TypeVar("T")
WARM_UP = 2  # steps that are not counted
PARTS = ("data", "gradient", "update")  # batch and views; forward, loss and backward; optimiser and hooks


@dataclass(frozen=True)
class Pass:
    """One call of an encoder within a step."""

    encoder: nn.Module
    images: Tensor
    trained: bool  # with a backward pass


@dataclass
class Subject:
    """One cell under measurement: seconds of each part of its steps, and of its encoder passes alone."""

    cell: Settings
    engine: Engine
    batches: Batches
    optimiser: torch.optim.Optimizer
    passes: list[Pass] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in (*PARTS, "encoder")})

    @property
    def ratio(self) -> float:
        """Median of step over encoder alone, formed step by step."""
        steps = zip(*(self.seconds[part] for part in PARTS), strict=True)
        return statistics.median(
            sum(parts) / encoder for parts, encoder in zip(steps, self.seconds["encoder"], strict=True)
        )

    def median(self, part: str) -> float:
        return statistics.median(self.seconds[part])


def profile(cells: list[Settings], device: torch.device, steps: int) -> list[Subject]:
    """Measure `steps` steps of each cell, in turns. Raises `UsageError` for a cell that cannot run."""
    for cell in cells:
        run.check(cell, World(), device)
    subjects = [_prepare(cell, device) for cell in cells if cell.epochs is not None]
    for step in range(WARM_UP + steps):
        for subject in subjects:
            measured = _step(subject, step, device)
            if step >= WARM_UP:
                for part, seconds in measured.items():
                    subject.seconds[part].append(seconds)
    return subjects


def _prepare(cell: Settings, device: torch.device) -> Subject:
    world, data = World(), run.dataset(cell.dataset)
    method, _ = run.build(cell, data, device)
    precision = resolve_precision(cell.precision or "fp32", device)
    batches = run.make_batches(cell, method, data, world, device, precision)
    engine = run.make_engine(cell, method, world, device, precision)
    method.train()
    with torch.no_grad():
        method.before_epoch(_progress(cell, batches, 0), lambda f: train.embed(f, engine, batches))
    return Subject(cell, engine, batches, optim.make(method, cell))


def _step(subject: Subject, step: int, device: torch.device) -> dict[str, float]:
    engine, method, optimiser = subject.engine, subject.engine.method, subject.optimiser
    at = _progress(subject.cell, subject.batches, step)
    order = subject.batches.order(0)
    for group in optimiser.param_groups:
        group["lr"] = optim.learning_rate(step, at.steps, subject.cell)
    optimiser.zero_grad(set_to_none=True)
    batch, data = _timed(lambda: subject.batches.get(step % subject.batches.per_epoch, order), device)
    if not subject.passes:
        subject.passes = _passes(engine, batch, at)
    (rows, _), gradient = _timed(lambda: engine.gradient(batch, at), device)

    @torch.no_grad()
    def update() -> None:
        method.after_backward(at)
        optimiser.step()
        method.after_step(rows, at)

    _, updated = _timed(update, device)
    _, alone = _timed(lambda: _encoders_alone(subject), device)
    return {"data": data, "gradient": gradient, "update": updated, "encoder": alone}


def _passes(engine: Engine, batch: Batch, at: Progress) -> list[Pass]:
    """The encoder calls of one forward, with their inputs."""
    method, found = engine.method, []
    copies = [m.network for m in method.modules() if isinstance(m, MomentumCopy)]
    encoders = [method.encoder, *(copy for copy in copies if type(copy) is type(method.encoder))]

    def note(encoder: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(Pass(encoder, inputs[0].detach(), torch.is_grad_enabled()))

    hooks = [encoder.register_forward_pre_hook(note) for encoder in encoders]
    engine.rows(engine.method, batch, at)
    for hook in hooks:
        hook.remove()
    return found


def _encoders_alone(subject: Subject) -> None:
    for one in subject.passes:
        with torch.set_grad_enabled(one.trained), subject.engine.autocast():
            features = one.encoder(one.images)
        if one.trained:
            features.backward(torch.ones_like(features))


def _progress(cell: Settings, batches: Batches, step: int) -> Progress:
    epochs = cell.epochs or 1
    return Progress(step, epochs * batches.per_epoch, step // batches.per_epoch, epochs)


def _timed(work: Callable[[], T], device: torch.device) -> tuple[T, float]:
    _settle(device)
    began = time.perf_counter()
    result = work()
    _settle(device)
    return result, time.perf_counter() - began


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
