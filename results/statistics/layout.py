"""A metric as configurations x seeds, and what is known of it beforehand: its bounds, and of how many images it is."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

NO_SEED = math.inf
# Of records that do not say it themselves: how many test images, and classes.
_TEST_IMAGES = {"digits": 449, "cifar10": 10_000}
_CLASSES = {"digits": 10, "cifar10": 10}


def draws(frame: pd.DataFrame, number: pd.Series, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(configurations, seeds) values, NaN where no run finished, and which configurations are fixed: their one value
    stands in every column.

    `number` is each row's configuration, from 0.
    """
    value = frame.reindex(columns=[f"metrics.{metric}"]).iloc[:, 0].where(frame["status"] == "finished").astype(float)
    # By their places: as floats large seeds would be the same.
    places = {seed: place for place, seed in enumerate(sorted(set(frame["seed"].dropna())))}
    seed = frame["seed"].map(places).astype(float).fillna(NO_SEED)
    # A seed run twice is one draw: averaged first.
    table = value.groupby([number, seed]).mean().unstack()
    once = table.reindex(columns=[NO_SEED]).to_numpy()
    fixed = ~np.isnan(once[:, 0]) & (table.count(axis=1) == 1)
    return np.where(fixed.to_numpy()[:, None], once, table), fixed.to_numpy()


def count_images(frame: pd.DataFrame, metric: str) -> float:
    """The number of test images of which the metric is a share, by the records of one protocol and dataset, else by
    what is known of the dataset; NaN where neither says, or the metric is no share of them."""
    base = metric.partition("@")[0]
    if not base.endswith("_top1") or base.startswith("transfer_"):
        return math.nan
    return _find(frame, "test.images", _TEST_IMAGES)


def chance(frame: pd.DataFrame) -> float:
    """The accuracy of guessing among the classes of one protocol and dataset; NaN where their number is not known."""
    return 1 / _find(frame, "test.classes", _CLASSES)


def bounds(metric: str) -> tuple[float, float]:
    """The least and the largest that the metric can be."""
    is_share = metric.partition("@")[0].endswith(("_top1", "_balanced"))
    return (0.0, 1.0) if is_share else (-math.inf, math.inf)


def _find(frame: pd.DataFrame, column: str, known: dict[str, int]) -> float:
    recorded = frame.reindex(columns=[column]).iloc[:, 0].dropna()
    if len(recorded):
        return float(recorded.iloc[0])
    names = frame.reindex(columns=["dataset.name"]).iloc[:, 0].dropna()
    return float(known.get(str(names.iloc[0]), math.nan)) if len(names) else math.nan
