"""Accuracy against each setting that varies: curves, rows of dots for words, and a heatmap for pairs of operations.

A line joins configurations of one method that differ in that setting alone, so that a line is an effect and not a mix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import pandas as pd

from results.figures.chart import Chart, Series, pad_range, space_ticks
from results.figures.published_curves import Published, fits, overlay
from results.frames import labels
from results.frames.labels import FOLLOWS
from results.quantity import quantify
from results.statistics.comparable import Comparable

MOST_LINES = 10
# A second setting whose single values are worth a mark beside the first one's lines: a linear head at one width.
_PARTNERS = {"options.head_dim": "options.head"}
_SHOWN = ("configuration", "row", "n", "mean", "low", "high", "lost")


@dataclass(frozen=True)
class _Line:
    method: str
    key: dict[str, str]  # the other settings
    part: pd.DataFrame  # of its `Comparable`'s table, a row a value of the axis


def build_charts(comparable: Comparable, published: Sequence[Published] = ()) -> list[Chart]:
    """A chart for each setting that varies within a method, other settings equal."""
    followers = {follower for name in comparable.names for follower in FOLLOWS.get(name, ())}
    charts = []
    for axis in comparable.names:
        if axis in followers:
            continue
        lines = list(_find_lines(comparable, axis))
        if axis == "augmentation":
            paired = [line for line in lines if len(_find_pairs(line.part)) > 2]
            maps = [
                _build_heatmap(comparable, line, name) for line, name in zip(paired, _name_lines(paired), strict=True)
            ]
            charts += maps
            lines = _find_chains(lines) if maps else lines
        if lines:
            matching = [curve for curve in published if labels.strip_prefix(curve.axis) == labels.strip_prefix(axis)]
            charts.append(_build_chart(comparable, axis, lines, matching))
    return charts


def _find_lines(comparable: Comparable, axis: str) -> Iterator[_Line]:
    """What is equal but for `axis`, where it has two values or more; single ones of its partner after them."""
    others = [name for name in comparable.names if name != axis and name not in FOLLOWS.get(axis, ())]
    partner, single = _PARTNERS.get(axis), []
    joined: set[tuple[Any, ...]] = set()  # that have a line
    # Of a wide table each line would copy all columns.
    table = comparable.table[["method", *comparable.names, *_SHOWN]]
    for method, rows in table.groupby("method", sort=False):
        rows = rows[rows[axis].notna()]
        keys = [tuple(map(labels.format_value, row)) for row in rows[others].to_numpy()]
        members: dict[tuple[str, ...], list[int]] = {}
        for i, key in enumerate(keys):
            members.setdefault(key, []).append(i)
        for key, indices in members.items():
            if len(indices) < 2 and partner not in others:
                continue
            line = _Line(str(method), dict(zip(others, key, strict=True)), rows.iloc[indices].drop_duplicates(axis))
            rest = (method, *(value for name, value in line.key.items() if name != partner))
            if len(line.part) > 1:
                joined.add(rest)
                yield line
            else:
                single.append((rest, line))
    yield from (line for rest, line in single if rest in joined)


def _build_chart(comparable: Comparable, axis: str, lines: list[_Line], published: Sequence[Published]) -> Chart:
    values = pd.concat([line.part[axis] for line in lines])
    numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
    chosen = _choose(lines)
    series = _build_series(axis, chosen, numbers)
    order = () if numbers else tuple(dict.fromkeys(map(labels.format_value, values)))
    word, accuracy = labels.strip_prefix(axis), f"{comparable.measure} (%)"
    name, left_out = word.replace("_", " "), len(lines) - len(chosen)
    caption = f"Each line changes {name} alone; all other settings are equal along it. "
    caption += (
        f"Bars are {comparable.bars}; a point without one has a single seed."
        if comparable.bars
        else "There are no intervals."
    )
    caption += "".join(
        f" {follower.replace('_', ' ').capitalize()} follows it."
        for follower in FOLLOWS.get(axis, ())
        if follower in comparable.names
    )
    caption += f" {len(chosen)} lines are shown; the points of {left_out} more are in the table." if left_out else ""
    lost = any(points.look == "lost" for points in series)
    caption += " A cross on the lower edge: runs there did not finish, and are in no mean." if lost else ""
    chart = Chart(
        "curve" if numbers else "groups",
        f"{word}{comparable.file}",
        f"Accuracy by {name}{comparable.suffix}",
        caption,
        name,
        accuracy,
        tuple(series),
        y_range=pad_range(series),
        order=order,
    )
    if numbers:
        ticks = sorted({float(value) for value in values})
        log = ticks[0] > 0 and ticks[-1] / ticks[0] >= 4
        chart = replace(chart, x_log=log, x_ticks=space_ticks(ticks, log))
    fitting = [curve for curve in published if fits(curve, chart)]
    return overlay(chart, fitting) if fitting else chart


def _choose(lines: list[_Line]) -> list[_Line]:
    """As many lines of each method as the figure has room for, at settings that have the most points in all methods."""
    methods = {line.method for line in lines}
    most = max(1, MOST_LINES // len(methods))
    points: dict[str, int] = {}
    for line in lines:
        points[str(line.key)] = points.get(str(line.key), 0) + len(line.part)
    ordered = sorted(lines, key=lambda line: (-points[str(line.key)], str(line.key)))
    chosen = {
        id(line)
        for method in methods
        for line in [candidate for candidate in ordered if candidate.method == method][:most]
    }
    return [line for line in lines if id(line) in chosen]


def _build_series(axis: str, lines: list[_Line], numbers: bool) -> list[Series]:
    series, counts = [], dict[str, int]()
    for line, name in zip(lines, _name_lines(lines), strict=True):
        part = line.part.sort_values(axis) if numbers else line.part
        x = tuple(float(value) if numbers else labels.format_value(value) for value in part[axis])
        texts = tuple(_describe_point(row) for row in part.to_dict("records"))
        dash = counts.get(line.method, 0)
        counts[line.method] = dash + 1
        ends = tuple(part["low"]), tuple(part["high"])
        rows = tuple(part["row"])
        series.append(Series(name, x, tuple(part["mean"]), line.method, "line", *ends, texts, rows, dash))
        lost = part[part["lost"] != ""]
        if len(lost):
            positions = tuple(position for position, word in zip(x, part["lost"], strict=True) if word)
            texts, rows = tuple(_describe_point(row) for row in lost.to_dict("records")), tuple(lost["row"])
            series.append(
                Series(name, positions, (math.nan,) * len(positions), line.method, "lost", texts=texts, rows=rows)
            )
    return series


def _name_lines(lines: list[_Line]) -> list[str]:
    """The method of each line and the settings that tell it from the method's other lines."""
    methods = [line.method for line in lines]
    keys = [{name: labels.shorten(text) for name, text in line.key.items()} for line in lines]
    return [labels.format_label(*parts) for parts in zip(methods, labels.find_differences(methods, keys), strict=True)]


