"""Which configurations can be told apart: intervals, paired tests on shared seeds, ranks, and seeds still needed.

A configuration is what `summaries.summarise` gives a row: all settings but the seed. Only finished records count, and
only configurations of one protocol and dataset, a family, are compared. Values are fractions as in the records,
intervals are 95 %, tests are two-sided at 5 %. What varies is the seed: nothing is said about another test set.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from results.frames import labels
from results.statistics import significance
from results.statistics.significance import LEVEL, MOST_SEEDS, ROUNDING
from results.statistics.summaries import CONFIDENCE, configurations

# Seeds. With fewer the bootstrap is far too narrow: on normal values BCa covers 91 % at 10, 92 % at 20, t 95 %.
BOOTSTRAP_FROM = 30
_FAMILY = ["protocol", "dataset"]
_NO_SEED = math.inf


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


def intervals(frame: pd.DataFrame, metric: str = "linear_top1") -> pd.DataFrame:
    """A row a configuration: `protocol`, `dataset`, `configuration`, `n` seeds, `mean`, `low`, `high`, `interval`.

    `frame` is what `frames.frame.load` returns. `interval` says how `low` and `high` were made: "t" below 30 seeds,
    else "bootstrap" (BCa: Efron 1987, by `scipy.stats.bootstrap`), or "none: " and why they are NaN. A fixed method,
    one that does not depend on the seed, has n = 1. `row` is the configuration's row in `summaries.summarise`.
    Raises ValueError for a metric that no record has.
    """
    return pd.concat([_intervals(family) for family in _families(frame, metric)], ignore_index=True)


def compare_pairs(frame: pd.DataFrame, reference: str | None = None, metric: str = "linear_top1") -> pd.DataFrame:
    """A row a comparison: each configuration minus the reference, or every pair where no reference is given.

    Columns: `protocol`, `dataset`, `configuration`, `reference`; `n` shared seeds; `difference`, the mean over them,
    its `low`, `high` and `sd`; `p`; `p_corrected`, Holm's over the tests of the family; `significant`, by the latter;
    `note`, why there is no test. `low` to `high` is the interval of this one difference, not corrected.
    The test is Student's: paired over shared seeds, one-sample against a fixed method.
    `reference` is a text of the column `configuration`, or a method that has one configuration in a family; a family
    without it is left out. Raises ValueError for a reference that is in no family, or is ambiguous.
    """
    families = list(_families(frame, metric))
    if reference is None:
        return pd.concat([_tests(family) for family in families], ignore_index=True)
    places = [(family, _place(reference, family)) for family in families]
    tests = [_tests(family, place) for family, place in places if place is not None]
    if not tests:
        raise ValueError(_unknown("reference", reference, [label for family in families for label in family.labels]))
    return pd.concat(tests, ignore_index=True)


def ranks(frame: pd.DataFrame, metric: str = "linear_top1") -> pd.DataFrame:
    """The rows of `intervals`, in each family from the highest mean, with `best`, `worst`, `rank` and `note`.

    `best` is 1 + the number of configurations that are significantly better, `worst` the number ranked less those
    that are significantly worse, by `compare_pairs` over all pairs; `rank` is the two as text, "2" or "1-3". All
    true ranks of a family lie within them in 95 % of studies (Mogstad, Romano, Shaikh and Wilhelm, Inference for Ranks,
    Review of Economic Studies 2024, doi 10.1093/restud/rdad006). Higher is better.
    Only what could be tested against another is ranked; `note` says why the others are not.
    """
    return pd.concat([_ranks(family) for family in _families(frame, metric)], ignore_index=True)


def seeds_needed(
    frame: pd.DataFrame, reference: str | None = None, metric: str = "linear_top1", power: float = 0.8
) -> pd.DataFrame:
    """The tests of `compare_pairs` that are not significant, with `level` and `seeds`: how many in all, not how many
    more, would show the observed difference at the observed sd with this power; `math.inf` beyond `MOST_SEEDS`.

    The power of the two-sided t-test by the noncentral t (Cohen 1988, Statistical Power Analysis for the Behavioral
    Sciences, ch. 2), at `level`: Bonferroni's, 5 % over the tests of the family, than which Holm's is never stricter.
    A difference seen in a few seeds is itself uncertain, and so is this number.
    """
    tests = compare_pairs(frame, reference, metric)
    tests = tests[tests["p"].notna()]
    tests = tests.assign(level=LEVEL / tests.groupby(_FAMILY)["p"].transform("size"))
    tests = tests[~tests["significant"]].reset_index(drop=True)
    effects = tests["difference"] / tests["sd"]
    return tests.assign(seeds=[significance.seeds(*pair, power) for pair in zip(effects, tests["level"], strict=True)])


def rows(
    frame: pd.DataFrame,
    reference: str | None = None,
    metric: str = "linear_top1",
    ranked: pd.DataFrame | None = None,
) -> list[list[str]]:
    """The comparison of an accuracy as rows of text under a header, in percent; none where there are no records.

    `ranked` is what `ranks` returned for the same metric, where it has been made already.

    Ranks are corrected over all pairs, differences to the `reference` over the fewer comparisons with it: a
    difference can be significant while the ranks overlap.
    """
    table = ranks(frame, metric) if ranked is None else ranked
    if table.empty:
        return []
    cells: dict[str, Any] = {"dataset": table["dataset"], "protocol": table["protocol"].str[:8]}
    cells = {name: column for name, column in cells.items() if table[name].nunique() > 1}
    cells |= {"configuration": table["configuration"], "seeds": table["n"].astype(str)}
    cells |= {f"{metric} %": _percents(table, "mean", 0), "rank": table["rank"]}
    notes = [table["interval"].replace("t", "").str.removeprefix("none: "), _cuts(table, 0), table["note"]]
    if reference is not None:
        keys = [*_FAMILY, "configuration"]
        needed = seeds_needed(frame, reference, metric)[[*keys, "seeds"]]
        to = table[keys].merge(compare_pairs(frame, reference, metric), "left").merge(needed, "left")
        cells[f"minus {reference}"] = _percents(to, "difference", -100, "+")
        cells["p (Holm)"] = [_number(p, ".2g") for p in to["p_corrected"]]
        cells["seeds needed"] = [_number(seeds, ".0f").replace("inf", f">{MOST_SEEDS}") for seeds in to["seeds"]]
        notes += [_cuts(to, -100), to["note"].fillna("")]
    cells["note"] = ["; ".join(dict.fromkeys(filter(None, texts))) for texts in zip(*notes, strict=True)]
    return [list(cells), *pd.DataFrame(cells).to_numpy().tolist()]


def _families(frame: pd.DataFrame, metric: str) -> Iterator[_Family]:
    """The families in order of first appearance; one without configurations where there are no records."""
    known = [name.removeprefix("metrics.") for name in frame.columns if name.startswith("metrics.")]
    if known and metric not in known:
        raise ValueError(_unknown("metric", metric, known))
    if frame.empty:
        yield _Family("", "", [], [], np.empty((0, 0)), np.empty(0, dtype=bool), [])
        return
    frame = frame.reset_index(drop=True)  # two loads may have been put together, each counting from 0
    number = configurations(frame)
    values, fixed = draws(frame, number, metric)
    keys = frame.reindex(columns=["protocol", "dataset.name"]).astype(object).fillna("")
    for _, part in frame.groupby([keys["protocol"], keys["dataset.name"]], sort=False):
        first = part[~number[part.index].duplicated()]
        own, named = number[first.index], labels.names(first)
        protocol, dataset = keys.loc[part.index[0]]
        yield _Family(protocol, dataset, first["method"].tolist(), named, values[own], fixed[own], own.tolist())


def draws(frame: pd.DataFrame, number: pd.Series, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """What `significance.test_pairs` takes: (configurations, seeds) values, and which of them are fixed.

    `number` is each row's configuration, from 0.
    """
    value = frame.reindex(columns=[f"metrics.{metric}"]).iloc[:, 0].where(frame["status"] == "finished").astype(float)
    # By their places: as floats large seeds would be the same.
    places = {seed: place for place, seed in enumerate(sorted(set(frame["seed"].dropna())))}
    seed = frame["seed"].map(places).astype(float).fillna(_NO_SEED)
    # A seed run twice is one draw: averaged first, as in `summarise`.
    table = value.groupby([number, seed]).mean().unstack()
    once = table.reindex(columns=[_NO_SEED]).to_numpy()
    fixed = ~np.isnan(once[:, 0]) & (table.count(axis=1) == 1)
    return np.where(fixed.to_numpy()[:, None], once, table), fixed.to_numpy()


def _intervals(family: _Family) -> pd.DataFrame:
    lines = []
    columns = (family.labels, family.values, family.fixed, family.rows)
    for label, values, fixed, row in zip(*columns, strict=True):
        draws = values[~np.isnan(values)][: 1 if fixed else None]
        mean = draws.mean() if len(draws) else math.nan
        lines.append((family.protocol, family.dataset, label, len(draws), mean, *_interval(draws, fixed), row))
    return pd.DataFrame(lines, columns=[*_FAMILY, "configuration", "n", "mean", "low", "high", "interval", "row"])


def _interval(draws: np.ndarray, fixed: bool) -> tuple[float, float, str]:
    """(low, high, how) of the mean."""
    from scipy import special

    if fixed:
        return math.nan, math.nan, "none: fixed"
    if len(draws) < 2:
        return math.nan, math.nan, "none: one seed" if len(draws) else "none: no finished run"
    if np.ptp(draws) <= ROUNDING:
        return math.nan, math.nan, "none: the same in every seed"
    if len(draws) < BOOTSTRAP_FROM:
        half = special.stdtrit(len(draws) - 1, (1 + CONFIDENCE) / 2) * draws.std(ddof=1) / math.sqrt(len(draws))
        return draws.mean() - half, draws.mean() + half, "t"
    from scipy import stats  # which takes long to import

    rng = np.random.default_rng(0)
    result = stats.bootstrap((draws,), np.mean, confidence_level=CONFIDENCE, method="BCa", random_state=rng)
    return *result.confidence_interval, "bootstrap"


def _tests(family: _Family, reference: int | None = None) -> pd.DataFrame:
    """The rows of `compare_pairs` for one family, against the configuration at this place or of all pairs."""
    places = np.arange(len(family.labels))
    if reference is None:
        left, right = np.triu_indices(len(places), 1)
    else:
        left = places[places != reference]
        right = np.full_like(left, reference)
    named = np.array(family.labels, dtype=object)
    tests = significance.test_pairs(family.values, family.fixed, left, right)
    columns: dict[str, Any] = {"protocol": family.protocol, "dataset": family.dataset}
    return tests.assign(**columns, configuration=named[left], reference=named[right])[
        [*_FAMILY, "configuration", "reference", *tests.columns]
    ]


def _ranks(family: _Family) -> pd.DataFrame:
    table = _intervals(family)
    # Pairs grow with the square: a sweep of single seeds, of which none can be tested, has a million of them. Of the
    # others there may be many too, so that they are counted by their place and not by their label.
    able = np.flatnonzero(family.fixed | (np.count_nonzero(~np.isnan(family.values), axis=1) > 1))
    left, right = (able[side] for side in np.triu_indices(len(able), 1))
    tests = significance.test_pairs(family.values, family.fixed, left, right)
    tested, significant = tests["p"].notna().to_numpy(), tests["significant"].to_numpy()
    first = tests["difference"].gt(0).to_numpy()
    ranked = np.bincount(np.concatenate([left[tested], right[tested]]), minlength=len(table)) > 0
    winners, losers = np.where(first, left, right)[significant], np.where(first, right, left)[significant]
    best = 1 + pd.Series(np.bincount(losers, minlength=len(table)), index=table.index)
    worst = ranked.sum() - pd.Series(np.bincount(winners, minlength=len(table)), index=table.index)
    text = best.astype(str).where(best == worst, best.astype(str) + "-" + worst.astype(str))
    few = table["n"].lt(2) & ~family.fixed
    why = table["interval"].str.removeprefix("none: ").where(few, "no test against another")
    table = table.assign(best=best.astype("Int64").where(ranked), worst=worst.astype("Int64").where(ranked))
    table = table.assign(rank=text.where(ranked, labels.NONE), note=why.where(~ranked, ""))
    return table.sort_values("mean", ascending=False, kind="stable")


def _place(reference: str, family: _Family) -> int | None:
    """Where the reference stands in the family, by its label or by its method."""
    names = family.labels if reference in family.labels else family.methods
    places = [place for place, name in enumerate(names) if name == reference]
    if len(places) > 1:
        choices = ", ".join(family.labels[place] for place in places)
        raise ValueError(f"reference {reference!r} is ambiguous: give one of {choices}")
    return places[0] if places else None


def _unknown(what: str, text: str, known: Sequence[str]) -> str:
    near = "".join(f"; nearest: {name}" for name in difflib.get_close_matches(text, known, 1))
    return f"no {what} {text!r}; there are: {', '.join(dict.fromkeys(known))}{near}"


def _percents(table: pd.DataFrame, name: str, least: float, sign: str = "") -> list[str]:
    """Texts like `+1.2 (0.3 to 2.1)` of the fractions in the columns `name`, `low` and `high`.

    An interval of Student's t can reach beyond what an accuracy can be. It is cut at `least` and 100, which leaves out
    nothing that the true mean could be.
    """
    triples = 100 * table[[name, "low", "high"]].to_numpy(dtype=float)
    return [
        _number(value, f"{sign}z.1f")
        + ("" if math.isnan(low) else f" ({max(low, least):z.1f} to {min(high, 100):z.1f})")
        for value, low, high in triples
    ]


def _cuts(table: pd.DataFrame, least: float) -> list[str]:
    """Where `_percents` cut each interval, "" where it did not."""
    what = "difference's interval" if least < 0 else "interval"
    ends = zip(100 * table["low"] < least, 100 * table["high"] > 100, strict=True)
    cut = [[f"{end:g}" for end, beyond in ((least, low), (100, high)) if beyond] for low, high in ends]
    return [f"{what} cut at {' and '.join(places)}" if places else "" for places in cut]


def _number(value: float, form: str) -> str:
    return labels.NONE if math.isnan(value) else format(value, form)
