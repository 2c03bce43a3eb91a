"""Frozen features: the pooled output of the backbone in eval mode, of un-augmented images, once for all evaluators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmark.augment.transforms import resize
from benchmark.data.datasets import Data
from benchmark.data.files import read_batches
from benchmark.data.source import Images, Split
from benchmark.training.embed import ROWS


@dataclass(frozen=True)
class Features:
    """Features (n, D) float32 and labels (n,) of each split, on one device."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int


@torch.no_grad()
def encode(
    encoder: nn.Module,
    images: Images,
    prepare: Callable[[Tensor], Tensor],
    device: torch.device,
    rows: Tensor | None = None,
    at_once: int = ROWS,
) -> Tensor:
    """(n, D) float32 features of uint8 `images`, of all or of the n `rows`; `prepare` makes the encoder's input from
    `at_once` of them."""
    encoder.eval()
    rows = torch.arange(len(images)) if rows is None else rows
    blocks = rows.to(images.device).split(at_once)
    parts = [encoder(prepare(block.to(device))) for block in read_batches(images, blocks)]
    return torch.cat(parts).float()


def extract(
    encoder: nn.Module, data: Data, normalised: Callable[[Tensor], Tensor], size: int, device: torch.device
) -> Features:
    """Every split through the frozen encoder, batch norm on its running statistics."""
    splits = data.train, data.validation, data.test
    train, validation, test = (extract_split(encoder, split, normalised, size, device) for split in splits)
    return Features(train, validation, test, len(data.class_names))


def extract_split(
    encoder: nn.Module, split: Split, normalised: Callable[[Tensor], Tensor], size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Features and labels of one split."""
    return encode(encoder, split.images, lambda x: normalised(resize(x, size)), device), split.labels.to(device)
