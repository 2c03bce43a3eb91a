"""Frozen encoders to numbers, under one protocol for all methods. Each evaluator yields (name, value)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from benchmark.data.datasets import Data
from benchmark.data.source import Withheld
from benchmark.evaluate import knn, linear, representation
from benchmark.evaluate.features import extract_split
from benchmark.evaluate.frozen_cell import FrozenCell
from benchmark.settings.address import data_name, digest
from benchmark.settings.cell import Settings


class NotFinite(Exception):
    """The features are not finite: nothing can be said of them."""


VERSION = 1  # raised when a change to the evaluators alters their numbers


def protocol(settings: Settings) -> dict[str, Any]:
    """What decides whether two numbers may be compared: data, split, view size, probes and their version."""
    dataset = settings.dataset
    return ({"test": "withheld"} if settings.trial else {}) | {
        "version": VERSION,
        "dataset": data_name(dataset),
        "side": dataset.side if not dataset.stream else "streamed",
        "limit": dataset.limit,
        "validation": dataset.validation,
        "split_seed": dataset.split_seed,
        "view_size": settings.view_size,
        "features": "pooled backbone output, eval mode, un-augmented image, float32",
        "linear": "L-BFGS on features standardised by their training moments, strength by validation, refit, test once",
        "linear_strengths": [round(s, 12) for s in linear.STRENGTHS],
        "knn": {"k": list(knn.NEIGHBOURS), "temperature": knn.TEMPERATURE, "similarity": "cosine"},
        "health": {"images": representation.IMAGES, "positives": representation.POSITIVES},
    }


def protocol_hash(settings: Settings) -> str:
    return digest(protocol(settings))


def describe_test_set(data: Data) -> dict[str, float]:
    """What the accuracies are measured on: test images, their classes, the share of the largest class; and how many
    references kNN has."""
    if not data.class_names or isinstance(data.test, Withheld):
        return {}
    return {
        "images": len(data.test),
        "classes": len(data.class_names),
        "largest_class": int(data.test.labels.bincount().max()) / len(data.test),
        "references": len(data.train) + len(data.validation),
    }


def evaluate(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """All headline numbers of a frozen encoder; without labels no accuracy. Raises `NotFinite`."""
    features = frozen.features
    _require_finite(features.train, features.validation, features.test)
    if frozen.data.class_names:
        yield from linear.evaluate(features)
        yield from knn.evaluate(features)
    yield from _health(frozen, features.validation[0])


def evaluate_trial(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """What settings are chosen by: the probe's accuracy on validation images, as `evaluate` yields it, and their
    features' health. The test set has no part in it, and `frozen.data` has none. Raises `NotFinite`."""
    data, make = frozen.data, (frozen.normalise, frozen.size, frozen.device)
    train, validation = (extract_split(frozen.encoder, split, *make) for split in (data.train, data.validation))
    _require_finite(train, validation)
    yield from linear.choose(train, validation, len(data.class_names)).items()
    yield from _health(frozen, validation[0])


def _require_finite(*splits: tuple[Tensor, Tensor]) -> None:
    if not all(bool(x.isfinite().all()) for x, _ in splits):
        raise NotFinite("non-finite features")


def _health(frozen: FrozenCell, features: Tensor) -> Iterator[tuple[str, float]]:
    """Of the features (n, D) of the validation images."""
    yield from representation.evaluate(
        frozen.encoder, features, frozen.data.validation, frozen.normalise, frozen.size, frozen.device
    )
