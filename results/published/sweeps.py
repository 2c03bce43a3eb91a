"""Whether our sweeps go the way of published curves, and where their numbers may be compared at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from results.frames import labels
from results.frames.frame import find_settings
from results.frames.labels import FOLLOWS
from results.published import equivalence
from results.published.numbers import Curve, Published, load, load_curves, simplify
from results.statistics import layout, significance
from results.statistics.moderated import LEVEL
from results.statistics.summaries import number_configurations

# Published numbers closer than this make no order: MoCo's authors found a spread of 0.1 to 0.2 points over five runs.
APART = 0.005
HEADER = ["method", "axis", "published", "values", "agree", "disagree", "cannot be told", "verdict", "conditions"]


class Comparison(NamedTuple):
    """A sweep of ours and the published curve that it is compared with."""

    sweep: str  # what tells it from the others over its axis, such as `simclr epochs=20`
    curve: Curve
    cells: list[str]  # of `tabulate`, from `published` on


def compare_sweeps(frame: pd.DataFrame, metric: str = "linear_top1") -> list[Comparison]:
    """Whether our sweeps go the way of published curves; none where nothing compares.

    `frame` is what `frames.frame.load` returns. A sweep is a setting that varies within a method, dataset and protocol
    while all else is fixed. Of the published curves that can be compared with it, the one with the most conditions in
    common against those that differ is; then one that is verified, and near in epochs and batch size. What is compared:

    - The order of the accuracies, over the pairs of values that both have and that the source sets apart. A paired
      difference over shared seeds, significant after Holm's correction over these pairs, agrees or disagrees by its
      sign; else it cannot be told.
    - With fewer than three values in common, and not all of theirs: the trend instead, from the lowest to the highest
      of our values within their range, if the published curve goes one way only.
    - The numbers, where none of the conditions that the source states differs, by a test of equivalence
      (`equivalence.judge`): a published number agrees where the difference is shown to be less than its `MARGIN`,
      disagrees where it is shown to be more, and else cannot be told. Theirs is still another evaluation.

    Accuracies of other conditions are never compared. One disagreement makes the verdict `disagree`; without one it is
    `agree` where nothing is left that cannot be told, else `partly agree`. Sweeps are not corrected for each other.
    """
    return list(_compare(frame, metric))


def tabulate(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """The same as rows of text under a header; none where nothing compares."""
    body = [
        [comparison.sweep, labels.strip_prefix(comparison.curve.axis), *comparison.cells] for comparison in comparisons
    ]
    return [HEADER, *body] if body else []


def _compare(frame: pd.DataFrame, metric: str) -> Iterator[Comparison]:
    for axis in dict.fromkeys(" ".join(load()["axes"]).split()):
        candidates = [candidate for candidate in load_curves(axis) if candidate.curve.metric == metric]
        sweeps = _find_sweeps(frame, axis, {candidate.curve.method for candidate in candidates})
        for sweep, label in zip(sweeps, _name_sweeps(sweeps, axis), strict=True):
            nearest = _sort_by_distance(sweep, candidates)
            verdicts = ((candidate.curve, _judge(sweep, candidate, metric)) for candidate in nearest)
            verdicts = (verdict for verdict in verdicts if verdict[1])
            yield from (Comparison(label, *verdict) for verdict in itertools.islice(verdicts, 1))


def _find_sweeps(frame: pd.DataFrame, axis: str, methods: set[str]) -> list[pd.DataFrame]:
    """The finished records of each sweep, in the order of its values, one configuration a value."""
    if axis not in frame:
        return []
    part = frame[(frame["status"] == "finished") & frame["method"].isin(methods) & frame[axis].notna()]
    # A text may stand among numbers in the records of others: it comes last.
    part = part.sort_values(axis, kind="stable", ignore_index=True, key=lambda values: values.map(_order_value))
    if part[axis].nunique() < 2:
        return []
    rest = number_configurations(part.drop(columns=[axis, *FOLLOWS.get(axis, ())], errors="ignore"))
    number = number_configurations(part)  # of a batch with micro-batches and without, the first is taken
    part = part[number == number.groupby([rest, part[axis]]).transform("first")]
    return [sweep for _, sweep in part.groupby(rest, sort=False) if sweep[axis].nunique() > 1]


def _order_value(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if isinstance(value, Real) else (True, 0.0, str(value))


def _name_sweeps(sweeps: list[pd.DataFrame], axis: str) -> list[str]:
    """Texts like `simclr epochs=20`: the method, and what tells its sweep from its others over the axis."""
    if not sweeps:
        return []
    firsts = pd.concat([sweep[:1] for sweep in sweeps], ignore_index=True)
    data = list(zip(firsts["dataset.name"].map(str), firsts["protocol"].map(str), strict=True))
    fixed = [name for name in find_settings(firsts) if name not in ("method", axis, *FOLLOWS.get(axis, ()))]
    rows = [
        dict(zip(fixed, map(labels.format_value, row), strict=True)) for row in firsts[fixed].to_numpy(dtype=object)
    ]
    differences = labels.find_differences(list(zip(data, firsts["method"], strict=True)), rows)
    names = [labels.format_label(*parts) for parts in zip(firsts["method"], differences, strict=True)]
    several = len(set(data)) > 1
    return [labels.append_data(name, *pair) if several else name for name, pair in zip(names, data, strict=True)]


def _sort_by_distance(sweep: pd.DataFrame, candidates: Sequence[Published]) -> list[Published]:
    """The curves of the sweep's method, from the nearest conditions."""
    first = sweep.iloc[0]

    def distance(published: Published) -> tuple[int, bool, float]:
        sizes = [(published.fixed.get(name), first.get(name)) for name in ("epochs", "batch_size")]
        log_ratios = [
            abs(math.log(published_size / size))
            for published_size, size in sizes
            if published_size and size and size > 0
        ]
        difference_count = len(_describe_differences(first, published))
        # Against those that are the same: who states little differs in little.
        return 2 * difference_count - len(published.fixed), not published.curve.verified, sum(log_ratios)

    return sorted((published for published in candidates if published.curve.method == first["method"]), key=distance)


