"""report.html: one file that opens without a network, with the table, the figures and each number's settings.

What comes from records is text everywhere: escaped by the template, set as text by the script, and a content security
policy in the page keeps whatever is left from running or from asking a network.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results.figures import draw_plotly
from results.figures.chart import Chart
from results.figures.palette import Style
from results.frames import labels, method_families
from results.frames.frame import FAMILY, find_settings
from results.statistics import compare
from results.statistics.summaries import find_varying, number_configurations
from results.tables import formats

# What is shown of a cell, and the column of the loaded frame that has it.
_CELL = {
    "seed": "seed",
    "status": "status",
    "linear top-1": "metrics.linear_top1",
    "kNN-20": "metrics.knn20_top1",
    "folder": "folder",
    "key": "key",
    "protocol": "protocol",
    "commit": "commit",
    "seconds": "cost.seconds",
    "views": "cost.views",
    "device": "cost.device",
    "started": "started",
    "reason": "reason",
}
_REPEATED = ("status", "device", "protocol", "commit")  # kept once, and named by their number


def render(
    frame: pd.DataFrame,
    summary: pd.DataFrame,
    charts: Sequence[Chart],
    styles: Mapping[str, Style],
    *,
    folder: Path,
    page_folder: Path,
    verdict: Sequence[str] = (),
    ranks: pd.DataFrame | None = None,
    extras: Sequence[tuple[str, list[list[str]]]] = (),
    problems: Sequence[str] = (),
) -> str:
    """The page of a loaded frame and its summary.

    `ranks` is what `compare.rank_configurations` returned; `extras` are titles with rows of text under a header, left
    out where there are none under it; `problems` are lines on records that could not be used. Links to records are
    relative to `page_folder`. Without plotly the page says that its figures stand beside it.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(_read_file("html"))
    columns, rows, notes = _build_table(summary, ranks)
    figures = _build_figures(charts, styles)
    css, js, plotly = (
        _build_css(columns, figures),
        _read_file("js"),
        _read_plotly() if any(figure["drawn"] for figure in figures) else "",
    )
    return template.render(
        title=f"Benchmark: {folder.resolve().name}",
        folder=str(folder),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=verdict,
        columns=columns,
        opens=next((i for i, column in enumerate(columns) if column.source == "method"), 0),
        rows=rows,
        notes=notes,
        groups=[
            {"title": title, "charts": list(members)}
            for title, members in groupby(figures, key=lambda figure: figure["group"])
        ],
        extras=[{"title": title, "rows": lines} for title, lines in extras if len(lines) > 1],
        problems=problems,
        cells=Markup(_to_json(_collect_cells(frame, summary, folder, page_folder))),
        figures=Markup(_to_json([figure["drawn"] for figure in figures])),
        css=Markup(css),
        js=Markup(js),
        plotly=Markup(_pack(plotly)),
        scripts=Markup(f"{_hash(js)} {_hash(plotly)}"),
        nonce=secrets.token_hex(16),  # of styles: plotly.js makes some of its own
    )


def _build_figures(charts: Sequence[Chart], styles: Mapping[str, Style]) -> list[dict[str, Any]]:
    """What the template needs of each chart. Those whose titles share what is before a colon stand side by side."""
    figures = []
    for number, chart in enumerate(charts):
        variants = [chart, *chart.others]
        plots = [] if chart.kind == "picture" else [draw_plotly.build_figure(variant, styles) for variant in variants]
        group, _, part = chart.title.partition(": ")
        figures.append(
            {
                "number": number,
                "title": chart.title,
                "group": group,
                "part": part,
                "png": chart.png,
                "drawn": plots,
                "choices": [variant.choice for variant in variants],
                "captions": [variant.caption for variant in variants],
                "height": plots[0]["layout"]["height"] if plots else 0,
            }
        )
    return figures


def _read_file(ending: str) -> str:
    return resources.files("results.report").joinpath(f"page.{ending}").read_text(encoding="utf-8")


def _build_css(columns: Sequence[formats.Column], figures: Sequence[Mapping[str, Any]]) -> str:
    """The page's rules, and those that depend on what it shows."""
    aligned = [i + 1 for i, column in enumerate(columns) if column.number]
    rules = [f".opens tr > :nth-child({number}) {{ text-align: right; }}" for number in aligned]
    rules += [f'[data-figure="{figure["number"]}"] {{ height: {figure["height"]}px; }}' for figure in figures]
    return "\n".join([_read_file("css"), *rules])


