"""How long cells are expected to take: by cells like them that ran, else by the pixels they see. Imports no torch."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmark.augment import augmentation
from benchmark.data import catalogue
from benchmark.settings import address, schema
from results import record

# What tells cells apart that take the same time for the same work; nor do options that are fractions (a temperature).
EQUALLY_FAST = (
    "seed",
    "epochs",
    "learning_rate",
    "learning_rate_rule",
    "schedule",
    "warmup",
    "weight_decay",
    "weight_decay_end",
    "decay_all",
    "sgd_momentum",
    "adamw_beta2",
    "trial",
)


class Shape(NamedTuple):
    """What is known of a cell's length before it runs."""

    trained: float  # pixels of all views of the training
    evaluated: float  # pixels of one pass for the evaluation
    likenesses: tuple[str, str, str]  # as `build_cost_key`; the same method and backbone; any cell

    @property
    def work(self) -> float:
        """Pixels of training and evaluation together."""
        return self.trained + self.evaluated


class PastRun(NamedTuple):
    """A cell that ran, and what it took."""

    shape: Shape
    seconds: float  # of training and evaluation
    evaluation: float = 0.0  # seconds, of those
    memory: int = 0  # bytes at the peak; 0 is not known
    device: str = ""
    processes: int = 1


def find_shape(settings: dict[str, Any]) -> Shape:
    """The shape of a cell, from `address.identify`, which is also what a record calls its settings.

    Pixels know neither backbones nor what a method does beside encoding: those differ by what ran, once something did
    (`PastCosts`). Image files of a number that is not published are like themselves only.
    """
    data, side = settings["dataset"], settings["view_size"]
    images = data["limit"] or catalogue.entry(data["name"]).images
    data_mark = "" if images else f" {data.get('fingerprint') or data['root']}"
    small = augmentation.parse(settings["augmentation"] or "none").small_sides
    views = len(schema.describe(settings["method"]).views) * side**2 + sum(crop**2 for crop in small)
    trained, evaluated = ((images or 1) * pixels for pixels in ((settings["epochs"] or 0) * views, side**2))
    same_network = f"{settings['method']} {settings['backbone']}{data_mark}"
    return Shape(trained, evaluated, (build_cost_key(settings), same_network, data_mark))


def build_cost_key(settings: dict[str, Any]) -> str:
    """The same for cells whose steps take the same time and memory."""
    options = {name: value for name, value in settings["options"].items() if not isinstance(value, float)}
    return address.digest(settings | dict.fromkeys(EQUALLY_FAST) | {"options": options})


class PastCosts:
    """How long cells took for their work; by that, how long another will take."""

    def __init__(self, past_runs: Iterable[PastRun]) -> None:
        rates = defaultdict(list)
        for run in past_runs:
            for likeness in run.shape.likenesses:
                rates[likeness].append(run.seconds / run.shape.work)
        self.rates = {likeness: median(values) for likeness, values in rates.items()}

    def seconds(self, shape: Shape) -> float | None:
        """By the median rate of the cells most like it; None for none."""
        rates = (self.rates[likeness] for likeness in shape.likenesses if likeness in self.rates)
        rate = next(rates, None)
        return None if rate is None else rate * shape.work


def sort_longest_first(shapes: list[Shape], past_runs: Iterable[PastRun]) -> list[int]:
    """The positions of the cells, the longest expected first; equal ones as they were given."""
    past = PastCosts(past_runs)
    return sorted(range(len(shapes)), key=lambda i: -(past.seconds(shapes[i]) or shapes[i].work))


def estimate_time_left(
    running: list[tuple[Shape, float, float | None]], pending: list[Shape], past_runs: list[PastRun], workers: int
) -> float | None:
    """Seconds until the last cell is done, roughly; None before anything ran.

    `running` are (shape, seconds since it began, seconds left by its own pace, if it has one); they count as known.
    """
    at_their_pace = [PastRun(shape, elapsed + left) for shape, elapsed, left in running if left is not None]
    past = PastCosts([*past_runs, *at_their_pace])
    if not past.rates:
        return None
    remaining = [
        max(0.0, (past.seconds(shape) or 0) - elapsed) if left is None else left for shape, elapsed, left in running
    ]
    remaining += [past.seconds(shape) or 0.0 for shape in pending]
    return max(sum(remaining) / max(1, workers), *remaining) if remaining else 0.0


def estimate_alike(pending: list[Shape], past_runs: list[PastRun]) -> list[float]:
    """Seconds of each of the pending cells that a cell of the same method and backbone went before: what another method
    took, such as one that does not train, says little of them."""
    past = PastCosts(past_runs)
    return [past.seconds(shape) or 0.0 for shape in pending if shape.likenesses[1] in past.rates]


def read(out: Path) -> list[PastRun]:
    """Every finished cell below `out`, on whatever machine it ran."""
    runs = []
    for _, entry in record.find(out):
        if isinstance(entry, dict) and entry["status"] == "finished":
            with contextlib.suppress(Exception):  # of a method that is gone, or whatever lies there
                runs.append(_read_run(entry))
    return [run for run in runs if run.shape.work > 0]


def _read_run(entry: dict[str, Any]) -> PastRun:
    """What a record says of its cell's costs. Raises whatever comes of a record that says something else."""
    cost = entry["cost"]
    evaluation, memory = float(cost.get("evaluation_seconds", 0.0)), int(cost.get("peak_memory_bytes") or 0)
    device, processes = str(cost.get("device", "")), int(cost.get("processes", 1))
    return PastRun(find_shape(entry["settings"]), count_seconds(entry), evaluation, memory, device, processes)


def count_seconds(entry: dict[str, Any]) -> float:
    """Seconds of training and evaluation in a record."""
    return entry["cost"].get("seconds", 0.0) + entry["cost"].get("evaluation_seconds", 0.0)
