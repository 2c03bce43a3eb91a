"""What an evaluation is given: a frozen encoder, its projection head, and its images as they were in training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.augment.augmentation import parse
from benchmark.data.catalogue import entry
from benchmark.data.datasets import Data
from benchmark.data.source import Split
from benchmark.evaluate.features import Features, extract
from benchmark.training import build
from benchmark.training.batches import Batches
from methods.method import Method

CROP, CROP_AND_FLIP = "crop", "crop+flip"  # of 8 to 100 % of the area, as SimCLR and MoCo have it for their probes


def describe_sgd(epochs: int, batch: int, momentum: float, rates: Sequence[float]) -> dict[str, Any]:
    """What an evaluator that trains on `FrozenCell.labelled_batches` states of it in its protocol."""
    return {
        "epochs": epochs,
        "batch": batch,
        "momentum": momentum,
        "rates": list(rates),
        "schedule": "cosine",
        "augmentation": f"{CROP_AND_FLIP}; no flip where a mirrored image is of another class",
    }


@dataclass(frozen=True)
class FrozenCell:
    """A cell at its end. Evaluators change neither the encoder nor the head; `features` are extracted once for all."""

    encoder: nn.Module  # float32
    head: nn.Module | None  # g, (n, width) to (n, D), where the method has one
    data: Data
    batches: Batches  # of the cell, in float32: how pixels are normalised, and at which size
    device: torch.device
    teacher: nn.Module | None = None  # the momentum copy of the encoder, float32, where the method has one

    @cached_property
    def features(self) -> Features:
        """h of every image."""
        return extract(self.encoder, self.data, self.normalise, self.size, self.device)

    @property
    def normalise(self) -> Callable[[Tensor], Tensor]:
        """What training did to pixels in [0, 1]."""
        return self.batches.normalise

    @property
    def size(self) -> int:
        """Pixels of a view."""
        return self.batches.size

    def labelled_batches(self, split: Split, batch_size: int, seed: int) -> Batches:
        """Labelled batches of one augmented view an image, as the papers train their probes: crops, and flips where a
        mirrored image is of the same class."""
        text = CROP_AND_FLIP if entry(self.data.name).mirrored else CROP
        return replace(
            self.batches,
            split=_move(split, self.device),
            views=("crop",),
            augmentation=parse(text),
            batch_size=batch_size,
            seed=seed,
            labelled=True,
        )


def freeze(method: Method, data: Data, batches: Batches, device: torch.device) -> FrozenCell:
    """The method's networks, in float32, with images whose pixels are as `batches` made them."""
    others = (getattr(method, "head", None), build.momentum_encoder(method))
    head, teacher = (None if network is None else network.float() for network in others)
    return FrozenCell(method.encoder.float(), head, data, in_float32(batches), device, teacher)


def in_float32(batches: Batches) -> Batches:
    """The batches with views in float32, as encoders are evaluated."""
    return replace(batches, dtype=torch.float32, mean=batches.mean.float(), std=batches.std.float())


def _move(split: Split, device: torch.device) -> Split:
    images = split.images.to(device) if isinstance(split.images, Tensor) else split.images
    return Split(images, split.labels.to(device))
