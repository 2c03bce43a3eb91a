"""Whether training makes the features of a method better: the check that needs more than a few steps."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

import methods
from benchmark.contract.comparison import Violation
from benchmark.contract.short_training import CPU, StopAt, prepare, small_backbone
from benchmark.display.progress import ProgressDisplay
from benchmark.evaluate import features, knn, linear
from benchmark.settings.address import key
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training import build, train
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.training.engine import Engine
from benchmark.training.stop import Stopped
from benchmark.words import cell_words
from methods.method import Method, Progress

CLEAR = 0.05  # of the neighbours: a lead of which no doubt is left


def check_learning(name: str) -> None:
    """A short training on the digits, with their preset but a small backbone, finds better neighbours than its random
    start had.

    Batch norm's statistics settle in any training; that alone improves neighbours, and is not learning. So the start
    is measured with settled statistics, and the end has to be better both with such and with those that training
    left, which are what `run` evaluates. Whoever is ahead by `CLEAR` behind an epoch need not go on.
    """
    backbone = small_backbone(name)
    epochs = 16 if methods.describe(name).tokens else 4  # few patches of a small image teach a transformer slowly
    small = [*backbone, f"epochs={epochs}", "precision=fp32"]
    cell = cell_words.read([f"methods={name}", "dataset=digits", *small]).cells[0]
    engine, batches = prepare(cell, World())
    _settle_batch_norm(engine, batches)
    before = after = _neighbour_accuracy(engine.method, cell, batches)
    with tempfile.TemporaryDirectory() as scratch:
        for epoch in range(cell.epochs or 0):
            with contextlib.suppress(Stopped):
                stop, display = StopAt(batches.per_epoch - 1), ProgressDisplay(1, shown=False)
                train.train(engine, batches, cell, Runtime(), key(cell), Path(scratch), stop, display)
            as_trained = _neighbour_accuracy(engine.method, cell, batches)
            if as_trained <= before + CLEAR and epoch + 1 != cell.epochs:
                continue
            trained = {name: value.clone() for name, value in engine.method.state_dict().items()}
            _settle_batch_norm(engine, batches)
            after = min(as_trained, _neighbour_accuracy(engine.method, cell, batches))
            engine.method.load_state_dict(trained)
            if after > before + CLEAR:
                return
    if not after > before:
        raise Violation(f"20 nearest neighbours: {after:.1%} right after training, {before:.1%} before")


def _settle_batch_norm(engine: Engine, batches: Batches) -> None:
    """Make the running statistics of the encoder's batch norms the mean over an epoch; always the same epoch."""
    norms = [layer for layer in engine.method.encoder.modules() if isinstance(layer, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all that follows, instead of a moving one
    engine.method.train()
    with torch.no_grad():
        for step in range(batches.per_epoch):
            engine.rows(engine.method, batches.get(step, batches.order(0)), Progress(step, 1, 0, 1))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _neighbour_accuracy(method: Method, cell: Settings, batches: Batches) -> float:
    data = build.load_dataset(cell.dataset)
    single = replace(batches, dtype=torch.float32)
    extracted = features.extract(method.encoder, data, single.normalise, cell.view_size, CPU)
    votes = knn.vote(extracted.validation[0], *extracted.train, extracted.classes, 20, knn.TEMPERATURE)
    return linear.top1(votes, extracted.validation[1])
