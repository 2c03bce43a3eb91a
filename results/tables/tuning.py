"""What trials say, as rows of text. Fractions become percentages here."""

from __future__ import annotations

from collections.abc import Sequence

from results.frames import labels
from results.frames.trials import Study, names
from results.statistics import tuning
from results.tables.units import format_count

BUDGETS = "Tuning: each method's budget, and what it found (accuracies are of validation images)"
CURVE = "Tuning: expected best validation accuracy of n trials, %"


def sections(studies: Sequence[Study]) -> list[tuple[str, list[list[str]]]]:
    """Titles, and rows of text under a header; nothing without studies."""
    if not studies:
        return []
    ordered = [study for _, own in tuning.by_dataset(studies) for study in own]
    return [(BUDGETS, _budgets(ordered)), (CURVE, _curve(ordered))]


def _budgets(studies: Sequence[Study]) -> list[list[str]]:
    header = ["method", "trials", "lost", "epochs", "searched", "views", "hours", "best %", "rate x0.5 to x2", "chosen"]
    rows = [header]
    for name, study in zip(names(studies), studies, strict=True):
        trials, best = study.trials, study.best
        count = str(len(trials)) if len(trials) == study.asked else f"{len(trials)} of {study.asked}"
        chosen = (
            "–" if best is None else " ".join(f"{labels.setting(c)}={labels.value(best[c])}" for c in study.searched)
        )
        rows.append(
            [
                name,
                f"{count} ({study.sampler})" if study.sampler else count,
                str(study.lost),
                study.epochs,
                str(len(study.searched)),
                format_count(trials["cost.views"].sum()),
                f"{trials['hours'].sum():.2f}",
                labels.NONE if best is None else f"{100 * best['accuracy']:.1f}",
                _sensitivity(study),
                chosen,
            ]
        )
    return rows


def _sensitivity(study: Study) -> str:
    """Such as `88.1 to 93.3 (5 trials, 1 lost)`."""
    near = tuning.sensitivity(study)
    if near is None:
        return labels.NONE
    lost = f", {near.lost} lost" if near.lost else ""
    return f"{100 * near.low:.1f} to {100 * near.high:.1f} ({near.count} trial{'s' * (near.count != 1)}{lost})"


def _curve(studies: Sequence[Study]) -> list[list[str]]:
    """Columns of 1, 2, 4, ... trials, and of as many as the longest study has."""
    longest = max(len(study.trials) for study in studies)
    counts = sorted({2**power for power in range(longest.bit_length())} | {longest})
    rows = [["method", *map(str, counts)]]
    for name, study in zip(names(studies), studies, strict=True):
        expected = tuning.expected_best(study.trials["accuracy"])
        cells = [f"{100 * expected[n - 1]:.1f}" if n <= len(expected) else labels.NONE for n in counts]
        rows.append([name, *cells])
    return rows
