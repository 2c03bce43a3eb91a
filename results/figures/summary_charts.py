"""What is drawn of a loaded frame: which charts exist follows from the records. How they are drawn is another file's.

Numbers of different protocols or datasets never share a chart. Runs that did not finish are shown as such.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from results.figures import ablation_charts, cell_charts, difference_chart
from results.figures.chart import MANY, Chart, Series
from results.figures.published_curves import Published
from results.frames import labels, method_families
from results.quantity import quantify
from results.statistics.comparable import Comparable
from results.statistics.summaries import number_configurations

MOST_BARS = 60
_COLOURS = " A colour is a family of methods."
_COSTS = (
    ("views", "cost.views", "image views in training"),
    ("hours", "cost.hours", "hours of training, summed over processes"),
    ("peak memory", "cost.memory", "peak memory (GiB)"),
)


def build_charts(
    comparables: Sequence[Comparable],
    frame: pd.DataFrame,
    published: Sequence[Published] = (),
    problems: list[str] | None = None,
) -> list[Chart]:
    """All charts of what `frames.frame.load` returned and its comparables, in the order in which a report shows them.

    `published` are laid over the ablations that they fit. `problems` get a line on each log and each file of looks that
    cannot be used.
    """
    problems = [] if problems is None else problems
    frame = frame.reset_index(drop=True)
    cells = frame.assign(row=number_configurations(frame))
    charts: list[Chart] = []
    for comparable in comparables:
        charts.append(build_intervals(comparable))
        charts += difference_chart.build_charts(comparable)
        charts += ablation_charts.build_charts(comparable, published)
        charts += build_cost_charts(comparable)
        charts += cell_charts.build_charts(comparable, cells[cells["row"].isin(comparable.table["row"])], problems)
    return _name_files(charts)


def sort_by_mean(table: pd.DataFrame) -> pd.DataFrame:
    """Configurations from the highest mean; those without one last."""
    return table.sort_values("mean", ascending=False, kind="stable", na_position="last")


def build_intervals(comparable: Comparable) -> Chart:
    """A dot and its interval for each configuration, the best at the top, of all or of its family."""
    table = sort_by_mean(comparable.table)
    top = sort_by_family(table.head(MOST_BARS))
    texts = [label + (f" ({lost})" if lost else "") for label, lost in zip(top["label"], top["lost"], strict=True)]
    top = top.assign(label=texts)
    series = []
    for (method, group), part in top.groupby(["method", "group"], sort=False):
        seeds = [quantify(n, "seed") for n in part["n"]]
        series.append(_build_dots(method, group, part, "mean", "label", seeds))
    caption = f"Mean {comparable.measure} of each configuration"
    if comparable.bars:
        caption += f"; bars are {comparable.bars}. Overlapping bars are no test: the ranks of the table are."
    else:
        caption += ". There are no intervals: none has two seeds, or a seed changes nothing but all alike."
    if len(table) > MOST_BARS:
        caption += f" The {MOST_BARS} highest of {len(table)} are shown."
    caption += _COLOURS if top["group"].any() else ""
    caption += comparable.usual + comparable.lost
    order, headings = list[str](), list[str]()
    for label, group in zip(top["label"], top["group"], strict=True):
        heading = f"{group}:"  # no label ends in a colon, and a method may be called as a family is
        if group and heading not in headings:
            headings.append(heading)
            order.append(heading)
        order.append(label)
    return Chart(
        "intervals",
        f"accuracy{comparable.file}",
        f"Accuracy{comparable.suffix}",
        caption,
        f"{comparable.measure} (%)",
        "",
        tuple(series),
        order=tuple(order),
        headings=tuple(headings),
    )


def _build_dots(method: Any, family: Any, part: pd.DataFrame, x: str, y: str, texts: Sequence[str]) -> Series:
    """A dot for each row of `part`, of one method, at its columns `x` and `y`."""
    ends = tuple(part["low"]), tuple(part["high"])
    rows = tuple(part["row"])
    points = tuple(part[x]), tuple(part[y])
    return Series(str(method), *points, str(method), "dots", *ends, tuple(texts), rows, family=str(family))


def sort_by_family(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of their families, where they are grouped; otherwise, and within a family, as they are."""
    return table.sort_values("group", kind="stable", key=lambda groups: groups.map(method_families.find_order))


