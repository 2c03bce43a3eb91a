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
from results.statistics.summaries import configurations, summarise
from results.tables import intervals

HEADER = ["like", "configuration", "metric", "ours %", "theirs %", "verdict", "source"]
PARTS = ("mean", "half_width", "by_images", "sd", "n")


def rows(frame: pd.DataFrame) -> list[list[str]]:
    """Rows of text under a header, one for each published number of a protocol that a configuration follows; none
    where none follows one.

    `frame` is what `frames.frame.load` returns. Means and intervals are those of the other tables; the verdict is
    `equivalence.judge`'s, over all numbers of one protocol. What the two cannot have alike may be all that it says.
    """
    if not frame[LIKE].any():
        return []
    frame = frame.reset_index(drop=True)
    group = configurations(frame)
    followed = frame[LIKE].groupby(group).max()
    published = load()
    published = published[published[LIKE].isin(set(followed) - {""})]
    columns = {metric: _find_column(frame, metric) for metric in published["metric"]}
    summary = summarise(frame, list(columns.values()))
    summary = summary.assign(configuration=labels.names(summary), **{LIKE: followed})
    pairs = [
        (ours, theirs, columns[theirs["metric"]], layout.count_images(frame[group == number], theirs["metric"]))
        for number, ours in enumerate(summary.to_dict("records"))
        for theirs in published.to_dict("records")
        if (theirs[LIKE], theirs["method"]) == (ours[LIKE], ours["method"])
    ]
    measured = pd.Series([ours[LIKE] for ours, _, column, _ in pairs if pd.notna(ours[f"metrics.{column}.mean"])])
    tests = measured.value_counts()
    body = [_row(*pair, tests.get(pair[0][LIKE], 1)) for pair in pairs]
    return [HEADER, *sorted(body, key=lambda cells: cells[0])] if body else []


def _find_column(frame: pd.DataFrame, metric: str) -> str:
    """The metric of ours that is a published one: of other k than the record's, the cosine's that `evaluate` adds."""
    other = re.sub(r"^(knn\d+)_top1$", r"\1_cosine_top1", metric)
    return metric if f"metrics.{metric}" in frame or f"metrics.{other}" not in frame else other


def _row(
    ours: Mapping[Hashable, Any], theirs: Mapping[Hashable, Any], column: str, images: float, tests: int
) -> list[str]:
    mean, half, by_images, sd, seeds = (ours.get(f"metrics.{column}.{part}", math.nan) for part in PARTS)
    runs = "runs not said" if pd.isna(theirs["runs"]) else quantify(theirs["runs"], "run")
    source = f"{theirs['source']}{'' if theirs['verified'] else ', unverified'}: {theirs['protocol']}"
    if pd.isna(mean):
        number, verdict = labels.NONE, "no cell finished"
        if ours["seeds"]:  # the record has all but kNN of other k
            verdict = "not measured; `evaluate evaluations=knn` adds it"
    else:
        number = f"{intervals.format_interval(mean, half, 100, by_images)} ({quantify(seeds, 'seed')})"
        own = equivalence.Number(mean, sd**2, seeds)
        verdict = equivalence.judge(own, theirs["result"], theirs["runs"], images, tests)
    published = f"{100 * theirs['result']:.1f} ({runs})"
    return [ours[LIKE], ours["configuration"], theirs["metric"], number, published, verdict, source]
