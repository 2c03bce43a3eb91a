"""What trials say: how methods' budgets compare, what n trials are worth, and how sharp the peak is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from results.frames import labels
from results.frames.trials import Search, settings

RATE = "learning_rate"
ESTIMATE = (
    "The expectation is over draws from the trials that there are (arXiv:1909.03004, equation 7): right for random "
    "search; for tpe, whose later trials lean on the earlier ones, a description."
)


def expected_best(accuracies: ArrayLike) -> np.ndarray:
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
    that finished, as fractions, and how many were `lost`."""

    low: float
    high: float
    count: int
    lost: int


def sensitivity(search: Search) -> Sensitivity | None:
    """None where no trial finished or the rate was not searched."""
    best = search.best
    if best is None or RATE not in search.searched:
        return None
    rates = search.trials[RATE].astype(float)
    near = search.trials[rates.between(best[RATE] / 2, best[RATE] * 2)]
    finished = near[near["status"] == "finished"]["accuracy"]
    return Sensitivity(float(finished.min()), float(finished.max()), len(near), len(near) - len(finished))


def explain_budgets(frame: pd.DataFrame, searches: Sequence[Search]) -> list[str]:
    """Sentences on what the settings of a frame's methods were tuned with: that the budgets are equal, or that they are
    not, so that a ranking is not of methods alone. Nothing where nothing was tuned. Methods that do not train need no
    tuning, and are left out.

    `frame` is what `frames.frame.load` returns.
    """
    if not searches or frame.empty:
        return []
    sentences = []
    columns = settings(frame)
    budgets = {_settings_of(search.best, columns): search.budget for search in searches if search.best is not None}
    shown = frame.reindex(columns=list(dict.fromkeys([*frame.columns, "dataset.name", "epochs"])))
    for dataset, part in shown[shown["epochs"].notna()].groupby("dataset.name", sort=False):
        keys = [budgets.get(_settings_of(row, columns), "") for _, row in part.iterrows()]
        shares = dict.fromkeys(zip(part["method"], keys, strict=True))
        if any(keys):
            sentences.append(_describe(str(dataset), list(shares)))
    return sentences


def compare_budgets(searches: Sequence[Search]) -> list[str]:
    """The same of the searches alone: a sentence for each dataset on which no budget is every method's."""
    sentences = []
    for dataset, own in by_dataset(searches):
        budgets: dict[str, set[str]] = {}
        for search in own:
            budgets.setdefault(search.method, set()).add(search.budget)
        if not set.intersection(*budgets.values()):
            sentences.append(_describe(dataset, [(search.method, search.budget) for search in own]))
    return sentences


def _describe(dataset: str, shares: list[tuple[str, str]]) -> str:
    methods: dict[str, list[str]] = {}
    for method, budget in shares:
        methods.setdefault(budget or "none (preset or words)", []).append(method)
    if len(methods) == 1:
        return f"{dataset}: every method's settings were chosen with the same budget, {next(iter(methods))}."
    listed = "; ".join(f"{budget}: {', '.join(names)}" for budget, names in methods.items())
    return f"{dataset}: budgets of tuning differ, so the ranks are not of methods alone. {listed}."


def _settings_of(row: pd.Series, columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(labels.value(row[name]) if name in row else labels.NONE for name in columns)


def by_dataset(searches: Sequence[Search]) -> Iterator[tuple[str, list[Search]]]:
    """The searches of each dataset, best first."""
    for dataset in dict.fromkeys(search.dataset for search in searches):
        own = [search for search in searches if search.dataset == dataset]
        yield dataset, sorted(own, key=lambda search: -float(search.trials["accuracy"].max()))
