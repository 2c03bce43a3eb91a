"""Every dataset as uint8 images (n, 3, H, W), int64 labels, class names and splits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.data.catalogue import LAYOUTS, entry, location, require, subfolders
from benchmark.data.splits import limited, stratified
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from benchmark.config import Dataset

TEST_SEED = 1797  # draws the test images where none are published; no setting moves an image out of the test set
FOLDER_BYTES = 4 * 2**30  # a `folder` dataset larger than this in memory is refused
_CHUNK = 4096  # images copied or counted at a time

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """``images``: uint8 (n, 3, H, W), contiguous; ``labels``: int64 (n,), -1 where there is none."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class Data:
    """A dataset in memory.

    ``pretrain`` is what methods train on: `train` itself, but for STL-10 its unlabelled images. Probes are fitted on
    ``train``, chosen on ``validation`` (a stratified share of the training set that nothing trains on), and measured
    on ``test``. ``mean`` and ``std`` (population) are those of each channel of ``pretrain``, images scaled to [0, 1].
    """

    name: str
    pretrain: Split
    train: Split
    validation: Split
    test: Split
    class_names: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Images chosen but not read yet: ``labels`` (n,), and ``read(indices)`` that gives uint8 (len(indices), 3, H, W).

    Splits and limits act on this, so that only the images that are kept are decoded and copied.
    """

    labels: Indices
    read: Callable[[Indices], Tensor]

    def take(self, indices: Indices) -> _Rows:
        return _Rows(self.labels[indices], lambda chosen: self.read(indices[chosen]))

    def split(self) -> Split:
        return Split(self.read(np.arange(len(self.labels))), torch.from_numpy(self.labels))


@dataclass(frozen=True, eq=False)
class _Source:
    """A dataset as published: the whole training set, the test set, and unlabelled images if it has any."""

    training: _Rows
    test: _Rows
    class_names: list[str]
    unlabelled: _Rows | None = None


def load(dataset: Dataset) -> Data:
    """Read (or download) a dataset and split it.

    ``dataset.limit`` takes a stratified subset of the training set before the validation share is carved from it; a
    tiny one gives validation more than its fraction, as each class keeps an image there. Of STL-10 it takes as many of
    the unlabelled images, and of the labelled ones if there are as many. The test set is never limited.
    UsageError: see `require`; a limit out of range; files missing, damaged, or too many for memory.
    """
    require(dataset)
    if dataset.name == "digits":
        source = _digits()
    elif dataset.name == "folder":
        source = _folder(dataset)
    else:
        source = _published(dataset)
    _require_images(source.training.labels, source.class_names, 2, "train and validation")
    training, unlabelled = _limit(dataset, source)
    rest, taken = stratified(training.labels, dataset.validation, dataset.split_seed)
    if dataset.name == "folder":
        _require_memory(dataset, len(training.labels) + len(source.test.labels))
    train = training.take(rest).split()
    pretrain = train if unlabelled is None else unlabelled.split()
    mean, std = channel_statistics(pretrain.images)
    return Data(
        name=dataset.name,
        pretrain=pretrain,
        train=train,
        validation=training.take(taken).split(),
        test=source.test.split(),
        class_names=source.class_names,
        mean=mean,
        std=std,
    )


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of each channel of uint8 (n, 3, H, W) images scaled to [0, 1].

    Exact up to one rounding: pixel values are counted, a chunk at a time, and summed as whole numbers.
    """
    counts = torch.zeros(3, 256, dtype=torch.int64)
    for chunk in images.split(_CHUNK):
        for channel in range(3):
            counts[channel] += torch.bincount(chunk[:, channel].flatten(), minlength=256)
    values = torch.arange(256)
    n, first, second = int(counts[0].sum()), (counts @ values).tolist(), (counts @ values**2).tolist()
    mean = tuple(x / (255 * n) for x in first)
    return mean, tuple((n * xx - x * x) ** 0.5 / (255 * n) for x, xx in zip(first, second, strict=True))


