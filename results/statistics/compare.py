"""Which configurations can be told apart: intervals, tests over seeds, ranks, and seeds still needed.

A configuration is what `summaries.summarise` gives a row: all settings but the seed. Only finished records count, and
only configurations of one protocol and dataset, a family, are compared. Values are fractions as in the records,
intervals are 95 %, tests are two-sided at 5 %. All are by the variance that the family shares (`moderated`), beside
which stand Student's tests that assume nothing of it. What varies is the seed, and where records hold which test images
were right, the images (`crossed`): then what is claimed is claimed for new seeds and new images.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from results.frames import labels
from results.statistics import crossed, groups, inference, layout, moderated, significance
from results.statistics.moderated import LEVEL
from results.statistics.summaries import number_configurations

_FAMILY = ["protocol", "dataset"]
MOST_JOINED = 60  # of the best, whose sets that cannot be told apart are looked for
SHARED, TWO_SEEDS = "shared", "shared, two seeds"  # how an interval was made
FIXED = "fixed: images only"
NONE, IMAGES = "none: ", "images only: "  # before the reason
BOTH, SEEDS = "seeds and images", "seeds"  # what an interval is over
SAME = ("the same in every seed", "the same difference in every seed")  # of one value, and from others


class _Family(NamedTuple):
    """The configurations of one protocol and dataset."""

    protocol: str
    dataset: str
    methods: list[str]
    labels: list[str]
    # (configurations, seeds): the metric, NaN where no run finished. A fixed method's one value stands in every column.
    values: np.ndarray
    fixed: np.ndarray  # (configurations,): the method does not depend on the seed
    rows: list[int]  # of the configurations in `summaries.summarise`
    images: float  # of the test set, NaN where that is not known
    outcomes: layout.Outcomes | None  # which of them were right
    bounds: tuple[float, float]  # of the metric

    def fit(self) -> moderated.Fit:
        return crossed.fit(self.values, self.fixed, self.images, self.outcomes)

    def count_seeds(self) -> np.ndarray:
        """(configurations,): finished seeds; one of a fixed method."""
        return np.where(self.fixed, 1, (~np.isnan(self.values)).sum(axis=1))


def compute_intervals(frame: pd.DataFrame, metric: str = "linear_top1") -> pd.DataFrame:
    """A row a configuration: `protocol`, `dataset`, `configuration`, `n` seeds, `mean`, `low`, `high`, `interval`.

    `frame` is what `frames.frame.load` returns. `mean` is on a common footing: by least squares of configuration plus
    seed, over all seeds that are connected; `own` is the mean of its own seeds. `low` to `high` is the interval of this
    one mean, `joint_low` to `joint_high` that of all at once, which holds for the best too; `inference.place_ends`.
    `interval` says how they were made: "shared", by the variance that configurations share; "shared, two seeds", where
    that rests on comparable spreads; "t", of one or two configurations; "images only: " and why, or `FIXED`; or
    "none: " and why they are NaN. `over` says what they are over, `BOTH`, `SEEDS` or neither; `by_seeds`
    and `by_images` are half of the intervals by each alone. A fixed method, one that does not depend on the seed, has
    n = 1. `wide`: its seeds spread far more than others'. `row`: as in `summaries.summarise`. Raises ValueError for a
    metric that no record has.
    """
    return pd.concat(
        [_tabulate_intervals(family, family.fit()) for family in _group_families(frame, metric)], ignore_index=True
    )


def compare_pairs(frame: pd.DataFrame, reference: str | None = None, metric: str = "linear_top1") -> pd.DataFrame:
    """A row a comparison: each configuration minus the reference, or every pair where no reference is given.

    Columns: `protocol`, `dataset`, `configuration`, `reference`; `n` shared seeds; `difference`, of the means on a
    common footing, its `low` and `high`, which hold for all these comparisons at once, `by_seeds` and `by_images`, half
    of its own interval by each alone, and `sd`, what it errs by in one seed; `p_adjusted` and `significant` by the
    shared variance and the images, corrected for all of them; `p` and `p_holm`, Student's test of the differences in
    shared seeds and Holm's correction, which assume nothing of other configurations; `note`, why there is no test.
    Without a test `low` and `high` are by the images alone, and of this difference alone, and `note` says so.
    `reference` is a text of the column `configuration`, or a method that has one configuration in a family; a family
    without it is left out. Raises ValueError for a reference that is in no family, or is ambiguous.
    """
    families = list(_group_families(frame, metric))
    if reference is None:
        return pd.concat([_tabulate_tests(family) for family in families], ignore_index=True)
    references = [(family, _find_reference(reference, family)) for family in families]
    tests = [_tabulate_tests(family, number) for family, number in references if number is not None]
    if not tests:
        raise ValueError(
            _describe_unknown("reference", reference, [label for family in families for label in family.labels])
        )
    return pd.concat(tests, ignore_index=True)


def rank_configurations(frame: pd.DataFrame, metric: str = "linear_top1") -> pd.DataFrame:
    """The rows of `compute_intervals`, in each family from the highest mean, with `best`, `worst`, `rank`, `joined`,
    `note`.

    `best` is 1 + the number of configurations that are significantly better, `worst` the number ranked less those
    that are significantly worse, by `compare_pairs` over all pairs; `rank` is the two as text, "2" or "1-3". All
    true ranks of a family lie within them in 95 % of studies (Mogstad, Romano, Shaikh and Wilhelm, Inference for Ranks,
    Review of Economic Studies 2024, doi 10.1093/restud/rdad006). Higher is better. `joined` are the numbers of the
    sets that cannot be told apart and hold the configuration, among the `MOST_JOINED` best.
    Only what could be tested against another is ranked; `note` says why the others are not.
    """
    return pd.concat([_tabulate_ranks(family) for family in _group_families(frame, metric)], ignore_index=True)


def count_seeds_needed(tests: pd.DataFrame, power: float = 0.8) -> pd.DataFrame:
    """The `tests` that `compare_pairs` returned and that are not significant, with `level` and `seeds`: how many in
    all, not how many more, would show the observed difference at its sd with this power; `math.inf` beyond
    `MOST_SEEDS`.

    By a t-test whose variance all configurations estimate, at `level`: 5 % over the tests of the family. More seeds
    leave what the test images are uncertain by as it is, so that no number of them may be enough. A difference
    that is not significant is uncertain, and so is this number: `least` and `most` are it at the ends of the
    difference's own 95 % interval, `most` infinite where that holds none.
    """
    tests = tests[tests["sd"].gt(0)]
    tests = tests.assign(level=LEVEL / tests.groupby(_FAMILY)["sd"].transform("size"))
    tests = tests[~tests["significant"]].reset_index(drop=True)
    size, sd = tests["difference"].abs(), tests["sd"]
    columns = {"seeds": size, "least": size + tests["half"], "most": (size - tests["half"]).clip(lower=0)}
    for name, differences in columns.items():
        rows = zip(differences / sd, tests["level"], tests["sharing"], tests["images_variance"] / sd**2, strict=True)
        columns[name] = pd.Series(
            [
                significance.count_seeds(effect, level, power, sharing, images)
                for effect, level, sharing, images in rows
            ],
            dtype=float,
        )
    return tests.assign(**columns)


def _group_families(frame: pd.DataFrame, metric: str) -> Iterator[_Family]:
    """The families in order of first appearance; one without configurations where there are no records."""
    metrics = [name.removeprefix("metrics.") for name in frame.columns if name.startswith("metrics.")]
    if metrics and metric not in metrics:
        raise ValueError(_describe_unknown("metric", metric, metrics))
    bounds = layout.find_bounds(metric)
    if frame.empty:
        yield _Family("", "", [], [], np.empty((0, 0)), np.empty(0, dtype=bool), [], math.nan, None, bounds)
        return
    frame = frame.reset_index(drop=True)  # two loads may have been put together, each counting from 0
    number = number_configurations(frame)
    values, fixed = layout.read_values(frame, number, metric)
    keys = frame.reindex(columns=["protocol", "dataset.name"]).astype(object).fillna("")
    for _, part in frame.groupby([keys["protocol"], keys["dataset.name"]], sort=False):
        first = part[~number[part.index].duplicated()]
        numbers, names = number[first.index], labels.name_configurations(first)
        columns = first["method"].tolist(), names, values[numbers], fixed[numbers], numbers.tolist()
        protocol, dataset = keys.loc[part.index[0]]
        images = layout.count_images(part, metric), layout.read_outcomes(part, number[part.index], metric)
        yield _Family(protocol, dataset, *columns, *images, bounds)


def _tabulate_intervals(family: _Family, model: moderated.Fit) -> pd.DataFrame:
    n = family.count_seeds()
    columns: dict[str, Any] = {"protocol": family.protocol, "dataset": family.dataset, "configuration": family.labels}
    own_means = [row[~np.isnan(row)].mean() if count else math.nan for row, count in zip(family.values, n, strict=True)]
    columns |= {"n": n, "mean": model.means, "own": np.array(own_means, dtype=float)}
    widths, images_known, tested = inference.compute_half_widths(model), inference.knows_images(model), model.part >= 0
    joint_images = widths.images * widths.joint / widths.whole
    for prefix, half, images in (("", widths.whole, widths.images), ("joint_", widths.joint, joint_images)):
        low, high = inference.place_ends(model.means, half, images, family.bounds)
        columns |= {f"{prefix}low": low, f"{prefix}high": high}
    spread = np.nan_to_num(
        [np.ptp(row[~np.isnan(row)]) if count else 0 for row, count in zip(family.values, n, strict=True)]
    )
    reasons = [family.fixed, n == 0, n == 1, spread <= moderated.ROUNDING]
    reason = np.select(reasons, ["fixed", "no finished run", "one seed", SAME[0]], SAME[1])
    reason = np.char.add(np.where(images_known, IMAGES, NONE), reason)
    cases = [images_known & family.fixed, ~tested, model.shared & (n == 2), model.shared]
    kinds = np.select(cases, [FIXED, reason, TWO_SEEDS, SHARED], "t")
    columns |= {"interval": kinds.astype(object), "wide": model.wide, "row": np.array(family.rows, dtype=int)}
    columns |= {"over": np.select([tested & images_known, tested], [BOTH, SEEDS], "").astype(object)}
    columns |= {"by_seeds": widths.seeds, "by_images": widths.images}
    return pd.DataFrame(columns, index=range(len(n)))


def _tabulate_tests(family: _Family, reference: int | None = None) -> pd.DataFrame:
    """The rows of `compare_pairs` for one family, against the configuration at this place or of all pairs; and what
    `count_seeds_needed` takes: `half`, of each difference's own interval, `images_variance` and `sharing`."""
    numbers = np.arange(len(family.labels))
    if reference is None:
        left, right = np.triu_indices(len(numbers), 1)
    else:
        left = numbers[numbers != reference]
        right = np.full_like(left, reference)
    names, model, n = np.array(family.labels, dtype=object), family.fit(), family.count_seeds()
    shared, widths = inference.test_pairs(model, left, right), inference.compute_pair_widths(model, left, right)
    paired = significance.test_pairs(family.values, family.fixed, left, right)
    fewest = np.minimum(*(np.where(family.fixed, n.max(initial=0), n)[side] for side in (left, right)))
    columns: dict[str, Any] = {"protocol": family.protocol, "dataset": family.dataset}
    columns |= {"configuration": names[left], "reference": names[right], "n": paired["n"]}
    images_alone = ~shared["tested"] & ~np.isnan(widths.images)  # the images are all that is known
    # Of the same weights: of the seeds that both have.
    difference = shared["difference"].where(~images_alone, _subtract_shared(family.values, left, right))
    ends = {"low": difference - widths.images, "high": difference + widths.images}
    columns |= {"difference": difference}
    columns |= {name: shared[name].where(~images_alone, end) for name, end in ends.items()}
    columns |= {"by_seeds": widths.seeds, "by_images": widths.images}
    columns |= {"sd": np.sqrt(shared["seeds_variance"] * fewest), "p": paired["p"], "p_holm": paired["p_holm"]}
    columns |= {name: shared[name] for name in ("p_adjusted", "significant")}
    exact = family.fixed[left] & family.fixed[right] & np.isnan(widths.images)
    note = paired["note"].where(~images_alone, IMAGES + paired["note"])
    columns["note"] = note.where(~shared["tested"], np.where(exact, "both are fixed: exact", ""))
    columns["half"], columns["sharing"] = widths.whole, max(1, (model.part >= 0).sum() - 1)
    columns["images_variance"] = shared["images_variance"].fillna(0)
    return pd.DataFrame(columns, index=range(len(left)))


