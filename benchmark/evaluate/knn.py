"""k nearest neighbours of the frozen features: cosine, votes weighted by exp(similarity / temperature).

As in InstDisc (arXiv:1805.01978, section 3.4); temperature 0.07, k 20 and 200, k never above the number of references.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.evaluate.features import Features
from benchmark.evaluate.linear import balanced_accuracy, is_right

NEIGHBOURS, TEMPERATURE = (20, 200), 0.07
QUERIES = 1024  # queries scored at once


def evaluate(features: Features) -> Generator[tuple[str, float], None, Tensor]:
    """Yields test accuracy for each k, plain and balanced; references are train and validation. Returns which test
    images were right by the first k, (n,) bool."""
    references, labels = (torch.cat([features.train[i], features.validation[i]]) for i in (0, 1))
    similarity, nearest = find_neighbours(features.test[0], references, max(NEIGHBOURS))
    rights = []
    for k in NEIGHBOURS:
        votes = weigh(similarity[:, :k], labels[nearest[:, :k]], features.classes, TEMPERATURE)
        rights.append(is_right(votes, features.test[1]))
        yield f"knn{k}_top1", float(rights[-1].double().mean())
        yield f"knn{k}_balanced", balanced_accuracy(votes, features.test[1])
    return rights[0]


def vote(queries: Tensor, references: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """(q, C) summed weights of the classes of the min(k, n) references most similar to each query."""
    similarity, nearest = find_neighbours(queries, references, k)
    return weigh(similarity, labels[nearest], classes, temperature)


def find_neighbours(queries: Tensor, references: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosine similarity and row, both (q, min(k, n)), of the references most similar to each query, nearest first."""
    references = F.normalize(references, dim=1)
    parts = []
    for block in F.normalize(queries, dim=1).split(QUERIES):
        parts.append((block @ references.T).topk(min(k, len(references)), dim=1))
    return torch.cat([similarity for similarity, _ in parts]), torch.cat([nearest for _, nearest in parts])


def weigh(similarity: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """(q, C) sums of exp(similarity / temperature) over the neighbours of each class; both inputs are (q, k)."""
    weight = (similarity / temperature).exp()
    return weight.new_zeros(len(weight), classes).scatter_add_(1, labels, weight)
