"""Whether the methods' order hangs on the evaluation: Kendall's tau between the rankings by each pair of accuracies.

Tau-b (scipy.stats.kendalltau) is 1 where two evaluations order the configurations alike, -1 where one reverses the
other, 0 where they agree in half of the pairs. Rankings are of means over seeds, within one dataset and protocol.

Means over few seeds order nothing surely: two evaluations of one true order disagree too. What one evaluation agrees
with itself, between one half of the seeds and the other, is the tau that can be hoped for, and stands beside it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd

from results.frames import labels
from results.statistics import layout
from results.statistics.summaries import number_configurations, summarise

LEAST = 3  # configurations: two are in the same order or in the other
COLUMNS = ["protocol", "dataset", "metric", "other", "tau", "metric_split", "other_split", "n"]
_MOST_SPLITS = 20
_HEADLINE = "linear_top1"
_SUFFIX = "_top1"
_CHOOSING = "validation_top1"  # accuracies that chose something are no evaluations
_SPLITS = ("tau of linear between split seeds", "its own between split seeds")
_TWICE = ("knn20_cosine_top1", "knn200_cosine_top1")  # the votes of the record's knn20 and knn200


def compare(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a pair of accuracies, as `COLUMNS`: `tau`; `metric_split` and `other_split`, the mean tau of each with
    itself between halves of the seeds; `n` configurations.

    `frame` is what `frames.frame.load` returns. Only configurations with both numbers count, at least 3 of them; NaN
    where one accuracy is the same for all. Empty where there is no such pair.
    """
    from scipy.stats import kendalltau  # which takes long to import

    frame = frame.reset_index(drop=True)
    names = find_accuracies(frame)
    summary = summarise(frame, names)
    lines: list[tuple[Any, ...]] = []
    if "dataset.name" not in summary:  # no records
        return pd.DataFrame(lines, columns=COLUMNS)
    for (protocol, dataset), part in summary.groupby(["protocol", "dataset.name"], sort=False):
        # Rounded: equal means may differ in their last digits, and would not count as a tie.
        means = part[[f"metrics.{name}.mean" for name in names]].set_axis(names, axis=1).round(9)
        rows = frame[number_configurations(frame).isin(part.index)]
        splits = {name: _compare_halves(rows, name) for name in names}
        for left, right in itertools.combinations(names, 2):
            pair_means = means[[left, right]].dropna()
            if len(pair_means) >= LEAST:
                tau = float(kendalltau(pair_means[left], pair_means[right]).statistic)
                lines.append((protocol, dataset, left, right, tau, splits[left], splits[right], len(pair_means)))
    return pd.DataFrame(lines, columns=COLUMNS)


def tabulate(frame: pd.DataFrame) -> list[list[str]]:
    """Rows of text under a header: how each accuracy orders the configurations against `linear_top1`; none where there
    are fewer than 3 configurations with two accuracies."""
    table = compare(frame)
    table = table[(table["metric"] == _HEADLINE) & table["tau"].notna()]
    if table.empty:
        return []
    table = table.sort_values(["dataset", "protocol", "tau"], ascending=[True, True, False], kind="stable")
    several = table[["protocol", "dataset"]].drop_duplicates().shape[0] > 1
    lines = [
        [
            *(["dataset", "protocol"] if several else []),
            "ranks by",
            "Kendall's tau with linear",
            *_SPLITS,
            "configurations",
        ]
    ]
    for row in table.to_dict("records"):
        taus_of_row = [row[name] for name in ("tau", "metric_split", "other_split")]
        first = [str(row["dataset"]), str(row["protocol"])[:8]] if several else []
        lines.append([*first, str(row["other"]).replace(_SUFFIX, ""), *map(_format, taus_of_row), str(row["n"])])
    return lines


def _compare_halves(rows: pd.DataFrame, metric: str) -> float:
    """Kendall's tau of the order by one half of the seeds and by the other, its mean over the ways to halve them, the
    first `_MOST_SPLITS`. Of configurations that have all seeds that most have; NaN for fewer than 3 or one seed."""
    from scipy.stats import kendalltau

    values, fixed = layout.read_values(
        rows, pd.Series(pd.factorize(number_configurations(rows))[0], rows.index), metric
    )
    values = values[~fixed]
    values = values[:, (~np.isnan(values)).sum(axis=0) * 2 > len(values)]
    values = values[~np.isnan(values).any(axis=1)]
    count = values.shape[1]
    if len(values) < LEAST or count < 2:
        return math.nan
    halves = itertools.islice(itertools.combinations(range(count), count // 2), _MOST_SPLITS)
    pairs = [(list(half), [seed for seed in range(count) if seed not in half]) for half in halves]
    means = [[values[:, half].mean(axis=1).round(9) for half in pair] for pair in pairs]
    return float(np.mean([kendalltau(*pair).statistic for pair in means]))


def _format(value: float) -> str:
    return labels.NONE if math.isnan(value) else f"{value:.2f}"


def find_accuracies(frame: pd.DataFrame) -> list[str]:
    """The metrics of a loaded frame that are accuracies on test images, the headline first."""
    names = [name.removeprefix("metrics.") for name in frame.columns if name.startswith("metrics.")]
    names = [name for name in names if name.partition("@")[0].endswith(_SUFFIX) and _CHOOSING not in name]
    names = [name for name in names if name.partition("@")[0] not in _TWICE]
    return sorted(names, key=lambda name: name != _HEADLINE)
