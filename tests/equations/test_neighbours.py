"""NNBYOL and NNSiam (named in arXiv:2104.14548) as plain loops."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1]]
SIDES = [(4, 4), (4, 4, 2, 2)]
crops = pytest.mark.parametrize("sides", SIDES, ids=["two views", "and two small crops"])
queues = pytest.mark.parametrize("queue", [5, 8], ids=lambda k: f"queue of {k}")


class Ring:
    """The queue's rows, and the place that the next one takes."""

    def __init__(self, w: dict[str, Tensor]) -> None:
        self.w = w

    def push(self, rows: Sequence[Tensor]) -> None:
        for row in rows:
            place = int(self.w["queue.pointer"])
            self.w["queue.rows"][place] = row.detach()
            self.w["queue.pointer"] = torch.tensor((place + 1) % len(self.w["queue.rows"]))

    def nearest(self, v: Tensor, count: int = 1) -> list[Tensor]:
        """By distance, the nearest first."""
        rows = sorted(self.w["queue.rows"], key=lambda row: float(((v - row) ** 2).sum()))
        return [row.clone() for row in rows[:count]]


def mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0]) / len(values)


def rising(base: float, k: int, steps: int) -> float:
    """The momentum of step k of `steps`, from `base` to 1 by half a cosine."""
    return 1 - (1 - base) * (math.cos(math.pi * k / steps) + 1) / 2


@crops
@queues
def test_nnbyol(queue: int, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """BYOL with NN(t) for the target t of the other view, out of first views' targets of the steps before."""
    base = 0.7
    method = tiny.build("byol", 6, momentum=base, head_hidden=12, head_dim=3, neighbours=queue)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    ring = Ring(w)
    for k, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        q = [paper.mlp(w, "predictor", paper.mlp(w, "head", paper.encoder(w, "encoder", x), 2), 2) for x in batch.views]
        h = [paper.encoder(w, "target_encoder.network", x) for x in batch.views[:2]]
        t = [[paper.unit(one) for one in paper.mlp(w, "target_head.network", view, 2)] for view in h]
        loss = torch.zeros((), dtype=torch.float64)
        for first, other in ((0, 1), (1, 0)):
            near = [ring.nearest(one)[0] for one in t[other]]
            online = [q[first], *q[2:]]
            loss = loss + mean(
                [2 - 2 * torch.dot(paper.unit(a), b) for view in online for a, b in zip(view, near, strict=True)]
            )
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
        paper.follow(w, rising(base, k, len(batches)))
        ring.push(t[0])
        same_state(ours.after, w)


@crops
@queues
def test_nnsiam(queue: int, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """SimSiam with NN(z) for z of the other view, out of first views' z of the steps before."""
    method = tiny.build("simsiam", 6, head_layers=2, head_dim=5, predictor_hidden=3, neighbours=queue)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    ring = Ring(w)
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        z = [paper.mlp(w, "head", paper.encoder(w, "encoder", x), 2, last_norm=True) for x in batch.views]
        p = [[paper.unit(one) for one in paper.mlp(w, "predictor", view, 2)] for view in z]
        loss = torch.zeros((), dtype=torch.float64)
        for first, other in ((0, 1), (1, 0)):
            near = [ring.nearest(paper.unit(one).detach())[0] for one in z[other]]
            online = [p[first], *p[2:]]
            loss = loss + mean([-torch.dot(a, b) for view in online for a, b in zip(view, near, strict=True)]) / 2
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
        ring.push([paper.unit(one) for one in z[0]])
        same_state(ours.after, w)


@pytest.mark.parametrize("name", ["byol", "simsiam"])
def test_neighbours_that_are_all_alike_are_a_collapse(name: str, tiny: Any) -> None:
    """With the old keys in the queue the loss says nothing of it: it is lowest there."""
    method = tiny.build(name, 6, head_dim=4, neighbours=8)
    assert list(method.symptoms({}, {})) == []
    method.queue.rows.copy_(torch.eye(4, dtype=torch.float64)[0].expand(8, 4))
    assert [sign for sign, _ in method.symptoms({}, {})] == ["dead_queue"]
    assert "queue.rows" not in tiny.build(name, 6).state_dict(), "nothing is kept without neighbours"
