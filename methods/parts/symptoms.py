"""Signs of a collapse that several methods share, each as (name, what is seen and the remedy)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

NEAR = 0.002  # of the loss at chance; stuck trainings were within 0.1 %, slow ones that learnt 0.3 % away
CLOSE = 0.01  # within which little was told apart: no collapse, but worth a word
SHARE = 0.9  # of the images in one cluster
ALIKE = 0.99  # mean cosine of the keys in a queue
GAP = 0.1  # least difference of mean cosines that says something of a queue's age (ours)


def at_chance(loss: float, chance: float, remedy: str) -> Iterator[tuple[str, str]]:
    """The loss is within 0.2 % of the one that equal embeddings have: nothing is told apart; or within 1 %: little."""
    if abs(loss - chance) <= NEAR * abs(chance):
        yield "chance", f"loss stuck at {loss:.3f}, where nothing is told apart ({chance:.3f}); {remedy}"
    elif abs(loss - chance) <= CLOSE * abs(chance):
        yield "sign: chance", f"loss of {loss:.3f} is near {chance:.3f}, where nothing is told apart; {remedy}"


def one_takes_all(assigned: Tensor, clusters: int, remedy: str) -> Iterator[tuple[str, str]]:
    """More than nine tenths of the images are in one of several clusters. `assigned`: (n,) int64."""
    counts = torch.bincount(assigned, minlength=clusters)
    share = float(counts.max()) / max(1, len(assigned))
    if clusters > 1 and share > SHARE:
        yield "one_takes_all", f"one of {clusters} prototypes has {share:.0%} of the images; {remedy}"


def dead_queue(queue: Tensor, remedy: str) -> Iterator[tuple[str, str]]:
    """The keys (K, D), unit vectors, are all but one vector: they are no negatives any more."""
    alike = float(queue.mean(dim=0).square().sum())
    if alike > ALIKE:
        yield "dead_queue", f"the keys in the queue have a mean cosine of {alike:.3f}; {remedy}"


def stale_queue(q: Tensor, k: Tensor, queue: Tensor, remedy: str) -> Iterator[tuple[str, str]]:
    """A key's age is told more easily than its image: of mean cosines, the one with other images' keys of the same step
    is farther above the one with the queue's keys than below the one with the own key.

    q, k: (N, D) queries and their keys, unit vectors; queue: (K, D).
    """
    own = float((q * k).sum(dim=1).mean())
    others = (float(q.sum(dim=0) @ k.sum(dim=0)) / len(q) - own) / max(1, len(q) - 1)
    old = float(q.mean(dim=0) @ queue.mean(dim=0))
    if len(q) > 1 and others - old > max(own - others, GAP):
        cosines = f"{own:.2f} with their keys, {others:.2f} with others of the step, {old:.2f} with the queue's"
        yield "sign: stale_queue", f"queries' cosine is {cosines}; {remedy}"