def _limit(dataset: Dataset, source: _Source) -> tuple[_Rows, _Rows | None]:
    """The training set and the unlabelled images, if any, less what ``dataset.limit`` leaves out."""
    training, unlabelled, count = source.training, source.unlabelled, dataset.limit
    if count == 0:
        return training, unlabelled
    smallest, largest = 2 * len(source.class_names), len((unlabelled or training).labels)
    if not smallest <= count <= largest:
        raise UsageError(
            f"dataset.limit={count} is not allowed for dataset {dataset.name}: give from {smallest} (an image of each "
            f"of {len(source.class_names)} classes to train and one to validate on) to {largest}, or 0 for all"
        )
    if count < len(training.labels):
        training = training.take(limited(training.labels, count, dataset.split_seed, least=2))
    if unlabelled is not None:
        unlabelled = unlabelled.take(limited(unlabelled.labels, count, dataset.split_seed))
    return training, unlabelled


def _require_images(labels: Indices, class_names: list[str], least: int, uses: str) -> None:
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() < least:
        name = class_names[int(counts.argmin())]
        raise UsageError(
            f"class {name!r} has too few images, {counts.min()} of at least {least} ({uses} take one of each class): "
            "add images or remove the class"
        )


def _array_rows(array: Any, labels: Any) -> _Rows:
    """Rows of a uint8 array or tensor (n, H, W), (n, 3, H, W) or (n, H, W, 3); grey becomes three equal channels."""
    images = torch.as_tensor(array)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    elif images.shape[1] != 3:
        images = images.permute(0, 3, 1, 2)

    def read(indices: Indices) -> Tensor:
        # Filled chunk by chunk: permuting STL-10 whole would hold it three times.
        kept = torch.empty((len(indices), 3, *images.shape[2:]), dtype=torch.uint8)
        for start in range(0, len(indices), _CHUNK):
            kept[start : start + _CHUNK] = images[torch.from_numpy(indices[start : start + _CHUNK])]
        return kept

    return _Rows(np.asarray(labels, dtype=np.int64), read)


def _digits() -> _Source:
    from sklearn.datasets import load_digits

    found = load_digits()
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    rows = _array_rows(pixels, found.target)
    rest, taken = stratified(rows.labels, 0.25, TEST_SEED)
    return _Source(rows.take(rest), rows.take(taken), [str(digit) for digit in found.target_names])


def _published(dataset: Dataset) -> _Source:
    """A dataset of torchvision's, from the arrays it holds."""
    from torchvision import datasets

    kind = getattr(datasets, "FashionMNIST" if dataset.name == "fashion_mnist" else dataset.name.upper())
    if dataset.name in ("stl10", "svhn"):
        parts = ["train", "test", "unlabeled"] if dataset.name == "stl10" else ["train", "test"]
        found = [_open(dataset, kind, split=part) for part in parts]
        rows = [_array_rows(part.data, part.labels) for part in found]
    else:
        found = [_open(dataset, kind, train=part) for part in (True, False)]
        rows = [_array_rows(part.data, part.targets) for part in found]
    names = getattr(found[0], "classes", None) or [str(label) for label in range(10)]  # SVHN's classes are the digits
    return _Source(rows[0], rows[1], list(names), unlabelled=rows[2] if len(rows) > 2 else None)


