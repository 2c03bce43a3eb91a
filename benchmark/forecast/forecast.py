"""What cells will cost before they run: as cells like them did, or by some of their steps, measured here and now.

A forecast is of the seconds that a record counts: training and evaluation, without the start of a process. The
measuring has a process of its own, so that nothing is left of it in the memory of whoever asks.
"""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median, mode
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.cells import past_costs
from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime

if TYPE_CHECKING:
    import torch

    from benchmark.data.datasets import Data
    from benchmark.profiling.profile import Subject

STEPS, LIMIT = 20, 20.0  # that are measured of a shape, and after so many seconds only what is needed
NEEDED = 3
EVALUATED = {"cpu": 4096, "cuda": 65536}  # images whose evaluation is timed, and scaled to all


class Forecast(NamedTuple):
    """Of one cell. `seconds` and `memory` are None where nothing is known or nothing fits."""

    seconds: float | None
    memory: int | None  # bytes at the peak, of one process
    how: str  # measured, records; like records (of the same method and backbone); unknown; does not fit; fails: why
    microbatch: int = 0  # with which this is, where all images at once do not fit; 0 is as asked for
    spread: float = 0.0  # of measured steps: the upper quartile over the median, less 1


@dataclass(frozen=True)
class Forecasts:
    """Of some cells, each on `processes` devices."""

    each: list[Forecast]
    device: str
    processes: int
    workers: int  # of launcher=local, else 1
    measured: int  # shapes

    @property
    def hours(self) -> float:
        """Of devices, over all cells whose cost is known."""
        return sum(one.seconds or 0.0 for one in self.each) * self.processes / 3600

    @property
    def unknown(self) -> int:
        return sum(one.seconds is None for one in self.each)

    def wall(self, at_once: int, together: int = 1) -> float:
        """Seconds until all are done, so many jobs at once of so many cells, the longest first."""
        seats, each = [0.0] * max(1, at_once), [one.seconds or 0.0 for one in self.each]
        for seconds in sorted((sum(each[i : i + together]) for i in range(0, len(each), together)), reverse=True):
            seats[seats.index(min(seats))] += seconds
        return max(seats)


