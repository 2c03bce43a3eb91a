"""A forecast as people read it, and as it is kept for `report`. Imports no torch."""

from __future__ import annotations

from typing import Any

from benchmark.display.duration import format_duration
from benchmark.forecast.cost import Forecast, Forecasts
from benchmark.settings.address import hash_cell
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from results.quantity import quantify

HEADER = ["forecast", "memory", "by"]


def format_row(forecast: Forecast | None) -> list[str]:
    """The columns of `HEADER` of one cell; empty for one that has nothing to do."""
    if forecast is None:
        return ["", "", ""]
    source = (
        f"{forecast.how}, with microbatch={forecast.microbatch}: all at once do not fit"
        if forecast.microbatch
        else forecast.how
    )
    seconds = "?" if forecast.seconds is None else format_duration(forecast.seconds)
    return [seconds, "?" if forecast.memory is None else f"{forecast.memory / 2**30:.1f} GiB", source]


def format_lines(forecasts: Forecasts, runtime: Runtime) -> list[str]:
    """What all cells cost together, and how much it is to be trusted."""
    if all(forecast.how == "unknown" for forecast in forecasts.costs):
        return [
            f"forecast: none, for {forecasts.device}: run one cell of each shape first, or `plan` where there is one"
        ]
    kind = "CPU" if forecasts.device.endswith(" threads") else "GPU"
    most = max((forecast.memory or 0 for forecast in forecasts.costs), default=0)
    workers, where = at_once(runtime, forecasts)
    seconds = sum(forecast.seconds or 0.0 for forecast in forecasts.costs)
    first = f"{format_duration(seconds)} of training and evaluation in all, "
    first += f"{forecasts.hours:.3g} {kind}-hours on {forecasts.device}"
    first += f" ({forecasts.processes} processes a cell)" if forecasts.processes > 1 else ""
    first += f"; at most {most / 2**30:.1f} GiB a process" if most else ""
    texts = [f"forecast: {first}"]
    if workers > 1:
        together = runtime.slurm.cells_per_job if runtime.launcher == "slurm" else 1
        wall = format_duration(forecasts.wall(workers, together))
        texts.append(f"with {where}: about {wall}, if they do not slow each other down")
    if forecasts.measured:
        worst = max(forecast.spread for forecast in forecasts.costs)
        line = f"measured here: {quantify(forecasts.measured, 'shape')}, "
        line += f"upper quartile of their steps {worst:.0%} above the median"
        texts.append(line + (": this machine is not quiet" if worst > 0.1 else ""))
    if forecasts.unknown:
        texts.append(
            f"not in the sum: {quantify(forecasts.unknown, 'cell')}, which fail, do not fit, or are like none that ran"
        )
    return texts


def at_once(runtime: Runtime, forecasts: Forecasts) -> tuple[int, str]:
    """How many cells run at a time, and how one says so."""
    if runtime.launcher == "slurm":
        return runtime.slurm.array_parallelism, f"slurm.array_parallelism={runtime.slurm.array_parallelism}"
    if runtime.launcher == "local":
        return forecasts.workers, quantify(forecasts.workers, "worker")
    return 1, ""


def to_records(cells: list[Settings], forecasts: Forecasts) -> dict[str, dict[str, Any]]:
    """Key -> what `results.frames.forecasts` keeps, of cells whose cost is known."""
    return {
        hash_cell(cell): {
            "seconds": forecast.seconds,
            "memory": forecast.memory,
            "device": forecasts.device,
            "how": forecast.how,
        }
        for cell, forecast in zip(cells, forecasts.costs, strict=True)
        if forecast.seconds is not None and not forecast.microbatch
    }
