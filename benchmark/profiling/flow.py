"""Whole steps in a flow, as a training takes them on a GPU: recorded if they can be, drawn ahead, and not waited for.

A clock that waits for the GPU behind each step sees the host prepare the next one, which a training does meanwhile. So
steps are timed `BLOCK` at a time, and so are the encoder's passes alone, as a graph where the step is recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.data.files import prefetch
from benchmark.settings.cell import Settings
from benchmark.training.batches import Batches
from benchmark.training.engine import Engine
from benchmark.training.recorded import step, views
from benchmark.training.recorded.graph import capture
from benchmark.training.train import take_step
from methods.method import Progress

BLOCK = 10  # steps
WARM_UP = step.WARM_UP + 2  # steps that are launched kernel by kernel, the one that is recorded, and another


class Pass(NamedTuple):
    """One call of an encoder within a step."""

    encoder: nn.Module
    images: Tensor
    trained: bool  # with a backward pass


def run_encoders(engine: Engine, passes: Sequence[Pass]) -> None:
    """The step's encoder passes: all forward, as in the step under one autocast, and then all backward."""
    trained = []
    with engine.autocast():
        for encoder_pass in passes:
            with torch.set_grad_enabled(encoder_pass.trained):
                features = encoder_pass.encoder(encoder_pass.images)
            if encoder_pass.trained:
                trained.append(features)
            del features
    torch.autograd.backward(trained, [torch.ones_like(features) for features in trained])


class Flow:
    """The steps of one cell under `record=mode`, and `passes`, those of its encoder."""

    def __init__(
        self,
        cell: Settings,
        engine: Engine,
        batches: Batches,
        optimiser: torch.optim.Optimizer,
        mode: str,
        passes: Callable[[], None] = lambda: None,
    ) -> None:
        self.cell, self.batches, self.optimiser = cell, batches, optimiser
        self.notes: list[str] = []  # what is not recorded, and why
        self.recorder = step.Recorder(engine, mode, self.notes.append)
        self.augment = views.augmenter(batches, mode, engine.compiled, self.notes.append)
        self.passes, self.recorded_passes = passes, passes

    def take(self, steps: Sequence[Progress], order: Tensor) -> None:
        """Steps of an epoch whose images come in `order`."""
        fetched = prefetch(lambda at: self.batches.fetch(at.step, order), steps)
        for at, images in zip(steps, fetched, strict=True):
            take_step(self.recorder, self.optimiser, self.augment(images), at, self.cell)

    def record_passes(self) -> None:
        """Where the steps are recorded, behind some of them."""
        if self.recorder.recording is not None:
            self.optimiser.zero_grad(set_to_none=True)
            with contextlib.suppress(RuntimeError):  # another pool of the encoder's size may not fit
                self.recorded_passes = capture(self.passes)

    def take_passes(self) -> None:
        """A block of the encoder's passes alone."""
        for _ in range(BLOCK):
            self.optimiser.zero_grad(set_to_none=True)
            self.recorded_passes()