def _describe_point(row: dict[Any, Any]) -> str:
    seeds = quantify(row["n"], "seed")
    return ", ".join(filter(None, [row["configuration"], seeds, row["lost"]]))


def _split_operations(part: pd.DataFrame) -> list[list[str]]:
    return [str(value).split("+") for value in part["augmentation"]]


def _find_pairs(part: pd.DataFrame) -> list[list[str]]:
    return [names for names in _split_operations(part) if len(names) == 2]


def _build_heatmap(comparable: Comparable, line: _Line, title: str) -> Chart:
    """Pairs of operations; one alone is on the diagonal. A pair is a set: the figure is symmetric."""
    rows = line.part.to_dict("records")
    operations = _split_operations(line.part)
    fields = {frozenset(names): row for names, row in zip(operations, rows, strict=True) if len(names) < 3}
    in_pairs = {name for names in fields if len(names) == 2 for name in names}
    alone = [name for names in operations if len(names) == 1 for name in names if name in in_pairs]
    order = tuple(dict.fromkeys([*alone, *(name for names in _find_pairs(line.part) for name in names)]))
    cells = [[fields.get(frozenset({first, second})) for second in order] for first in order]
    matrix = tuple(tuple(math.nan if cell is None else float(cell["mean"]) for cell in row) for row in cells)
    row_numbers = tuple(tuple(-1 if cell is None else int(cell["row"]) for cell in row) for row in cells)
    values = [value for row in matrix for value in row if not math.isnan(value)]
    scale = (min(values), max(values)) if values else (0.0, 100.0)
    counts = sorted({int(row["n"]) for row in fields.values()})
    half_widths = [(row["high"] - row["low"]) / 2 for row in fields.values() if not math.isnan(row["high"])]
    seeds = quantify(counts[0], "seed") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    measure = comparable.measure[:1].upper() + comparable.measure[1:]
    caption = f"{measure} in percent after training with two operations in both views, one alone on "
    caption += f"the diagonal. Means over {seeds}"
    caption += (
        f"; the half-width of their intervals is at most {max(half_widths):.1f} points: {comparable.bars}."
        if half_widths
        else "."
    )
    lost = [row for row in fields.values() if row["lost"]]
    caption += f" In {len(lost)} of {len(fields)} fields some runs did not finish, and are in no mean." if lost else ""
    title = f"Augmentation pairs: {title}{comparable.suffix}"
    name = f"augmentation_pairs-{line.method}{comparable.file}"
    return Chart("heatmap", name, title, caption, order=order, matrix=matrix, matrix_rows=row_numbers, z_range=scale)


def _find_chains(lines: list[_Line]) -> list[_Line]:
    """Of each line what a chain of three operations or more is built from, each a step longer than the one before."""
    chains = []
    for line in lines:
        words = set(map(str, line.part["augmentation"]))
        long = [names for names in _split_operations(line.part) if len(names) > 2]
        steps = {"+".join(names[:count]) for names in long for count in range(1, len(names) + 1)} & words
        part = line.part[line.part["augmentation"].astype(str).isin(steps)]
        if len(part) > 1:
            chains.append(
                replace(line, part=part.sort_values("augmentation", key=lambda column: column.str.count(r"\+")))
            )
    return chains