def _subtract_shared(values: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Mean differences over the seeds that both have; of the means where they have none in common."""
    gaps = values[left] - values[right]
    counts = (~np.isnan(gaps)).sum(axis=1)
    sums = np.nansum(gaps, axis=1)
    mean_gaps = np.array([_average(row) for row in values[left]]) - np.array([_average(row) for row in values[right]])
    return np.where(counts > 0, sums / np.maximum(counts, 1), mean_gaps)


def _average(row: np.ndarray) -> float:
    return float(row[~np.isnan(row)].mean()) if not np.isnan(row).all() else math.nan


def _tabulate_ranks(family: _Family) -> pd.DataFrame:
    model = family.fit()
    table = _tabulate_intervals(family, model)
    # Pairs grow with the square: a sweep of single seeds, of which none can be tested, has a million of them. Of the
    # others there may be many too, so that they are counted by their place and not by their label.
    testable = np.flatnonzero(model.part != moderated.UNTESTED)
    left, right = (testable[side] for side in np.triu_indices(len(testable), 1))
    tests = inference.test_pairs(model, left, right)
    tested, significant = tests["tested"].to_numpy(), tests["significant"].to_numpy()
    left_is_better = tests["difference"].gt(0).to_numpy()
    ranked = np.bincount(np.concatenate([left[tested], right[tested]]), minlength=len(table)) > 0
    winners, losers = (
        np.where(left_is_better, left, right)[significant],
        np.where(left_is_better, right, left)[significant],
    )
    best = 1 + pd.Series(np.bincount(losers, minlength=len(table)), index=table.index)
    worst = ranked.sum() - pd.Series(np.bincount(winners, minlength=len(table)), index=table.index)
    text = best.astype(str).where(best == worst, best.astype(str) + "-" + worst.astype(str))
    reason = table["interval"].str.removeprefix(NONE)
    reason = reason.where(table["n"].lt(2) & ~family.fixed, "no test against another")
    table = table.assign(best=best.astype("Int64").where(ranked), worst=worst.astype("Int64").where(ranked))
    table = table.assign(rank=text.where(ranked, labels.NONE), note=reason.where(~ranked, ""))
    table = table.sort_values("mean", ascending=False, kind="stable")
    top = [row for row in table.index if ranked[row]][:MOST_JOINED]
    order = {row: number for number, row in enumerate(top)}
    apart = [(order[a], order[b]) for a, b in zip(winners, losers, strict=True) if a in order and b in order]
    sets = groups.join(len(top), apart) if top else []
    joined = {row: tuple(i for i, members in enumerate(sets) if order[row] in members) for row in top}
    return table.assign(joined=pd.Series({row: joined.get(row, ()) for row in table.index}, dtype=object))


def _find_reference(reference: str, family: _Family) -> int | None:
    """Where the reference stands in the family, by its label or by its method."""
    names = family.labels if reference in family.labels else family.methods
    numbers = [number for number, name in enumerate(names) if name == reference]
    if len(numbers) > 1:
        choices = ", ".join(family.labels[number] for number in numbers)
        raise ValueError(f"reference {reference!r} is ambiguous: give one of {choices}")
    return numbers[0] if numbers else None


def _describe_unknown(kind: str, text: str, names: Sequence[str]) -> str:
    nearest = "".join(f"; nearest: {name}" for name in difflib.get_close_matches(text, names, 1))
    return f"no {kind} {text!r}; there are: {', '.join(dict.fromkeys(names))}{nearest}"
