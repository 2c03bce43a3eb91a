"""SwAV (arXiv:2006.09882) as plain loops: Sinkhorn in the authors' order, swapped prediction, queue, freezing."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.parts.sinkhorn import sinkhorn

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1], [1, 2, 3, 4], [5, 4, 1, 1]]
OPTIONS = {"temperature": 0.2, "epsilon": 0.3, "iterations": 3, "head_hidden": 6, "head_dim": 3}


def authors_sinkhorn(scores: Sequence[Tensor], epsilon: float, iterations: int) -> list[Tensor]:
    """distributed_sinkhorn: Q is K x B, its total is 1, rows then sum to 1 / K, columns to 1 / B; at last times B."""
    b, k = len(scores), len(scores[0])
    q = [[float((scores[i][j] / epsilon).exp()) for i in range(b)] for j in range(k)]
    total = sum(sum(row) for row in q)
    q = [[one / total for one in row] for row in q]
    for _ in range(iterations):
        q = [[one / sum(row) / k for one in row] for row in q]
        columns = [sum(q[j][i] for j in range(k)) for i in range(b)]
        q = [[q[j][i] / columns[i] / b for i in range(b)] for j in range(k)]
    return [torch.tensor([q[j][i] * b for j in range(k)], dtype=torch.float64) for i in range(b)]


@pytest.mark.parametrize("shape", [(8, 3), (4, 11), (1, 5), (6, 6)], ids=lambda s: f"B {s[0]} K {s[1]}")
@pytest.mark.parametrize("epsilon", [0.05, 0.3])
@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_is_the_authors(shape: tuple[int, int], epsilon: float, iterations: int, same: Any) -> None:
    scores = 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1
    codes = sinkhorn(scores, epsilon, iterations)
    same(codes, authors_sinkhorn(list(scores), epsilon, iterations))
    same(codes.sum(dim=1), torch.ones(shape[0], dtype=torch.float64))


def test_sinkhorn_stays_finite_where_exp_does_not() -> None:
    scores = torch.tensor([[1.0, -1.0, -1.0], [1.0, -1.0, 0.5]])
    codes = sinkhorn(scores, 0.002, 3)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(2))


def head(w: dict[str, Tensor], h: list[Tensor], paper: Any) -> list[Tensor]:
    """Linear, batch norm, ReLU, linear, unit length; all crops share the head's statistics, as the authors have it."""
    h = [one.clamp(min=0) for one in paper.batch_norm(w, "head.1", paper.linear(w, "head.0", h))]
    return [paper.unit(one) for one in paper.linear(w, "head.3", h)]


@pytest.mark.parametrize(
    ("sides", "prototypes"),
    [((4, 4), 3), ((4, 4), 7), ((4, 4, 2, 2, 2), 7)],
    ids=["K < B", "K > B", "and 3 small crops"],
)
@pytest.mark.parametrize("queue", [0, 4, 6, 12], ids=lambda k: f"queue of {k}")
def test_swav(sides: tuple[int, ...], queue: int, prototypes: int, tiny: Any, paper: Any, same: Any) -> None:
    """Six steps in three epochs: prototypes frozen in the first, a queue that fills from the second on.

    L = 1/2 sum_{i in large} 1/(V-1) sum_{v != i} -q_i . log softmax(z_v C / tau), q without gradient.
    """
    method = tiny.build("swav", 6, prototypes=prototypes, queue=queue, queue_start=1, freeze=1, **OPTIONS)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    tau, epsilon, n, large, views = 0.2, 0.3, 4, 2, len(sides)
    queues: list[list[Tensor]] = [[], []]
    used = []
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches, per_epoch=2), batches, strict=True)):
        epoch = step // 2
        with torch.no_grad():  # "normalize the prototypes", at the start of a step
            w["prototypes.weight"] = torch.stack([paper.unit(c) for c in w["prototypes.weight"]])
        c = w["prototypes.weight"].requires_grad_()
        same(ours.before["prototypes.weight"], c)
        h = paper.encoder(w, "encoder", torch.cat(batch.views[:large]))  # a pass for each size
        h = h + (paper.encoder(w, "encoder", torch.cat(batch.views[large:])) if views > large else [])
        every = head(w, h, paper)
        z = [every[n * v : n * v + n] for v in range(views)]
        scores = [[c @ one for one in view] for view in z]
        loss = torch.zeros((), dtype=torch.float64)
        for i in range(large):
            todays = [one.detach() for one in scores[i]]
            if queue and len(queues[i]) == queue:  # full: its embeddings, scored with today's prototypes
                used.append(step)
                todays += [(c @ old).detach() for old in queues[i]]
            q = authors_sinkhorn(todays, epsilon, 3)[:n]
            others = [v for v in range(views) if v != i]
            for v in others:
                for b in range(n):
                    p = (scores[v][b] / tau).exp()
                    loss = loss - (q[b] * (p / p.sum()).log()).sum() / (n * len(others) * large)
            if queue and epoch >= 1:
                queues[i] = ([one.detach() for one in z[i]][::-1] + queues[i])[:queue]  # new rows in front
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss, frozen=["prototypes.weight"] if epoch < 1 else []))
        w["prototypes.weight"] = w["prototypes.weight"].detach()
    assert sorted(set(used)) == {0: [], 4: [3, 4, 5], 6: [4, 5], 12: [5]}[queue]
    same(ours.after["prototypes.weight"], [paper.unit(one) for one in w["prototypes.weight"]])
    for i in range(large if queue else 0):
        oldest_first = ours.after[f"queues.{i}.rows"].roll(-int(ours.after[f"queues.{i}.pointer"]), 0)
        if len(queues[i]) == queue:
            same(oldest_first, queues[i][::-1])


@pytest.mark.parametrize("freeze", [0, 1, 2])
def test_frozen_prototypes_do_not_move_by_a_bit(freeze: int, tiny: Any) -> None:
    """Neither momentum nor weight decay: the gradient is gone, which a learning rate of 0 would not do."""
    method = tiny.build("swav", 6, prototypes=7, freeze=freeze, **OPTIONS)
    start = method.prototypes.weight.detach().clone()
    steps = tiny.train(method, tiny.batches(BATCHES), per_epoch=2, momentum=0.9, weight_decay=0.1)
    for step, ours in enumerate(steps):
        frozen = step < 2 * freeze
        assert frozen == ("prototypes.weight" not in ours.gradients)
        assert frozen == torch.equal(ours.after["prototypes.weight"], start)
        torch.testing.assert_close(ours.after["prototypes.weight"].norm(dim=1), torch.ones(7, dtype=torch.float64))
