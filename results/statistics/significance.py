"""Tests that assume nothing of other configurations, on arrays: Student's over pairs and Holm's correction; and how
many seeds a difference takes.

Two-sided at 5 %. `moderated` has the tests by shared variance, `compare` what a reader is told of both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from results.statistics.moderated import ROUNDING

MOST_SEEDS = 1000


def test_pairs(values: np.ndarray, fixed: np.ndarray, left: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """A row for each place in `left` minus the same in `right`: `n` shared seeds, the mean `difference` over them, `p`,
    `p_holm`, Holm's over all rows, and `note`, why there is no test.

    `values` are (configurations, seeds), NaN where no run finished; a `fixed` one has its value in every column. A
    paired t-test is the one-sample test of the differences, so one subtraction and one test serve both.
    """
    from scipy import special

    gaps, both_fixed = values[left] - values[right], fixed[left] & fixed[right]
    present = ~np.isnan(gaps)
    count = present.sum(axis=1)
    n = np.where(both_fixed, 0, count)
    top, bottom = np.where(present, gaps, -math.inf), np.where(present, gaps, math.inf)
    same = top.max(axis=1, initial=-math.inf) - bottom.min(axis=1, initial=math.inf) <= ROUNDING
    reasons = ["both are fixed", "no shared seed", "one shared seed", "the same difference in every seed"]
    note = np.select([both_fixed, n == 0, n == 1, same], [f"{reason}: no test" for reason in reasons], "")
    testable = note == ""
    mean = np.divide(np.where(present, gaps, 0).sum(axis=1), count, np.full(len(gaps), math.nan), where=count > 0)
    p = np.full(len(gaps), math.nan)
    # Not scipy.stats, which takes longer to import than all of this, and a call for each pair that lacks a seed.
    mean_gap, gap, freedom = mean[testable], gaps[testable], n[testable] - 1
    sd = np.sqrt((np.where(present[testable], gap - mean_gap[:, None], 0) ** 2).sum(axis=1) / freedom)
    p[testable] = 2 * special.stdtr(freedom, -np.abs(mean_gap / (sd / np.sqrt(n[testable]))))
    columns: dict[str, Any] = {"n": n, "difference": mean, "p": p, "p_holm": holm(p), "note": note.astype(object)}
    return pd.DataFrame(columns)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p-values. NaN, a test that was not made, stays NaN and does not count.

    The k-th smallest of m is multiplied by m - k + 1, and none is less than the one before it (Holm 1979, A simple
    sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6:65-70). scipy has none.
    """
    order = np.argsort(p)  # NaN last
    factors = np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def count_seeds(effect: float, level: float, power: float, sharing: int = 1, images: float = 0.0) -> float:
    """The least number of seeds whose t-test of a standardised difference `effect` has this power, where the seeds of
    so many differences estimate its variance, and where the test images add a variance of so many times that of one
    seed. The power by the noncentral t (Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, ch. 2)."""
    from scipy import stats

    n = np.arange(2, MOST_SEEDS + 1)
    freedom, shift = sharing * (n - 1), abs(effect) / np.sqrt(1 / n + images)
    critical = stats.t.isf(level / 2, freedom)
    reached = stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift) >= power
    return float(n[reached.argmax()]) if reached.any() else math.inf
