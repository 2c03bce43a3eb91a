"""Contestants that take turns, round by round in one process, so that a machine that slows down does so for all.

A ratio is formed within each round; what is reported is the median of the rounds with its quartiles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

from benchmark.cells.machine import name_device
from benchmark.display import columns

CPU = torch.device("cpu")


def time_call(work: Callable[[], object], device: torch.device = CPU) -> float:
    """Wall time of one call, with all that it started on the device."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def alternate(contestants: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each contestant, on the CPU, in each of `rounds`, after `warm_up` rounds that do not count.

    Every second round goes in the opposite order: nobody always follows the same one.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warm_up + rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            elapsed = time_call(contestants[name])
            if number >= warm_up:
                times[name].append(elapsed)
    return times


def ratio(over: Sequence[float], under: Sequence[float], scale: float = 1.0) -> str:
    """`scale` times one contestant's seconds over another's, formed round by round: such as '8.13x (7.90 to 8.32)'."""
    middle, low, high = spread([scale * a / b for a, b in zip(over, under, strict=True)])
    return f"{middle:.2f}x" if len(over) == 1 else f"{middle:.2f}x ({low:.2f} to {high:.2f})"


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def show(rows: Sequence[Sequence[str]], note: str) -> None:
    """Print a table, its first row the header, under the machine's name and above a line of what it shows."""
    print(f"{name_device(CPU)}, torch {torch.__version__}")
    columns.show(rows[0], rows[1:])
    print(note)
