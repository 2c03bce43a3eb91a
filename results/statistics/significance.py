"""The tests themselves, on arrays: Student's over pairs, Holm's correction, and how many seeds a difference takes.

Two-sided at 5 %. Which configurations are compared, and what a reader is told of it, is `compare`'s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from results.statistics.summaries import CONFIDENCE

LEVEL = 0.05
MOST_SEEDS = 1000
ROUNDING = 1e-9  # a spread below this is rounding, which no t-test should divide by: no accuracy is that fine


def test_pairs(values: np.ndarray, fixed: np.ndarray, left: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """The numbers of `compare.compare_pairs`, a row for each place in `left` minus the same in `right`.

    `values` are (configurations, seeds), NaN where no run finished; a `fixed` one has its value in every column. A
    paired t-test is the one-sample test of the differences, so one subtraction and one test serve both.
    """
    from scipy import special

    gaps, both = values[left] - values[right], fixed[left] & fixed[right]
    there = ~np.isnan(gaps)
    count = there.sum(axis=1)
    n = np.where(both, 0, count)
    top, bottom = np.where(there, gaps, -math.inf), np.where(there, gaps, math.inf)
    same = top.max(axis=1, initial=-math.inf) - bottom.min(axis=1, initial=math.inf) <= ROUNDING
    why = ["both are fixed", "no shared seed", "one shared seed", "the same difference in every seed"]
    note = np.select([both, n == 0, n == 1, same], [f"{reason}: no test" for reason in why], "")
    able = note == ""
    mean = np.divide(np.where(there, gaps, 0).sum(axis=1), count, np.full(len(gaps), math.nan), where=count > 0)
    low, high, sd, p = np.full((4, len(gaps)), math.nan)
    # Not scipy.stats, which takes longer to import than all of this, and a call for each pair that lacks a seed.
    own, gap = mean[able], gaps[able]
    freedom = n[able] - 1
    sd[able] = np.sqrt((np.where(there[able], gap - own[:, None], 0) ** 2).sum(axis=1) / freedom)
    error = sd[able] / np.sqrt(n[able])
    half = special.stdtrit(freedom, (1 + CONFIDENCE) / 2) * error
    low[able], high[able] = own - half, own + half
    p[able] = 2 * special.stdtr(freedom, -np.abs(own / error))
    corrected = holm(p)
    columns: dict[str, Any] = {"n": n, "difference": mean, "low": low, "high": high, "sd": sd, "p": p}
    columns |= {"p_corrected": corrected, "significant": corrected < LEVEL, "note": note.astype(object)}
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


def seeds(effect: float, level: float, power: float) -> float:
    """The least number of seeds whose t-test of a standardised difference `effect` has this power."""
    from scipy import stats

    n = np.arange(2, MOST_SEEDS + 1)
    critical, shift = stats.t.isf(level / 2, n - 1), abs(effect) * np.sqrt(n)
    reached = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift) >= power
    return float(n[reached.argmax()]) if reached.any() else math.inf