def _describe_differences(first: pd.Series, published: Published) -> list[str]:
    """Texts like `dataset digits (imagenet)`, ours before theirs, for what the source states and we did not do."""
    settings = {name: None if pd.isna(first.get(name)) else simplify(first[name]) for name in published.fixed}
    if first.get("dataset.limit", 0) > 0:
        settings["dataset.name"] = f"{settings['dataset.name']} limit={first['dataset.limit']:g}"
    heads = {name: labels.strip_prefix(name.removesuffix(".name")) for name in settings}
    return [
        f"{heads[name]} {labels.format_value(settings[name])} ({labels.format_value(value)})"
        for name, value in published.fixed.items()
        if settings[name] != value
    ]


def _judge(sweep: pd.DataFrame, published: Published, metric: str) -> list[str]:
    """The cells from `published` on; none where there is nothing to compare."""
    curve, axis = published.curve, published.curve.axis
    axis_values = list(dict.fromkeys(sweep[axis].map(simplify)))
    accuracies = dict(zip(curve.x, curve.y, strict=True))
    shared = [value for value in axis_values if value in accuracies]
    differing = _describe_differences(sweep.iloc[0], published)
    if len(shared) < min(3, len(accuracies)) and _goes_one_way(curve):
        # A text may be there.
        inside = [x for x in axis_values if not isinstance(x, str) and curve.x[0] <= x <= curve.x[-1]]
        if len(inside) < 2:
            return []
        ends = inside[0], inside[-1]
        values = "trend {} to {} ({} to {})".format(*map(labels.format_value, (*ends, curve.x[0], curve.x[-1])))
        counts = _compare_order(sweep, axis, list(ends), [curve.y[0], curve.y[-1]], metric)
    else:
        values = ", ".join(map(labels.format_value, shared))
        counts = _compare_order(sweep, axis, shared, [accuracies[value] for value in shared], metric)
    conditions = f"protocol differs: {', '.join(differing)}"
    if not differing:
        numbers = _compare_numbers(sweep, published, shared, metric)
        conditions = (
            f"the same; numbers: {numbers[0]} shown to be within 1 point of ours, {numbers[1]} beyond, {numbers[2]} "
            f"cannot be told; theirs: {curve.protocol}"
        )
        counts += numbers
    if not counts.any():
        return []
    agree, disagree, unclear = map(int, counts)
    verdict = "disagree" if disagree else "cannot be told" if not agree else "partly agree" if unclear else "agree"
    source = curve.source + ("" if curve.verified else ", unverified")
    return [source, values, str(agree), str(disagree), str(unclear), verdict, conditions]


def _goes_one_way(curve: Curve) -> bool:
    """Over numbers, from its lowest to its highest, and never back by as much as counts."""
    gaps = [after - before for before, after in itertools.combinations(curve.y, 2)]
    signs = {math.copysign(1, gap) for gap in gaps if _is_apart(gap)}
    return not isinstance(curve.x[0], str) and len(signs) == 1 and _is_apart(curve.y[-1] - curve.y[0])


def _is_apart(gap: float) -> bool:
    return abs(gap) > APART - 1e-9  # differences of decimals


def _compare_order(
    sweep: pd.DataFrame, axis: str, values: list[Any], published: list[float], metric: str
) -> np.ndarray:
    """(agree, disagree, cannot be told): the pairs of these values that the source sets apart."""
    axis_values = sweep[axis].map(simplify)
    part = sweep[axis_values.isin(values)]
    # In the order of the values, as the records are: one configuration a value.
    number = pd.Series(pd.factorize(axis_values[part.index])[0], part.index)
    draws, fixed = layout.read_values(part, number, metric)
    tests = significance.test_pairs(draws, fixed, *np.triu_indices(len(draws), 1))
    gaps = np.array([before - after for before, after in itertools.combinations(published, 2)])
    apart = np.array([_is_apart(gap) for gap in gaps], dtype=bool)
    significant = significance.holm(tests["p"].to_numpy()[apart]) < LEVEL
    same = np.sign(tests["difference"].to_numpy()[apart]) == np.sign(gaps[apart])
    return np.array([(significant & same).sum(), (significant & ~same).sum(), (~significant).sum()])


def _compare_numbers(sweep: pd.DataFrame, published: Published, shared: list[Any], metric: str) -> np.ndarray:
    """(within, beyond, cannot be told): the published numbers, against ours and the margin."""
    axis = published.curve.axis
    published_numbers = {
        x: (y, runs) for x, y, runs in zip(published.curve.x, published.curve.y, published.runs, strict=True)
    }
    images = layout.count_images(sweep, metric)
    # A seed run twice is one draw.
    statistics = sweep.groupby([axis, "seed"])[f"metrics.{metric}"].mean().groupby(axis).agg(["mean", "var", "count"])
    measured = statistics[statistics.index.map(simplify).isin(shared)]
    verdicts = [
        equivalence.judge(
            equivalence.Number(mean, variance, n), *published_numbers[simplify(value)], images, len(shared)
        )
        for value, mean, variance, n in measured.itertuples()
    ]
    return np.array([verdicts.count(verdict) for verdict in (equivalence.SAME, equivalence.OTHER, equivalence.UNTOLD)])
