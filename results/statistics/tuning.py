"""What trials say: how methods' budgets compare, what n trials are worth, and how sharp the peak is."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from results.frames import labels
from results.frames.trials import Search, count_pruned

RATE = "learning_rate"
ESTIMATE = (
    "The expectation is over draws from the trials that there are (arXiv:1909.03004, equation 7): right for random "
    "search; for tpe, whose later trials lean on the earlier ones, a description."
)


def expect_best(accuracies: ArrayLike) -> np.ndarray:
    """The expected maximum of n = 1 to N draws from N accuracies, (N,): Dodge, Gururangan, Card, Schwartz and Smith,
    Show Your Work: Improved Reporting of Experimental Results, arXiv:1909.03004, equation 7: with the distribution of
    what was seen in place of the true one, sum over sorted values of v (P(V <= v)^n - P(V < v)^n).
    """
    values = np.sort(np.asarray(accuracies, dtype=float))
    count = len(values)
    n, places = np.arange(1, count + 1)[:, None], np.arange(1, count + 1)[None, :]
    weights = (places / count) ** n - ((places - 1) / count) ** n
    return weights @ values


@dataclass(frozen=True)
class Sensitivity:
    """Accuracy beside the peak: of `count` trials at half to twice the best one's rate, the lowest and highest of those
    that finished, as fractions, and how many were `lost` and `pruned`."""

    low: float
    high: float
    count: int
    lost: int
    pruned: int = 0


def measure_sensitivity(search: Search) -> Sensitivity | None:
    """None where no trial finished or the rate was not searched."""
    best = search.best
    if best is None or RATE not in search.searched:
        return None
    rates = search.trials[RATE].astype(float)
    near = search.trials[rates.between(best[RATE] / 2, best[RATE] * 2)]
    finished, pruned = near[near["status"] == "finished"]["accuracy"], count_pruned(near)
    lost = len(near) - len(finished) - pruned
    return Sensitivity(float(finished.min()), float(finished.max()), len(near), lost, pruned)


def explain_budgets(frame: pd.DataFrame, searches: Sequence[Search]) -> list[str]:
    """Sentences on what the settings of a frame's methods were tuned with: that the budgets are equal, or that they are
    not, so that a ranking is not of methods alone. Nothing where nothing was tuned. A configuration is tuned by the
    search whose choice it has in all that was searched, however long it trained then. Methods that do not train need no
    tuning, and are left out.

    `frame` is what `frames.frame.load` returns.
    """
    if not searches or frame.empty:
        return []
    sentences = []
    columns = list(dict.fromkeys(["method", *(name for search in searches for name in search.searched)]))
    settings = frame.reindex(columns=list(dict.fromkeys([*columns, "dataset.name", "epochs"])))
    for dataset, part in settings[settings["epochs"].notna()].groupby("dataset.name", sort=False):
        of_dataset = [search for search in searches if search.dataset == dataset]
        chosen = [
            (search, _describe_choice(search.best, search.searched)) for search in of_dataset if search.best is not None
        ]
        rows = part[columns].drop_duplicates().to_dict("records")
        pairs = [(str(row["method"]), _find_search(row, chosen)) for row in rows]
        if any(search for _, search in pairs):
            sentences.append(_describe(str(dataset), pairs))
    return sentences


def compare_budgets(searches: Sequence[Search]) -> list[str]:
    """The same of the searches alone: a sentence for each dataset on which the budgets of the methods' latest searches
    differ."""
    sentences = []
    for dataset, of_dataset in group_by_dataset(searches):
        latest = {search.method: search for search in sorted(of_dataset, key=lambda search: search.chosen)}
        if len({search.budget for search in latest.values()}) > 1:
            sentences.append(_describe(dataset, list(latest.items())))
    return sentences


def _find_search(row: Mapping[Hashable, Any], chosen: Sequence[tuple[Search, tuple[str, ...]]]) -> Search | None:
    """The search that chose the settings of this row, the first of several; None where none did."""
    for search, texts in chosen:
        if search.method == row["method"] and search.searched and texts == _describe_choice(row, search.searched):
            return search
    return None


def _describe_choice(row: Mapping[Hashable, Any] | pd.Series, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(labels.format_value(row[name]) for name in names)


def _describe(dataset: str, pairs: Sequence[tuple[str, Search | None]]) -> str:
    chosen: dict[str, dict[str, str]] = {}
    for method, search in pairs:
        name, budget = (search.name, search.budget) if search else ("", "none (preset or words)")
        chosen.setdefault(method, {})[name] = budget
    methods: dict[str, list[str]] = {}
    for method, budgets in chosen.items():
        methods.setdefault(" and ".join(sorted(budgets.values())), []).append(method)
    if len(methods) == 1:
        costs = _describe_costs([search.trials for _, search in pairs if search])
        return f"{dataset}: every method's settings were chosen with the same budget, {next(iter(methods))}{costs}."
    text = "; ".join(f"{budget}: {', '.join(names)}" for budget, names in methods.items())
    return f"{dataset}: budgets of tuning differ, so the ranks are not of methods alone. {text}."


def _describe_costs(trials: Sequence[pd.DataFrame]) -> str:
    """What as many trials cost, where that differs between methods: with more views an image, or ended early."""
    pruned = [count_pruned(each) for each in trials]
    texts = [f"{min(pruned)} to {max(pruned)} trials pruned"] if min(pruned) != max(pruned) else []
    for column, form, word in (("cost.views", ",.0f", "views"), ("hours", ".2f", "hours")):
        sums = [float(table[column].sum()) for table in trials]
        low, high = format(min(sums), form), format(max(sums), form)
        texts += [f"{low} to {high} {word}"] if low != high else []
    return f" ({', '.join(texts)} a method)" if texts else ""


def group_by_dataset(searches: Sequence[Search]) -> Iterator[tuple[str, list[Search]]]:
    """The searches of each dataset, best first."""
    for dataset in dict.fromkeys(search.dataset for search in searches):
        of_dataset = [search for search in searches if search.dataset == dataset]
        yield dataset, sorted(of_dataset, key=lambda search: -float(search.trials["accuracy"].max()))
