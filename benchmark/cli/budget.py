"""A forecast held against `budget=`, and kept for `report`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.cells.plan import State
from benchmark.errors import UsageError
from benchmark.forecast import forecast_table
from benchmark.forecast.cost import Forecasts
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from results.frames import forecasts
from results.quantity import quantify


def keep(forecast: Forecasts, cells: list[Settings], states: list[State], out: Path) -> None:
    """Keep a forecast for `report`, but of what has begun."""
    running = {state.folder.name.rpartition("-")[2] for state in states if state.word == "running"}
    entries = {key: entry for key, entry in forecast_table.to_records(cells, forecast).items() if key not in running}
    try:
        forecasts.keep(out, entries)
    except OSError as error:  # another's folder
        print(f"note: the forecast is not kept: {out} cannot be written to ({error.strerror})", file=sys.stderr)


def require(forecast: Forecasts, runtime: Runtime) -> None:
    """Raise `UsageError` for what costs more than budget=, or nobody knows what."""
    words = f"budget={runtime.budget:g}"
    if runtime.budget and forecast.unknown:
        raise UsageError(
            f"{words}: the cost of {forecast.unknown} of {quantify(len(forecast.costs), 'cell')} is not known here"
        )
    if runtime.budget and any(cost.microbatch for cost in forecast.costs):
        raise UsageError(f"{words}: some cells do not fit as they are; `plan` says which microbatch= does")
    if runtime.budget and forecast.hours > runtime.budget:
        raise UsageError(f"{words} hours would be exceeded; {forecast_table.format_lines(forecast, runtime)[0]}")
