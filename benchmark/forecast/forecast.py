"""What cells will cost before they run: as cells like them did, or by some of their steps, measured here and now.

A forecast is of the seconds that a record counts: training and evaluation, without the start of a process. The
measuring has a process of its own, so that nothing is left of it in the memory of whoever asks.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median, mode
from typing import TYPE_CHECKING

from benchmark.cells import past_costs
from benchmark.display.duration import format_duration
from benchmark.errors import UsageError, explain
from benchmark.forecast.cost import Forecast, Forecasts
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime, adopt_trust, count_processes

if TYPE_CHECKING:
    import torch


def forecast(cells: list[Settings], runtime: Runtime) -> Forecasts:
    """What `cells` will cost where `runtime` says. Raises `UsageError` for a cell that cannot run."""
    with ProcessPoolExecutor(1, get_context("spawn"), adopt_trust, (runtime,)) as child:
        try:
            return child.submit(_forecast, cells, runtime).result()
        except BrokenProcessPool:
            raise UsageError(
                "the process that measures was killed, for memory perhaps; plan --quick measures nothing"
            ) from None


def _forecast(cells: list[Settings], runtime: Runtime) -> Forecasts:
    """The same, in this process."""
    from benchmark.cells import machine
    from benchmark.forecast.measure import Measured, measure_fitting

    say = partial(print, file=sys.stderr, flush=True)

    device, workers = _device(runtime)
    processes = count_processes(runtime)
    past_runs = [run for run in past_costs.read(Path(runtime.out)) if run.processes == processes]
    past_runs = [run for run in past_runs if _ran_on(run, device)]
    name = "a GPU, which is not here" if device is None else machine.name_device(device)
    if device is None and past_runs:  # of several kinds, the usual one
        name = mode(run.device for run in past_runs)
        past_runs = [run for run in past_runs if run.device == name]
    shapes = [past_costs.find_shape(address.identify(cell)) for cell in cells]
    recalled = [_recall(shape, past_runs, 0) for shape in shapes]
    unknown = {shape.likenesses[0] for shape, cost in zip(shapes, recalled, strict=True) if cost is None}
    by_shape: dict[str, Measured] = {}
    costs = []
    for cell, shape, cost in zip(cells, shapes, recalled, strict=True):
        if cost is not None:
            costs.append(cost)
        elif device is None:
            costs.append(_recall(shape, past_runs, 1) or Forecast(None, None, "unknown"))
        else:
            likeness = shape.likenesses[0]
            if likeness not in by_shape:
                say(f"measuring {cell.method}, shape {len(by_shape) + 1} of {len(unknown)}")
                try:
                    by_shape[likeness] = measure_fitting(cell, device, runtime, processes, workers)
                except UsageError:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever a method raises; the run will record it
                    by_shape[likeness] = Measured(failure=f"fails: {explain(error)}")
                    if device.type == "cuda":  # an error on a GPU may last as long as its process
                        device = None
                say(f"  {_describe(by_shape[likeness].forecast(cell.epochs or 0))}")
            costs.append(by_shape[likeness].forecast(cell.epochs or 0))
    return Forecasts(costs, name, processes, workers, len(by_shape))


def _describe(forecast: Forecast) -> str:
    return forecast.how if forecast.seconds is None else f"{format_duration(forecast.seconds)} a cell"


def _recall(shape: past_costs.Shape, past_runs: list[past_costs.PastRun], likeness: int) -> Forecast | None:
    """By the cells that ran and are like it: the training by its pixels, the evaluation by its own."""
    alike = [run for run in past_runs if run.shape.likenesses[likeness] == shape.likenesses[likeness]]
    if not alike:
        return None
    trained = [(run.seconds - run.evaluation) / run.shape.trained for run in alike if run.shape.trained]
    evaluation = median(run.evaluation / run.shape.evaluated for run in alike) * shape.evaluated
    seconds = evaluation + (median(trained) * shape.trained if trained else 0.0)
    if likeness:
        return Forecast(seconds, None, "like records")
    return Forecast(seconds, max(run.memory for run in alike) or None, "records")


def _device(runtime: Runtime) -> tuple[torch.device | None, int]:
    """The device that cells will have, with as many threads as they will, and how many workers share this machine.

    None where it is another machine's GPU.
    """
    import torch

    from benchmark.launch.in_process import claim_spare
    from benchmark.launch.shares import share_devices, share_threads

    gpus, workers = torch.cuda.device_count() if torch.cuda.is_available() else 0, 1
    if runtime.launcher == "local":
        names = share_devices(runtime, gpus)
        workers = len(names)
        runtime = replace(runtime, device=names[0], threads=share_threads(runtime, len(names)))
    elif runtime.launcher == "slurm":
        wants_gpu = runtime.slurm.gpus_per_node > 0 or runtime.device.startswith("cuda")
        if wants_gpu and not gpus:
            return None, 1
        cpus = runtime.threads or max(1, runtime.slurm.cpus_per_task)
        runtime = replace(runtime, device="cuda" if wants_gpu else "cpu", threads=cpus)
    return claim_spare(runtime), workers


def _ran_on(run: past_costs.PastRun, device: torch.device | None) -> bool:
    """Whether a cell ran on such a device; on any GPU, where it is not known which."""
    from benchmark.cells import machine

    return not run.device.endswith(" threads") if device is None else run.device == machine.name_device(device)
