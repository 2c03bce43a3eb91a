"""A summary as columns of text, in markdown, LaTeX and as CSV. Fractions become percentages here."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import pandas as pd

from results.frames import labels, method_families
from results.frames.frame import FAMILY, NOT_FINISHED, NOTES
from results.statistics.summaries import varying
from results.tables import intervals, test_sets
from results.tables.units import format_bytes, format_count, format_speed, format_time

EMPTY = "No records to show."
_TO_90 = "to 90 %: mm:ss of training until kNN on the validation split first had 90 % of its last accuracy there"
UNFINISHED, TO_90 = "not finished", "cost.seconds_to_90"
_LATEX = str.maketrans(
    {sign: "\\" + sign for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
    | {">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "–": "--", "…": r"\dots{}"}
)


@dataclass(frozen=True)
class Column:
    header: str
    cells: list[str]
    number: bool = False  # right-aligned
    source: str = ""  # the summary's column that the cells are of, by which they sort


def grid(summary: pd.DataFrame) -> tuple[pd.DataFrame, list[Column], list[str]]:
    """The summary in the order shown, its index that of the summary given; the columns; what a reader must know.

    Where rows are grouped by the family of their method, that is the first column.
    """
    ordered = _sort(summary)
    return (ordered, _columns(ordered), _notes(ordered)) if len(ordered) else (ordered, [], [EMPTY])


def show_families_once(columns: list[Column]) -> list[Column]:
    """The columns of `grid` with each group's family in its first row alone, for readers who cannot sort them."""
    starts = _starts(columns)
    if not starts:
        return columns
    families = [cell if start else "" for cell, start in zip(columns[0].cells, starts, strict=True)]
    return [replace(columns[0], cells=families), *columns[1:]]


def _starts(columns: list[Column]) -> list[bool]:
    """Of each row, whether a group of methods begins there; nothing where rows are not grouped."""
    if columns[0].source != FAMILY:
        return []
    within = [column.cells for column in columns if column.source in (FAMILY, "dataset.name")]
    return [True, *(before != after for before, after in pairwise(zip(*within, strict=True)))]


