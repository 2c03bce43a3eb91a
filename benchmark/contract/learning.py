"""Whether training makes the features of a method better: the check that needs more than a few steps."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.contract.comparison import Violation
from benchmark.contract.short_training import CPU, StopAt, prepare, small_backbone
from benchmark.display.progress import ProgressDisplay
from benchmark.evaluate import features, knn, linear
from benchmark.settings.address import hash_cell
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training import build, train
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.training.engine import Engine
from benchmark.training.stop import Stopped
from benchmark.words import cell_words
from methods.method import Method, Progress

CLEAR = 0.03  # of the neighbours' accuracy: a lead of which no doubt is left


def check_learning(name: str, epochs: int = 16) -> None:
    """A short training on the digits, with their preset but a small backbone, makes better features than its random
    start had: by 20 nearest neighbours, or by a linear probe.

    Batch norm's statistics settle in any training; that alone improves features, and is not learning. So the start
    is measured with settled statistics, and the end has to be better both with such and with those that training
    left, which are what `run` evaluates. Whoever is ahead by `CLEAR` behind an epoch need not go on.
    """
    words = [f"methods={name}", "dataset=digits", *small_backbone(name), f"epochs={epochs}", "precision=fp32"]
    cell = cell_words.read(words).cells[0]
    engine, batches = prepare(cell, World())
    _settle_batch_norm(engine, batches)
    before = after = _measure(engine.method, cell, batches)
    with tempfile.TemporaryDirectory() as scratch:
        for epoch in range(cell.epochs or 0):
            with contextlib.suppress(Stopped):
                stop, display = StopAt(batches.per_epoch - 1), ProgressDisplay(1, shown=False)
                train.train(engine, batches, cell, Runtime(), hash_cell(cell), Path(scratch), stop, display)
            as_trained = _measure(engine.method, cell, batches)
            if _best_lead(as_trained, before) <= CLEAR and epoch + 1 != cell.epochs:
                continue
            trained = {name: value.clone() for name, value in engine.method.state_dict().items()}
            _settle_batch_norm(engine, batches)
            settled = _measure(engine.method, cell, batches)
            after = {measure: min(as_trained[measure], settled[measure]) for measure in before}
            engine.method.load_state_dict(trained)
            if _best_lead(after, before) > CLEAR:
                return
    if not _best_lead(after, before) > 0:
        ends = (
            f"{measure} {after[measure]:.1%} right after training, {before[measure]:.1%} before" for measure in after
        )
        raise Violation("; ".join(ends))


def _best_lead(after: dict[str, float], before: dict[str, float]) -> float:
    return max(after[measure] - before[measure] for measure in before)


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


def _measure(method: Method, cell: Settings, batches: Batches) -> dict[str, float]:
    """Accuracies on all training and validation images, each by what the other half of them says."""
    data = build.load_dataset(cell.dataset)
    single = replace(batches, dtype=torch.float32)
    extracted = features.extract(method.encoder, data, single.normalise, cell.view_size, CPU)
    x, y = (torch.cat(pair) for pair in zip(extracted.train, extracted.validation, strict=True))
    halves = [(x[start::2], y[start::2]) for start in (0, 1)]
    total = dict.fromkeys(("20 nearest neighbours", "linear probe"), 0.0)
    for one, (queries, labels) in zip(halves, halves[::-1], strict=True):
        votes = knn.vote(queries, *one, extracted.classes, 20, knn.TEMPERATURE)
        probe = linear.choose(one, (queries, labels), extracted.classes)["linear_validation_top1"]
        for measure, accuracy in zip(total, (linear.top1(votes, labels), probe), strict=True):
            total[measure] += accuracy * len(labels) / len(y)
    return total
