"""How often the tests err, and what they find, in studies whose truth is known.

    python -m results.statistics.simulation studies=600 configurations=4,27 seeds=2,3,5 spreads=equal,uneven,one
    python -m results.statistics.simulation studies=600 configurations=6,27 seeds=1,3,5 images=449,10000
    python -m results.statistics.simulation studies=600 configurations=6 seeds=1,3 images=18,50 accuracy=0.98

A simulated accuracy is the same for all configurations, plus what its seed does to all, plus noise. Spreads are the
standard deviations of the noise: `equal`; `uneven`, from half to one and a half; `one`, of which one is four times the
others'. Each study is simulated without any difference, and with every other configuration three sd better.

With `images` each test image is right or wrong. Right is what is above 0, of a configuration's level, how hard the
image is for all and how hard for this configuration, the configuration's seed, and noise, all normal: so the accuracy
for new seeds and new images is known: `accuracy`, a share. No configuration is better than another.

The studies are seeded, so that the same words give the same table.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np

from results.statistics import crossed, inference, layout, moderated, significance

SHIFT = 3.0  # sd
_SD, _LEVEL = 0.01, 0.7
SPREADS: dict[str, Callable[[int], np.ndarray]] = {
    "equal": lambda count: np.ones(count),
    "uneven": lambda count: np.linspace(0.5, 1.5, count),
    "one": lambda count: np.where(np.arange(count) == 0, 4.0, 1.0),
}
_ACCURACY, _COMMON, _OWN, _SEED = 0.9, 1.5, 0.5, 0.053  # sd of what is hard for all and for one; the seed's 0.5 points
DEFAULTS = {"studies": "600", "configurations": "4,27", "seeds": "2,3,5", "spreads": ",".join(SPREADS), "images": ""}
DEFAULTS |= {"accuracy": str(_ACCURACY)}
HEADER = [
    "configurations",
    "seeds",
    "spread",
    "error, none differ: t",
    "shared",
    "error, half differ: t",
    "shared",
    "found at 3 sd: t",
    "shared",
    "best in its interval",
    "in the simultaneous one",
]
IMAGES_HEADER = [
    "configurations",
    "seeds",
    "images",
    "mean in its interval: seeds",
    "images",
    "both",
    "difference in its interval: seeds",
    "images",
    "both",
    "error: seeds",
    "both",
]


def simulate(count: int, seeds: int, spread: str, studies: int) -> np.ndarray:
    """(8,) shares: of studies with a false difference, none differing, by Holm's paired t and by the shared variance;
    the same where half differ; of true differences found, by both; of studies without a difference in which the mean
    of the best lies in its own 95 % interval, and in the simultaneous one."""
    rng = np.random.default_rng([count, seeds, list(SPREADS).index(spread)])
    left, right = np.triu_indices(count, 1)
    shifted = np.arange(count) % 2 == 1
    differ = shifted[left] != shifted[right]
    rows = []
    for _ in range(studies):
        noise = rng.normal(0, _SD, (count, seeds)) * SPREADS[spread](count)[:, None]
        values = _LEVEL + rng.normal(0, _SD, seeds) + noise
        none, model = _find_significant(values, left, right)
        half, _ = _find_significant(values + _SD * SHIFT * shifted[:, None], left, right)
        best, widths = model.means.argmax(), inference.compute_half_widths(model)
        error = abs(model.means[best] - _LEVEL)
        is_inside = [error <= half_width[best] for half_width in (widths.whole, widths.joint)]
        rows.append(
            np.hstack([none.any(axis=1), half[:, ~differ].any(axis=1), half[:, differ].mean(axis=1), is_inside])
        )
    return np.mean(np.array(rows, dtype=float), axis=0)


def _find_significant(values: np.ndarray, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, moderated.Fit]:
    """(2, pairs): which of them differ, by Holm's paired t and by the shared variance; and the latter's model."""
    fixed = np.zeros(len(values), dtype=bool)
    model = moderated.fit(values, fixed)
    paired = significance.test_pairs(values, fixed, left, right)["p_holm"] < moderated.LEVEL
    shared = inference.test_pairs(model, left, right)["significant"]
    return np.array([paired, shared]), model


def simulate_images(count: int, seeds: int, images: int, studies: int, accuracy: float = _ACCURACY) -> np.ndarray:
    """(8,) shares: of means in their own 95 % interval by seeds, by images and by both, of differences the same, and of
    studies with a false difference by seeds and by both. Of one seed, whose truth is that of its own weights, the
    images' alone; NaN for the others."""
    from scipy import special

    rng = np.random.default_rng([count, seeds, images])
    left, right = np.triu_indices(count, 1)
    sd_of_images = math.sqrt(1 + _COMMON**2 + _OWN**2)  # the sd of what images and noise add up to
    level = special.ndtri(accuracy) * math.hypot(sd_of_images, _SEED)
    rows = []
    for _ in range(studies):
        effects = level + rng.normal(0, _SEED, (count, seeds))
        difficulty = rng.normal(0, _COMMON, images) + rng.normal(0, _OWN, (count, images))
        latent = rng.standard_normal((count, seeds, images)) + difficulty[:, None] + effects[:, :, None]
        parts = [layout.average_seeds(right_or_wrong) for right_or_wrong in (latent > 0).astype(np.float32)]
        shares, noise = np.stack([share for share, _ in parts]), np.array([noise for _, noise in parts])
        outcomes = layout.Outcomes(shares, noise, np.ones(count, dtype=bool))
        values = (latent > 0).mean(axis=2)
        model = crossed.fit(values, np.zeros(count, dtype=bool), images, outcomes)
        truth = special.ndtr(effects[:, 0] / sd_of_images) if seeds == 1 else np.full(count, accuracy)
        error = model.means - truth
        means, pairs = inference.compute_half_widths(model), inference.compute_pair_widths(model, left, right)
        by_images = np.full(count, math.nan), means.images, means.images
        ends = [inference.place_ends(model.means, *widths, (0, 1)) for widths in zip(means[:3], by_images, strict=True)]
        shares_inside = [((low <= truth) & (truth <= high)).mean() for low, high in ends]
        shares_inside += [(np.abs(error[left] - error[right]) <= widths).mean() for widths in pairs[:3]]
        false_differences = [
            inference.test_pairs(fit, left, right)["significant"] for fit in (model._replace(images=None), model)
        ]
        rows.append(
            [*shares_inside, *(significant.any() if seeds > 1 else math.nan for significant in false_differences)]
        )
    shares = np.mean(np.array(rows, dtype=float), axis=0)
    return np.where([seeds == 1 and part != 1 for part in (0, 1, 2, 0, 1, 2, 0, 2)], math.nan, shares)


