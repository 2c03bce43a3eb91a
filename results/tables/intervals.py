"""Means with their intervals as cells of a table, and the notes below it on how the intervals were made."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from results.frames import labels
from results.statistics import inference

_SHARED = "mean ± half-width of the {}interval over {}, by the variance that configurations share"
_ALONE = "mean ± half-width of the 95 % interval over {}"
_TWO_SEEDS = "with two seeds the intervals assume comparable spreads, and no 95 % is claimed"
_FOOTING = "where a configuration lacks seeds, its mean is on the footing of the others, by least squares"
_NO_IMAGES = "the part of the test images is missing: no record holds which of them were right"
_BOTH = (
    "the intervals of linear top-1 and kNN-20 are for new seeds and new test images, those of the others for new seeds"
)
_IMAGES, _SEEDS = "images only", "seeds only"
_EXPLAIN_IMAGES = f"{_IMAGES}: of 1 seed, the 95 % interval for new test images and the same weights"
_EXPLAIN_SEEDS = f"{_SEEDS}: some of its records do not hold which test images were right"
_HEADLINE = "linear_top1"


def format_intervals(summary: pd.DataFrame, name: str, scale: float) -> list[str]:
    """Cells like `97.4 ± 0.6`; `97.4` without an interval; `(n = 2)` where not every finished run has the number."""
    columns = [f"metrics.{name}.{part}" for part in ("mean", "half_width", "by_images", "n")]
    numbers = summary.reindex(columns=[*columns, "seeds"]).to_numpy(dtype=float)
    texts = []
    for (mean, half_width, images, n, seeds), mark in zip(numbers, _mark_sources(summary, name), strict=True):
        text = labels.NONE if pd.isna(mean) else format_interval(mean, half_width, scale, images)
        texts.append(text + (f" ({mark})" if mark else "") + (f" (n = {n:.0f})" if 0 < n < seeds else ""))
    return texts


def format_interval(mean: float, half_width: float, scale: float, images: float = math.nan) -> str:
    """Such as `97.4 ± 0.6`; both ends where an accuracy's interval is cut at 0 or 100. `images`: half of the interval
    by the test images alone, NaN where it has no such part."""
    text, half = f"{mean * scale:.1f}", half_width * scale
    if pd.isna(half_width):
        return text
    if scale == 100 and not half_width <= mean <= 1 - half_width:
        low, high = inference.place_ends(np.array(mean), np.array(half_width), np.array(images), (0.0, 1.0))
        return f"{text} ({scale * low:.1f} to {scale * high:.1f})"
    return f"{text} ± {half:.1f}" if half >= 0.05 else f"{text} ± <0.1"


def explain(summary: pd.DataFrame) -> list[str]:
    """How the intervals were made, and what they assume: of the headline, or where it has none, of another metric."""
    halves = [name for name in map(str, summary) if name.endswith(".half_width") and summary[name].notna().any()]
    metrics = [name.removeprefix("metrics.").removesuffix(".half_width") for name in halves]
    name = next((name for name in (_HEADLINE, "knn20_top1", *metrics) if name in metrics), _HEADLINE)
    numbers = summary.reindex(columns=["protocol", "dataset.name", "fixed"]).join(_pick_halves(summary, name))
    rest = summary.reindex(columns=[f"metrics.{name}.{part}" for part in ("n", "shared")]).fillna(0).astype(int)
    numbers = numbers.assign(n=rest.iloc[:, 0], shared=rest.iloc[:, 1].astype(bool))
    tested, images = numbers[numbers["by_seeds"].notna()], numbers["by_images"].notna()
    both, marks = bool(tested["by_images"].notna().any()), set(_mark_sources(summary, name))
    sources = "seeds and test images" if both else "test images" if images.any() and tested.empty else "seeds"
    further = [_BOTH] * both + [_NO_IMAGES] * bool(numbers["n"].any() and not images.any())
    further += [text for mark, text in ((_IMAGES, _EXPLAIN_IMAGES), (_SEEDS, _EXPLAIN_SEEDS)) if mark in marks]
    if not metrics:
        return further
    if not tested["shared"].any():
        return [_ALONE.format(sources), *further]
    has_two_seeds = bool((tested["shared"] & tested["n"].eq(2)).any())
    counts = numbers[~numbers["fixed"].astype(bool) & (numbers["n"] > 0)]
    several = bool(counts.groupby(["protocol", "dataset.name"])["n"].nunique().gt(1).any())
    return [
        _SHARED.format("" if has_two_seeds else "95 % ", sources),
        *further,
        *[_TWO_SEEDS] * has_two_seeds,
        *[_FOOTING] * several,
    ]


def has_images(summary: pd.DataFrame) -> bool:
    """Whether the test images are a part of some interval."""
    return bool(_pick_halves(summary, _HEADLINE)["by_images"].notna().any())


def _pick_halves(summary: pd.DataFrame, name: str) -> pd.DataFrame:
    parts = ["half_width", "by_seeds", "by_images"]
    return summary.reindex(columns=[f"metrics.{name}.{part}" for part in parts]).set_axis(parts, axis=1).astype(float)


def _mark_sources(summary: pd.DataFrame, name: str) -> list[str]:
    """What is to be said behind each interval: that it is over the test images alone, or, where those of others are
    over both, over the seeds alone."""
    seeds, images = (_pick_halves(summary, name)[part].notna() for part in ("by_seeds", "by_images"))
    marks = pd.Series("", summary.index)
    if images.any():
        fixed = summary["fixed"].astype(bool)
        marks = marks.mask(images & ~seeds & ~fixed, _IMAGES).mask(seeds & ~images, _SEEDS)
    return marks.tolist()
