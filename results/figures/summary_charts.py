"""What is drawn of a loaded frame: which charts exist follows from the records. How they are drawn is another file's.

Numbers of different protocols or datasets never share a chart. Runs that failed or collapsed are shown as such.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from results.figures import ablation_charts, cell_charts
from results.figures.ablation_charts import Published
from results.figures.chart import MANY, Chart, Series
from results.frames import labels, method_families
from results.statistics.comparable import Comparable
from results.statistics.summaries import configurations

MOST_BARS = 60
_COLOURS = " A colour is a family of methods."
_COSTS = (
    ("views", "cost.views", "image views in training"),
    ("hours", "cost.hours", "hours of training, summed over processes"),
    ("peak memory", "cost.memory", "peak memory (GiB)"),
)


def charts(found: Sequence[Comparable], frame: pd.DataFrame, published: Sequence[Published] = ()) -> list[Chart]:
    """All charts of what `frames.frame.load` returned and its comparables, in the order in which a report shows them.

    `published` are laid over the ablations that they fit.
    """
    frame = frame.reset_index(drop=True)
    cells = frame.assign(row=configurations(frame))
    made: list[Chart] = []
    for among in found:
        made.append(intervals(among))
        made += ablation_charts.charts(among, published)
        made += cost(among)
        made += cell_charts.charts(among, cells[cells["row"].isin(among.table["row"])])
    return _name_files(made)


def best_first(table: pd.DataFrame) -> pd.DataFrame:
    """Configurations from the highest mean; those without one last."""
    return table.sort_values("mean", ascending=False, kind="stable", na_position="last")


def intervals(among: Comparable) -> Chart:
    """A dot and its interval for each configuration, the best at the top, of all or of its family."""
    table = best_first(among.table)
    shown = by_family(table.head(MOST_BARS))
    told = [label + (f" ({lost})" if lost else "") for label, lost in zip(shown["label"], shown["lost"], strict=True)]
    shown = shown.assign(label=told)
    series = []
    for (method, group), part in shown.groupby(["method", "group"], sort=False):
        texts = tuple(f"{n} seed{'' if n == 1 else 's'}" for n in part["n"])
        series.append(
            Series(
                str(method),
                tuple(part["mean"]),
                tuple(part["label"]),
                str(method),
                "dots",
                tuple(part["low"]),
                tuple(part["high"]),
                texts,
                tuple(part["row"]),
                family=str(group),
            )
        )
    caption = f"Mean {among.measure} of each configuration"
    if table["low"].notna().any():
        caption += "; bars are 95 % intervals over seeds. Overlapping bars are no test: the ranks of the table are."
    else:
        caption += ". No configuration has two seeds that differ, so there are no intervals."
    if len(table) > MOST_BARS:
        caption += f" The {MOST_BARS} best of {len(table)} are shown."
    caption += _COLOURS if shown["group"].any() else ""
    caption += among.usual + among.lost
    order, headings = list[str](), list[str]()
    for label, group in zip(shown["label"], shown["group"], strict=True):
        head = f"{group}:"  # no label ends in a colon, and a method may be called as a family is
        if group and head not in headings:
            headings.append(head)
            order.append(head)
        order.append(label)
    return Chart(
        "intervals",
        f"accuracy{among.file}",
        f"Accuracy{among.suffix}",
        caption,
        f"{among.measure} (%)",
        "",
        tuple(series),
        order=tuple(order),
        headings=tuple(headings),
    )


def by_family(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of their families, where they are grouped; otherwise, and within a family, as they are."""
    return table.sort_values("group", kind="stable", key=lambda groups: groups.map(method_families.place))


def cost(among: Comparable) -> list[Chart]:
    """Accuracy against views, hours and memory: one chart with the others to choose, or none without costs."""
    if len(among.table) < 2:
        return []
    made = [_cost(among, *one) for one in _COSTS]
    drawn = [chart for chart in made if any(one.look == "dots" for one in chart.series)]
    # First where configurations differ: equal epochs are equal views.
    drawn.sort(key=lambda chart: len({x for one in chart.series if one.look == "dots" for x in one.x}) < 2)
    return [replace(drawn[0], others=tuple(drawn[1:]))] if drawn else []