def tabulate(words: dict[str, str]) -> Iterator[list[str]]:
    """The table, a row at a time, in percent. Raises ValueError for a word that is not allowed."""
    words = DEFAULTS | words
    numbers = {name: _parse_numbers(name, words[name]) for name in ("studies", "configurations")}
    seeds = _parse_numbers("seeds", words["seeds"], least=1 if words["images"] else 2)
    studies = numbers["studies"][0]
    if words["images"]:
        yield IMAGES_HEADER
        accuracy = _parse_share("accuracy", words["accuracy"])
        for count, seed_count, images in product(
            numbers["configurations"], seeds, _parse_numbers("images", words["images"])
        ):
            shares = simulate_images(count, seed_count, images, studies, accuracy)
            yield [str(count), str(seed_count), str(images), *_format_percents(shares)]
        return
    spreads = words["spreads"].split(",")
    for spread in spreads:
        if spread not in SPREADS:
            raise ValueError(f"spreads={spread} is not allowed: give some of {', '.join(SPREADS)}")
    yield HEADER
    for count, seed_count, spread in product(numbers["configurations"], seeds, spreads):
        yield [str(count), str(seed_count), spread, *_format_percents(simulate(count, seed_count, spread, studies))]


def _format_percents(shares: np.ndarray) -> list[str]:
    return ["–" if math.isnan(share) else f"{100 * share:.1f}" for share in shares]


def _parse_numbers(name: str, text: str, least: int = 0) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    least = least or (1 if name == "studies" else 2)
    if min(numbers) < least:
        raise ValueError(f"{name}={text} is not allowed: give whole numbers of at least {least}")
    return numbers


def _parse_share(name: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ValueError(f"{name}={text} is not allowed: give a share above 0 and below 1")
    return share


def main(arguments: Sequence[str]) -> int:
    """Print the table; exit code 2 for a word that is not allowed."""
    try:
        words = dict(DEFAULTS)
        for argument in arguments:
            name, _, text = argument.partition("=")
            if name not in words:
                raise ValueError(f"no word {argument!r}; there are: {', '.join(f'{name}=' for name in words)}")
            words[name] = text
        for number, row in enumerate(tabulate(words)):
            print("| " + " | ".join(row) + " |", flush=True)
            if number == 0:
                print("| " + " | ".join(["---:"] * len(row)) + " |")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
