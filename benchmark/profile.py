"""Where a training step's time goes, and what the encoder alone would take for the same passes, in one process.

Methods take turns, step by step, so that a machine that slows down does so for all of them; medians are compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmark import optim, run, train
from benchmark.batches import Batches
from benchmark.config import Settings, key
from benchmark.distributed import World
from benchmark.engine import Engine, resolve_precision
from benchmark.errors import UsageError
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
    epoch_start: float = 0.0  # seconds of `before_epoch`: clustering, and what it embeds
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


def profile(cells: list[Settings], device: torch.device, steps: int, compiled: bool) -> list[Subject]:
    """Measure `steps` steps of each cell, in turns. Raises `UsageError` for a cell that cannot run."""
    once = {_timed_alike(cell): cell for cell in cells if cell.epochs is not None}
    if not once:
        raise UsageError("profile needs a method that trains")
    for cell in once.values():
        if cell.microbatch:
            raise UsageError(f"microbatch={cell.microbatch}: profile measures whole batches")
        run.check(cell, World(), device)
    subjects = [_prepare(cell, device, compiled) for cell in once.values()]
    for step in range(WARM_UP + steps):
        for subject in subjects:
            if step == WARM_UP:  # with the memories that training would have by then
                subject.epoch_start = max(subject.epoch_start, _before_epoch(subject, _progress(subject, step), device))
            measured = _step(subject, step, device)
            if step >= WARM_UP:
                for part, seconds in measured.items():
                    subject.seconds[part].append(seconds)
    return subjects


def _timed_alike(cell: Settings) -> str:
    """What makes two cells the same to a clock: all but the seed."""
    return key(replace(cell, seed=None))


def table(subjects: list[Subject]) -> list[list[str]]:
    """A header, and a row a method."""
    header = ["method", "batch", "pixels/image", "images/s", "step ms", *PARTS, "epoch start", "encoder ms"]
    rows = [[*header, "step/encoder"]]
    for subject in subjects:
        batches, step = subject.batches, sum(subject.median(part) for part in PARTS)
        row = [subject.cell.method, batches.batch_size, batches.pixels, round(batches.batch_size / step)]
        row += [round(1000 * step), *(f"{subject.median(part) / step:.0%}" for part in PARTS)]
        row += [f"{subject.epoch_start / (batches.per_epoch * step):.1%}", round(1000 * subject.median("encoder"))]
        rows.append([str(value) for value in row] + [f"{subject.ratio:.2f}"])
    return rows


def _prepare(cell: Settings, device: torch.device, compiled: bool) -> Subject:
    world, data = World(), run.dataset(cell.dataset)
    method, _ = run.build(cell, data, device)
    precision = resolve_precision(cell.precision or "fp32", device)
    batches = run.make_batches(cell, method, data, world, device, precision)
    engine = run.make_engine(cell, method, world, device, precision)
    if compiled:
        method.encoder.compile()
    method.train()
    subject = Subject(cell, engine, batches, optim.make(method, cell))
    subject.epoch_start = _before_epoch(subject, _progress(subject, 0), device)
    return subject


def _before_epoch(subject: Subject, at: Progress, device: torch.device) -> float:
    engine, batches = subject.engine, subject.batches
    with torch.no_grad():
        return _timed(lambda: engine.method.before_epoch(at, lambda f: train.embed(f, engine, batches)), device)[1]


def _step(subject: Subject, step: int, device: torch.device) -> dict[str, float]:
    engine, method, optimiser = subject.engine, subject.engine.method, subject.optimiser
    at = _progress(subject, step)
    order = subject.batches.order(0)
    for group in optimiser.param_groups:
        group["lr"] = optim.learning_rate(at.step, at.steps, subject.cell)
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
    names = [name for name, _ in method.encoder.named_parameters()]
    copies = [m.network for m in method.modules() if isinstance(m, MomentumCopy)]
    encoders = [method.encoder, *(copy for copy in copies if [name for name, _ in copy.named_parameters()] == names)]

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


def _progress(subject: Subject, step: int) -> Progress:
    """In the last epoch, where no method warms up any more and every memory takes part; but first at the start."""
    epochs, each = subject.cell.epochs or 1, subject.batches.per_epoch
    if step < WARM_UP:
        return Progress(step, epochs * each, 0, epochs)
    return Progress((epochs - 1) * each + step % each, epochs * each, epochs - 1, epochs)


def _timed(work: Callable[[], T], device: torch.device) -> tuple[T, float]:
    _settle(device)
    began = time.perf_counter()
    result = work()
    _settle(device)
    return result, time.perf_counter() - began


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