def _open(dataset: Dataset, kind: Callable[..., Any], **part: str | bool) -> Any:
    """One split of a torchvision dataset, its many ways of failing turned into one UsageError."""
    try:
        return kind(root=str(location(dataset)), download=dataset.download, **part)
    except (RuntimeError, OSError, ValueError, TypeError, LookupError, AssertionError, HTTPException) as error:
        # torchvision's own advice names its Python argument, and its reports can run over several lines.
        said = " ".join(str(error).split()).removesuffix("You can use download=True to download it").strip(" .")
        found = entry(dataset.name)
        if dataset.download:
            what, todo = "downloaded to", f"check the network, or put the files there by hand ({found.source})"
        else:
            files = ", ".join(found.files)
            what = "read from"
            todo = f"remove {files} and add dataset.download=true, or dataset.root=DIR if a whole copy is elsewhere"
        raise UsageError(
            f"dataset {dataset.name} cannot be {what} {dataset.root!r} ({said or type(error).__name__}): {todo}"
        ) from error


def _folder(dataset: Dataset) -> _Source:
    """Images in class folders. Of `test` and `val` the test set is `test`, if it has class folders."""
    root = location(dataset)
    side = dataset.side or entry("folder").side
    held_out = None
    # A folder `train` without folders inside it is a class of that name.
    if next(subfolders(root / "train"), None) is not None:
        held_out = next((root / name for name in ("test", "val") if any(subfolders(root / name))), None)
        root = root / "train"
    rows, names = _class_folders(root, side)
    if held_out is None:
        _require_images(rows.labels, names, 3, "train, validation and test")
        rest, taken = stratified(rows.labels, 0.2, TEST_SEED)
        return _Source(rows.take(rest), rows.take(taken), names)
    test, test_names = _class_folders(held_out, side)
    if names != test_names:
        only = ((root, sorted(set(names) - set(test_names))), (held_out, sorted(set(test_names) - set(names))))
        told = "; ".join(f"only in {part.name}: {', '.join(few[:5])}" for part, few in only if few)
        raise UsageError(f"class folders of {str(root)!r} and {str(held_out)!r} must be the same ({told})")
    return _Source(rows, test, names)


def _class_folders(folder: Path, side: int) -> tuple[_Rows, list[str]]:
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(folder))
    except OSError as error:
        raise UsageError(f"dataset folder: {error} ({str(folder)!r}); {LAYOUTS}") from error
    if len(found.classes) < 2:
        raise UsageError(f"dataset folder: {str(folder)!r} holds only the class {found.classes[0]!r}; {LAYOUTS}")
    paths = [path for path, _ in found.samples]

    def read(indices: Indices) -> Tensor:
        kept = torch.empty((len(indices), 3, side, side), dtype=torch.uint8)
        pixels = kept.numpy()

        # Where one file is bad, `map` cancels those not begun, so that the error does not wait for the whole folder.
        with ThreadPoolExecutor() as pool:
            for row, square in enumerate(pool.map(lambda index: _decode(paths[index], side), indices)):
                pixels[row] = square
        return kept

    return _Rows(np.asarray(found.targets, dtype=np.int64), read), found.classes


def _decode(path: str, side: int) -> NDArray[np.uint8]:
    """The image file's centre square, resized with antialiasing to (3, side, side); UsageError if it is unreadable."""
    # Pillow reads every kind of file that ImageFolder lists, which torchvision.io does not (bmp, tiff, ppm).
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would clip these at 255, which leaves a white image
                raise ValueError(f"pixels of mode {image.mode}, not 8 bits a channel")
            square = ImageOps.fit(image.convert("RGB"), (side, side), method=Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        said = "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise UsageError(f"image {path!r} cannot be read ({said}): replace or remove it") from error
    return np.asarray(square).transpose(2, 0, 1)


def _require_memory(dataset: Dataset, images: int) -> None:
    size = 3 * (dataset.side or entry("folder").side) ** 2
    if images * size > FOLDER_BYTES:
        needed, allowed = (f"{number / 2**30:.1f} GiB" for number in (images * size, FOLDER_BYTES))
        fits = int((FOLDER_BYTES / (3 * images)) ** 0.5)
        raise UsageError(
            f"dataset folder needs {images} images x {size} bytes = {needed} of memory, more than {allowed}: give a "
            f"smaller dataset.side, {fits} at most, or a dataset.limit"
        )
