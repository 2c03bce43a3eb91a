"""Curves from papers over a chart of ours, on an axis of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from results.figures.chart import Chart, Series, pad_range, space_ticks


class Published(Protocol):
    """A curve from a paper: what `numbers.find_curves` returns. `y` are fractions."""

    @property
    def id(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def axis(self) -> str: ...
    @property
    def x(self) -> Sequence[Any]: ...
    @property
    def y(self) -> Sequence[float]: ...
    @property
    def metric(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def verified(self) -> Any: ...


def fits(curve: Published, chart: Chart) -> bool:
    """Numbers on an axis of numbers, known words on one of words; of one of its methods, or of none."""
    methods = {series.method for series in chart.series}
    if chart.kind == "groups":
        is_drawable = all(str(value) in chart.order for value in curve.x)
    else:
        is_drawable = all(isinstance(value, int | float) and (value > 0 or not chart.x_log) for value in curve.x)
    return is_drawable and len(curve.x) > 0 and (not curve.method or curve.method in methods)


def overlay(chart: Chart, curves: Sequence[Published]) -> Chart:
    """The chart with published curves over it, on an axis of their own.

    Theirs are other data, another backbone and another protocol: only the shape can be compared. Both axes span the
    same number of points, so that slopes compare although levels do not.
    """
    words = chart.kind == "groups"
    series = tuple(
        Series(
            f"published: {curve.id}",
            tuple(map(str if words else float, curve.x)),
            tuple(100 * y for y in curve.y),
            look="published",
            texts=(f"{curve.source}, {curve.metric}",) * len(curve.x),
            dash=dash,
        )
        for dash, curve in enumerate(curves)
    )
    assert chart.y_range is not None
    left, right = chart.y_range, pad_range(series)
    span = max(left[1] - left[0], right[1] - right[0])
    centres = [(low + high) / 2 for low, high in (left, right)]
    left, right = [(centre - span / 2, centre + span / 2) for centre in centres]
    sources = "; ".join(
        f"{curve.id}: {curve.source}, {curve.protocol}{'' if curve.verified else ' (not verified)'}" for curve in curves
    )
    caption = (
        f"{chart.caption} Dashed grey, on the right-hand axis, what was published under other protocols ({sources}): "
    )
    caption += "both axes span the same number of points, so slopes compare and levels do not."
    metrics = ", ".join(dict.fromkeys(curve.metric.replace("_", " ") for curve in curves))
    label = f"published {metrics} (%)"
    ticks = sorted({*chart.x_ticks, *(x for points in series for x in points.x)}) if not words else []
    return replace(
        chart,
        series=(*chart.series, *series),
        y_range=left,
        right_range=right,
        right_label=label,
        caption=caption,
        x_ticks=space_ticks(ticks, chart.x_log),
    )
