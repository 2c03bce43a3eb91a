"""kNN accuracy on the validation split while a cell trains: when it is due, and how it is measured. Never on the test
set.

The training does not notice: what is evaluated is a copy of the encoder, in float32 and eval mode as the protocol has
it, and the state of the random numbers is put back.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark.augment.transforms import resize
from benchmark.data.datasets import Data
from benchmark.data.files import Files
from benchmark.data.splits import subsample
from benchmark.display.progress import ProgressDisplay
from benchmark.errors import explain
from benchmark.evaluate import knn
from benchmark.evaluate.features import encode
from benchmark.evaluate.frozen_cell import in_float32
from benchmark.evaluate.linear import top1
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime, Threshold, evaluation_interval, parse_thresholds, stop_thresholds
from benchmark.settings.values import count_microbatches
from benchmark.training.batches import Batches
from benchmark.training.embed import ROWS
from benchmark.training.train import Validation
from methods.method import Method
from results import files, record
from results.quantity import quantify

METRIC, NEIGHBOURS = record.VALIDATION, 20
REFERENCES, DRAW = 10_000, 0  # training images at most, in the proportions of the classes; the seed that draws them
TIMES, SHARE = 10, 0.03  # of evaluate_every=auto: evaluations of a training, and what they may cost of it together
# What a pixel costs in an evaluation over what it costs in training, forward and backward, where that is in bf16: with
# ResNet-18 at 32 px measured as 0.7 on a Xeon with AMX and as 3.2 on an H200 (docs/speed.md). In float32 it is a third.
BF16 = {"cpu": 1.0, "cuda": 3.2}


class ValidationCurve:
    """The accuracies of `method` over the training that `settings` describe, which is logged in `folder`."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        method: Method,
        data: Data,
        batches: Batches,
        precision: str,
        folder: Path,
        display: ProgressDisplay,
    ) -> None:
        assert settings.epochs is not None
        self.epochs, self.method, self.data, self.batches = settings.epochs, method, data, in_float32(batches)
        labels = data.train.labels
        self.rows = torch.from_numpy(subsample(labels, min(len(labels), REFERENCES), DRAW))
        # No more than a step encodes: the peak of memory stays the training's.
        passes = max(count_microbatches(batches.batch_size, settings.microbatch or 0), batches.world.size)
        self.at_once = min(ROWS, len(batches.views) * (batches.batch_size // passes))
        self.share = _share(len(self.rows) + len(data.validation), data, batches, self.epochs, precision)
        interval, self.folder, self.display = evaluation_interval(runtime), folder, display
        self.stop, self.prune = stop_thresholds(runtime), parse_thresholds(settings.prune_below)
        self.every = affordable_interval(self.share, self.epochs) if interval is None else interval
        if not data.class_names:
            self.every = 0
            if self.stop:
                display.say_once(f"note: stop_below={runtime.stop_below} stops nothing that has no labels")
                self.stop = []
        elif self.stop and self.stop[0].epochs >= self.epochs:
            display.say_once(
                f"note: stop_below={runtime.stop_below} stops no training of {quantify(self.epochs, 'epoch')}"
            )
        elif interval is None and not (self.every or self.stop or self.prune or settings.trial):
            display.say_once(
                f"note: no accuracy while cells train for so short a time: each takes more than {100 * SHARE:.0f} % of "
                "the training; evaluate_every=EPOCHS measures it all the same"
            )

    def is_due(self, epoch: int) -> bool:
        """Whether to measure once `epoch` epochs are trained; the same on every process and in every attempt."""
        regular = self.every > 0 and (epoch % self.every == 0 or epoch == self.epochs)
        return regular or any(epoch == threshold.epochs for threshold in (*self.stop, *self.prune))

    def ask(self, epoch: int) -> Validation:
        """What is due once `epoch` epochs are trained. One process evaluates, and the others wait.

        What cannot be evaluated costs a note, not the cell.
        """

        def attempt() -> Validation:
            try:
                return self._measure(epoch)
            except Exception as error:  # noqa: BLE001 - whatever it is, the training stands
                self.display.say(f"no accuracy at epoch {epoch}: {explain(error)}")
                return Validation({})

        return self.batches.world.broadcast(attempt) if self.is_due(epoch) else Validation({})

    def describe(self) -> dict[str, Any]:
        """How the curve is measured, for the record."""
        images = {"references": len(self.rows), "images": len(self.data.validation)}
        pruning = {"prune_below": [[round(accuracy, 4), epochs] for accuracy, epochs in self.prune]}
        how = {"every": self.every, "k": NEIGHBOURS} | images | {"share": round(self.share, 5)}
        return how | (pruning if self.prune else {})

    def _measure(self, epoch: int) -> Validation:
        if self.batches.device.type == "cuda":
            torch.cuda.synchronize(self.batches.device)  # what was launched before is training
        began = time.perf_counter()
        accuracy = self._accuracy()
        numbers = {METRIC: accuracy, "evaluation_seconds": round(time.perf_counter() - began, 3)}
        least = _find_threshold(self.stop, epoch)
        if least.accuracy and not accuracy >= least.accuracy:
            needed = f"stop_below={100 * least.accuracy:g}@{least.epochs}"
            return Validation(numbers, f"validation kNN {100 * accuracy:.1f} % at epoch {epoch}: {needed}", "stopped")
        least = _find_threshold(self.prune, epoch)
        if least.accuracy and not (best := self._best_before(accuracy)) >= least.accuracy:
            needed = f"the median of earlier trials at epoch {least.epochs} is {100 * least.accuracy:.4g} %"
            return Validation(numbers, f"best validation kNN {100 * best:.1f} % by epoch {epoch}: {needed}", "pruned")
        return Validation(numbers)

    def _best_before(self, accuracy: float) -> float:
        """The best of this accuracy and those that are logged; NaN where none is a number."""
        logged = [line.get(METRIC) for line in files.read_lines(self.folder / "log.jsonl")]
        numbers = [value for value in (*logged, accuracy) if isinstance(value, int | float) and value == value]
        return max(numbers, default=float("nan"))

    @torch.no_grad()
    def _accuracy(self) -> float:
        """As a fraction; NaN where features are not finite."""
        device, train, validation = self.batches.device, self.data.train, self.data.validation
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            encoder = copy.deepcopy(self.method.encoder).float()
            references = encode(encoder, train.images, self._prepare, device, self.rows, self.at_once)
            queries = encode(encoder, validation.images, self._prepare, device, None, self.at_once)
        if not (references.isfinite().all() and queries.isfinite().all()):
            return float("nan")
        labels, classes = train.labels[self.rows].to(device), len(self.data.class_names)
        votes = knn.vote(queries, references, labels, classes, NEIGHBOURS, knn.TEMPERATURE)
        return top1(votes, validation.labels.to(device))

    def _prepare(self, images: Tensor) -> Tensor:
        return self.batches.normalise(resize(images, self.batches.size))


def _find_threshold(thresholds: Sequence[Threshold], epoch: int) -> Threshold:
    """The last one that holds by `epoch`, or one that everything reaches."""
    return next((each for each in reversed(thresholds) if each.epochs <= epoch), Threshold(0.0, 0))


def affordable_interval(share: float, epochs: int) -> int:
    """Epochs between evaluations that take this `share` of a training each: some `TIMES` a training, fewer where that
    would exceed `SHARE`, and 0 where one does."""
    times = min(TIMES, int(SHARE / share))
    return -(-epochs // times) if times else 0


def _share(images: int, data: Data, batches: Batches, epochs: int, precision: str) -> float:
    """What one evaluation of `images` costs, over the whole training: by pixels through the encoder, or by files
    decoded where that is more. No clock is read, so that all attempts and processes agree."""
    ratio = BF16[batches.device.type] if precision == "bf16" else 1 / 3
    trained = epochs * batches.per_epoch * batches.batch_size / batches.world.size
    share = ratio * images * batches.size**2 / (trained * batches.pixels)
    return max(share, images / trained) if isinstance(data.train.images, Files) else share


def summarise(lines: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """What the evaluations among the lines of a log took, and the training's seconds until the first of them that came
    to 90 % of the last one's accuracy, for the costs in a record; nothing without evaluations. A line that lacks one of
    these numbers is none of a training's."""
    names = (METRIC, "evaluation_seconds", "seconds")
    curve = [line for line in lines if all(isinstance(line.get(name), int | float) for name in names)]
    if not curve:
        return {}
    costs = {"validation_seconds": round(sum(line["evaluation_seconds"] for line in curve), 3)}
    reached = [line["seconds"] for line in curve if line[METRIC] >= 0.9 * curve[-1][METRIC]]
    return costs | ({"seconds_to_90": round(reached[0], 3)} if len(curve) > 1 and reached else {})