def _read_plotly() -> str:
    """plotly.js, empty where it is not installed."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return ""
    return str(get_plotlyjs())


def _pack(script: str) -> str:
    """A third of the size, and not read by the browser before a figure is to be drawn."""
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode() if script else ""


def _hash(text: str) -> str:
    """What a content security policy knows a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _to_json(data: Any) -> str:
    """JSON that may stand within a script element: no text of a record can end it."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _build_table(
    summary: pd.DataFrame, ranks: pd.DataFrame | None
) -> tuple[list[formats.Column], list[dict[str, Any]], list[str]]:
    """Columns, rows of cells with the numbers that they sort by, and notes."""
    ordered, columns, notes = formats.arrange(summary)
    if ranks is not None and len(columns) and ranks["best"].notna().any():
        ranked = ranks.set_index("row").reindex(ordered.index)
        ordered = ordered.assign(rank=ranked["best"].astype(float))
        index = next((i for i, column in enumerate(columns) if column.header.startswith("linear")), len(columns) - 1)
        columns.insert(index + 1, formats.Column("rank", list(ranked["rank"].fillna(labels.NONE)), True, "rank"))
        confidence = "" if ranks["interval"].eq(compare.TWO_SEEDS).any() else ", in 95 % of studies"
        notes.append(f"rank: the places that the tests allow, corrected over all pairs{confidence}")
    sources = [ordered[column.source] if column.source in ordered else [None] * len(ordered) for column in columns]
    keys: list[list[str | None]] = [[_format_key(value) for value in values] for values in sources]
    if columns and columns[0].source == FAMILY:  # it sorts in the order of the families, which is no alphabet
        keys[0] = [
            f"{method_families.find_order(family)} {method_families.to_words(family)}" for family in ordered[FAMILY]
        ]
    rows = []
    for position, number in enumerate(ordered.index):
        cells = [
            {"text": column.cells[position], "key": key[position] if key[position] != column.cells[position] else None}
            for column, key in zip(columns, keys, strict=True)
        ]
        rows.append({"number": number, "cells": cells})
    return columns, rows, notes


def _format_key(value: Any) -> str | None:
    """What a cell sorts by, where its text is not enough: 1.84M, 02:05."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
    return f"{value:.6g}" if number else None


def _collect_cells(frame: pd.DataFrame, summary: pd.DataFrame, folder: Path, page_folder: Path) -> dict[str, Any]:
    """What a click on a number opens, small: what all share once, and words that repeat by their number."""
    frame = frame.reset_index(drop=True)
    number = number_configurations(frame)
    frame = frame.sort_values("seed", kind="stable")
    differing = find_varying(summary) if len(summary) else []
    names = [name for name in find_settings(summary) if name != "protocol"]
    several = [name for name in names if summary[name].astype(str).nunique() > 1 or name in differing]
    shared = [name for name in names if name not in several and len(summary)]
    common = {name: labels.format_value(summary[name].iloc[0]) for name in shared}
    words, columns = dict[str, list[Any]](), {}
    titles = {title: name for title, name in _CELL.items() if name in frame and frame[name].notna().any()}
    for title, name in titles.items():
        values = [_to_scalar(value) for value in frame[name]]
        if title == "folder":
            values = [os.path.relpath(value, folder) if value is not None else None for value in values]
        if title in _REPEATED:
            words[title] = list(dict.fromkeys(values))
            indices = {value: i for i, value in enumerate(words[title])}
            values = [indices[value] for value in values]
        columns[title] = values
    cells: list[list[list[Any]]] = [[] for _ in range(len(summary))]
    for row, cell in zip(number[frame.index], zip(*columns.values(), strict=True), strict=True):
        cells[row].append(list(cell))
    settings = summary[several].astype(object).to_dict("records")
    texts = [{name: labels.format_value(value) for name, value in row.items() if pd.notna(value)} for row in settings]
    entries = []
    for name, chosen, rows in zip(labels.name_configurations(summary), texts, cells, strict=True):
        entries.append({"label": name, "settings": chosen, "cells": rows})
    base = Path(os.path.relpath(folder.resolve(), page_folder.resolve())).as_posix() + "/"
    return {"common": common, "columns": list(columns), "words": words, "base": base, "configurations": entries}


def _to_scalar(value: Any) -> Any:
    """A scalar for JSON; a whole number that stands in a column of floats is one again."""
    if pd.isna(value):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str):
        return value
    number = float(value)
    if not math.isfinite(number):
        return str(number)
    return int(number) if number.is_integer() and abs(number) < 1e15 else float(f"{number:.6g}")
