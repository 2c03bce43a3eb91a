"""SimCLR's relatives as plain loops: NNCLR (arXiv:2104.14548), DCL and DCLW (2110.06848), SupCon (2004.11362)."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.losses import log_sum_of_others

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1]]
SIDES = [(4, 4), (4, 4, 2, 2)]
crops = pytest.mark.parametrize("sides", SIDES, ids=["two views", "and two small crops"])


def encode(w: dict[str, Tensor], views: list[Tensor], paper: Any) -> list[Tensor]:
    """A pass for each size, all rows behind each other: view by view."""
    h = paper.encoder(w, "encoder", torch.cat(views[:2]))
    return h + (paper.encoder(w, "encoder", torch.cat(views[2:])) if len(views) > 2 else [])


def split_by_view(rows: list[Tensor], n: int) -> list[list[Tensor]]:
    return [rows[start : start + n] for start in range(0, len(rows), n)]


@crops
@pytest.mark.parametrize("queue", [3, 6, 8], ids=lambda k: f"queue of {k}")
def test_nnclr(queue: int, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """-log( exp(NN(z_i) . p_i / tau) / sum_k exp(NN(z_i) . p_k / tau) ), NN the nearest row of the old queue.

    Projector: batch norm behind each of its three layers, with scale and shift. Only first views' z enter the queue.
    """
    tau, n = 0.3, 4
    method = tiny.build("nnclr", 6, temperature=tau, queue=queue, head_hidden=6, head_dim=3, predictor_hidden=7)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    assert {"head.7.weight", "head.7.bias", "head.7.running_mean"} <= set(w)
    rows, place = list(w["queue.rows"]), 0
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        g = paper.mlp(w, "head", encode(w, batch.views, paper), 3, last_norm=True)
        p = split_by_view([paper.unit(one) for one in paper.mlp(w, "predictor", g, 2)], n)
        z = split_by_view([paper.unit(one).detach() for one in g], n)
        losses = []
        for large in (0, 1):
            near = [min(rows, key=lambda row, one=one: float(((one - row) ** 2).sum())) for one in z[large]]
            for other in range(len(p)):
                if other != large:
                    logits = [torch.stack([torch.dot(near[i], p[other][k]) / tau for k in range(n)]) for i in range(n)]
                    losses.append(paper.cross_entropy(logits, range(n)))
        loss = sum(losses) / len(losses)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
        for one in z[0]:
            rows[place], place = one, (place + 1) % queue
        same(ours.after["queue.rows"], rows)
    w["queue.rows"], w["queue.pointer"] = torch.stack(rows), torch.tensor(place)
    same_state(ours.after, w)


def dcl(z1: list[Tensor], z2: list[Tensor], tau: float, sigma: float | None) -> Tensor:
    """-w_i s_i / tau + log of the sum over both views of all other images, the mean over all 2N views."""
    n, views = len(z1), (z1, z2)
    s = [torch.dot(a, b) for a, b in zip(z1, z2, strict=True)]
    average = sum((one / sigma).exp() for one in s) / n if sigma else None
    loss = torch.zeros((), dtype=torch.float64)
    for view in views:
        for i in range(n):
            w = (2 - (s[i] / sigma).exp() / average).detach() if sigma else 1.0
            others = sum((torch.dot(view[i], other[j]) / tau).exp() for other in views for j in range(n) if j != i)
            loss = loss + (others.log() - w * s[i] / tau) / (2 * n)
    return loss


@crops
@pytest.mark.parametrize("sigma", [None, 0.5, 0.2], ids=lambda s: f"dclw {s}" if s else "dcl")
def test_dcl(sigma: float | None, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    tau, n = 0.4, 4
    weights = {"weighted": True, "sigma": sigma} if sigma else {}
    method = tiny.build("dcl", 6, temperature=tau, head_hidden=6, head_dim=3, **weights)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        rows = paper.mlp(w, "head", encode(w, batch.views, paper), 2, last_norm=True)
        z = split_by_view([paper.unit(one) for one in rows], n)
        pairs = [(a, b) for b in range(len(z)) for a in range(b) if a < 2]
        loss = sum(dcl(z[a], z[b], tau, sigma) for a, b in pairs) / len(pairs)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


@pytest.mark.parametrize("tau", [0.07, 0.5])
@pytest.mark.parametrize("tile", [None, 1, 3, 7])
@pytest.mark.parametrize("paired", [False, True])
def test_tiles_of_the_log_sum_equal_the_loop(paired: bool, tile: int | None, tau: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(10, 4, generator=generator, dtype=torch.float64), dim=1)
    ours, loop = z.clone().requires_grad_(), z.clone().requires_grad_()
    value = log_sum_of_others(ours, tau, paired, tile)
    logs = []
    for i in range(10):
        excluded = {i, (i + 5) % 10} if paired else {i}
        logs.append(sum((torch.dot(loop[i], loop[k]) / tau).exp() for k in range(10) if k not in excluded).log())
    expected = sum(logs) / 10
    (3 * value).backward()
    (3 * expected).backward()
    assert value.item() == pytest.approx(expected.item(), abs=1e-10)
    torch.testing.assert_close(ours.grad, loop.grad, atol=1e-10, rtol=0)


def test_a_low_temperature_does_not_overflow() -> None:
    z = F.normalize(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), dim=1).requires_grad_()
    value = log_sum_of_others(z, 1e-3, paired=True)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all()


@crops
@pytest.mark.parametrize("classes", [1, 3, 6])
@pytest.mark.parametrize("head", ["mlp", "linear"])
def test_supcon(
    head: str, classes: int, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any
) -> None:
    """L_out: sum_i -1/|P(i)| sum_{p in P(i)} log( exp(z_i.z_p / tau) / sum_{a != i} exp(z_i.z_a / tau) ), as a mean.

    P(i): all other views of images of one's class, one's own among them. The head has no batch norm.
    """
    tau = 0.4
    options = {"temperature": tau, "head": head, "head_hidden": 6, "head_dim": 3}
    method = tiny.build("supcon", 6, inputs={"classes": classes}, **options)
    w = paper.start(method)
    batches = [one._replace(labels=one.index % classes) for one in tiny.batches(BATCHES, sides)]
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        h = encode(w, batch.views, paper)
        if head == "mlp":
            h = paper.linear(w, "head.2", [one.clamp(min=0) for one in paper.linear(w, "head.0", h)])
        else:
            h = paper.linear(w, "head", h)
        z, labels = [paper.unit(one) for one in h], batch.labels.tolist() * len(sides)
        losses = []
        for i in range(len(z)):
            everyone = sum((torch.dot(z[i], z[a]) / tau).exp() for a in range(len(z)) if a != i)
            positives = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
            logs = [((torch.dot(z[i], z[p]) / tau).exp() / everyone).log() for p in positives]
            losses.append(-sum(logs) / len(positives))
        loss = sum(losses) / len(losses)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_supcon_without_relatives_is_simclr(tiny: Any) -> None:
    """A class an image: the other view is the only positive, and L_out is NT-Xent."""
    (batch,) = tiny.batches([[0, 1, 2, 3]])
    batch = batch._replace(labels=batch.index)
    plain = {"temperature": 0.3, "head": "linear", "head_dim": 3}
    supcon, simclr = tiny.build("supcon", 4, inputs={"classes": 4}, **plain), tiny.build("simclr", 4, **plain)
    simclr.load_state_dict(supcon.state_dict())
    losses = [tiny.train(method, [batch])[0].scalars["loss"] for method in (supcon, simclr)]
    torch.testing.assert_close(*losses)


def test_dcl_of_equal_embeddings_is_the_logarithm_of_the_negatives(tiny: Any) -> None:
    """METHODS.md 8.1: ln(2B - 2)."""
    method = tiny.build("dcl", 6, temperature=0.1, head_dim=3)
    z = torch.ones(8, 2, 3, dtype=torch.float64) / math.sqrt(3)
    assert method.loss({"z": z}, None)["loss"].item() == pytest.approx(math.log(14))
