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
from results.statistics.summaries import find_varying
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


def arrange(summary: pd.DataFrame) -> tuple[pd.DataFrame, list[Column], list[str]]:
    """The summary in the order shown, its index that of the summary given; the columns; what a reader must know.

    Where rows are grouped by the family of their method, that is the first column.
    """
    ordered = _sort(summary)
    return (ordered, _build_columns(ordered), _write_notes(ordered)) if len(ordered) else (ordered, [], [EMPTY])


def show_families_once(columns: list[Column]) -> list[Column]:
    """The columns of `arrange` with each group's family in its first row alone, for readers who cannot sort them."""
    starts = _find_starts(columns)
    if not starts:
        return columns
    families = [cell if start else "" for cell, start in zip(columns[0].cells, starts, strict=True)]
    return [replace(columns[0], cells=families), *columns[1:]]


def _find_starts(columns: list[Column]) -> list[bool]:
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
    columns = show_families_once(_build_columns(summary))
    lines = [[column.header for column in columns], ["---:" if column.number else ":---" for column in columns]]
    lines += [list(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    return (
        _join_pipes(lines) + "\n\n" + "\n".join(f"- {_escape_markdown(note)}" for note in _write_notes(summary)) + "\n"
    )


def to_pipes(rows: list[list[str]]) -> str:
    """Rows of text under a header as a markdown pipe table."""
    return _join_pipes([*rows[:1], [":---" for _ in rows[0]], *rows[1:]]) + "\n" if rows else ""


def _join_pipes(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(map(_escape_markdown, line)) + " |" for line in lines)


def _escape_markdown(text: str) -> str:
    """Text with what markdown reads as a column's end, HTML, a link or a picture written out."""
    return re.sub(r"[|<]|(?<=\])\(", r"\\\g<0>", text)


def to_latex(summary: pd.DataFrame) -> str:
    """The summary as a LaTeX fragment, a `tabular` with the rules of booktabs, its notes as comments above it."""
    _, columns, notes = arrange(summary)
    if not columns:
        return f"% {EMPTY}\n"
    layout = "".join("r" if column.number else "l" for column in columns)
    starts, columns = _find_starts(columns), show_families_once(columns)
    lines = [
        " & ".join(map(_escape_latex, line)) + r" \\"
        for line in zip(*(column.cells for column in columns), strict=True)
    ]
    for i, start in enumerate(starts):
        if start and i:
            lines[i] = r"\addlinespace " + lines[i]
    header = " & ".join(_escape_latex(column.header) for column in columns) + r" \\"
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


def _escape_latex(text: str) -> str:
    """Text with what LaTeX reads as a command written out, and signs that its older fonts lack."""
    return text.translate(_LATEX)


def to_csv(summary: pd.DataFrame) -> str:
    """Each configuration's name, then every column of the summary in the order of the other tables, accuracies as
    fractions, families as methods declare them; each number's text reads back as the same float."""
    table = _sort(summary.assign(configuration=labels.name_configurations(summary)))[
        ["configuration", *summary.columns]
    ]
    table = table.apply(lambda column: column if pd.api.types.is_numeric_dtype(column) else column.map(_escape_formula))
    return str(table.rename(columns=_escape_formula).to_csv(index=False))


def _escape_formula(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula, behind the sign that makes it a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def tabulate_forecasts(totals: pd.DataFrame) -> list[list[str]]:
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
    keys["dataset.name"] = keys["dataset.name"].map(labels.format_value)
    keys[FAMILY] = summary[FAMILY].map(method_families.find_order) if method_families.are_grouped(summary) else 0
    order = keys.sort_values(list(keys.columns), ascending=[True, True, False], na_position="last").index
    return summary.loc[order]


def _build_columns(summary: pd.DataFrame) -> list[Column]:
    """The columns shown, in order; one that would be empty, or that says the same in every row, is left out."""
    settings = labels.choose_headers([name for name in find_varying(summary) if name not in ("method", "dataset.name")])
    several = {name for name in ("dataset.name", "protocol", "cost.devices") if _has_several(summary, name)}
    columns = []
    if method_families.are_grouped(summary):
        columns.append(Column("family", list(summary[FAMILY].map(method_families.to_words)), source=FAMILY))
    columns.append(Column("method", _format_cells(summary, "method", labels.format_value), source="method"))
    if "dataset.name" in several:
        columns.append(
            Column("dataset", _format_cells(summary, "dataset.name", labels.format_value), source="dataset.name")
        )
    for name, header in settings.items():
        columns.append(Column(header, _format_cells(summary, name, labels.format_value), number=True, source=name))
    if "protocol" in several:
        columns.append(Column("protocol", _format_cells(summary, "protocol", _shorten), source="protocol"))
    columns.append(Column("seeds", _format_seeds(summary), number=True, source="seeds"))
    columns.append(_build_metric(summary, "linear top-1 %", "linear_top1"))
    others = [
        _build_metric(summary, "kNN-20 %", "knn20_top1"),
        _build_metric(summary, "kNN-200 %", "knn200_top1"),
        _build_metric(summary, "effective rank", "effective_rank", scale=1),
        Column("views", _format_cells(summary, "cost.views", format_count), number=True, source="cost.views"),
        Column(
            "images/s",
            _format_cells(summary, "cost.images_per_second", format_speed),
            number=True,
            source="cost.images_per_second",
        ),
        Column("time (mm:ss)", _format_cells(summary, "cost.seconds", format_time), number=True, source="cost.seconds"),
        Column("to 90 %", _format_cells(summary, TO_90, format_time), number=True, source=TO_90),
        Column(
            "peak memory",
            _format_cells(summary, "cost.peak_memory_bytes", format_bytes),
            number=True,
            source="cost.peak_memory_bytes",
        ),
        Column(UNFINISHED, _describe_unfinished(summary)),
    ]
    if test_sets.are_imbalanced(summary):
        others.insert(0, _build_metric(summary, "linear balanced %", "linear_balanced"))
    if "cost.devices" in several:
        others.insert(-1, Column("device", _format_cells(summary, "cost.devices", str)))
    return columns + [column for column in others if set(column.cells) != {labels.NONE}]


def _build_metric(summary: pd.DataFrame, header: str, name: str, scale: float = 100) -> Column:
    return Column(header, intervals.format_intervals(summary, name, scale), number=True, source=f"metrics.{name}.mean")


def _write_notes(summary: pd.DataFrame) -> list[str]:
    """What a reader must know beside the numbers."""
    data_notes = dict.fromkeys(note.removeprefix("note: ") for notes in summary[NOTES].dropna() for note in notes)
    notes = [*intervals.explain(summary), *test_sets.describe(summary), *data_notes]
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
    if _has_several(summary, "protocol"):
        notes.append("protocols differ: numbers of different protocols are not comparable")
    else:
        notes.append(f"protocol {_shorten(summary['protocol'].iloc[0])}")
    if differing := [name for name in ("backbone", "stem", "pool") if _differs_between_methods(summary, name)]:
        names = ", ".join(differing)
        notes.append(
            f"methods differ in {names} as well, which may be what parts them; {differing[0]}= sets one for all"
        )
    devices = [device for device in summary["cost.devices"].dropna().unique() if device]
    if len(devices) == 1:
        notes.append(f"device: {devices[0]}")
    return notes


def _differs_between_methods(summary: pd.DataFrame, name: str) -> bool:
    used = summary[name].dropna().groupby(summary["method"]).unique() if name in summary else ()
    return len({frozenset(values) for values in used}) > 1


def _has_several(summary: pd.DataFrame, name: str) -> bool:
    return name in summary and summary.loc[summary[name] != "", name].nunique() > 1


def _format_cells(summary: pd.DataFrame, name: str, text: Callable[[Any], str]) -> list[str]:
    values = summary[name] if name in summary else [None] * len(summary)
    return [_join_lines(text(value)) if pd.notna(value) and value != "" else labels.NONE for value in values]


def _format_seeds(summary: pd.DataFrame) -> list[str]:
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


def _join_lines(text: str) -> str:
    return " ".join(text.split())


def _shorten(protocol: str) -> str:
    return protocol[:8]
