"""Every dataset as uint8 images (n, 3, H, W), int64 labels, class names and splits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.data import folder
from benchmark.data.catalogue import RUN, Dataset, entry, location, require
from benchmark.data.files import sum_pixels
from benchmark.data.layouts.fetch import explain_failures
from benchmark.data.source import Images, Indices, Rows, Source, Split, Withheld, require_images
from benchmark.data.splits import TEST_SEED, stratify, subsample
from benchmark.errors import UsageError
from results.quantity import quantify

_CHUNK = 4096  # images copied at a time
MEASURED = 3  # images without labels that features are measured on: of two, all lie on a line


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset, in memory or, where its images lie as files and settings say so, on disk.

    ``pretrain`` is what methods train on: `train` itself, or the unlabelled images that STL-10 has and a folder may
    have beside it. Probes are fitted on ``train``, chosen on ``validation`` (the dataset's own, or a stratified share
    of the training set that nothing trains on), and measured on ``test``. Without any labels there are no
    ``class_names``, and ``test`` is ``validation``. ``mean`` and ``std`` (population) are those of each channel of
    ``pretrain``, images scaled to [0, 1].
    """

    name: str
    pretrain: Split
    train: Split
    validation: Split
    test: Split
    class_names: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load(dataset: Dataset, test: bool = True) -> Data:
    """Read (or download) a dataset and split it. Without ``test`` its test images are not read, and ``Data.test`` is
    `Withheld`.

    ``dataset.limit`` takes a stratified subset of the training set before the validation share is carved from it; a
    tiny one gives validation more than its fraction, as each class keeps an image there. Of STL-10 it takes as many of
    the unlabelled images, and of the labelled ones if there are as many. The test set is never limited.
    UsageError: see `require`; a limit out of range; files missing, damaged, or too many for memory.
    """
    require(dataset)
    source = folder.open_source(dataset) if entry(dataset.name).image_files else read_arrays(dataset)
    training, unlabelled = _limit(dataset, source)
    labelled, validation = _validate_on(dataset, source, training)
    test_rows = source.test if source.class_names else validation  # without labels it only has images to look at
    train = labelled.split()
    pretrain = train if unlabelled is None else unlabelled.split()
    mean, std = channel_statistics(pretrain.images)
    return Data(
        name=dataset.name,
        pretrain=pretrain,
        train=train,
        validation=validation.split(),
        test=test_rows.split() if test else Withheld(),
        class_names=source.class_names,
        mean=mean,
        std=std,
    )


def read_arrays(dataset: Dataset) -> Source:
    """A dataset whose images are arrays, not files, whole and in its own order."""
    return _digits() if dataset.name == "digits" else _load_from_torchvision(dataset)


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of each channel of uint8 (n, 3, H, W) images scaled to [0, 1].

    Exact up to one rounding, but for streamed images, of which some are counted.
    """
    n, first, second = sum_pixels(images) if isinstance(images, Tensor) else images.sums()
    mean = tuple(x / (255 * n) for x in first)
    return mean, tuple((n * xx - x * x) ** 0.5 / (255 * n) for x, xx in zip(first, second, strict=True))


def _validate_on(dataset: Dataset, source: Source, training: Rows) -> tuple[Rows, Rows]:
    """What is trained on, and what is validated on: the dataset's own validation set, or a share of `training`."""
    if source.validation is not None:
        return training, source.validation
    if source.class_names:
        require_images(training.labels, source.class_names, 2, "train and validation")
    to_train, to_validate = stratify(training.labels, dataset.validation, _split_seed(dataset))
    if not source.class_names and len(to_validate) < MEASURED:
        share = math.ceil(100 * MEASURED / len(training.labels)) / 100
        word = f"dataset.validation={share:g}, or " if share < 1 else ""
        raise UsageError(
            f"dataset.validation={dataset.validation} leaves {quantify(len(to_validate), 'image')} of "
            f"{len(training.labels)} without labels to measure features on, and at least {MEASURED} are needed: "
            f"{word}more images"
        )
    return training.take(to_train), training.take(to_validate)


def _split_seed(dataset: Dataset) -> int:
    """The seed of the split. UsageError where it is the run's, which only a cell knows."""
    if dataset.split_seed == RUN:
        raise UsageError(f"dataset.split_seed={RUN} is the seed of a run, and here is none: give a number")
    return dataset.split_seed


def _limit(dataset: Dataset, source: Source) -> tuple[Rows, Rows | None]:
    """The training set and the unlabelled images, if any, less what ``dataset.limit`` leaves out."""
    training, unlabelled, count = source.training, source.unlabelled, dataset.limit
    if count == 0:
        return training, unlabelled
    smallest, largest = max(3, 2 * len(source.class_names)), len((unlabelled or training).labels)
    if not smallest <= count <= largest:
        raise UsageError(
            f"dataset.limit={count} is not allowed for dataset {dataset.name}: give from {smallest} (an image of each "
            f"of {len(source.class_names)} classes to train and one to validate on) to {largest}, or 0 for all"
        )
    if count < len(training.labels):
        training = training.take(subsample(training.labels, count, _split_seed(dataset), least=2))
    if unlabelled is not None:
        unlabelled = unlabelled.take(subsample(unlabelled.labels, count, _split_seed(dataset)))
    return training, unlabelled


def _array_rows(array: Any, labels: Any) -> Rows:
    """Rows of a uint8 array or tensor (n, H, W), (n, 3, H, W) or (n, H, W, 3); grey becomes three equal channels."""
    images = torch.as_tensor(array)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[1] != 3:
        images = images.permute(0, 3, 1, 2)

    def read(indices: Indices) -> Tensor:
        # Filled chunk by chunk: permuting STL-10 whole would hold it three times.
        chosen = torch.empty((len(indices), 3, *images.shape[2:]), dtype=torch.uint8)
        for start in range(0, len(indices), _CHUNK):
            chosen[start : start + _CHUNK] = images[torch.from_numpy(indices[start : start + _CHUNK])]
        return chosen

    return Rows(np.asarray(labels, dtype=np.int64), read)


def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    rows = _array_rows(pixels, digits.target)
    to_train, to_test = stratify(rows.labels, 0.25, TEST_SEED)
    return Source(rows.take(to_train), rows.take(to_test), [str(digit) for digit in digits.target_names])


def _load_from_torchvision(dataset: Dataset) -> Source:
    """A dataset of torchvision's, from the arrays it holds."""
    from torchvision import datasets

    dataset_class = getattr(datasets, "FashionMNIST" if dataset.name == "fashion_mnist" else dataset.name.upper())
    if dataset.name in ("stl10", "svhn"):
        split_names = ["train", "test", "unlabeled"] if dataset.name == "stl10" else ["train", "test"]
        splits = [_open(dataset, dataset_class, split=part) for part in split_names]
        rows = [_array_rows(part.data, part.labels) for part in splits]
    else:
        splits = [_open(dataset, dataset_class, train=part) for part in (True, False)]
        rows = [_array_rows(part.data, part.targets) for part in splits]
    names = getattr(splits[0], "classes", None) or [str(label) for label in range(10)]  # SVHN's classes are the digits
    return Source(rows[0], rows[1], list(names), unlabelled=rows[2] if len(rows) > 2 else None)


def _open(dataset: Dataset, dataset_class: Callable[..., Any], **part: str | bool) -> Any:
    """One split of a torchvision dataset."""
    with explain_failures(dataset):
        return dataset_class(root=str(location(dataset)), download=dataset.download, **part)
