"""What a model's draws say: intervals of means, and tests of differences corrected for how many there are.

Both are over seeds and, where `crossed` has added them, over test images.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from results.statistics.moderated import CONFIDENCE, FIXED, LEVEL, ROUNDING, UNTESTED, Fit


class Widths(NamedTuple):
    """(K,) each: half of the 95 % interval of each mean, by its `seeds` alone, by its `images` alone and `whole`, by
    all that is known of both; and `joint`, of intervals that hold all at once, as the best's has to. NaN without any.
    """

    seeds: np.ndarray
    images: np.ndarray
    whole: np.ndarray
    joint: np.ndarray


def compute_half_widths(model: Fit) -> Widths:
    """The intervals of all means. Of one seed, and of a fixed configuration, there are the images alone."""
    seeds, images, joint = np.full((3, len(model.means)), math.nan)
    tested, images_known = model.part >= 0, knows_images(model)
    seeds[tested] = np.quantile(np.abs(model.errors[:, tested]), CONFIDENCE, axis=0)
    variance = np.diag(model.covariance).copy()
    if model.images is not None:
        variance += np.diag(model.images.covariance)
        images[images_known] = quantile(1) * np.sqrt(np.diag(model.images.covariance)[images_known])
    whole = images.copy()
    simulated, images_alone = tested | (images_known & (model.part == FIXED)), images_known & (model.part == UNTESTED)
    level = CONFIDENCE ** (0.5 if simulated.any() and images_alone.any() else 1)  # of either, so that all hold at once
    if simulated.any():
        sizes, scale = np.abs(_add_errors(model)[:, simulated]), np.sqrt(variance[simulated])
        whole[simulated] = np.quantile(sizes, CONFIDENCE, axis=0)
        joint[simulated] = np.quantile((sizes / scale).max(axis=1), level) * scale
    joint[images_alone] = images[images_alone] * quantile(images_alone.sum(), level) / quantile(1)
    return Widths(seeds, images, whole, joint)


def place_ends(
    means: np.ndarray, half: np.ndarray, images: np.ndarray, bounds: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) each: where the intervals of these `means` end, of `half` of their width, in which `images` is the part of
    the test images, NaN where that is not known.

    Nothing is above all of N images right, so that what the part of the images would pass that bound by is added to it
    on the other side: of 18 of 18 right, 80.9 to 100, where Clopper and Pearson (Biometrika 26, 1934) have 81.5. The
    part of the seeds is cut.
    """
    images = np.nan_to_num(images)
    beyond = [np.maximum(excess, 0) for excess in (means + images - bounds[1], bounds[0] - means + images)]
    below, above = (np.sqrt(half**2 + excess * (excess + 2 * images)) for excess in beyond)
    return (means - below).clip(*bounds), (means + above).clip(*bounds)


