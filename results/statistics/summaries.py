"""Records to one row a configuration: mean and 95 % interval over seeds, what failed, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from results.frames.frame import FAMILY, NOTES, TEST_SET, VERSIONS, families, setting_columns

CONFIDENCE = 0.95
_NULL = "null"


def summarise(frame: pd.DataFrame, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """One row for each protocol and combination of settings other than the seed, in order of first appearance.

    `frame` is what `frames.frame.load` returns; `metrics` are names without the prefix, by default all there are.
    Columns: `protocol`, the method's `family`, and the settings; `seeds` finished, `fixed` (the method does not depend
    on a seed), `failed`, `collapsed` and their reasons, `commits`, `folders`; `metrics.NAME.mean`, `.half_width` (of
    the 95 % t-interval, NaN below 2 seeds), `.sd` (ddof=1) and `.n`, as fractions; `cost.*`; `test.*`, of the first
    record that has it; `notes`, a list. Only finished records are averaged.
    """
    if metrics is None:
        metrics = [name.removeprefix("metrics.") for name in frame.columns if name.startswith("metrics.")]
    frame = frame.reset_index(drop=True)  # two loads may have been put together, each counting from 0
    group = configurations(frame)
    frame = frame.assign(**{FAMILY: families(frame)})  # two loads that were put together may not agree
    labels = frame.loc[~group.duplicated(), ["protocol", FAMILY, *setting_columns(frame)]]
    labels.index = pd.RangeIndex(len(labels))
    finished = frame[frame["status"] == "finished"]
    test = frame[[f"test.{name}" for name in TEST_SET]].groupby(group).first()
    notes = frame[[NOTES]].fillna("[]").groupby(group).agg(_unite)
    mixtures = _describe_mixtures(finished, group)
    notes[NOTES] = [said + mixtures.get(number, []) for number, said in notes[NOTES].items()]
    parts = [_counts(frame, group), _intervals(finished, group, metrics), _costs(finished, group), test, notes]
    summary = pd.concat([labels, *(part.reindex(labels.index) for part in parts)], axis=1)
    # A group with no finished record is missing from the parts: it has no mean, but it does have a count.
    counts = ["seeds", "failed", "collapsed", *(f"metrics.{name}.n" for name in metrics)]
    return summary.assign(**{name: summary[name].fillna(0).astype(int) for name in counts})


def _unite(notes: pd.Series) -> list[str]:
    """Each of the notes of several records once."""
    return list(dict.fromkeys(note for text in notes for note in json.loads(text)))


def _describe_mixtures(finished: pd.DataFrame, group: pd.Series) -> dict[Any, list[str]]:
    """Group -> notes on what differs among the runs of its mean and should change its numbers by rounding alone."""
    device = finished["cost.device"].astype(object).str.replace(r", \d+ threads$", "", regex=True)
    changed = finished["dirty"].map({True: "with uncommitted changes", False: "as committed"})
    methods = dict(zip(group.loc[finished.index], finished["method"], strict=True))
    notes: dict[Any, list[str]] = {}
    for what, column in {"versions": finished[VERSIONS], "devices": device, "states of the code": changed}.items():
        kinds = column.mask(column.eq("")).groupby(group)
        for number, text in kinds.agg(_join)[kinds.nunique() > 1].items():
            notes.setdefault(number, []).append(f"{methods[number]}: a mean over several {what}: {text}")
    return notes


def varying(frame: pd.DataFrame) -> list[str]:
    """The setting columns, `seed` apart, that tell the rows of `frame` (loaded or summarised) from each other.

    A setting that is null for a method does not apply to it, so null against a value counts within one method only.
    `options.*` and the version belong to their method and are compared within it: the method's name already tells its
    defaults.
    """
    methods = frame["method"].map(_canonical)
    names = []
    for name in setting_columns(frame):
        values = pd.Series(list(map(_canonical, frame[name])), index=frame.index, dtype=object)
        if len(set(values)) < 2:
            continue
        within = values.groupby(methods).nunique().gt(1).any()
        across = not name.startswith(("options.", "method_version")) and values[values != _NULL].nunique() > 1
        if within or across:
            names.append(name)
    return names


@lru_cache(maxsize=2**16, typed=True)  # a few values stand in thousands of rows; True is not 1
def _canonical(value: Any) -> str:
    """Text that is equal for equal settings, whatever type pandas chose (4096 and 4096.0, None and NaN)."""
    if pd.isna(value):
        return _NULL
    if isinstance(value, bool | np.bool_):
        return f"bool {bool(value)}"
    if isinstance(value, Real):
        return f"number {int(value) if isinstance(value, Integral) or float(value).is_integer() else float(value)!r}"
    return f"text {value}"


def configurations(frame: pd.DataFrame) -> pd.Series:
    """The number of each row's configuration: its protocol and all settings but the seed.

    Numbers count from 0 in order of first appearance; they stand on the frame's index.
    """
    # Not `groupby(columns, dropna=False)`: None, NaN and NA may stand in one column and must be one group.
    columns = frame[["protocol", *setting_columns(frame)]]
    rows = [tuple(map(_canonical, row)) for row in columns.itertuples(index=False, name=None)]
    codes, _ = pd.factorize(pd.Series(rows, dtype=object))
    return pd.Series(codes, index=frame.index, name="group")


def _intervals(finished: pd.DataFrame, group: pd.Series, metrics: Sequence[str]) -> pd.DataFrame:
    values = finished.reindex(columns=[f"metrics.{name}" for name in metrics]).astype(float)
    # Averaged within a seed first: a seed run twice is one draw, and must not narrow the interval.
    keys = [group.loc[values.index], finished["seed"].map(_canonical)]
    seeds = values.groupby(keys).mean().groupby(level=0)
    mean, sd, n = seeds.mean(), seeds.std(ddof=1), seeds.count()
    half_width = special.stdtrit(n.where(n > 1) - 1, (1 + CONFIDENCE) / 2) * sd / np.sqrt(n)
    columns: dict[str, pd.Series] = {}
    for name in values.columns:
        columns |= {f"{name}.mean": mean[name], f"{name}.half_width": half_width[name]}
        columns |= {f"{name}.sd": sd[name], f"{name}.n": n[name]}
    return pd.DataFrame(columns, index=mean.index)


def _counts(frame: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    seed = frame["seed"].map(_canonical)
    pairs = zip(frame["commit"], frame["dirty"], strict=True)
    commit = pd.Series(
        [None if pd.isna(sha) else str(sha)[:10] + ("+" if dirty is True else "") for sha, dirty in pairs],
        index=frame.index,
        dtype=object,
    )
    columns = {
        "seeds": seed[frame["status"] == "finished"].groupby(group).nunique(),
        "fixed": seed.eq(_NULL).groupby(group).all(),
    }
    for status in ("failed", "collapsed"):
        rows = frame[frame["status"] == status]
        columns[status] = rows["status"].groupby(group).count()
        columns[f"{status}_reasons"] = rows["reason"].groupby(group).agg(_join)
    columns["commits"] = commit.groupby(group).agg(_join)
    columns["folders"] = frame["folder"].groupby(group).agg(_join)
    return pd.DataFrame(columns)


def _costs(finished: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    """Typical time and speed, the largest memory, the views of one run, and every device used."""
    kinds = {
        "views": "mean",
        "seconds": "median",
        "evaluation_seconds": "median",
        "images_per_second": "median",
        "peak_memory_bytes": "max",
    }
    groups = finished.groupby(group.loc[finished.index])
    columns = {f"cost.{name}": groups[f"cost.{name}"].agg(kind) for name, kind in kinds.items()}
    many = finished["cost.processes"].gt(1)
    times = finished["cost.processes"].map("{:.0f} x ".format).where(many, "")
    columns["cost.devices"] = (times + finished["cost.device"].astype(object)).groupby(group).agg(_join)
    return pd.DataFrame(columns)


def _join(values: pd.Series) -> str:
    """The distinct texts, sorted: a set that a CSV file can hold."""
    return "; ".join(sorted({str(value) for value in values if pd.notna(value)}))
