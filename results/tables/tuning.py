"""What trials say, as rows of text. Fractions become percentages here."""

from __future__ import annotations

from collections.abc import Sequence

from results.frames import labels
from results.frames.trials import Search, names
from results.quantity import quantify
from results.statistics import tuning
from results.tables.units import format_count

BUDGETS = "Tuning: each method's budget, and what it found (accuracies are of validation images)"
CURVE = "Tuning: expected best validation accuracy of n trials, %"
BOUND = " (a pruned trial counts as 0: a lower bound where there are some)"


def sections(searches: Sequence[Search]) -> list[tuple[str, list[list[str]]]]:
    """Titles, and rows of text under a header; nothing without searches."""
    if not searches:
        return []
    ordered = [search for _, own in tuning.by_dataset(searches) for search in own]
    bound = BOUND if any(search.pruned for search in searches) else ""
    return [(BUDGETS, _budgets(ordered)), (CURVE + bound, _curve(ordered))]


def _budgets(searches: Sequence[Search]) -> list[list[str]]:
    prunes = any(search.pruned for search in searches)
    rows = [["method", "trials", "lost", *(["pruned"] if prunes else []), "epochs", "searched", "views", "hours"]]
    rows[0] += ["best %", "rate x0.5 to x2", "chosen"]
    for name, search in zip(names(searches), searches, strict=True):
        trials, best = search.trials, search.best
        count = str(len(trials)) if len(trials) == search.asked else f"{len(trials)} of {search.asked}"
        chosen = (
            "–" if best is None else " ".join(f"{labels.setting(c)}={labels.value(best[c])}" for c in search.searched)
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
                _sensitivity(search),
                chosen,
            ]
        )
    return rows


def _sensitivity(search: Search) -> str:
    """Such as `88.1 to 93.3 (5 trials, 1 lost, 2 pruned)`."""
    near = tuning.sensitivity(search)
    if near is None:
        return labels.NONE
    ended = [f"{count} {how}" for count, how in ((near.lost, "lost"), (near.pruned, "pruned")) if count]
    return f"{100 * near.low:.1f} to {100 * near.high:.1f} ({', '.join([quantify(near.count, 'trial'), *ended])})"


def _curve(searches: Sequence[Search]) -> list[list[str]]:
    """Columns of 1, 2, 4, ... trials, and of as many as the longest search has."""
    longest = max(len(search.trials) for search in searches)
    counts = sorted({2**power for power in range(longest.bit_length())} | {longest})
    rows = [["method", *map(str, counts)]]
    for name, search in zip(names(searches), searches, strict=True):
        expected = tuning.expected_best(search.trials["accuracy"])
        cells = [f"{100 * expected[n - 1]:.1f}" if n <= len(expected) else labels.NONE for n in counts]
        rows.append([name, *cells])
    return rows
