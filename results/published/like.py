"""Cells that follow a published protocol (`like=NAME`) beside the numbers that were published of it."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from results.frames import labels
from results.frames.frame import LIKE
from results.published import equivalence
from results.published.numbers import load
from results.quantity import quantify
from results.statistics import layout
from results.statistics.summaries import number_configurations, summarise
from results.tables import intervals

HEADER = ["like", "configuration", "metric", "ours %", "theirs %", "verdict", "source"]
PARTS = ("mean", "half_width", "by_images", "sd", "n")


def tabulate(frame: pd.DataFrame) -> list[list[str]]:
    """Rows of text under a header, one for each published number of a protocol that a configuration follows; none
    where none follows one.

    `frame` is what `frames.frame.load` returns. Means and intervals are those of the other tables; the verdict is
    `equivalence.judge`'s, over all numbers of one protocol. What the two cannot have alike may be all that it says.
    """
    if not frame[LIKE].any():
        return []
    frame = frame.reset_index(drop=True)
    group = number_configurations(frame)
    protocol_of = frame[LIKE].groupby(group).max()
    published_numbers = load()
    published_numbers = published_numbers[published_numbers[LIKE].isin(set(protocol_of) - {""})]
    columns = {metric: _find_column(frame, metric) for metric in published_numbers["metric"]}
    summary = summarise(frame, list(columns.values()))
    summary = summary.assign(configuration=labels.name_configurations(summary), **{LIKE: protocol_of})
    pairs = [
        (
            measured,
            published,
            columns[published["metric"]],
            layout.count_images(frame[group == number], published["metric"]),
        )
        for number, measured in enumerate(summary.to_dict("records"))
        for published in published_numbers.to_dict("records")
        if (published[LIKE], published["method"]) == (measured[LIKE], measured["method"])
    ]
    protocols = pd.Series(
        [measured[LIKE] for measured, _, column, _ in pairs if pd.notna(measured[f"metrics.{column}.mean"])]
    )
    tests = protocols.value_counts()
    body = [_tabulate_pair(*pair, tests.get(pair[0][LIKE], 1)) for pair in pairs]
    return [HEADER, *sorted(body, key=lambda cells: cells[0])] if body else []


def _find_column(frame: pd.DataFrame, metric: str) -> str:
    """The metric of ours that is a published one: of other k than the record's, the cosine's that `evaluate` adds."""
    other = re.sub(r"^(knn\d+)_top1$", r"\1_cosine_top1", metric)
    return metric if f"metrics.{metric}" in frame or f"metrics.{other}" not in frame else other


def _tabulate_pair(
    measured: Mapping[Hashable, Any], published: Mapping[Hashable, Any], column: str, images: float, tests: int
) -> list[str]:
    mean, half_width, by_images, sd, seeds = (measured.get(f"metrics.{column}.{part}", math.nan) for part in PARTS)
    runs = "runs not said" if pd.isna(published["runs"]) else quantify(published["runs"], "run")
    source = f"{published['source']}{'' if published['verified'] else ', unverified'}: {published['protocol']}"
    if pd.isna(mean):
        measured_text, verdict = labels.NONE, "no cell finished"
        if measured["seeds"]:  # the record has all but kNN of other k
            verdict = "not measured; `evaluate evaluations=knn` adds it"
    else:
        measured_text = f"{intervals.format_interval(mean, half_width, 100, by_images)} ({quantify(seeds, 'seed')})"
        measured_number = equivalence.Number(mean, sd**2, seeds)
        verdict = equivalence.judge(measured_number, published["result"], published["runs"], images, tests)
    published_text = f"{100 * published['result']:.1f} ({runs})"
    return [
        measured[LIKE],
        measured["configuration"],
        published["metric"],
        measured_text,
        published_text,
        verdict,
        source,
    ]