def test_pairs(model: Fit, left: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """A row for each place in `left` minus the same in `right`: `difference`, `low`, `high`, `seeds_variance` and
    `images_variance`, `p_adjusted` and `significant`, and `tested`, without which the others but the difference are
    NaN; the latter variance is NaN too where the test images are not known for both.

    The intervals hold for all of these pairs at once in 95 % of studies, and `p_adjusted` is the share of draws whose
    largest difference is above the one seen: max-t (Westfall and Young, Resampling-Based Multiple Testing, 1993). Two
    fixed configurations of which no images are known differ exactly, or not at all.
    """
    difference = model.means[left] - model.means[right]
    images_known = knows_images(model)
    images_known = images_known[left] & images_known[right]
    tested, fixed = _find_tested(model, left, right)
    exact = fixed & ~images_known
    by_draws = tested & ~exact
    by_seeds = _compute_variance(model.covariance, left, right)
    by_images = (
        np.zeros(len(left))
        if model.images is None
        else _compute_variance(model.images.covariance, left, right) * images_known
    )
    scale = np.sqrt(by_seeds + by_images)
    ratio = np.where(np.abs(difference) > ROUNDING, math.inf, 0.0)
    np.divide(np.abs(difference), scale, out=ratio, where=by_draws)
    largest = np.zeros(len(model.errors), dtype=np.float32)
    for errors, mask in ((_add_errors(model), by_draws & images_known), (model.errors, by_draws & ~images_known)):
        if mask.any():
            largest = np.maximum(largest, _find_largest(errors, left[mask], right[mask], scale[mask]))
    largest.sort()
    critical = np.quantile(largest, 1 - LEVEL) if by_draws.any() else 0.0
    above = 1 - np.searchsorted(largest, ratio.astype(np.float32)) / len(largest)
    adjusted = np.where(exact, np.where(ratio > 0, 0.0, 1.0), np.maximum(above, 1 / len(largest)))
    half = np.where(tested, critical * scale, math.nan)
    columns = {"difference": difference, "low": difference - half, "high": difference + half}
    columns |= {"seeds_variance": np.where(tested, by_seeds, math.nan)}
    columns |= {"images_variance": np.where(images_known, by_images, math.nan)}
    columns |= {"p_adjusted": np.where(tested, adjusted, math.nan)}
    return pd.DataFrame(columns | {"significant": tested & (ratio > critical), "tested": tested})


def compute_pair_widths(model: Fit, left: np.ndarray, right: np.ndarray) -> Widths:
    """As `compute_half_widths`, of each of these differences, without the last."""
    images_known = knows_images(model)
    images_known = images_known[left] & images_known[right]
    tested, fixed = _find_tested(model, left, right)
    seeds, images, joint = np.full((3, len(left)), math.nan)
    if model.images is not None:
        noise = np.where(tested, 0, model.images.noise[left] + model.images.noise[right])  # of the same weights, all
        images[images_known] = (
            quantile(1) * np.sqrt(_compute_variance(model.images.covariance, left, right) + noise)[images_known]
        )
    whole, errors = images.copy(), _add_errors(model)
    for number in np.flatnonzero(tested & ~fixed):
        pair = [left[number], right[number]]
        gaps = [draws[:, pair] @ [1, -1] for draws in (model.errors, errors if images_known[number] else model.errors)]
        seeds[number], whole[number] = np.quantile(np.abs(gaps), CONFIDENCE, axis=1)
    return Widths(seeds, images, whole, joint)


def knows_images(model: Fit) -> np.ndarray:
    """(K,) bool: the part of the test images is known."""
    return np.zeros(len(model.means), dtype=bool) if model.images is None else model.images.known


def quantile(count: int, level: float = CONFIDENCE) -> float:
    """What so many normal errors of variance 1 all stay below in size, in at least this share of studies (Sidak,
    Rectangular confidence regions, Journal of the American Statistical Association 62, 1967)."""
    from scipy import special

    return float(special.ndtri((1 + level ** (1 / max(count, 1))) / 2))


def _find_tested(model: Fit, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pairs,) bool twice: seeds connect them, or one is fixed and the other has a test; both are fixed."""
    first, second = model.part[left], model.part[right]
    both_tested = (first != UNTESTED) & (second != UNTESTED)
    return both_tested & ((first == second) | (first == FIXED) | (second == FIXED)), (first == FIXED) & (
        second == FIXED
    )


def _add_errors(model: Fit) -> np.ndarray:
    return model.errors if model.images is None else model.errors + model.images.errors


def _compute_variance(covariance: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(pairs,): of the differences."""
    variances = np.diag(covariance)
    return np.maximum(variances[left] + variances[right] - 2 * covariance[left, right], 0)


def _find_largest(errors: np.ndarray, left: np.ndarray, right: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(draws,): the largest of the pairs' differences, each against its scale."""
    columns = np.ascontiguousarray(errors.T)
    weight = (1 / scale).astype(np.float32)[:, None]
    largest = np.zeros(len(errors), dtype=np.float32)
    starts = np.flatnonzero(np.diff(left, prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(left)][: len(starts)], strict=True):
        for first in range(start, end, 64):  # as many as a cache holds
            chunk = slice(first, min(first + 64, end))
            gaps = columns[right[chunk]]
            gaps -= columns[left[start]]
            np.abs(gaps, out=gaps)
            gaps *= weight[chunk]
            np.maximum(largest, gaps.max(axis=0), out=largest)
    return largest