def forecast(cells: list[Settings], runtime: Runtime) -> Forecasts:
    """What `cells` will cost where `runtime` says. Raises `UsageError` for a cell that cannot run."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
        try:
            return child.submit(_forecast, cells, runtime).result()
        except BrokenProcessPool:
            raise UsageError(
                "the process that measures was killed, for memory perhaps; plan --quick measures nothing"
            ) from None


def _forecast(cells: list[Settings], runtime: Runtime) -> Forecasts:
    """The same, in this process."""
    from benchmark.cells import machine

    device, workers = _device(runtime)
    processes = runtime.slurm.nodes * max(1, runtime.slurm.gpus_per_node) if runtime.launcher == "slurm" else 1
    ran = [one for one in past_costs.recorded(Path(runtime.out)) if one.processes == processes and _same(one, device)]
    name = "a GPU, which is not here" if device is None else machine.device_name(device)
    if device is None and ran:  # of several kinds, the usual one
        name = mode(one.device for one in ran)
        ran = [one for one in ran if one.device == name]
    by_shape: dict[str, Measured] = {}
    each = []
    for cell in cells:
        shape = past_costs.shape(address.identity(cell))
        if (known := _as_before(shape, ran, 0)) is not None:
            each.append(known)
        elif device is None:
            each.append(_as_before(shape, ran, 1) or Forecast(None, None, "unknown"))
        else:
            like = shape.likenesses[0]
            if like not in by_shape:
                print(f"measuring a shape of {cell.method} ({len(by_shape) + 1})", file=sys.stderr, flush=True)
                try:
                    by_shape[like] = fitting(cell, device, runtime, processes, workers)
                except UsageError:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever a method raises; the run will record it
                    by_shape[like] = Measured(failure=f"fails: {type(error).__name__}: {' '.join(str(error).split())}")
                    if device.type == "cuda":  # an error on a GPU may last as long as its process
                        device = None
            each.append(by_shape[like].forecast(cell.epochs or 0))
    return Forecasts(each, name, processes, workers, len(by_shape))


def _as_before(shape: past_costs.Shape, ran: list[past_costs.Ran], likeness: int) -> Forecast | None:
    """By the cells that ran and are like it: the training by its pixels, the evaluation by its own."""
    alike = [one for one in ran if one.shape.likenesses[likeness] == shape.likenesses[likeness]]
    if not alike:
        return None
    trained = [(one.seconds - one.evaluation) / one.shape.trained for one in alike if one.shape.trained]
    judged = median(one.evaluation / one.shape.judged for one in alike) * shape.judged
    seconds = judged + (median(trained) * shape.trained if trained else 0.0)
    if likeness:
        return Forecast(seconds, None, "like records")
    return Forecast(seconds, max(one.memory for one in alike) or None, "records")


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
        if self.memory is None:
            return Forecast(None, None, self.failure)
        seconds = self.once + epochs * self.epoch + self.evaluation
        return Forecast(seconds, self.memory, "measured", self.microbatch, self.spread)


def fitting(cell: Settings, device: torch.device, runtime: Runtime, processes: int = 1, workers: int = 1) -> Measured:
    """Measure `cell` as it is, or with the largest half, quarter ... of its batch at once that fits into memory."""
    from benchmark.forecast import memory
    from benchmark.training import build
    from benchmark.training.distributed import World

    build.check(cell, World(), device)
    share = replace(cell, batch_size=cell.batch_size // processes) if cell.batch_size else cell
    room = memory.capacity(device, runtime, workers)
    whole = share.microbatch or share.batch_size or 0
    grouped = share.batch_norm not in (None, "sync", "local")  # their groups need the whole batch
    halves = range(1) if grouped else range(max(1, whole.bit_length()))
    for microbatch in (math.ceil(whole / 2**half) for half in halves):
        as_asked = microbatch == whole
        with contextlib.suppress(memory.NoRoom), memory.limited(device, room):
            tried = share if as_asked else replace(share, microbatch=microbatch)
            found = measure(tried, device, runtime.compile, processes)
            return replace(found, microbatch=0 if as_asked else microbatch)
        gc.collect()  # what the error held
    return Measured()


def measure(cell: Settings, device: torch.device, compiled: bool, processes: int = 1) -> Measured:
    """Some steps of the cell, the start of an epoch, and the evaluation of some images that are not the test set's.

    The cell's batch is one process's share; what `processes` tell each other is not in it.
    """
    from benchmark.cells import machine
    from benchmark.profiling import profile
    from benchmark.profiling.timing import seconds, spread
    from benchmark.training import build
    from benchmark.training.distributed import World

    machine.reset_peak_memory(device)
    data = build.dataset(cell.dataset)
    if cell.epochs is None:
        method, _ = build.method(cell, data, device)
        batches = build.batches(cell, method, data, World(), device, "fp32")
        took = _evaluation(lambda part: build.evaluation(method, part, batches, device), data, device)
        return Measured(evaluation=took, memory=machine.peak_memory(device))
    subject: Subject = profile.prepare(cell, device, compiled)
    # The first steps ask for memory, and choose or compile kernels: their excess counts once.
    first = [seconds(partial(profile.step, subject, number), device) for number in range(profile.WARM_UP)]
    profile.start_epoch(subject, profile.WARM_UP, device)  # with the clusters that the steps behind it need
    steady: list[float] = []
    until = time.monotonic() + LIMIT
    while len(steady) < NEEDED or (len(steady) < STEPS and time.monotonic() < until):
        steady.append(seconds(partial(profile.step, subject, profile.WARM_UP + len(steady)), device))
    peak = machine.peak_memory(device)
    each = sum(steady) / len(steady)
    middle, _, high = spread(steady)
    method = subject.engine.method
    took = _evaluation(lambda part: build.evaluation(method, part, subject.batches, device), data, device)
    return Measured(
        once=max(0.0, sum(first) - len(first) * each),
        epoch=subject.epoch_start + subject.batches.per_epoch // processes * each,
        evaluation=took,
        memory=peak,
        spread=high / middle - 1,
    )


def _evaluation(numbers: Callable[[Data], Iterator[Any]], data: Data, device: torch.device) -> float:
    """Seconds of the evaluation of the whole dataset, by that of some of its training images."""
    import torch

    from benchmark import evaluate
    from benchmark.data.source import Split
    from benchmark.profiling.timing import seconds

    total = len(data.train) + len(data.validation) + len(data.test)
    share = min(1.0, EVALUATED[device.type] / total)

    def some(split: Split, count: int) -> Split:
        index = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[: max(1, round(share * count))]
        return Split(split.images[index.to(split.images.device)], split.labels[index.to(split.labels.device)])

    train, validation = some(data.train, len(data.train)), some(data.validation, len(data.validation))
    part = replace(data, train=train, validation=validation, test=some(data.train, len(data.test)))

    def work() -> None:
        with contextlib.suppress(evaluate.NotFinite):
            list(numbers(part))

    return seconds(work, device) * total / (len(part.train) + len(part.validation) + len(part.test))


def _device(runtime: Runtime) -> tuple[torch.device | None, int]:
    """The device that cells will have, with as many threads as they will, and how many workers share this machine.

    None where it is another machine's GPU.
    """
    import torch

    from benchmark.launch.local import devices, threads
    from benchmark.training.engine import settled

    gpus, workers = torch.cuda.device_count() if torch.cuda.is_available() else 0, 1
    if runtime.launcher == "local":
        names = devices(runtime, gpus)
        workers = len(names)
        runtime = replace(runtime, device=names[0], threads=threads(runtime, len(names)))
    elif runtime.launcher == "slurm":
        wants_gpu = runtime.slurm.gpus_per_node > 0 or runtime.device.startswith("cuda")
        if wants_gpu and not gpus:
            return None, 1
        cpus = runtime.threads or max(1, runtime.slurm.cpus_per_task)
        runtime = replace(runtime, device="cuda" if wants_gpu else "cpu", threads=cpus)
    return settled(runtime), workers


def _same(one: past_costs.Ran, device: torch.device | None) -> bool:
    """Whether a cell ran on such a device; on any GPU, where it is not known which."""
    from benchmark.cells import machine

    return not one.device.endswith(" threads") if device is None else one.device == machine.device_name(device)
