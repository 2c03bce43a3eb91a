"""What a figure holds: plain values that any library can draw. Accuracies are in percent here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

MANY = 120  # points beyond which marks are small and bars are left out: they would hide each other

# intervals: x is a number, y a row of text. groups: x is a text of `order`. picture: a PNG and nothing else.
Kind = Literal["intervals", "curve", "groups", "heatmap", "scatter", "lines", "points", "picture"]
# front: steps without marks. level: dashed, without marks. thin: one of several that a thicker line sums up.
# joined: a thick line through its marks, which are those that it joins.
# published: dashed and grey, on the right-hand axis. lost: marks on the lower edge, whatever y says.
Look = Literal["line", "dots", "front", "level", "thin", "published", "lost", "joined"]


@dataclass(frozen=True)
class Series:
    """Points that share a name and a colour.

    `method` gives the colour and the mark, the same in all figures; without one it is grey. `low` and `high` are the
    ends of the 95 % intervals, NaN where there is none, empty where no point has one. `texts` say more of each point,
    `rows` are its configuration's row in `summaries.summarise`. `dash` counts the lines of a method.
    `family` is the method's in words where methods are grouped by it: it gives the colour, and heads a legend's part.
    """

    name: str
    x: tuple[Any, ...]
    y: tuple[Any, ...]
    method: str = ""
    look: Look = "line"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    dash: int = 0
    family: str = ""


@dataclass(frozen=True)
class Chart:
    """One figure. `caption` is whole sentences: what is shown, and what the error bars are."""

    kind: Kind
    name: str  # a file name without its ending
    title: str
    caption: str
    x_label: str = ""
    y_label: str = ""
    series: tuple[Series, ...] = ()
    x_log: bool = False
    x_ticks: tuple[float, ...] = ()
    y_range: tuple[float, float] | None = None
    right_label: str = ""  # of the published values' own axis
    right_range: tuple[float, float] | None = None
    order: tuple[str, ...] = ()  # the categories, or a heatmap's rows and columns
    headings: tuple[str, ...] = ()  # those of `order` that have no points and head what is below them
    matrix: tuple[tuple[float, ...], ...] = ()
    matrix_rows: tuple[tuple[int, ...], ...] = ()  # as `Series.rows`; -1 where there is none
    z_range: tuple[float, float] = (0.0, 100.0)
    png: str = ""  # base64
    choice: str = ""  # this chart's word where a reader chooses between it and `others`
    others: tuple[Chart, ...] = ()  # the same against other axes


def place_series(chart: Chart, series: Series) -> list[float]:
    """Where a series stands among the categories: beside the others, the same step from each category's middle."""
    names = list(dict.fromkeys(other.name for other in chart.series))
    shift = (names.index(series.name) - (len(names) - 1) / 2) * 0.7 / max(len(names), 2)
    return [chart.order.index(value) + shift for value in series.x]


def pad_range(series: Sequence[Series]) -> tuple[float, float]:
    """The (low, high) of an axis with room for every point and interval, in percent."""
    values = [value for points in series for value in (*points.y, *points.low, *points.high) if not math.isnan(value)]
    if not values:
        return 0.0, 100.0
    room = 0.08 * max(max(values) - min(values), 1.0)
    return min(values) - room, max(values) + room


def space_ticks(values: Sequence[float], log: bool) -> tuple[float, ...]:
    """Of sorted values those that leave room for each other's text: never closer than a twelfth of the axis."""
    positions = [math.log(value) if log else value for value in values]
    chosen: list[int] = []
    for i, position in enumerate(positions):
        if not chosen or position - positions[chosen[-1]] >= (positions[-1] - positions[0]) / 12:
            chosen.append(i)
    return tuple(values[i] for i in chosen)
