"""Validation accuracy against trials: what a method's best of n is expected to be."""

from __future__ import annotations

from collections.abc import Sequence

from results.figures.chart import Chart, Series, pad_range, space_ticks
from results.frames.trials import Study, names
from results.statistics import tuning


def charts(studies: Sequence[Study]) -> list[Chart]:
    """A chart a dataset; none for studies of one trial."""
    grouped = [(dataset, [s for s in own if len(s.trials) > 1]) for dataset, own in tuning.by_dataset(studies)]
    grouped = [(dataset, own) for dataset, own in grouped if own]
    return [_chart(own, f" – {dataset}" if len(grouped) > 1 else "", dataset) for dataset, own in grouped]


def _chart(studies: Sequence[Study], suffix: str, dataset: str) -> Chart:
    series = []
    for number, (name, study) in enumerate(zip(names(studies), studies, strict=True)):
        expected = 100 * tuning.expected_best(study.trials["accuracy"])
        dash = sum(other.method == study.method for other in studies[:number])
        trials = tuple(float(n) for n in range(1, len(expected) + 1))
        series.append(Series(name, trials, tuple(map(float, expected)), study.method, dash=dash))
    ticks = space_ticks(tuple(float(n) for n in range(1, max(len(each.x) for each in series) + 1)), log=False)
    caption = "Expected best accuracy on validation images of n trials; one that failed or collapsed counts as 0. "
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
