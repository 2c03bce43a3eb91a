"""Frozen encoders to numbers, under one protocol for all methods. Each evaluator yields (name, value)."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from benchmark.data.datasets import Data
from benchmark.data.source import Withheld
from benchmark.evaluate import knn, linear, representation
from benchmark.evaluate.features import extract_split
from benchmark.evaluate.frozen_cell import FrozenCell
from benchmark.settings.address import digest, name_data
from benchmark.settings.cell import Settings
from results import record


class NotFinite(Exception):
    """The features are not finite: nothing can be said of them."""


VERSION = 1  # raised when a change to the evaluators alters their numbers


def describe_protocol(settings: Settings) -> dict[str, Any]:
    """What decides whether two numbers may be compared: data, split, view size, probes and their version."""
    dataset = settings.dataset
    return ({"test": "withheld"} if settings.trial else {}) | {
        "version": VERSION,
        "dataset": name_data(dataset),
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


def hash_protocol(settings: Settings) -> str:
    """Ten hexadecimal digits of the protocol, as a record holds them."""
    return digest(describe_protocol(settings))


def describe_test_set(data: Data) -> dict[str, Any]:
    """What the accuracies are measured on: test images, a digest of their labels in their order, their classes, the
    share of the largest class; and how many references kNN has."""
    if not data.class_names or isinstance(data.test, Withheld):
        return {}
    labels = data.test.labels
    return {
        "images": len(data.test),
        "order": hashlib.sha256(labels.numpy().astype("<i8").tobytes()).hexdigest()[:10],
        "classes": len(data.class_names),
        "largest_class": int(labels.bincount().max()) / len(data.test),
        "references": len(data.train) + len(data.validation),
    }


def evaluate(frozen: FrozenCell) -> Generator[tuple[str, float], None, dict[str, str]]:
    """Yields all headline numbers of a frozen encoder; without labels no accuracy. Returns which test images were
    right, by the linear probe and by the first kNN, as a record holds it. Raises `NotFinite`."""
    features, correct = frozen.features, dict[str, str]()
    _require_finite(features.train, features.validation, features.test)
    if frozen.data.class_names:
        correct["linear_top1"] = _pack((yield from linear.evaluate(features)))
        correct[f"knn{knn.NEIGHBOURS[0]}_top1"] = _pack((yield from knn.evaluate(features)))
    yield from _measure_representation(frozen, features.validation[0])
    return correct


def evaluate_trial(frozen: FrozenCell) -> Generator[tuple[str, float], None, dict[str, str]]:
    """What settings are chosen by: the probe's accuracy on validation images, as `evaluate` yields it, and what
    `representation` measures of their features. The test set has no part in it, and `frozen.data` has none. Raises
    `NotFinite`."""
    data, make = frozen.data, (frozen.normalise, frozen.size, frozen.device)
    train, validation = (extract_split(frozen.encoder, split, *make) for split in (data.train, data.validation))
    _require_finite(train, validation)
    yield from linear.choose(train, validation, len(data.class_names)).items()
    yield from _measure_representation(frozen, validation[0])
    return {}


def _require_finite(*splits: tuple[Tensor, Tensor]) -> None:
    if not all(bool(x.isfinite().all()) for x, _ in splits):
        raise NotFinite("non-finite features")


def _measure_representation(frozen: FrozenCell, features: Tensor) -> Iterator[tuple[str, float]]:
    """Of the features (n, D) of the validation images."""
    yield from representation.evaluate(
        frozen.encoder, features, frozen.data.validation, frozen.normalise, frozen.size, frozen.device
    )


def _pack(right: Tensor) -> str:
    return record.pack(np.packbits(right.cpu().numpy()).tobytes())
