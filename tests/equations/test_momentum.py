"""MoCo v1 and v2 (arXiv:1911.05722, 2003.04297) and MoCo v3 (arXiv:2104.02057) as plain loops, in the authors' order.

The authors update the key encoder inside forward, before they compute keys. The loops here do that; every key, loss and
gradient has to be the same, and the weights at the end once the loop has made the update of the step to come.
"""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1], [1, 2, 3, 4]]
SIDES = [(4, 4), (4, 4, 2, 2)]
NAMES = ["two views", "and two small crops"]


class Ring:
    """K keys, and the place that the next one takes."""

    def __init__(self, keys: Tensor) -> None:
        self.keys, self.place = list(keys), 0

    def push(self, keys: Sequence[Tensor]) -> None:
        for key in keys:
            self.keys[self.place] = key.detach()
            self.place = (self.place + 1) % len(self.keys)


def head(w: dict[str, Tensor], name: str, kind: str, h: list[Tensor], paper: Any) -> list[Tensor]:
    """v1: one linear layer; v2: two with a ReLU between, no batch norm."""
    if kind == "linear":
        return paper.linear(w, name, h)
    return paper.linear(w, f"{name}.2", [one.clamp(min=0) for one in paper.linear(w, f"{name}.0", h)])


@pytest.mark.parametrize("sides", SIDES, ids=NAMES)
@pytest.mark.parametrize("queue", [3, 7, 8], ids=lambda k: f"queue of {k}")
@pytest.mark.parametrize("symmetric", [False, True], ids=["asymmetric", "symmetric"])
def test_moco(symmetric: bool, queue: int, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any) -> None:
    """Equation 1 for each query; symmetric is the sum of both directions against one old queue, then k1 and k2 go in.

    Queues shorter than a push, not a multiple of it, and equal to two of it. Small crops are further queries.
    """
    tau, m = 0.3, 0.8
    kind = "linear" if symmetric else "mlp"
    options = {"temperature": tau, "momentum": m, "queue": queue, "head": kind, "head_dim": 3, "symmetric": symmetric}
    method = tiny.build("moco", 6, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    ring = Ring(w["queue.rows"])

    def query(x: Tensor) -> list[Tensor]:
        return [paper.unit(v) for v in head(w, "head", kind, paper.encoder(w, "encoder", x), paper)]

    def key(x: Tensor) -> list[Tensor]:
        h = paper.encoder(w, "key_encoder.network", x)
        return [paper.unit(v) for v in head(w, "key_head.network", kind, h, paper)]

    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        x1, x2, *small = batch.views
        of = {"q1": query(x1)} | ({"q2": query(x2)} if symmetric else {})
        crops = [query(x) for x in small]
        paper.follow(w, m)
        keys = [key(x1), key(x2)] if symmetric else [key(x2)]
        loss = torch.zeros((), dtype=torch.float64)
        for first, k in [("q1", keys[-1]), *([("q2", keys[0])] if symmetric else [])]:
            queries = [of[first], *crops]
            each = [paper.info_nce(q, k_b, ring.keys, tau) for view in queries for q, k_b in zip(view, k, strict=True)]
            loss = loss + sum(each) / len(each)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
        for some in keys:
            ring.push(some)
        same(ours.after["queue.rows"], ring.keys)
        assert ours.after["queue.pointer"] == ring.place
    paper.follow(w, m)
    compare_weights(ours.after, w, same)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_queue_of_old_keys_is_a_sign(symmetric: bool, tiny: Any) -> None:
    """Keys of the step lie with the queries, whatever their image, and those in the queue elsewhere."""
    method = tiny.build("moco", 6, queue=4, head_dim=3, symmetric=symmetric)
    q = torch.nn.functional.normalize(torch.tensor([[1.0, 0.5, 0], [1, -0.5, 0]]), dim=1).double()
    rows = {"q": q[:, None].repeat(1, 1 + symmetric, 1), "k": q[:, None].repeat(1, 1 + symmetric, 1)}
    signs = {}
    for name, key in (("of the step", q.repeat(2, 1)), ("old", -q.repeat(2, 1))):
        method.queue.rows.copy_(key)
        signs[name] = [sign for sign, _ in method.symptoms({"loss": 1.0}, rows)]
    assert signs == {"of the step": [], "old": ["sign: stale_queue"]}
    (_, text) = next(method.symptoms({"loss": 1.0}, rows))
    assert "1.00 with their keys, 0.60 with others of the step, -0.80 with the queue's" in text
    assert len(text) <= 120, "tables cut what is longer"


def compare_weights(after: dict[str, Tensor], w: dict[str, Tensor], same: Any) -> None:
    """All networks: weights by the moving average, batch-norm statistics of the keys' own batches."""
    names = [n for n in w if "queue" not in n and "num_batches" not in n]
    assert any("key_encoder" in n and "running_mean" in n for n in names)
    same({n: after[n] for n in names}, {n: w[n] for n in names})


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("sides", SIDES, ids=NAMES)
def test_moco_v3(sides: tuple[int, ...], layers: int, tiny: Any, paper: Any, same: Any) -> None:
    """Algorithm 1: L = ctr(q1, k2) + ctr(q2, k1), ctr = 2 tau cross-entropy over the keys of the batch.

    Projector: linear, batch norm, ReLU (layers - 1 times), linear, batch norm without scale and shift. Predictor: the
    same with two layers and no batch norm at its end. m_t = 1 - (1 - m_0) (1 + cos(pi t / T)) / 2.
    """
    tau, m_0 = 0.4, 0.7
    options = {"temperature": tau, "momentum": m_0, "head_layers": layers, "head_hidden": 6, "head_dim": 3}
    method = tiny.build("moco_v3", 6, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)

    def projector(name: str, h: list[Tensor]) -> list[Tensor]:
        for layer in range(layers - 1):
            h = paper.batch_norm(w, f"{name}.{3 * layer + 1}", paper.linear(w, f"{name}.{3 * layer}", h))
            h = [one.clamp(min=0) for one in h]
        last = 3 * (layers - 1)
        return paper.batch_norm(w, f"{name}.{last + 1}", paper.linear(w, f"{name}.{last}", h))

    def query(x: Tensor) -> list[Tensor]:
        h = projector("head", paper.encoder(w, "encoder", x))
        h = [one.clamp(min=0) for one in paper.batch_norm(w, "predictor.1", paper.linear(w, "predictor.0", h))]
        return [paper.unit(v) for v in paper.linear(w, "predictor.3", h)]

    def key(x: Tensor) -> list[Tensor]:
        return [paper.unit(v) for v in projector("key_head.network", paper.encoder(w, "key_encoder.network", x))]

    def ctr(q: list[Tensor], k: list[Tensor]) -> Tensor:
        """2 tau CE(mm(q, k.t()) / tau, arange(N))"""
        n, loss = len(q), torch.zeros((), dtype=torch.float64)
        for i in range(n):
            e = [(torch.dot(q[i], k[j]) / tau).exp() for j in range(n)]
            loss = loss - (e[i] / sum(e)).log() / n
        return 2 * tau * loss

    last = 3 * (layers - 1)
    without = [*(f"head.{i}.bias" for i in range(0, last + 1, 3)), f"head.{last + 1}.weight", f"head.{last + 1}.bias"]
    without += ["predictor.0.bias", "predictor.3.bias", "predictor.4.running_mean"]
    assert not set(without) & set(w)
    total = len(batches)
    for t, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        x1, x2, *small = batch.views
        q1, q2, *crops = [query(x) for x in (x1, x2, *small)]
        paper.follow(w, 1 - (1 - m_0) * (1 + math.cos(math.pi * t / total)) / 2)
        k1, k2 = key(x1), key(x2)
        to_k2, to_k1 = [ctr(q, k2) for q in (q1, *crops)], [ctr(q, k1) for q in (q2, *crops)]
        loss = sum(to_k2) / len(to_k2) + sum(to_k1) / len(to_k1)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    paper.follow(w, 1.0)  # t = T: m has become 1
    compare_weights(ours.after, w, same)


def test_v3_differs_from_a_momentum_of_the_step_before(tiny: Any) -> None:
    """The schedule's place is seen: m_0 = 0 makes the keys of step 1 those of (1 - cos(pi / T)) / 2, not of m_0."""
    method = tiny.build("moco_v3", 6, momentum=0.0, head_hidden=6, head_dim=3)
    first, *_ = tiny.train(method, tiny.batches(BATCHES))
    share = (1 - math.cos(math.pi / len(BATCHES))) / 2
    old, new = (first.before["key_encoder.network.2.weight"], first.after["encoder.2.weight"])
    expected = share * old + (1 - share) * new
    torch.testing.assert_close(first.after["key_encoder.network.2.weight"], expected, atol=1e-12, rtol=0)
