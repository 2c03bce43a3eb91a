"""What was foretold of cells, on disk beside them, and how it compares with what they then took."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import files, record

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "forecasts.json"


def keep(out: Path, estimates: Mapping[str, Mapping[str, Any]]) -> None:
    """Note a forecast for each key, over any that was there: `seconds`, `memory` in bytes, `device`, `how`."""
    if not estimates:
        return
    now = record.now()
    record.write_json(out / FILE_NAME, read(out) | {key: {**values, "made": now} for key, values in estimates.items()})


def read(out: Path, problems: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Key -> its forecast; what cannot be read is left out, which costs no result, and is one of `problems`."""
    problems = [] if problems is None else problems
    try:
        stored = files.read_json(out / FILE_NAME)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(files.make_printable(f"{out / FILE_NAME}: unreadable forecasts: {error}"))
        return {}
    rows = stored if isinstance(stored, dict) else {"": stored}
    readable = {key: forecast for key, forecast in rows.items() if _is_readable(forecast)}
    problems += [
        files.make_printable(f"{out / FILE_NAME}: no forecast: {key!r}") for key in rows.keys() - readable.keys()
    ]
    return readable


def _is_readable(forecast: Any) -> bool:
    kinds = {"made": str, "seconds": int | float, "device": str}
    return isinstance(forecast, dict) and all(isinstance(forecast.get(name), kind) for name, kind in kinds.items())


def compare_with_truth(frame: pd.DataFrame, estimates: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """A row a method: `cells` finished after their forecast, `forecast` and `truth` in seconds, and the `ratio` of
    truth to forecast in all, for its `least` and its `most` cell. Empty where nothing was foretold.

    `frame` is what `frames.frame.load` returns. Truth is the training and the evaluation, on the same device.
    """
    import pandas as pd

    columns = ["key", "made", "forecast", "cost.device"]
    forecasts = pd.DataFrame(
        [(key, forecast["made"], forecast["seconds"], forecast["device"]) for key, forecast in estimates.items()],
        columns=columns,
    )
    texts = {"key": str, "cost.device": str}  # whatever pandas takes a column without rows for
    finished = frame[frame["status"] == "finished"].astype(texts | {"started": str})
    compared = finished.merge(forecasts.astype(texts | {"made": str}), on=list(texts))
    compared = compared[compared["started"] >= compared["made"]]
    compared = compared.assign(truth=compared["cost.seconds"].fillna(0) + compared["cost.evaluation_seconds"].fillna(0))
    ratios = compared.assign(ratio=compared["truth"] / compared["forecast"])
    totals = ratios.groupby("method", sort=False).agg(
        cells=("key", "size"),
        forecast=("forecast", "sum"),
        truth=("truth", "sum"),
        least=("ratio", "min"),
        most=("ratio", "max"),
    )
    return totals.assign(ratio=totals["truth"] / totals["forecast"]).reset_index()
