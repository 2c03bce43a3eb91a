"""Published numbers as curves over a setting.

`published.csv` has a row a number, in percent as printed: what was trained (`settings` are words such as
`options.temperature=0.1`, named as the columns of a loaded frame), the `axes` that its table varies, none for a number
that is no point of a curve, the protocol, the source, whether it was read there (`verified`) or is from memory, and
`like`, the name of the published protocol that `like=NAME` sets, where there is one for it.
SimCLR's figure 8, on heads, is not in it: its text gives differences only.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from results.frames import labels


@dataclass(frozen=True)
class Curve:
    """Published accuracies, as fractions, over the values of one setting."""

    id: str
    method: str
    axis: str  # a column of a loaded frame, such as `options.temperature`
    x: tuple[float | str, ...]  # numbers ascending, words as published
    y: tuple[float, ...]
    metric: str
    source: str
    protocol: str  # one line: what was held fixed, and the evaluation
    verified: bool


class Published(NamedTuple):
    curve: Curve
    fixed: dict[str, Any]  # column of a loaded frame -> value, for all that is known but the axis
    runs: tuple[Any, ...]  # behind each number, NA where the source does not say


def load() -> pd.DataFrame:
    """`published.csv`, a row a number, with `result`, the number as a fraction, in place of `percent`."""
    with resources.files("results.published").joinpath("published.csv").open(encoding="utf-8") as file:
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    whole = {name: pd.to_numeric(frame[name]).astype("Int64") for name in ("epochs", "batch_size", "runs")}
    result = (frame.pop("percent").astype(float) / 100).round(6)
    return frame.assign(**whole, result=result, verified=frame["verified"] == "yes")


def find_curves(axis: str, method: str | None = None) -> list[Curve]:
    """The published curves over the setting `axis`, of one method or of all; none where nothing is published."""
    return [published.curve for published in load_curves(axis) if method in (None, published.curve.method)]


@cache
def load_curves(axis: str) -> tuple[Published, ...]:
    rows = load()
    rows = rows[[axis in axes.split() for axes in rows["axes"]]]
    groups: dict[tuple[Any, ...], list[tuple[Any, float, Any]]] = {}
    for row in rows.to_dict("records"):
        fixed = _read_conditions(row)
        point = (fixed.pop(axis), row["result"], row["runs"])
        curve = [row[name] for name in ("table", "method", "metric", "source", "protocol", "verified")]
        groups.setdefault((*curve, tuple(fixed.items())), []).append(point)
    return tuple(_build_curve(axis, key, points, list(groups)) for key, points in groups.items() if len(points) > 1)


def _read_conditions(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """Column of a loaded frame -> value, for all that the source states."""
    words = dict(word.split("=", 1) for word in row["settings"].split())
    named = {"dataset.name": row["dataset"]} | {name: row[name] for name in ("backbone", "epochs", "batch_size")}
    return {name: simplify(value) for name, value in (named | words).items() if not pd.isna(value)}


def _build_curve(
    axis: str, key: tuple[Any, ...], points: list[tuple[Any, float, Any]], keys: list[tuple[Any, ...]]
) -> Published:
    table, method, metric, source, evaluation, verified, items = key
    # The id names what tells the curve from the others of its table.
    siblings = [sibling for sibling in keys if sibling[0] == table]
    varying = {name for sibling in siblings if sibling[1] == method for name, _ in set(sibling[-1]) ^ set(items)}
    parts = [method] if len({sibling[1] for sibling in siblings}) > 1 else []
    parts += [f"{name}={labels.format_value(value)}" for name, value in items if name in varying]
    if not any(isinstance(x, str) for x, _, _ in points):
        points = sorted(points, key=lambda point: point[0])
    x, y, runs = zip(*points, strict=True)
    others = {name: value for name, value in items if name != "dataset.name"}
    conditions = ", ".join(
        [dict(items)["dataset.name"], *(f"{name} {labels.format_value(value)}" for name, value in others.items())]
    )
    run_counts = sorted({count for count in runs if not pd.isna(count)})
    runs_text = (
        "runs each: " + " to ".join(str(count) for count in dict.fromkeys((run_counts[0], run_counts[-1])))
        if run_counts
        else ""
    )
    protocol = "; ".join(filter(None, [conditions, evaluation, runs_text]))
    curve = Curve("/".join([table, *parts]), method, axis, x, y, metric, source, protocol, verified)
    return Published(curve, dict(items), runs)


def simplify(value: Any) -> Any:
    """A number as a float, however pandas or a text holds it; `true` and `false` as bool; else text."""
    if value in ("true", "false"):
        return value == "true"
    if isinstance(value, bool | np.bool_):
        return bool(value)
    try:
        return float(value)
    except ValueError:
        return str(value)