def to_markdown(summary: pd.DataFrame) -> str:
    """The summary as a markdown pipe table, followed by its notes as a list."""
    if summary.empty:
        return EMPTY + "\n"
    summary = _sort(summary)
    columns = show_families_once(_columns(summary))
    lines = [[column.header for column in columns], ["---:" if column.number else ":---" for column in columns]]
    lines += [list(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    return _pipes(lines) + "\n\n" + "\n".join(f"- {_markdown(note)}" for note in _notes(summary)) + "\n"


def pipes(rows: list[list[str]]) -> str:
    """Rows of text under a header as a markdown pipe table."""
    return _pipes([*rows[:1], [":---" for _ in rows[0]], *rows[1:]]) + "\n" if rows else ""


def _pipes(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(map(_markdown, line)) + " |" for line in lines)


def _markdown(text: str) -> str:
    """Text with what markdown reads as a column's end, HTML, a link or a picture written out."""
    return re.sub(r"[|<]|(?<=\])\(", r"\\\g<0>", text)


def to_latex(summary: pd.DataFrame) -> str:
    """The summary as a LaTeX fragment, a `tabular` with the rules of booktabs, its notes as comments above it."""
    _, columns, notes = grid(summary)
    if not columns:
        return f"% {EMPTY}\n"
    layout = "".join("r" if column.number else "l" for column in columns)
    starts, columns = _starts(columns), show_families_once(columns)
    lines = [" & ".join(map(_latex, line)) + r" \\" for line in zip(*(column.cells for column in columns), strict=True)]
    for place in [i for i, start in enumerate(starts) if start and i]:
        lines[place] = r"\addlinespace " + lines[place]
    header = " & ".join(_latex(column.header) for column in columns) + r" \\"
    rules = [
        r"\begin{tabular}{" + layout + "}",
        r"\toprule",
        header,
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*(f"% {note}" for note in notes), r"% needs \usepackage{booktabs}", *rules]) + "\n"


def _latex(text: str) -> str:
    """Text with what LaTeX reads as a command written out, and signs that its older fonts lack."""
    return text.translate(_LATEX)


def to_csv(summary: pd.DataFrame) -> str:
    """Each configuration's name, then every column of the summary in the order of the other tables, accuracies as
    fractions, families as methods declare them; each number's text reads back as the same float."""
    table = _sort(summary.assign(configuration=labels.names(summary)))[["configuration", *summary.columns]]
    table = table.apply(lambda column: column if pd.api.types.is_numeric_dtype(column) else column.map(_plain))
    return str(table.rename(columns=_plain).to_csv(index=False))


def _plain(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula, behind the sign that makes it a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def forecast_rows(totals: pd.DataFrame) -> list[list[str]]:
    """What `forecasts.compare_with_truth` returns, as rows of text under a header; none where nothing was foretold."""
    rows = [
        [
            str(row["method"]),
            str(row["cells"]),
            format_time(row["forecast"]),
            format_time(row["truth"]),
            f"{row['ratio']:.2f}",
            f"{row['least']:.2f} to {row['most']:.2f}",
        ]
        for row in totals.to_dict("records")
    ]
    return [["method", "cells", "forecast", "truth", "truth/forecast", "by cell"], *rows] if rows else []


def _sort(summary: pd.DataFrame) -> pd.DataFrame:
    """By dataset, by family where rows are grouped, then linear top-1 from the best; what has no number comes last."""
    keys = summary.reindex(columns=["dataset.name", FAMILY, "metrics.linear_top1.mean"])
    keys["dataset.name"] = keys["dataset.name"].map(labels.value)
    keys[FAMILY] = summary[FAMILY].map(method_families.place) if method_families.are_grouped(summary) else 0
    order = keys.sort_values(list(keys.columns), ascending=[True, True, False], na_position="last").index
    return summary.loc[order]


def _columns(summary: pd.DataFrame) -> list[Column]:
    """The columns shown, in order; one that would be empty, or that says the same in every row, is left out."""
    settings = labels.headers([name for name in varying(summary) if name not in ("method", "dataset.name")])
    several = {name for name in ("dataset.name", "protocol", "cost.devices") if _several(summary, name)}
    columns = []
    if method_families.are_grouped(summary):
        columns.append(Column("family", list(summary[FAMILY].map(method_families.word)), source=FAMILY))
    columns.append(Column("method", _cells(summary, "method", labels.value), source="method"))
    if "dataset.name" in several:
        columns.append(Column("dataset", _cells(summary, "dataset.name", labels.value), source="dataset.name"))
    for name, header in settings.items():
        columns.append(Column(header, _cells(summary, name, labels.value), number=True, source=name))
    if "protocol" in several:
        columns.append(Column("protocol", _cells(summary, "protocol", _short), source="protocol"))
    columns.append(Column("seeds", _seeds(summary), number=True, source="seeds"))
    columns.append(_metric(summary, "linear top-1 %", "linear_top1"))
    others = [
        _metric(summary, "kNN-20 %", "knn20_top1"),
        _metric(summary, "kNN-200 %", "knn200_top1"),
        _metric(summary, "effective rank", "effective_rank", scale=1),
        Column("views", _cells(summary, "cost.views", format_count), number=True, source="cost.views"),
        Column(
            "images/s",
            _cells(summary, "cost.images_per_second", format_speed),
            number=True,
            source="cost.images_per_second",
        ),
        Column("time (mm:ss)", _cells(summary, "cost.seconds", format_time), number=True, source="cost.seconds"),
        Column("to 90 %", _cells(summary, TO_90, format_time), number=True, source=TO_90),
        Column(
            "peak memory",
            _cells(summary, "cost.peak_memory_bytes", format_bytes),
            number=True,
            source="cost.peak_memory_bytes",
        ),
        Column(UNFINISHED, _describe_unfinished(summary)),
    ]
    if test_sets.are_imbalanced(summary):
        others.insert(0, _metric(summary, "linear balanced %", "linear_balanced"))
    if "cost.devices" in several:
        others.insert(-1, Column("device", _cells(summary, "cost.devices", str)))
    return columns + [column for column in others if set(column.cells) != {labels.NONE}]


def _metric(summary: pd.DataFrame, header: str, name: str, scale: float = 100) -> Column:
    return Column(header, intervals.cells(summary, name, scale), number=True, source=f"metrics.{name}.mean")


def _notes(summary: pd.DataFrame) -> list[str]:
    """What a reader must know beside the numbers."""
    data_notes = dict.fromkeys(note.removeprefix("note: ") for notes in summary[NOTES].dropna() for note in notes)
    notes = [*intervals.explain(summary), *test_sets.notes(summary), *data_notes]
    counts = summary.reindex(columns=[f"metrics.{name}.n" for name in ("linear_top1", "knn20_top1", "knn200_top1")])
    fixed = summary["fixed"].astype(bool)
    if counts[~fixed].eq(1).any(axis=None):
        notes.append("1 seed: no interval" + (" over seeds" if intervals.has_images(summary) else ""))
    if (fixed & (summary["seeds"] > 0)).any():
        notes.append("fixed: the method does not depend on the seed")
    if summary[TO_90].notna().any():
        notes.append(_TO_90)
    if summary[[*NOT_FINISHED]].any(axis=None):
        notes.append("runs that did not finish are counted, never averaged in")
    if _several(summary, "protocol"):
        notes.append("protocols differ: numbers of different protocols are not comparable")
    else:
        notes.append(f"protocol {_short(summary['protocol'].iloc[0])}")
    if unlike := [name for name in ("backbone", "stem", "pool") if _differs_between_methods(summary, name)]:
        listed = ", ".join(unlike)
        notes.append(f"methods differ in {listed} as well, which may be what parts them; {unlike[0]}= sets one for all")
    devices = [device for device in summary["cost.devices"].dropna().unique() if device]
    if len(devices) == 1:
        notes.append(f"device: {devices[0]}")
    return notes


def _differs_between_methods(summary: pd.DataFrame, name: str) -> bool:
    used = summary[name].dropna().groupby(summary["method"]).unique() if name in summary else ()
    return len({frozenset(values) for values in used}) > 1


def _several(summary: pd.DataFrame, name: str) -> bool:
    return name in summary and summary.loc[summary[name] != "", name].nunique() > 1


def _cells(summary: pd.DataFrame, name: str, text: Callable[[Any], str]) -> list[str]:
    values = summary[name] if name in summary else [None] * len(summary)
    return [_line(text(value)) if pd.notna(value) and value != "" else labels.NONE for value in values]


def _seeds(summary: pd.DataFrame) -> list[str]:
    pairs = zip(summary["seeds"], summary["fixed"], strict=True)
    return [f"{seeds:.0f} (fixed)" if fixed and seeds else f"{seeds:.0f}" for seeds, fixed in pairs]


def _describe_unfinished(summary: pd.DataFrame) -> list[str]:
    """Cells like `1 collapsed: non-finite loss at step 12`; the whole of a long reason is in the CSV and the record."""
    cells = []
    for _, row in summary.iterrows():
        parts = [
            f"{row[status]:.0f} {status}: " + textwrap.shorten(row[f"{status}_reasons"], 240, placeholder=" …")
            for status in NOT_FINISHED
            if row[status]
        ]
        cells.append("; ".join(parts) or labels.NONE)
    return cells


def _line(text: str) -> str:
    return " ".join(text.split())


def _short(protocol: str) -> str:
    return protocol[:8]
