"""What an image is compared with in a queue, as plain loops: ReSSL (arXiv:2107.09282), NNBYOL and NNSiam (named in
2104.14548), All4One (2303.09417)."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.method import Progress

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1]]
SIDES = [(4, 4), (4, 4, 2, 2)]
AT = Progress(0, 4, 0, 4)
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


def raise_momentum(base: float, k: int, steps: int) -> float:
    """The momentum of step k of `steps`, from `base` to 1 by half a cosine."""
    return 1 - (1 - base) * (math.cos(math.pi * k / steps) + 1) / 2


@crops
@queues
def test_ressl(queue: int, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """P_j = exp(k.n_j / tau_t) / sum exp(k.n / tau_t) over the old queue, k of the second view by the momentum network;
    -sum_j P_j log( exp(q.n_j / tau_s) / sum exp(q.n / tau_s) ) of the first view's q and of small crops'."""
    tau_s, tau_t, m = 0.5, 0.2, 0.7
    options = {"temperature": tau_s, "target_temperature": tau_t, "momentum": m, "head_hidden": 6, "head_dim": 3}
    method = tiny.build("ressl", 6, queue=queue, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    ring = Ring(w)

    def embed(x: Tensor, encoder: str, head: str) -> list[Tensor]:
        h = [one.clamp(min=0) for one in paper.linear(w, f"{head}.0", paper.encoder(w, encoder, x))]
        return [paper.unit(one) for one in paper.linear(w, f"{head}.2", h)]

    def shares(v: Tensor, tau: float) -> list[Tensor]:
        each = [(torch.dot(v, row) / tau).exp() for row in w["queue.rows"].clone()]
        return [one / sum(each) for one in each]

    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        strong, weak, *small = batch.views
        q = [embed(x, "encoder", "head") for x in (strong, *small)]
        k = embed(weak, "key_encoder.network", "key_head.network")
        losses = []
        for view in q:
            for one, key in zip(view, k, strict=True):
                pairs = zip(shares(key, tau_t), shares(one, tau_s), strict=True)
                losses.append(-sum(p.detach() * share.log() for p, share in pairs))
        same(ours.scalars["loss"], mean(losses))
        same(ours.gradients, paper.sgd(w, mean(losses)))
        assert not any(name.startswith("key_") for name in ours.gradients)
        paper.follow(w, m)
        ring.push(k)
        same_state(ours.after, w)


def test_ressl_at_chance_is_the_logarithm_of_the_queue(tiny: Any) -> None:
    """METHODS-2.md 5: ln K where nothing is told apart; targets must be sharper than what is compared with them."""
    method = tiny.build("ressl", 6, queue=16, head_hidden=6, head_dim=3)
    method.queue.rows.copy_(torch.eye(3, dtype=torch.float64)[0].expand(16, 3))
    rows = {"q": torch.eye(3, dtype=torch.float64)[:, None], "k": torch.eye(3, dtype=torch.float64)}
    logged = {name: float(value) for name, value in method.loss(rows, AT).items()}
    assert logged["loss"] == pytest.approx(math.log(16))
    assert [name for name, _ in method.symptoms(logged, rows)] == ["chance", "dead_queue"]
    with pytest.raises(ValueError, match="below temperature"):
        tiny.build("ressl", 6, temperature=0.04)


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
        paper.follow(w, raise_momentum(base, k, len(batches)))
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


def transformer(w: dict[str, Tensor], tokens: Sequence[Tensor], paper: Any) -> Tensor:
    """Three layers of eight heads, norms behind the sums, ReLU of twice the width; the first output, normalised."""
    width, heads = len(tokens[0]), 8
    x = []
    for place, token in enumerate(tokens):
        angles = [place / 10000 ** (2 * i / width) for i in range(width // 2)]
        x.append(token + torch.tensor([f(a) for a in angles for f in (math.sin, math.cos)], dtype=torch.float64))

    def norm(name: str, v: Tensor) -> Tensor:
        middle = v.sum() / width
        spread = ((v - middle) ** 2).sum() / width
        return w[f"{name}.weight"] * (v - middle) / (spread + 1e-5).sqrt() + w[f"{name}.bias"]

    for layer in range(3):
        at = f"transformer.layers.{layer}"
        weight, bias = w[f"{at}.self_attn.in_proj_weight"], w[f"{at}.self_attn.in_proj_bias"]
        q, k, v = [
            [weight[part : part + width] @ one + bias[part : part + width] for one in x]
            for part in (0, width, 2 * width)
        ]
        attended = []
        for query in q:
            e = [((query * key).view(heads, -1).sum(dim=1) / (width / heads) ** 0.5).exp()[:, None] for key in k]
            mixed = sum(a * value.view(heads, -1) for a, value in zip(e, v, strict=True)) / sum(e)
            attended.append(mixed.flatten())
        attended = paper.linear(w, f"{at}.self_attn.out_proj", attended)
        x = [norm(f"{at}.norm1", a + b) for a, b in zip(x, attended, strict=True)]
        hidden = [one.clamp(min=0) for one in paper.linear(w, f"{at}.linear1", x)]
        x = [norm(f"{at}.norm2", a + b) for a, b in zip(x, paper.linear(w, f"{at}.linear2", hidden), strict=True)]
    return paper.unit(x[0])


def test_all4one(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """A half of each: neighbours against predictions, contexts against shifted contexts, correlated columns."""
    tau, base, dim, n = 0.3, 0.7, 8, 4
    options = {"temperature": tau, "momentum": base, "head_hidden": 6, "head_dim": dim, "predictor_hidden": 7}
    method = tiny.build("all4one", 6, queue=6, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES[:3])
    ring = Ring(w)

    def contrast(a: list[Tensor], b: list[Tensor], tau: float) -> Tensor:
        return paper.cross_entropy([torch.stack([torch.dot(one, other) / tau for other in b]) for one in a], range(n))

    def column(v: list[Tensor], i: int) -> list[Tensor]:
        length = sum(one[i] ** 2 for one in v).sqrt()
        return [one[i] / length for one in v]

    for k, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        z = [paper.mlp(w, "head", paper.encoder(w, "encoder", x), 3, last_norm=True) for x in batch.views]
        h = [paper.encoder(w, "target_encoder.network", x) for x in batch.views]
        t = [[paper.unit(v) for v in paper.mlp(w, "target_head.network", view, 3, last_norm=True)] for view in h]
        near = [[ring.nearest(one, 5) for one in view] for view in t]
        p = [[paper.unit(v) for v in paper.mlp(w, "predictor", view, 2)] for view in z]
        second = [paper.mlp(w, "context_predictor", view, 2) for view in z]
        context = [[transformer(w, five, paper) for five in view] for view in near]
        shifted = [
            [transformer(w, [one, *five[:4]], paper) for one, five in zip(second[v], near[v], strict=True)]
            for v in (0, 1)
        ]
        views = ((0, 1), (1, 0))
        neighbour = mean([contrast([five[0] for five in near[a]], p[b], tau) for a, b in views])
        attended = mean([contrast(context[a], shifted[b], 0.1) for a, b in views])
        on, off = [], []
        for a, b in views:
            of_t, of_z = [[column(v, i) for i in range(dim)] for v in (t[a], z[b])]
            for i in range(dim):
                for j in range(dim):
                    c = sum(x * y for x, y in zip(of_t[i], of_z[j], strict=True))
                    (on if i == j else off).append((c - float(i == j)) ** 2)
        feature = 10 * (mean(on).sqrt() + mean(off).sqrt()) / 2
        loss = (neighbour + attended + feature) / 2
        for name, value in (("neighbour", neighbour), ("context", attended), ("feature", feature), ("loss", loss)):
            same(ours.scalars[name], value)
        same(ours.gradients, paper.sgd(w, loss))
        assert not any(name.startswith("target_") for name in ours.gradients)
        paper.follow(w, raise_momentum(base, k, len(batches)))
        ring.push(t[0])
        same_state(ours.after, w)
