"""What `evaluate` measured, a row a configuration: the accuracies beside the headline's, in a table of their own."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from results.frames import labels, method_families
from results.frames.frame import FAMILY
from results.statistics.summaries import summarise
from results.tables import intervals

# Name of the metric -> header. What is not named here stands in results.csv and in the cell's evaluation.json.
_COLUMNS = {
    r"linear_top1": "linear",
    r"knn_cosine_tuned_top1": "kNN cosine",
    r"knn_euclidean_tuned_top1": "kNN Euclid",
    r"sgd_probe_top1": "SGD probe",
    r"labels1_linear_top1": "1 % linear",
    r"labels10_linear_top1": "10 % linear",
    r"labels1_finetune_top1": "1 % tuned",
    r"labels10_finetune_top1": "10 % tuned",
    r"head_linear_top1": "g(h) linear",
    r"teacher_linear_top1": "teacher linear",
    r"teacher_knn20_top1": "teacher kNN-20",
    r"(token|token4|token_avg|avg|avg4)_linear_top1": r"\1 linear",
    r"teacher_(token|token4|token_avg|avg|avg4)_linear_top1": r"teacher \1 linear",
    r"transfer_(\w+)_linear_top1": r"\1 linear",
    r"transfer_(\w+)_knn20_top1": r"\1 kNN-20",
}
_HEADLINE = "linear_top1"


def tabulate(frame: pd.DataFrame) -> list[list[str]]:
    """Rows of text under a header, percentages with their intervals; none where nothing but the headline was measured.

    `frame` is what `frames.frame.load` returns. A column that ends in `@` and digits is of that protocol alone.
    """
    names = find_metrics(frame)
    if not names:
        return []
    summary = summarise(frame, [_HEADLINE, *names])
    summary = summary.assign(configuration=labels.name_configurations(summary))
    summary = summary[summary["seeds"] > 0]
    grouped = method_families.are_grouped(summary)
    order = ["dataset.name", "protocol", "place", f"metrics.{_HEADLINE}.mean"]
    summary = summary.assign(place=summary[FAMILY].map(method_families.find_order) if grouped else 0)
    summary = summary.sort_values(order, ascending=[True, True, True, False])
    headers = {name: header for name in (_HEADLINE, *names) if (header := _write_header(name))}
    several = summary[["dataset.name", "protocol"]].nunique().gt(1).any()
    leading_headers = ["dataset", "protocol"] * bool(several) + ["family"] * grouped
    table = [[*leading_headers, "configuration", "seeds", *(f"{header} %" for header in headers.values())]]
    for row in summary.to_dict("records"):
        leading = [str(row["dataset.name"]), str(row["protocol"])[:8]] * bool(several)
        leading += [method_families.to_words(row[FAMILY])] * grouped
        table.append(
            [*leading, row["configuration"], f"{row['seeds']:.0f}", *(_format_cell(row, name) for name in headers)]
        )
    return table


def find_metrics(frame: pd.DataFrame) -> list[str]:
    """The metrics of a loaded frame that only `evaluate` yields and that have a column here, in their order here."""
    names = [name.removeprefix("metrics.") for name in frame.columns if name.startswith("metrics.")]
    order = list(_COLUMNS.values())
    headers = {name: header for name in names if name != _HEADLINE and (header := _find_pattern(name))}
    return sorted(headers, key=lambda name: order.index(headers[name]))


def _find_pattern(name: str) -> str | None:
    return next((_COLUMNS[pattern] for pattern in _COLUMNS if re.fullmatch(pattern, name.partition("@")[0])), None)


def _write_header(name: str) -> str | None:
    base, mark, protocol = name.partition("@")
    header = next(
        (re.sub(pattern, _COLUMNS[pattern], base) for pattern in _COLUMNS if re.fullmatch(pattern, base)), None
    )
    return header and header + mark + protocol


def _format_cell(row: Mapping[Hashable, Any], name: str) -> str:
    """Such as `97.4 ± 0.6`, the half-width of the 95 % interval over seeds, and ` (n = 2)` where not every seed has the
    number."""
    mean, half_width, n = (row[f"metrics.{name}.{part}"] for part in ("mean", "by_seeds", "n"))
    if pd.isna(mean):
        return labels.NONE
    return intervals.format_interval(mean, half_width, 100) + (f" (n = {n:.0f})" if n < row["seeds"] else "")