def _cost(among: Comparable, word: str, column: str, label: str) -> Chart:
    table = among.table[among.table["mean"].notna() & among.table[column].notna()]
    table = by_family(table)
    spent, free = table[table[column] > 0], table[table[column] == 0]
    series = []
    bars = "its interval is in the table" if len(table) > MANY else "bars are 95 % intervals over seeds"
    front = spent[pareto(spent[column].to_numpy(dtype=float), spent["mean"].to_numpy(dtype=float))]
    front = front.sort_values(column)
    if len(front) > 1:
        series.append(Series("Pareto front", tuple(front[column]), tuple(front["mean"]), look="front"))
    for (method, group), part in spent.groupby(["method", "group"], sort=False):
        texts = tuple(f"{name}, {n} seed{'' if n == 1 else 's'}" for name, n in part[["configuration", "n"]].to_numpy())
        series.append(
            Series(
                str(method),
                tuple(part[column]),
                tuple(part["mean"]),
                str(method),
                "dots",
                tuple(part["low"]),
                tuple(part["high"]),
                texts,
                tuple(part["row"]),
                family=str(group),
            )
        )
    for number, ((method, group), part) in enumerate(free.groupby(["method", "group"], sort=False)):
        best = part["mean"].max()
        x = (spent[column].min(), spent[column].max()) if len(spent) else (0.0, 1.0)
        series.append(
            Series(
                f"{method} (no cost)",
                x,
                (best, best),
                str(method),
                "level",
                dash=number if group else 0,
                family=str(group),
            )
        )
    series.sort(key=lambda one: method_families.place(one.family) if one.family else -1)  # the front first
    caption = f"A point is a configuration; {bars}."
    caption += _COLOURS if table["group"].any() else ""
    if len(front) > 1:
        less = "in less" if word == "peak memory" else f"at fewer {word}"
        caption += f" The stepped line is the front: nothing shown is more accurate {less}."
    elif len(front):
        caption += f" {front['configuration'].iloc[0]} is the most accurate, and nothing costs less."
    caption += " A dashed level spends nothing on this axis." if len(free) else ""
    devices = sorted({device for device in table["cost.devices"].dropna() if device})
    if word == "hours" and len(devices) > 1:
        caption += f" Devices differ, so hours do not compare: {'; '.join(devices)}."
    elif word == "hours" and devices:
        caption += f" Device: {devices[0]}."
    log = len(spent) > 0 and spent[column].max() / spent[column].min() >= 10
    return Chart(
        "scatter",
        f"cost_{word.replace(' ', '_')}{among.file}",
        f"Accuracy against cost{among.suffix}",
        caption,
        label,
        f"{among.measure} (%)",
        tuple(series),
        x_log=bool(log),
        choice=word,
    )


def pareto(costs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N,) bool: which points nothing beats, neither cheaper and as good nor better and as cheap."""
    order = np.lexsort((-values, costs))
    best = np.maximum.accumulate(values[order]) if len(order) else values
    front = np.zeros(len(costs), dtype=bool)
    front[order] = values[order] > np.concatenate([[-math.inf], best])[: len(order)]
    return front


def _name_files(made: list[Chart]) -> list[Chart]:
    """The charts under names that are file names and differ."""
    flat = [one for chart in made for one in (chart, *chart.others)]
    names = iter(labels.distinct([re.sub(r"[^A-Za-z0-9_.-]+", "_", chart.name) for chart in flat]))

    def name(chart: Chart) -> Chart:
        return replace(chart, name=next(names).replace(" #", "-"))

    return [replace(name(chart), others=tuple(name(other) for other in chart.others)) for chart in made]
