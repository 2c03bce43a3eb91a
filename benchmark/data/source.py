"""Images chosen but not read yet, and images at hand: what every dataset is made of before and after it is split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.errors import UsageError

Indices = NDArray[np.int64]


class OnDisk(Protocol):
    """uint8 images (n, 3, H, W) that are read when they are asked for."""

    @property
    def device(self) -> torch.device:
        """Where an index has to be, and where the images then are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice, /) -> Tensor: ...

    def sums(self) -> tuple[int, list[int], list[int]]:
        """Pixels, and the sums of their values and of the squares of those, of each of the three channels."""


Images = Tensor | OnDisk


@dataclass(frozen=True, eq=False)
class Split:
    """``images``: uint8 (n, 3, H, W), contiguous where they are a tensor; ``labels``: int64 (n,), -1 where there is
    none."""

    images: Images
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


class WithheldRead(Exception):
    """Something asked for a test set that it may not see."""


class Withheld(Split):
    """A test set that is not there: whoever reads its images, its labels or its length gets `WithheldRead`."""

    def __init__(self) -> None:
        pass

    def __getattr__(self, name: str) -> NoReturn:
        raise WithheldRead(f"the test set is withheld from what chooses settings, and its {name} were asked for")


@dataclass(frozen=True, eq=False)
class Rows:
    """Images chosen but not read yet: ``labels`` (n,), and ``read(indices)`` that gives those images.

    Splits and limits act on this, so that only the images that are kept are decoded and copied.
    """

    labels: Indices
    read: Callable[[Indices], Images]

    def take(self, indices: Indices) -> Rows:
        """Those of the rows at `indices` (m,)."""
        return Rows(self.labels[indices], lambda chosen: self.read(indices[chosen]))

    def split(self) -> Split:
        """All of the rows, read."""
        return Split(self.read(np.arange(len(self.labels))), torch.from_numpy(self.labels))


@dataclass(frozen=True, eq=False)
class Source:
    """A dataset as published: the whole training set, the test set, and what else it has: unlabelled images, and a
    validation set of its own, without which one is carved from the training set."""

    training: Rows
    test: Rows
    class_names: list[str]
    unlabelled: Rows | None = None
    validation: Rows | None = None


def spread_evenly(count: int, most: int) -> Tensor:
    """(n,) int64: at most `most` of `count` rows, evenly spaced, as a folder of images is sorted by class."""
    return torch.linspace(0, count - 1, min(most, count)).round().long()


def require_images(labels: Indices, class_names: list[str], least: int, uses: str) -> None:
    """Raise UsageError where a class has fewer than ``least`` images, which ``uses`` need."""
    counts = np.bincount(labels, minlength=len(class_names))
    if counts.min() < least:
        name = class_names[int(counts.argmin())]
        raise UsageError(
            f"class {name!r} has too few images, {counts.min()} of at least {least} ({uses} take one of each class): "
            "add images or remove the class"
        )
