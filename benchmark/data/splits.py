"""Stratified subsets as functions of (labels, seed) alone.

Images are ranked by raw PCG64 words: numpy keeps the stream of a bit generator over its versions, which it does not
promise for `Generator.permutation`, and the same images must be held out years from now.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

TEST_SEED = 1797  # draws the test images where none are published; no setting moves an image out of the test set
TEST_SHARE = 0.2  # of a folder without a test set

# Separate streams, so that the images a limit keeps say nothing about those a split of the same seed takes.
_SPLIT, _LIMIT = 0, 1


def stratify(labels: ArrayLike, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split (n,) integer labels in two: sorted int64 indices of the rest, and of the ``fraction`` taken.

    Each class gives its share of round(n * fraction) images to within one, by largest remainder. A class of two or
    more images has at least one on either side, even where that takes more or fewer than the fraction; a class of one
    stays in the rest. ValueError unless 0 < fraction < 1.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction {fraction} is not above 0 and below 1")
    classes, sizes = _classes(labels)
    most = sizes - 1
    least = np.minimum(most, 1)
    total = int(np.clip(round(len(classes) * fraction), least.sum(), most.sum()))
    part = _draw(classes, _shares(sizes, total, least, most), seed, _SPLIT)
    return np.setdiff1d(np.arange(len(classes)), part), part


def subsample(labels: ArrayLike, count: int, seed: int, least: int = 1) -> NDArray[np.int64]:
    """Sorted int64 indices of ``count`` of (n,) integer labels, in the proportions of the classes.

    Shares go by largest remainder, with at least ``least`` images of each class (all of a smaller one) where ``count``
    allows that. ValueError unless 0 <= count <= n.
    """
    classes, sizes = _classes(labels)
    if not 0 <= count <= len(classes):
        raise ValueError(f"cannot take {count} of {len(classes)} images")
    floor = np.minimum(sizes, least)
    if floor.sum() > count:
        floor = np.zeros_like(sizes)
    return _draw(classes, _shares(sizes, count, floor, sizes), seed, _LIMIT)


def draw_each(labels: ArrayLike, each: int, seed: int) -> NDArray[np.int64]:
    """Sorted int64 indices of ``each`` of every class of (n,) integer labels, all of a smaller class."""
    classes, sizes = _classes(labels)
    return _draw(classes, np.minimum(sizes, each), seed, _SPLIT)


def _classes(labels: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Labels renumbered 0..classes-1, and the number of images of each."""
    values, classes = np.unique(np.asarray(labels), return_inverse=True)
    return classes, np.bincount(classes, minlength=len(values))


def _shares(
    sizes: NDArray[np.int64], total: int, least: NDArray[np.int64], most: NDArray[np.int64]
) -> NDArray[np.int64]:
    """``total`` divided over classes in proportion to ``sizes``, each share within [least, most].

    Whole-number arithmetic (what a class still misses, in units of 1/n), so that ties fall alike on every machine.
    """
    images = int(sizes.sum())
    shares = np.clip(sizes * total // max(images, 1), least, most)
    while shares.sum() != total:
        missing = sizes * total - shares * images
        if shares.sum() < total:
            shares[np.argmax(np.where(shares < most, missing, np.iinfo(np.int64).min))] += 1
        else:
            shares[np.argmin(np.where(shares > least, missing, np.iinfo(np.int64).max))] -= 1
    return shares


def _draw(classes: NDArray[np.int64], shares: NDArray[np.int64], seed: int, stream: int) -> NDArray[np.int64]:
    """Sorted indices of the first ``shares[c]`` images of each class c in an order drawn from (seed, stream)."""
    keys = np.random.PCG64([seed, stream]).random_raw(len(classes))
    order = np.lexsort((keys, classes))
    starts = np.searchsorted(classes[order], np.arange(len(shares)))
    rank = np.arange(len(classes)) - starts[classes[order]]
    return np.sort(order[rank < shares[classes[order]]])