def build_cost_charts(comparable: Comparable) -> list[Chart]:
    """Accuracy against views, hours and memory: one chart with the others to choose, or none without costs."""
    if len(comparable.table) < 2:
        return []
    charts = [_build_cost_chart(comparable, *axis) for axis in _COSTS]
    charts = [chart for chart in charts if any(series.look == "dots" for series in chart.series)]
    # First where configurations differ: equal epochs are equal views.
    charts.sort(key=lambda chart: len({x for series in chart.series if series.look == "dots" for x in series.x}) < 2)
    return [replace(charts[0], others=tuple(charts[1:]))] if charts else []


def _build_cost_chart(comparable: Comparable, word: str, column: str, label: str) -> Chart:
    table = comparable.table[comparable.table["mean"].notna() & comparable.table[column].notna()]
    table = sort_by_family(table)
    costly, without_cost = table[table[column] > 0], table[table[column] == 0]
    series = []
    bars = "its interval is in the table" if len(table) > MANY else f"bars are {comparable.bars}"
    bars = f"; {bars}" if comparable.bars else ""
    front = costly[find_pareto_front(costly[column].to_numpy(dtype=float), costly["mean"].to_numpy(dtype=float))]
    front = front.sort_values(column)
    if len(front) > 1:
        series.append(Series("Pareto front", tuple(front[column]), tuple(front["mean"]), look="front"))
    for (method, group), part in costly.groupby(["method", "group"], sort=False):
        texts = [f"{name}, {quantify(n, 'seed')}" for name, n in part[["configuration", "n"]].to_numpy()]
        series.append(_build_dots(method, group, part, column, "mean", texts))
    for number, ((method, group), part) in enumerate(without_cost.groupby(["method", "group"], sort=False)):
        best = part["mean"].max()
        x = (costly[column].min(), costly[column].max()) if len(costly) else (0.0, 1.0)
        name, dash = f"{method} (no cost)", number if group else 0
        series.append(Series(name, x, (best, best), str(method), "level", dash=dash, family=str(group)))
    # The front first.
    series.sort(key=lambda points: method_families.find_order(points.family) if points.family else -1)
    caption = f"A point is a configuration{bars}."
    caption += _COLOURS if table["group"].any() else ""
    if len(front) > 1:
        comparison = "in less" if word == "peak memory" else f"at fewer {word}"
        caption += f" The stepped line is the front: no mean shown is higher {comparison}."
    elif len(front):
        caption += f" {front['configuration'].iloc[0]} has the highest mean, and nothing costs less."
    caption += " A dashed level spends nothing on this axis." if len(without_cost) else ""
    devices = sorted({device for device in table["cost.devices"].dropna() if device})
    if word == "hours" and len(devices) > 1:
        caption += f" Devices differ, so hours do not compare: {'; '.join(devices)}."
    elif word == "hours" and devices:
        caption += f" Device: {devices[0]}."
    log = len(costly) > 0 and costly[column].max() / costly[column].min() >= 10
    return Chart(
        "scatter",
        f"cost_{word.replace(' ', '_')}{comparable.file}",
        f"Accuracy against cost{comparable.suffix}",
        caption,
        label,
        f"{comparable.measure} (%)",
        tuple(series),
        x_log=bool(log),
        choice=word,
    )


def find_pareto_front(costs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N,) bool: which points nothing beats, neither cheaper and as good nor better and as cheap."""
    order = np.lexsort((-values, costs))
    best = np.maximum.accumulate(values[order]) if len(order) else values
    front = np.zeros(len(costs), dtype=bool)
    front[order] = values[order] > np.concatenate([[-math.inf], best])[: len(order)]
    return front


def _name_files(charts: list[Chart]) -> list[Chart]:
    """The charts under names that are file names and differ."""
    flat = [variant for chart in charts for variant in (chart, *chart.others)]
    names = iter(labels.number_repeats([re.sub(r"[^A-Za-z0-9_.-]+", "_", chart.name)[:120] for chart in flat]))

    def name(chart: Chart) -> Chart:
        return replace(chart, name=next(names).replace(" #", "-"))

    return [replace(name(chart), others=tuple(name(variant) for variant in chart.others)) for chart in charts]
