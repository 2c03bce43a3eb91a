"""A summary as a table on the terminal, as wide as it has room for. `rich` is imported where it is used."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pandas as pd

from results.frames import labels
from results.frames.frame import FAMILY
from results.tables.formats import UNFINISHED, Column, arrange, show_families_once

if TYPE_CHECKING:
    import rich.table

# Left out of a narrow terminal in this order; what remains is accuracy and the cost in views and time.
_WHOLE = ("method", "seeds", "metrics.linear_top1.mean")
_LESSER = (
    "device",
    "effective rank",
    "kNN-200 %",
    "to 90 %",
    "peak memory",
    "images/s",
    "kNN-20 %",
    "family",
    "linear balanced %",
)


def to_rich(summary: pd.DataFrame, width: int | None = None, most: int | None = None) -> rich.table.Table:
    """The summary as a `rich` table; notes, and why runs did not finish, in its caption.

    Lesser columns that do not fit in `width` characters, by default the terminal's, are left out and named: first the
    settings that are the same in all rows of a method, so that no row is told from another by them. Of more than `most`
    rows, and of as many reasons, the first are shown and the others counted.
    """
    from rich.console import Console

    summary, columns, notes = arrange(summary)
    if not columns:
        return _build_table([Column("results", notes)], [])
    columns = show_families_once(columns)
    if columns[-1].header == UNFINISHED:
        # Sentences in a column would leave no room for the numbers.
        reasons = _to_sentences(summary, columns[-1])
        notes += reasons[:most]
        notes += [f"and {len(reasons) - most} more did not finish"] if most and len(reasons) > most else []
        columns = columns[:-1]
    if most and len(summary) > most:
        notes.insert(0, f"and {len(summary) - most} more configurations, in the report")
        columns = [replace(column, cells=column.cells[:most]) for column in columns]
    width, dropped = Console().width if width is None else width, list[str]()
    for lesser in (*_find_settings_of_methods(columns), *_LESSER):
        if _measure_width(columns) <= width:
            break
        if lesser in [column.header for column in columns]:
            columns = [column for column in columns if column.header != lesser]
            dropped.append(lesser)
    return _build_table(
        columns, notes + ([f"columns left out of this narrow terminal: {', '.join(dropped)}"] if dropped else [])
    )


def _find_settings_of_methods(columns: list[Column]) -> list[str]:
    """The headers of the settings, from the last, that have one value in all rows of a method."""
    methods = next(column.cells for column in columns if column.source == "method")
    settings = itertools.takewhile(lambda column: column.source != "seeds", columns)
    candidates = [column for column in settings if column.source not in ("method", "dataset.name", "protocol", FAMILY)]
    count = len(set(methods))
    return [
        column.header for column in reversed(candidates) if len(set(zip(methods, column.cells, strict=True))) == count
    ]


def _measure_width(columns: list[Column]) -> int:
    """Characters that a table of these columns takes: what one row of their widest cells does, soon measured."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(width=10_000)
    widest = [replace(column, cells=[max(column.cells, key=cell_len)]) for column in columns]
    return Measurement.get(console, console.options, _build_table(widest, [])).maximum


def _to_sentences(summary: pd.DataFrame, last: Column) -> list[str]:
    """The cells of the last column as sentences, each after the configuration's name."""
    first = summary.sort_index()  # in the order in which all others name them
    names = pd.Series(labels.name_configurations(first), first.index)[summary.index].tolist()
    data = summary.reindex(columns=["dataset.name", "protocol"]).astype(str)
    if len(data.drop_duplicates()) > 1:
        names = [labels.append_data(name, *pair) for name, pair in zip(names, data.to_numpy(), strict=True)]
    return [f"{name}: {cell}" for name, cell in zip(names, last.cells, strict=True) if cell != labels.NONE]


def _build_table(columns: list[Column], notes: list[str]) -> rich.table.Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, not str: rich reads square brackets in a str, as in an error's message, as markup.
    caption = Text("\n".join(notes)) if notes else None
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), pad_edge=False, caption=caption, caption_justify="left")
    for column in columns:
        # A number broken over two lines reads as another number.
        justify: Literal["right", "left"] = "right" if column.number else "left"
        # What a row is, and its headline, are never cut: the terminal may wrap them, a file has room.
        whole = column.source in _WHOLE
        least = max(map(len, [*column.header.split(" ", 1), *column.cells]), default=0) if whole else None
        table.add_column(Text(column.header.replace(" ", "\n", 1)), justify=justify, no_wrap=True, min_width=least)
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(Text, cells))
    return table
