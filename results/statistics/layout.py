"""A metric as configurations x seeds, and what is known of it beforehand: its bounds, and of how many images it is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from results.frames.frame import CORRECT, ORDER, unpack

NO_SEED = math.inf
# Of records that do not say it themselves: how many test images, and classes.
_TEST_IMAGES = {"digits": 449, "cifar10": 10_000}
_CLASSES = {"digits": 10, "cifar10": 10}


class Outcomes(NamedTuple):
    """Which test images (N) were right: the `shares` (K, N) of a configuration's seeds that were, and the `noise` (K,),
    what these shares vary by because of the seeds alone; of those that are `known` (K,), NaN for the others."""

    shares: np.ndarray
    noise: np.ndarray
    known: np.ndarray


def read_values(frame: pd.DataFrame, number: pd.Series, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(configurations, seeds) values, NaN where no run finished, and which configurations are fixed: their one value
    stands in every column.

    `number` is each row's configuration, from 0.
    """
    value = frame.reindex(columns=[f"metrics.{metric}"]).iloc[:, 0].where(frame["status"] == "finished").astype(float)
    # By their places: as floats large seeds would be the same.
    columns = {seed: column for column, seed in enumerate(sorted(set(frame["seed"].dropna())))}
    seed = frame["seed"].map(columns).astype(float).fillna(NO_SEED)
    # A seed run twice is one draw: averaged first.
    table = value.groupby([number, seed]).mean().unstack()
    fixed_values = table.reindex(columns=[NO_SEED]).to_numpy()
    fixed = ~np.isnan(fixed_values[:, 0]) & (table.count(axis=1) == 1)
    return np.where(fixed.to_numpy()[:, None], fixed_values, table), fixed.to_numpy()


def read_outcomes(frame: pd.DataFrame, number: pd.Series, metric: str) -> Outcomes | None:
    """Which test images the configurations got right, by the records of one protocol and dataset; None where no record
    says it, or they are of several test sets. Known of a configuration whose finished records all say it.

    `number` is each row's configuration; they come in the order of their first rows.
    """
    column = f"{CORRECT}{metric}"
    if column not in frame:
        return None
    numbers = pd.Series(pd.factorize(number)[0], number.index)
    finished = frame[(frame["status"] == "finished") & frame[f"metrics.{metric}"].notna()]
    recorded = finished[finished[column].notna()]
    if recorded.empty or len(recorded[[ORDER, "test.images"]].drop_duplicates()) > 1:
        return None
    images, count = int(recorded["test.images"].iloc[0]), numbers.max() + 1
    outcomes = Outcomes(np.full((count, images), np.nan, np.float32), np.full(count, np.nan), np.zeros(count, bool))
    for configuration, rows in finished.groupby(numbers[finished.index]):
        if rows[column].notna().all():
            right, seeds = unpack(rows[column], images), rows["seed"].map(str).to_numpy()
            # A seed run twice is one draw.
            right = np.stack([right[seeds == seed].mean(axis=0) for seed in dict.fromkeys(seeds)])
            outcomes.shares[configuration], outcomes.noise[configuration] = average_seeds(right)
            outcomes.known[configuration] = True
    return outcomes


def average_seeds(right: np.ndarray) -> tuple[np.ndarray, float]:
    """The share of the seeds, of (seeds, N) right or wrong, that were right on each image (N,), and what it varies by
    because of the seeds: the mean square of seed and image together, a seed's share. 0 of one seed, which is what it
    is."""
    share = right.mean(axis=0)
    count = len(right)
    if count < 2:
        return share, 0.0
    interaction = right - share - (right.mean(axis=1) - share.mean())[:, None]
    return share, float((interaction**2).sum() / ((count - 1) * (len(share) - 1) * count))


def count_images(frame: pd.DataFrame, metric: str) -> float:
    """The number of test images of which the metric is a share, by the records of one protocol and dataset, else by
    what is known of the dataset; NaN where neither says, or the metric is no share of them."""
    base = metric.partition("@")[0]
    if not base.endswith("_top1") or base.startswith("transfer_"):
        return math.nan
    return _find(frame, "test.images", _TEST_IMAGES)


def find_chance(frame: pd.DataFrame) -> float:
    """The accuracy of guessing among the classes of one protocol and dataset; NaN where their number is not known."""
    return 1 / _find(frame, "test.classes", _CLASSES)


def find_bounds(metric: str) -> tuple[float, float]:
    """The least and the largest that the metric can be."""
    is_share = metric.partition("@")[0].endswith(("_top1", "_balanced"))
    return (0.0, 1.0) if is_share else (-math.inf, math.inf)


def _find(frame: pd.DataFrame, column: str, defaults: dict[str, int]) -> float:
    recorded = frame.reindex(columns=[column]).iloc[:, 0].dropna()
    if len(recorded):
        return float(recorded.iloc[0])
    names = frame.reindex(columns=["dataset.name"]).iloc[:, 0].dropna()
    return float(defaults.get(str(names.iloc[0]), math.nan)) if len(names) else math.nan
