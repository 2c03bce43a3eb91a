"""The variance that configurations share, and what it lets one tell apart.

Two to five seeds say little of one configuration's spread, but those of many say how large spreads are and how much
they differ. The model is Smyth's (Linear models and empirical Bayes methods, Statistical Applications in Genetics and
Molecular Biology 3, 2004, doi 10.2202/1544-6115.1027): accuracies are configuration plus seed plus noise, variances
of the noise are scaled inverse chi-squares about tau^2 with nu degrees of freedom. Here tau^2 and nu are not
estimated but averaged over a grid, so that they are as uncertain as the records leave them. Draws from what the model
says of the errors of all means give intervals, and the distribution of the largest difference, which corrects for
how many are compared. One or two configurations share nothing: of them the draws give Student's t.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

CONFIDENCE, LEVEL = 0.95, 0.05
ROUNDING = 1e-9  # a spread or difference below this is rounding: no accuracy is that fine
WIDE = 9  # times the median variance: the spread of such a configuration is none that the others share
_DRAWS, _NUMBERS = 5000, 135_000  # at least so many draws; so many numbers in all where configurations are few
_SCALES = np.linspace(-4, 2.5, 53)  # log tau^2, from the mean variance
_FREEDOM = np.array([1.0, 2, 4, 8, 16, 32, 64, 256])  # nu
_SEED_EFFECTS = np.concatenate([[0.0], 2.0 ** np.arange(-4, 11)])  # a seed's variance, in those of the noise
FIXED = -2
UNTESTED = -1


class Images(NamedTuple):
    """What the test images leave open, by `crossed`: draws of `errors` (draws, K) and their `covariance` (K, K), of the
    configurations that are `known` (K,), by images that are the same for all of them; 0 for the others. `noise` (K,):
    what was taken off the variances because that of the seeds holds it."""

    errors: np.ndarray
    covariance: np.ndarray
    noise: np.ndarray
    known: np.ndarray


class Fit(NamedTuple):
    """Means of configurations on a common footing, and draws of their errors.

    `means` (K,): least squares of configuration plus seed, the mean over all seeds of its part; NaN without a value.
    `part` (K,): configurations of one part are connected by seeds and can be compared; -1 where there is no test of
    it, -2 for a fixed one, which is compared with all. `errors` (draws, K): 0 for a fixed one. `covariance` (K, K):
    scales, by which differences of unequal precision are compared. `shared` (K,): the variance is the model's, not the
    configuration's own. `wide` (K,): the latter is above `WIDE` times the median.
    """

    means: np.ndarray
    part: np.ndarray
    errors: np.ndarray
    covariance: np.ndarray
    shared: np.ndarray
    wide: np.ndarray
    images: Images | None = None


def fit(values: np.ndarray, fixed: np.ndarray, images: float = math.nan) -> Fit:
    """The model of `values` (K, seeds), NaN where no run finished; a `fixed` one has its value in every column.

    `images`: how many test images an accuracy is a share of. It is a multiple of 1/N, so that no variance is below
    1/(6 N^2): what seeds that agree to the last image still leave open. NaN where that is not known, or the value is
    no such share. The draws are seeded: the same values give the same numbers.
    """
    count, rng = len(values), np.random.default_rng(0)
    draws = max(_DRAWS, _NUMBERS // max(count, 1))
    floor = 0.0 if math.isnan(images) else 1 / (6 * images**2)
    part, layouts = _find_parts(values, fixed, floor)
    means = np.array([row[~np.isnan(row)].mean() if not np.isnan(row).all() else math.nan for row in values])
    errors, covariance = np.zeros((draws, count), dtype=np.float32), np.zeros((count, count))
    shared, wide = np.zeros((2, count), dtype=bool)
    for members, layout in layouts:
        means[members] = layout.means
        variances, scale = _draw_variances(layout, draws, rng)
        effect = _draw_seed_effect(layout, scale, draws, rng)
        errors[:, members] = _draw_errors(layout, variances, rng) + effect[:, None]
        common = (np.quantile(np.abs(effect), CONFIDENCE) / 1.96) ** 2
        covariance[np.ix_(members, members)] = _compute_covariance(layout, scale) + common
        if len(members) > 2:
            shared[members] = True
            wide[members] = layout.variances > WIDE * np.median(layout.variances)
    # On the same footing, though there is no test of them: one seed that others have too.
    for number in np.flatnonzero(part == UNTESTED):
        effects = [
            layout.effects[known_seeds]
            for _, layout in layouts
            if (known_seeds := _find_known_seeds(values[number], layout)).any()
        ]
        if len(effects) == 1 and len(effects[0]) == (~np.isnan(values[number])).sum():
            means[number] -= effects[0].mean()
    return Fit(means, part, errors, covariance, shared, wide)


class _Layout(NamedTuple):
    """Least squares of configuration plus seed within a part."""

    present: np.ndarray  # (K, seeds) bool
    means: np.ndarray  # (K,)
    effects: np.ndarray  # (seeds,), sum 0; NaN for a seed that no configuration of the part has
    freedom: np.ndarray  # (K,) degrees of each variance
    variances: np.ndarray  # (K,)
    inverse: np.ndarray  # (seeds, seeds): of the normal equations of the seeds' effects


def _fit_layout(values: np.ndarray, floor: float) -> _Layout:
    present = ~np.isnan(values)
    share = present / present.sum(axis=1, keepdims=True)
    raw_means = np.nanmean(values, axis=1)
    centred = np.where(present, values - raw_means[:, None], 0)
    inverse = np.zeros((values.shape[1], values.shape[1]))
    if len(values) > 1:  # one configuration's seeds have no effects that others share
        inverse = np.linalg.pinv(np.diag(present.sum(axis=0)) - present.T @ share, rcond=1e-9, hermitian=True)
    effects = inverse @ centred.sum(axis=0)
    residuals = np.where(present, centred - effects + (share @ effects)[:, None], 0)
    hat = present @ np.diag(inverse) - present.sum(axis=1) * np.einsum("kn,nm,km->k", share, inverse, share)
    freedom = present.sum(axis=1) - 1 - hat
    freedom = np.where(freedom < 1e-6, 0, freedom)
    squares = (residuals**2).sum(axis=1)
    pooled = squares.sum() / max(freedom.sum(), 1e-6)
    variances = np.divide(squares, freedom, out=np.full(len(values), pooled), where=freedom > 0)
    effects = np.where(present.any(axis=0), effects, math.nan)
    means = raw_means - share @ np.nan_to_num(effects)
    return _Layout(present, means, effects, freedom, np.maximum(variances, floor), inverse)


def _find_parts(
    values: np.ndarray, fixed: np.ndarray, floor: float
) -> tuple[np.ndarray, list[tuple[np.ndarray, _Layout]]]:
    """Each configuration's part, and the members and least squares of those that have one."""
    present = ~np.isnan(values)
    part = np.where(fixed, FIXED, UNTESTED)
    rest = np.flatnonzero(~fixed & (present.sum(axis=1) > 1))
    layouts: list[tuple[np.ndarray, _Layout]] = []
    while len(rest):
        reached = np.zeros(len(rest), dtype=bool)
        seeds = present[rest[0]]
        while (grown := present[rest][:, seeds].any(axis=1)).sum() > reached.sum():
            reached, seeds = grown, present[rest[grown]].any(axis=0)
        members, rest = rest[reached], rest[~reached]
        layout = _fit_layout(values[members], floor)
        singles = [members[[i]] for i in range(len(members))]
        # Seeds that connect and leave no residual compare nothing: each is then on its own.
        for group in [members] if layout.freedom.sum() > 0.5 else singles:
            layout = _fit_layout(values[group], floor)
            if layout.variances.max() > ROUNDING**2:
                part[group] = len(layouts)
                layouts.append((group, layout))
    return part, layouts


