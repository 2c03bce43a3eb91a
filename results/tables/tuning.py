"""What trials say, as rows of text. Fractions become percentages here."""

from __future__ import annotations

from collections.abc import Sequence

from results.frames import labels
from results.frames.trials import Search, name_searches
from results.quantity import quantify
from results.statistics import tuning
from results.tables.units import format_count

BUDGETS = "Tuning: each method's budget, and what it found (accuracies are of validation images)"
CURVE = "Tuning: expected best validation accuracy of n trials, %"
BOUND = " (a pruned trial counts as 0: a lower bound where there are some)"


def tabulate(searches: Sequence[Search]) -> list[tuple[str, list[list[str]]]]:
    """Titles, and rows of text under a header; nothing without searches."""
    if not searches:
        return []
    ordered = [search for _, of_dataset in tuning.group_by_dataset(searches) for search in of_dataset]
    bound = BOUND if any(search.pruned for search in searches) else ""
    return [(BUDGETS, _tabulate_budgets(ordered)), (CURVE + bound, _tabulate_curve(ordered))]


def _tabulate_budgets(searches: Sequence[Search]) -> list[list[str]]:
    prunes = any(search.pruned for search in searches)
    rows = [["method", "trials", "lost", *(["pruned"] if prunes else []), "epochs", "searched", "views", "hours"]]
    rows[0] += ["best %", "rate x0.5 to x2", "chosen"]
    for name, search in zip(name_searches(searches), searches, strict=True):
        trials, best = search.trials, search.best
        count = str(len(trials)) if len(trials) == search.asked else f"{len(trials)} of {search.asked}"
        chosen = (
            "–"
            if best is None
            else " ".join(
                f"{labels.strip_prefix(column)}={labels.format_value(best[column])}" for column in search.searched
            )
        )
        rows.append(
            [
                name,
                f"{count} ({search.sampler})" if search.sampler else count,
                str(search.lost),
                *([str(search.pruned)] if prunes else []),
                search.epochs,
                str(len(search.searched)),
                format_count(trials["cost.views"].sum()),
                f"{trials['hours'].sum():.2f}",
                labels.NONE if best is None else f"{100 * best['accuracy']:.1f}",
                _describe_sensitivity(search),
                chosen,
            ]
        )
    return rows


def _describe_sensitivity(search: Search) -> str:
    """Such as `88.1 to 93.3 (5 trials, 1 lost, 2 pruned)`."""
    sensitivity = tuning.measure_sensitivity(search)
    if sensitivity is None:
        return labels.NONE
    ended = [
        f"{count} {status}" for count, status in ((sensitivity.lost, "lost"), (sensitivity.pruned, "pruned")) if count
    ]
    counts = ", ".join([quantify(sensitivity.count, "trial"), *ended])
    return f"{100 * sensitivity.low:.1f} to {100 * sensitivity.high:.1f} ({counts})"


def _tabulate_curve(searches: Sequence[Search]) -> list[list[str]]:
    """Columns of 1, 2, 4, ... trials, and of as many as the longest search has."""
    longest = max(len(search.trials) for search in searches)
    counts = sorted({2**power for power in range(longest.bit_length())} | {longest})
    rows = [["method", *map(str, counts)]]
    for name, search in zip(name_searches(searches), searches, strict=True):
        expected = tuning.expect_best(search.trials["accuracy"])
        cells = [f"{100 * expected[n - 1]:.1f}" if n <= len(expected) else labels.NONE for n in counts]
        rows.append([name, *cells])
    return rows
