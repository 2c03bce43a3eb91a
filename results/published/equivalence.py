"""Whether our mean over seeds and a published number are the same, to within what who compares them would call so."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from results.statistics.moderated import LEVEL

MARGIN = 0.01  # numbers that differ by less are the same, for who compares an implementation with a paper
SAME, OTHER, UNTOLD = "agrees", "differs", "cannot be told"


class Number(NamedTuple):
    """Of our seeds, each one draw: fractions, NaN for the variance of one."""

    mean: float
    variance: float
    seeds: int


def judge(measured: Number, published: float, runs: Any, images: float, tests: int) -> str:
    """`SAME` where the difference is shown to be less than `MARGIN`, `OTHER` where it is shown to be more, else
    `UNTOLD`.

    Two one-sided t-tests at 5 % (Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15:657-680) with
    Bonferroni's correction for `tests` numbers. Theirs varies as ours does, over `runs`, or one where they are NA.
    `images`, or NaN, is how many test images an accuracy is a share of: it is rounded to one of them.
    """
    from scipy import special

    variance = max(measured.variance, 0.0 if math.isnan(images) else 1 / (6 * images**2))
    if measured.seeds < 2 or not variance > 0:
        return UNTOLD
    error = math.sqrt(variance * (1 / measured.seeds + 1 / (1 if pd.isna(runs) else runs)))
    error *= special.stdtrit(measured.seeds - 1, 1 - LEVEL / tests)
    gap = abs(published - measured.mean)
    return SAME if gap + error < MARGIN else OTHER if gap - error > MARGIN else UNTOLD