def _find_known_seeds(row: np.ndarray, layout: _Layout) -> np.ndarray:
    """(seeds,) bool: those of a configuration's seeds whose effects the part knows."""
    return ~np.isnan(row) & ~np.isnan(layout.effects)


def _draw_variances(layout: _Layout, draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(draws, K) variances of the noise by the model, and their (K,) typical values."""
    freedom, variances = layout.freedom, layout.variances
    # Two degrees are too few to say how much spreads differ: they are taken for equal.
    if len(variances) < 3 or freedom.sum() < 2.5:
        pooled = (freedom * variances).sum() / freedom.sum()
        samples = freedom.sum() * pooled / rng.chisquare(freedom.sum(), (draws, 1))
        return np.broadcast_to(samples, (draws, len(variances))), np.full(len(variances), pooled)
    scales = np.log(variances.mean()) + _SCALES
    likelihood = _compute_log_likelihood(freedom[freedom > 0], variances[freedom > 0], scales)
    weights = np.exp(likelihood - likelihood.max())
    chosen = rng.choice(weights.size, draws, p=(weights / weights.sum()).ravel())
    tau2, nu = np.exp(scales[chosen // len(_FREEDOM)]), _FREEDOM[chosen % len(_FREEDOM)]
    chi2 = 2 * rng.standard_gamma((nu[:, None] + freedom) / 2)
    samples = ((nu * tau2)[:, None] + freedom * variances) / chi2
    return samples, np.median(samples, axis=0)


def _compute_log_likelihood(freedom: np.ndarray, variances: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """(scales, nu): of the variances, each F-distributed about tau^2, up to what is the same in the whole grid."""
    from scipy import special

    degrees = freedom[:, None, None]
    ratio = variances[:, None, None] / np.exp(scales)[:, None]
    terms = -degrees / 2 * (np.log(_FREEDOM) + scales[:, None]) - (degrees + _FREEDOM) / 2 * np.log1p(
        degrees * ratio / _FREEDOM
    )
    return (terms - special.betaln(degrees / 2, _FREEDOM / 2)).sum(axis=0)


def _draw_errors(layout: _Layout, variances: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(draws, K): of the least-squares means, from the noise alone."""
    present, counts = layout.present, layout.present.sum(axis=1)
    sd = np.sqrt(variances)
    if present[:, present.any(axis=0)].all():
        return sd * rng.standard_normal(sd.shape) / np.sqrt(counts)
    total, sums = np.zeros(sd.shape), np.zeros((len(sd), present.shape[1]))
    for seed, members in enumerate(present.T):
        noise = sd * rng.standard_normal(sd.shape) * members
        total += noise
        sums[:, seed] = noise.sum(axis=1)
    mean_noise = total / counts
    return mean_noise - (sums - mean_noise @ present) @ layout.inverse @ (present / counts[:, None]).T


def _compute_covariance(layout: _Layout, scale: np.ndarray) -> np.ndarray:
    """(K, K): of the least-squares means' errors, noise of these variances."""
    present, counts = layout.present, layout.present.sum(axis=1)
    across = present / counts[:, None] @ layout.inverse
    return np.diag(scale / counts) + across @ _sum_noise(layout, scale) @ across.T


def _sum_noise(layout: _Layout, scale: np.ndarray) -> np.ndarray:
    """(seeds, seeds): the covariance of the sums over configurations, each about its own mean."""
    present, counts = layout.present, layout.present.sum(axis=1)
    return np.diag(scale @ present) - present.T @ ((scale / counts)[:, None] * present)


def _draw_seed_effect(layout: _Layout, scale: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws,): of the mean over the seeds of what a seed does to all alike. It leaves every difference, and stays in
    a mean and in the difference from a fixed method. Its variance is averaged over a grid as tau^2 is."""
    if len(scale) < 2:
        return np.zeros(draws)
    effects = layout.effects[~np.isnan(layout.effects)]
    noise = np.trace(layout.inverse @ _sum_noise(layout, scale) @ layout.inverse) / (len(effects) - 1)
    variance = scale.mean() * _SEED_EFFECTS
    total, squares = variance + noise, (effects**2).sum()
    likelihood = -(len(effects) - 1) / 2 * np.log(total) - squares / total / 2
    weights = np.exp(likelihood - likelihood.max())
    chosen = rng.choice(variance, draws, p=weights / weights.sum())
    return np.sqrt(chosen / len(effects)) * rng.standard_normal(draws)
