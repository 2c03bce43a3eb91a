"""Whether the methods' order hangs on the evaluation: Kendall's tau between the rankings by each pair of accuracies.

Tau-b (scipy.stats.kendalltau) is 1 where two evaluations order the configurations alike, -1 where one reverses the
other, 0 where they agree in half of the pairs. Rankings are of means over seeds, within one dataset and protocol.
"""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from results.statistics.summaries import summarise

LEAST = 3  # configurations: two are in the same order or in the other
COLUMNS = ["protocol", "dataset", "metric", "other", "tau", "p", "n"]
_HEADLINE = "linear_top1"
_SUFFIX = "_top1"
_CHOOSING = "validation_top1"  # accuracies that chose something are no evaluations
_TWICE = ("knn20_cosine_top1", "knn200_cosine_top1")  # the votes of the record's knn20 and knn200


def taus(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a pair of accuracies, as `COLUMNS`: `tau`, its two-sided `p` without correction, `n` configurations.

    `frame` is what `frames.frame.load` returns. Only configurations with both numbers count, at least 3 of them; NaN
    where one accuracy is the same for all. Empty where there is no such pair.
    """
    from scipy.stats import kendalltau  # which takes long to import

    names = accuracies(frame)
    summary = summarise(frame, names)
    lines: list[tuple[Any, ...]] = []
    if "dataset.name" not in summary:  # no records
        return pd.DataFrame(lines, columns=COLUMNS)
    for (protocol, dataset), part in summary.groupby(["protocol", "dataset.name"], sort=False):
        # Rounded: equal means may differ in their last digits, and would not count as a tie.
        means = part[[f"metrics.{name}.mean" for name in names]].set_axis(names, axis=1).round(9)
        for left, right in itertools.combinations(names, 2):
            both = means[[left, right]].dropna()
            if len(both) >= LEAST:
                tau, p = kendalltau(both[left], both[right])
                lines.append((protocol, dataset, left, right, float(tau), float(p), len(both)))
    return pd.DataFrame(lines, columns=COLUMNS)


def rows(frame: pd.DataFrame) -> list[list[str]]:
    """Rows of text under a header: how each accuracy orders the configurations against `linear_top1`; none where there
    are fewer than 3 configurations with two accuracies."""
    table = taus(frame)
    table = table[(table["metric"] == _HEADLINE) & table["tau"].notna()]
    if table.empty:
        return []
    table = table.sort_values(["dataset", "protocol", "tau"], ascending=[True, True, False], kind="stable")
    several = table[["protocol", "dataset"]].drop_duplicates().shape[0] > 1
    lines = [
        [*(["dataset", "protocol"] if several else []), "ranks by", "Kendall's tau with linear", "p", "configurations"]
    ]
    for row in table.to_dict("records"):
        first = [str(row["dataset"]), str(row["protocol"])[:8]] if several else []
        lines.append(
            [*first, str(row["other"]).replace(_SUFFIX, ""), f"{row['tau']:.2f}", f"{row['p']:.2g}", str(row["n"])]
        )
    return lines


def accuracies(frame: pd.DataFrame) -> list[str]:
    """The metrics of a loaded frame that are accuracies on test images, the headline first."""
    names = [name.removeprefix("metrics.") for name in frame.columns if name.startswith("metrics.")]
    names = [name for name in names if name.partition("@")[0].endswith(_SUFFIX) and _CHOOSING not in name]
    names = [name for name in names if name.partition("@")[0] not in _TWICE]
    return sorted(names, key=lambda name: name != _HEADLINE)
