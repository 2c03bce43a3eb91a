"""Image files as a dataset: which of them are which split, and where their pixels are kept.

In memory as centre squares of `side` pixels, the same squares in a file on disk (`cache`), or nowhere (`stream`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.data import identity
from benchmark.data.cache import Cached, open_cache
from benchmark.data.catalogue import Dataset, entry
from benchmark.data.files import Files, require_decoding, squares
from benchmark.data.source import Images, Indices, Rows, Source
from benchmark.data.survey import Survey
from benchmark.errors import UsageError

MEMORY = 4 * 2**30  # bytes; a folder that is kept in memory and larger than this is refused


def open_source(dataset: Dataset) -> Source:
    """The folder's splits. UsageError where it does not hold the images that the cell was asked for with."""
    identity.forget_surveys()
    present = identity.identify(dataset).fingerprint
    if dataset.fingerprint not in ("", present):
        folders = {"root": dataset.root, "unlabelled": dataset.unlabelled}
        settings = [f"dataset.{name}={folder}" for name, folder in folders.items() if folder]
        raise UsageError(
            f"{' and '.join(settings)} holds other images ({present}) than the cell was asked for with "
            f"({dataset.fingerprint}): ask for it by its words again, which is another cell, or bring the images back"
        )
    labelled, unlabelled = identity.survey_images(dataset)
    unlabelled_count = min(dataset.limit or len(unlabelled.paths), len(unlabelled.paths)) if unlabelled else 0
    require_memory(dataset, unlabelled_count + (sum(labelled.count(dataset)) if labelled else 0))
    unlabelled_rows = _rows(unlabelled, dataset)(unlabelled.training) if unlabelled else None
    if labelled is None:
        assert unlabelled_rows is not None
        return Source(unlabelled_rows, unlabelled_rows.take(np.empty(0, np.int64)), [])
    choose = _rows(labelled, dataset)
    validation = None if labelled.validation is None else choose(labelled.validation)
    return Source(choose(labelled.training), choose(labelled.test), labelled.classes, unlabelled_rows, validation)


def _rows(survey: Survey, dataset: Dataset) -> Callable[[Indices], Rows]:
    """What makes rows of the chosen images, all of which are known to decode."""
    require_decoding(survey.paths, survey.fingerprint)
    read = _choose_reader(survey, dataset)
    return lambda chosen: Rows(survey.labels[chosen], lambda indices: read(chosen[indices]))


def _choose_reader(survey: Survey, dataset: Dataset) -> Callable[[Indices], Images]:
    """What gives the chosen ones of all the images."""
    side = dataset.side or entry(dataset.name).side
    if dataset.stream:
        names = np.array(survey.paths)
        return lambda chosen: Files(names[chosen], side)
    if dataset.cache:
        cache_folder = Path(
            os.path.expanduser(dataset.cache_dir or f"{survey.root}.cache")
        )  # inside it would be a class
        name = f"{survey.root.name[:50]}-{side}-{survey.fingerprint}"
        images, totals = open_cache(survey.paths, cache_folder / name, side)
        return lambda chosen: Cached(images, totals, chosen)

    def read(chosen: Indices) -> Tensor:
        chosen_squares = torch.empty((len(chosen), 3, side, side), dtype=torch.uint8)
        pixels = chosen_squares.numpy()
        for row, square in enumerate(squares([survey.paths[i] for i in chosen], side)):
            pixels[row] = square
        return chosen_squares

    return read


def require_memory(dataset: Dataset, images: int) -> None:
    """Raise UsageError where that many images are too many to be kept in memory."""
    if dataset.cache or dataset.stream:
        return
    size = 3 * (dataset.side or entry(dataset.name).side) ** 2
    if images * size > MEMORY:
        needed, allowed = (f"{number / 2**30:.1f} GiB" for number in (images * size, MEMORY))
        fits = int((MEMORY / (3 * images)) ** 0.5)
        raise UsageError(
            f"dataset {dataset.name} needs {images} images x {size} bytes = {needed} of memory, more than {allowed}: "
            f"give a smaller dataset.side, {fits} at most, or a dataset.limit; or dataset.cache=SIZE to keep them on "
            "disk, or dataset.stream=true to decode them anew for every view"
        )
