"""How much the neighbours' verdict hangs on metric, k and weights: one search a metric serves all of them.

For each metric: test accuracy at every k, with votes weighted by exp(similarity / 0.07); and, as `tuned`, k and weights
chosen together on validation (references: the training images), then measured once on test (references: both).

Euclidean similarity is -d^2 / 2m, m the mean squared length of the centred references: for centred features of one
length it differs from the cosine by a constant, so that a temperature means the same for both metrics. References
are centred for it, which changes no distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmark.evaluate import knn
from benchmark.evaluate.features import Features
from benchmark.evaluate.frozen_cell import FrozenCell
from benchmark.evaluate.linear import top1

NEIGHBOURS = (1, 5, 10, 20, 50, 200)
TEMPERATURES = (0.07, 0.1, 0.5, None)  # None: every neighbour has one vote
USUAL = 0.07

Search = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def state_protocol() -> dict[str, Any]:
    """What the evaluation's protocol states, by which its numbers are told from others'."""
    return {"k": list(NEIGHBOURS), "temperatures": list(TEMPERATURES), "metrics": list(METRICS), "usual": USUAL}


def evaluate(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """Yields, for each metric, test accuracy of each k, and of what validation chose; 0 stands for unweighted votes."""
    yield from search_grid(frozen.features)


def search_grid(features: Features) -> Iterator[tuple[str, float]]:
    x, y = features.train
    references, labels = (torch.cat([features.train[i], features.validation[i]]) for i in (0, 1))
    for metric, search in METRICS.items():
        neighbours = search(features.validation[0], x, max(NEIGHBOURS))
        choices = [(k, temperature) for k in NEIGHBOURS for temperature in TEMPERATURES]
        accuracy = [
            top1(count_votes(neighbours, y, features.classes, *choice), features.validation[1]) for choice in choices
        ]
        k, temperature = choices[max(range(len(choices)), key=accuracy.__getitem__)]
        neighbours = search(features.test[0], references, max(NEIGHBOURS))
        for any_k in NEIGHBOURS:
            yield (
                f"knn{any_k}_{metric}_top1",
                top1(count_votes(neighbours, labels, features.classes, any_k, USUAL), features.test[1]),
            )
        tuned = count_votes(neighbours, labels, features.classes, k, temperature)
        yield f"knn_{metric}_tuned_top1", top1(tuned, features.test[1])
        yield f"knn_{metric}_tuned_k", k
        yield f"knn_{metric}_tuned_temperature", temperature or 0


def count_votes(
    neighbours: tuple[Tensor, Tensor], labels: Tensor, classes: int, k: int, temperature: float | None
) -> Tensor:
    """(q, C) votes of the k nearest of the `neighbours`: similarity and row, both (q, n), nearest first."""
    similarity, nearest = (part[:, :k] for part in neighbours)
    if temperature is None:
        return knn.weigh(torch.zeros_like(similarity), labels[nearest], classes, 1.0)
    # From the nearest on, so that the weights of what is far from everything do not all become 0.
    return knn.weigh(similarity - similarity[:, :1], labels[nearest], classes, temperature)


def find_euclidean(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Similarity -d^2 / 2m and row, both (q, min(k, n)), of the references nearest to each query, nearest first."""
    mean = references.mean(dim=0)
    centred = references - mean
    scale = 2 * centred.square().sum(dim=1).mean().clamp(min=1e-12)
    neighbours = []
    for block in (queries - mean).split(knn.QUERIES):
        neighbours.append(torch.cdist(block, centred).topk(min(k, len(centred)), dim=1, largest=False))
    return -torch.cat([d for d, _ in neighbours]).square() / scale, torch.cat([nearest for _, nearest in neighbours])


METRICS: dict[str, Search] = {"cosine": knn.find_neighbours, "euclidean": find_euclidean}
