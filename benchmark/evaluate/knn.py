"""k nearest neighbours of the frozen features: cosine, votes weighted by exp(similarity / temperature).

As in InstDisc (arXiv:1805.01978, section 3.4); temperature 0.07, k 20 and 200, k never above the number of references.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.evaluate.features import Features
from benchmark.evaluate.linear import top1

NEIGHBOURS, TEMPERATURE = (20, 200), 0.07
QUERIES = 1024  # queries scored at once


def evaluate(features: Features) -> Iterator[tuple[str, float]]:
    """Yields test accuracy for each k; references are train and validation."""
    references, labels = (torch.cat([features.train[i], features.validation[i]]) for i in (0, 1))
    for k in NEIGHBOURS:
        votes = vote(features.test[0], references, labels, features.classes, k, TEMPERATURE)
        yield f"knn{k}_top1", top1(votes, features.test[1])


def vote(queries: Tensor, references: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """(q, C) summed weights of the classes of the min(k, n) references most similar to each query."""
    references = F.normalize(references, dim=1)
    votes = []
    for block in F.normalize(queries, dim=1).split(QUERIES):
        similarity, nearest = (block @ references.T).topk(min(k, len(references)), dim=1)
        weight = (similarity / temperature).exp()
        votes.append(weight.new_zeros(len(block), classes).scatter_add_(1, labels[nearest], weight))
    return torch.cat(votes)
