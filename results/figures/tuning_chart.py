"""Validation accuracy against trials: what a method's best of n is expected to be."""

from __future__ import annotations

from collections.abc import Sequence

from results.figures.chart import Chart, Series, pad_range, space_ticks
from results.frames.trials import Search, name_searches
from results.statistics import tuning


def build_charts(searches: Sequence[Search]) -> list[Chart]:
    """A chart a dataset; none for searches of one trial."""
    groups = [
        (dataset, [search for search in group if len(search.trials) > 1])
        for dataset, group in tuning.group_by_dataset(searches)
    ]
    groups = [(dataset, group) for dataset, group in groups if group]
    return [_build_chart(group, f" – {dataset}" if len(groups) > 1 else "", dataset) for dataset, group in groups]


def _build_chart(searches: Sequence[Search], suffix: str, dataset: str) -> Chart:
    series = []
    for number, (name, search) in enumerate(zip(name_searches(searches), searches, strict=True)):
        expected = 100 * tuning.expect_best(search.trials["accuracy"])
        dash = sum(other.method == search.method for other in searches[:number])
        trials = tuple(float(n) for n in range(1, len(expected) + 1))
        series.append(Series(name, trials, tuple(map(float, expected)), search.method, dash=dash))
    ticks = space_ticks(tuple(float(n) for n in range(1, max(len(line.x) for line in series) + 1)), log=False)
    caption = "Expected best accuracy on validation images of n trials; one that did not finish counts as 0"
    caption += (
        ", which makes it a lower bound where trials were pruned. " * any(search.pruned for search in searches) or ". "
    )
    return Chart(
        "curve",
        f"tuning-{dataset}",
        f"Accuracy against trials{suffix}",
        caption + tuning.ESTIMATE,
        "trials",
        "validation accuracy (%)",
        tuple(series),
        x_ticks=ticks,
        y_range=pad_range(series),
    )
