"""A cell's cost by some of its steps, measured here and now, with the micro-batch that fits into memory."""

from __future__ import annotations

import contextlib
import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch

from benchmark.cells import machine
from benchmark.data.datasets import Data
from benchmark.data.source import Split
from benchmark.evaluate import headline
from benchmark.evaluate.frozen_cell import freeze
from benchmark.forecast import memory
from benchmark.forecast.cost import Forecast
from benchmark.profiling import profile
from benchmark.profiling.flow import BLOCK, WARM_UP, Flow
from benchmark.profiling.profile import ProfiledCell
from benchmark.profiling.timing import spread, time_call
from benchmark.settings.cell import Settings, seeded_dataset
from benchmark.settings.runtime import Runtime
from benchmark.training import build
from benchmark.training.distributed import World

STEPS = 20  # that are measured of a shape
LIMIT = 10.0  # seconds for them and those that warm up, though two are always taken
IMAGES = {"cpu": 1024, "cuda": 65536}  # that are evaluated, and embedded before an epoch; their time is scaled to all


@dataclass(frozen=True)
class Measured:
    """What was seen of a shape; the seconds are 0 of what it does not have."""

    once: float = 0.0  # seconds of the first steps over others
    epoch: float = 0.0  # seconds of an epoch
    evaluation: float = 0.0  # seconds
    memory: int | None = None  # None where it fails
    failure: str = "does not fit"
    microbatch: int = 0
    spread: float = 0.0

    def forecast(self, epochs: int) -> Forecast:
        """What a cell of this shape costs that trains for so many epochs."""
        if self.memory is None:
            return Forecast(None, None, self.failure)
        seconds = self.once + epochs * self.epoch + self.evaluation
        return Forecast(seconds, self.memory, "measured", self.microbatch, self.spread)


def measure_fitting(
    cell: Settings, device: torch.device, runtime: Runtime, processes: int = 1, workers: int = 1
) -> Measured:
    """Measure `cell` as it is, or with the largest half, quarter ... of its batch at once that fits into memory."""
    build.check(cell, World(), device)
    share = replace(cell, batch_size=cell.batch_size // processes) if cell.batch_size else cell
    room = memory.capacity(device, runtime, workers)
    whole = share.microbatch or share.batch_size or 0
    grouped = share.batch_norm not in (None, "sync", "local")  # their groups need the whole batch
    halves = range(1) if grouped else range(max(1, whole.bit_length()))
    for microbatch in (math.ceil(whole / 2**half) for half in halves):
        as_asked = microbatch == whole
        with contextlib.suppress(memory.NoRoom), memory.limit_memory(device, room):
            tried = share if as_asked else replace(share, microbatch=microbatch)
            measured = measure(tried, device, runtime, processes)
            return replace(measured, microbatch=0 if as_asked else microbatch)
        gc.collect()  # what the error held
    return Measured()


def measure(cell: Settings, device: torch.device, runtime: Runtime, processes: int = 1) -> Measured:
    """Some steps of the cell, the start of an epoch, and the evaluation of some images that are not the test set's.

    The cell's batch is one process's share; what `processes` tell each other is not in it.
    """
    machine.reset_peak_memory(device)
    data = build.load_dataset(seeded_dataset(cell))
    if cell.epochs is None:
        method, _ = build.build_method(cell, data, device)
        batches = build.build_batches(cell, method, data, World(), device, "fp32")
        took = _evaluation(lambda part: headline.evaluate(freeze(method, part, batches, device)), data, device)
        return Measured(evaluation=took, memory=machine.read_peak_memory(device))
    profiled: ProfiledCell = profile.prepare(cell, device, runtime.compile, IMAGES[device.type])
    until = time.monotonic() + LIMIT
    # The first steps ask for memory, and choose or compile kernels: their excess counts once.
    first = _time_steps(profiled, 0, profile.WARM_UP, until, device)
    profile.start_epoch(profiled, profile.WARM_UP, device)  # with the clusters that the steps behind it need
    if device.type == "cuda":
        mode = "off" if processes > 1 or cell.microbatch else runtime.record  # as neither is recorded
        steady = _time_flow(profiled, mode, until, device)
    else:
        steady = _time_steps(profiled, profile.WARM_UP, STEPS, until, device)
    peak = machine.read_peak_memory(device)
    step_seconds = sum(steady) / len(steady)
    middle, _, high = spread(steady)
    method = profiled.engine.method
    took = _evaluation(lambda part: headline.evaluate(freeze(method, part, profiled.batches, device)), data, device)
    return Measured(
        once=max(0.0, sum(first) - len(first) * step_seconds),
        epoch=profiled.epoch_start + profiled.batches.per_epoch // processes * step_seconds,
        evaluation=took,
        memory=peak,
        spread=high / middle - 1,
    )


def _time_steps(profiled: ProfiledCell, start: int, count: int, until: float, device: torch.device) -> list[float]:
    """Seconds of each of the `count` steps from `start` that begin before `until`; of the first in any case."""
    times: list[float] = []
    while not times or (len(times) < count and time.monotonic() < until):
        times.append(time_call(partial(profile.step, profiled, start + len(times)), device))
    return times


def _time_flow(profiled: ProfiledCell, mode: str, until: float, device: torch.device) -> list[float]:
    """Seconds of a step in each block of them that begins before `until`, recorded as in training; one in any case."""
    flow = Flow(profiled.cell, profiled.engine, profiled.batches, profiled.optimiser, mode)
    steps = profile.list_steps(profiled, profile.WARM_UP)
    flow.take(list(islice(steps, WARM_UP)), profiled.order)
    times: list[float] = []
    while not times or (len(times) < STEPS // BLOCK and time.monotonic() < until):
        block = list(islice(steps, BLOCK))
        times.append(time_call(partial(flow.take, block, profiled.order), device) / BLOCK)
    del flow
    gc.collect()  # a graph's memory is freed with it
    return times


def _evaluation(numbers: Callable[[Data], Iterator[Any]], data: Data, device: torch.device) -> float:
    """Seconds of the evaluation of the whole dataset, by that of some of its training images."""
    total = len(data.train) + len(data.validation) + len(data.test)
    share = min(1.0, IMAGES[device.type] / total)

    def take(split: Split, count: int) -> Split:
        index = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[: max(1, round(share * count))]
        return Split(split.images[index.to(split.images.device)], split.labels[index.to(split.labels.device)])

    train, validation = take(data.train, len(data.train)), take(data.validation, len(data.validation))
    part = replace(data, train=train, validation=validation, test=take(data.train, len(data.test)))

    def work() -> None:
        with contextlib.suppress(headline.NotFinite):
            list(numbers(part))

    return time_call(work, device) * total / (len(part.train) + len(part.validation) + len(part.test))
