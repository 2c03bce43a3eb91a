"""Records to one row a configuration: mean and 95 % interval over seeds, what failed, and what it cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from results.frames.frame import FAMILY, NOT_FINISHED, NOTES, TEST_SET, VERSIONS, find_families, find_settings
from results.statistics import crossed, inference, layout

_NULL = "null"


def summarise(frame: pd.DataFrame, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """One row for each protocol and combination of settings other than the seed, in order of first appearance.

    `frame` is what `frames.frame.load` returns; `metrics` are names without the prefix, by default all there are.
    Columns: `protocol`, the method's `family`, and the settings; `seeds` finished, `fixed` (the method does not depend
    on a seed), `failed`, `collapsed`, `stopped`, their reasons, `commits`, `folders`; `metrics.NAME.mean` (on a common
    footing where seeds are missing), `.half_width` of the 95 % interval, `.by_seeds` and `.by_images`, what each alone
    makes of it, all by `crossed.fit` and NaN where there is none, `.shared`, 1 where its variance is what
    configurations share, `.sd` (ddof=1) and `.n`, as fractions; `cost.*`; `test.*`, of the first record that has it;
    `notes`, a list. Only finished records are averaged.
    """
    if metrics is None:
        metrics = [name.removeprefix("metrics.") for name in frame.columns if name.startswith("metrics.")]
    frame = frame.reset_index(drop=True)  # two loads may have been put together, each counting from 0
    group = number_configurations(frame)
    frame = frame.assign(**{FAMILY: find_families(frame)})  # two loads that were put together may not agree
    labels = frame.loc[~group.duplicated(), ["protocol", FAMILY, *find_settings(frame)]]
    labels.index = pd.RangeIndex(len(labels))
    finished = frame[frame["status"] == "finished"]
    test = frame[[f"test.{name}" for name in TEST_SET]].groupby(group).first()
    notes = frame[[NOTES]].fillna("[]").groupby(group).agg(_unite)
    mixtures = _describe_mixtures(finished, group)
    notes[NOTES] = [data_notes + mixtures.get(number, []) for number, data_notes in notes[NOTES].items()]
    parts = [
        _count(frame, group),
        _compute_intervals(frame, group, metrics),
        _summarise_costs(finished, group),
        test,
        notes,
    ]
    summary = pd.concat([labels, *(part.reindex(labels.index) for part in parts)], axis=1)
    # A group with no finished record is missing from the parts: it has no mean, but it does have a count.
    counts = ["seeds", *NOT_FINISHED, *(f"metrics.{name}.n" for name in metrics)]
    whole = {name: summary[name].fillna(0).astype(int) for name in counts}
    return summary.assign(**whole).copy()  # in one piece: pandas warns of adding a column to hundreds of them


def _unite(notes: pd.Series) -> list[str]:
    """Each of the notes of several records once."""
    return list(dict.fromkeys(note for text in notes for note in json.loads(text)))


def _describe_mixtures(finished: pd.DataFrame, group: pd.Series) -> dict[Any, list[str]]:
    """Group -> notes on what differs among the runs of its mean and should change its numbers by rounding alone."""
    device = finished["cost.device"].astype(object).str.replace(r", \d+ threads$", "", regex=True)
    changed = finished["dirty"].map({True: "with uncommitted changes", False: "as committed"})
    methods = dict(zip(group.loc[finished.index], finished["method"], strict=True))
    notes: dict[Any, list[str]] = {}
    for kind, column in {"versions": finished[VERSIONS], "devices": device, "states of the code": changed}.items():
        kinds = column.mask(column.eq("")).groupby(group)
        for number, text in kinds.agg(_join)[kinds.nunique() > 1].items():
            notes.setdefault(number, []).append(f"{methods[number]}: a mean over several {kind}: {text}")
    return notes


def find_varying(frame: pd.DataFrame) -> list[str]:
    """The setting columns, `seed` apart, that tell the rows of `frame` (loaded or summarised) from each other.

    A setting that is null for a method does not apply to it, so null against a value counts within one method only.
    `options.*` and the version belong to their method and are compared within it: the method's name already tells its
    defaults.
    """
    methods = frame["method"].map(_canonicalise)
    names = []
    for name in find_settings(frame):
        values = pd.Series(list(map(_canonicalise, frame[name])), index=frame.index, dtype=object)
        if len(set(values)) < 2:
            continue
        within = values.groupby(methods).nunique().gt(1).any()
        across = not name.startswith(("options.", "method_version")) and values[values != _NULL].nunique() > 1
        if within or across:
            names.append(name)
    return names


@lru_cache(maxsize=2**16, typed=True)  # a few values stand in thousands of rows; True is not 1
def _canonicalise(value: Any) -> str:
    """Text that is equal for equal settings, whatever type pandas chose (4096 and 4096.0, None and NaN)."""
    if pd.isna(value):
        return _NULL
    if isinstance(value, bool | np.bool_):
        return f"bool {bool(value)}"
    if isinstance(value, Real):
        number = int(value) if isinstance(value, Integral) else float(value)
        return f"number {int(number) if isinstance(number, int) or number.is_integer() else number!r}"
    return f"text {value}"


def number_configurations(frame: pd.DataFrame) -> pd.Series:
    """The number of each row's configuration: its protocol and all settings but the seed.

    Numbers count from 0 in order of first appearance; they stand on the frame's index.
    """
    # Not `groupby(columns, dropna=False)`: None, NaN and NA may stand in one column and must be one group.
    columns = frame[["protocol", *find_settings(frame)]]
    rows = [tuple(map(_canonicalise, row)) for row in columns.itertuples(index=False, name=None)]
    codes, _ = pd.factorize(pd.Series(rows, dtype=object))
    return pd.Series(codes, index=frame.index, name="group")


def _compute_intervals(frame: pd.DataFrame, group: pd.Series, metrics: Sequence[str]) -> pd.DataFrame:
    columns: dict[str, np.ndarray] = {}
    data = frame.reindex(columns=["protocol", "dataset.name"]).astype(object).fillna("")
    parts = [part for _, part in frame.groupby([data["protocol"], data["dataset.name"]], sort=False)]
    for name in metrics:
        values, fixed = layout.read_values(frame, group, name)
        mean, half_width, by_seeds, by_images, sd = np.full((5, len(values)), np.nan)
        n, shared = np.where(fixed, 1, (~np.isnan(values)).sum(axis=1)), np.zeros(len(values), dtype=int)
        for part in parts:
            members = group[part.index].unique()
            outcomes = layout.read_outcomes(part, group[part.index], name)
            model = crossed.fit(values[members], fixed[members], layout.count_images(part, name), outcomes)
            mean[members], shared[members], widths = model.means, model.shared, inference.compute_half_widths(model)
            half_width[members], by_seeds[members], by_images[members] = widths.whole, widths.seeds, widths.images
        sd[n > 1] = np.nanstd(values[n > 1], axis=1, ddof=1)
        numbers = {"mean": mean, "half_width": half_width, "by_seeds": by_seeds, "by_images": by_images}
        numbers |= {"shared": shared, "sd": sd, "n": n}
        columns |= {f"metrics.{name}.{part}": column for part, column in numbers.items()}
    return pd.DataFrame(columns)


def _count(frame: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    seed = frame["seed"].map(_canonicalise)
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
    for status in NOT_FINISHED:
        rows = frame[frame["status"] == status]
        columns[status] = rows["status"].groupby(group).count()
        columns[f"{status}_reasons"] = rows["reason"].groupby(group).agg(_join)
    columns["commits"] = commit.groupby(group).agg(_join)
    columns["folders"] = frame["folder"].groupby(group).agg(_join)
    return pd.DataFrame(columns)


def _summarise_costs(finished: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    """Typical time and speed, the largest memory, the views of one run, and every device used."""
    kinds = {
        "views": "mean",
        "seconds": "median",
        "evaluation_seconds": "median",
        "images_per_second": "median",
        "peak_memory_bytes": "max",
        "seconds_to_90": "median",
    }
    groups = finished.groupby(group.loc[finished.index])
    columns = {f"cost.{name}": groups[f"cost.{name}"].agg(kind) for name, kind in kinds.items()}
    has_several = finished["cost.processes"].gt(1)
    # As objects: where no cell is finished, pandas would take one of the two for numbers.
    times = finished["cost.processes"].map("{:.0f} x ".format).astype(object).where(has_several, "")
    devices = finished["cost.device"].map(str, na_action="ignore").astype(object)
    columns["cost.devices"] = (times + devices).groupby(group).agg(_join)
    return pd.DataFrame(columns)


def _join(values: pd.Series) -> str:
    """The distinct texts, sorted: a set that a CSV file can hold."""
    return "; ".join(sorted({str(value) for value in values if pd.notna(value)}))
