"""The frozen encoder on another dataset: linear probe and nearest neighbours there, as on its own.

Images are resized to the views of the training, and their pixels normalised as in training: both belong to the encoder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmark.data.catalogue import Dataset
from benchmark.data.datasets import Data
from benchmark.evaluate import knn, linear
from benchmark.evaluate.frozen_cell import FrozenCell
from benchmark.settings.address import name_data


def state_protocol(dataset: Dataset) -> dict[str, Any]:
    """What the evaluation's protocol states, by which its numbers are told from others'."""
    return {
        "dataset": name_data(dataset),
        "validation": dataset.validation,
        "split_seed": dataset.split_seed,
        "linear_strengths": [round(s, 12) for s in linear.STRENGTHS],
        "knn": {"k": list(knn.NEIGHBOURS), "temperature": knn.TEMPERATURE, "similarity": "cosine"},
    }


def evaluate(frozen: FrozenCell, data: Data) -> Iterator[tuple[str, float]]:
    """Yields the headline accuracies on `data`."""
    features = replace(frozen, data=data).features
    for name, value in (*linear.evaluate(features), *knn.evaluate(features)):
        yield f"transfer_{data.name}_{name}", value
