"""Seeds crossed with test images: the second source of what a number errs by.

Right or wrong is configuration plus seed plus image plus both at once, and new seeds would meet other images. What
seeds leave open is the model of `moderated`; what images leave open is added here, as further errors of the means. An
image is as hard for one configuration as for the next, so that a difference errs by less than its two means, which the
covariance over images holds. What seed and image do together is in the variance over seeds already, and is taken off
that over images (a crossed design: Searle, Casella and McCulloch, Variance Components, 1992, chapter 4).
"""

from __future__ import annotations

import numpy as np

from results.statistics import moderated
from results.statistics.layout import Outcomes
from results.statistics.moderated import FIXED, UNTESTED, Fit, Images

PSEUDO = 2  # images that toss a coin, added to those there are: 449 of 449 right would have no variance


def fit(values: np.ndarray, fixed: np.ndarray, images: float, outcomes: Outcomes | None) -> Fit:
    """`moderated.fit` of the same, with what the test images leave open where `outcomes` are known."""
    model = moderated.fit(values, fixed, images)
    if outcomes is None or not outcomes.known.any():
        return model
    images_known = outcomes.known
    covariance = np.zeros((len(values), len(values)))
    covariance[np.ix_(images_known, images_known)] = covary(outcomes.shares[images_known])
    # A single run is what it is: its images alone are others.
    tested = np.flatnonzero(images_known & ((model.part >= 0) | (model.part == FIXED)))
    block = np.ix_(tested, tested)
    noise = np.where(images_known & (model.part >= 0), outcomes.noise / outcomes.shares.shape[1], 0)
    variances, vectors = np.linalg.eigh(covariance[block] - np.diag(noise[tested]))
    root = vectors * np.sqrt(np.maximum(variances, 0))
    covariance[block] = root @ root.T
    errors = np.zeros_like(model.errors)
    normal = np.random.default_rng(1).standard_normal((len(errors), len(tested)), dtype=np.float32)
    errors[:, tested] = normal @ root.T.astype(np.float32)
    means, single = model.means.copy(), images_known & (model.part == UNTESTED)
    means[single] = np.nanmean(values[single], axis=1) if single.any() else means[single]  # not on others' footing
    return model._replace(means=means, images=Images(errors, covariance, noise, images_known))


def covary(shares: np.ndarray) -> np.ndarray:
    """(K, K): the covariance of the means over images of (K, N) shares."""
    count = shares.shape[1]
    total = count + PSEUDO
    mean = (shares.sum(axis=1, dtype=float) + PSEUDO / 2) / total
    centred = shares - mean[:, None].astype(np.float32)
    squares = (centred @ centred.T).astype(float)
    offsets = mean - 0.5
    squares += PSEUDO * (np.outer(offsets, offsets) + np.eye(len(mean)) / 4)
    return squares / total**2
