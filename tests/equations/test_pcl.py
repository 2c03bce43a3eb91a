"""PCL (arXiv:2005.04966) as plain loops: Lloyd's k-means, concentrations, ProtoNCE, warm-up, the momentum encoder."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from methods.parts.kmeans import kmeans
from methods.parts.losses import concentration, proto_nce

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1], [1, 2, 3, 4], [5, 6, 7, 8]]
IMAGES = 9


def draw_points(rows: int, width: int, seed: int) -> Tensor:
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def distance(v: Tensor, c: Tensor) -> float:
    return float(((v - c) ** 2).sum().sqrt())


def lloyd(x: Sequence[Tensor], k: int, rounds: int, starts: int = 1) -> tuple[list[Tensor], list[int]]:
    """Euclidean k-means from K random rows; an empty cluster keeps its centroid. The best of some starts."""
    best: tuple[float, list[Tensor], list[int]] | None = None
    for _ in range(starts):
        c = [x[i] for i in torch.randperm(len(x))[:k].tolist()]
        for last in [False] * rounds + [True]:
            own = [min(range(k), key=lambda j: distance(row, c[j])) for row in x]
            for j in range(k):
                members = [row for row, i in zip(x, own, strict=True) if i == j]
                if members and not last:
                    c[j] = sum(members[1:], members[0]) / len(members)
        error = sum(distance(row, c[i]) ** 2 for row, i in zip(x, own, strict=True))
        if best is None or error < best[0]:
            best = error, c, own
    assert best is not None
    return best[1], best[2]


def compute_phis(v: Sequence[Tensor], c: Sequence[Tensor], own: Sequence[int], tau: float, alpha: float) -> list[float]:
    """Equation 12 and the authors' code: sum |v - c| / (Z log(Z + alpha)), the largest where Z < 2, clipped, scaled."""
    density = np.zeros(len(c))
    for j in range(len(c)):
        d = [distance(row, c[j]) for row, i in zip(v, own, strict=True) if i == j]
        if len(d) > 1:
            density[j] = np.asarray(d).mean() / np.log(len(d) + alpha)
    for j in range(len(c)):
        if list(own).count(j) < 2:
            density[j] = density.max()
    density = density.clip(np.percentile(density, 10), np.percentile(density, 90))
    return (tau * density / density.mean()).tolist()


def loop_proto(q: Tensor, c: Sequence[Tensor], phi: Sequence[float], own: int, columns: Sequence[int]) -> Tensor:
    """ProtoNCE in equation 11 for one embedding: each column is divided by its own phi."""
    e = [(torch.dot(q, c[j]) / phi[j]).exp() for j in columns]
    return -((torch.dot(q, c[own]) / phi[own]).exp() / sum(e)).log()


@pytest.mark.parametrize("starts", [1, 3])
@pytest.mark.parametrize(("rows", "k"), [(40, 3), (40, 20), (12, 12), (30, 29)])
def test_euclidean_kmeans(rows: int, k: int, starts: int, same: Any) -> None:
    x = draw_points(rows, 3, rows + k) * torch.linspace(0.5, 2, rows, dtype=torch.float64)[:, None]
    torch.manual_seed(k)
    centroids, assigned = kmeans(x, k, 6, spherical=False, starts=starts)
    torch.manual_seed(k)
    c, own = lloyd(list(x), k, 6, starts)
    same(centroids, c)
    assert assigned.tolist() == own


@pytest.mark.parametrize("k", [2, 5, 11])
@pytest.mark.parametrize("alpha", [10.0, 3.0])
def test_concentration_with_clusters_of_one_and_none(k: int, alpha: float, same: Any) -> None:
    v, c = draw_points(20, 3, 0), draw_points(k, 3, 1) / 2
    own = torch.randint(k, (20,), generator=torch.Generator().manual_seed(2))
    own[own == k - 1] = 0  # one is empty
    if k > 3:
        own[own == 1] = 2
        own[5] = 1  # and one has a single member
    phi = concentration(v, c, own, 0.2, alpha)
    same(phi, torch.tensor(compute_phis(list(v), list(c), own.tolist(), 0.2, alpha), dtype=torch.float64), atol=1e-12)
    assert phi.mean().item() == pytest.approx(0.2)


@pytest.mark.parametrize("duplicates", [False, True])
@pytest.mark.parametrize("r", [1, 3, 9])
def test_drawn_prototypes(r: int, duplicates: bool) -> None:
    """The denominator holds the batch's clusters once (or once an image) and r others, or all: one choice of the
    others explains the loss and its gradient, and every choice comes up."""
    c, phi, own = draw_points(7, 3, 0), torch.linspace(0.2, 0.5, 7, dtype=torch.float64), [5, 2, 5, 5]
    others = [j for j in range(7) if j not in own]
    base = own if duplicates else sorted(set(own))
    expected = {}
    for subset in itertools.combinations(others, min(r, len(others))):
        q = draw_points(8, 3, 1).requires_grad_()
        each = [loop_proto(one, list(c), phi.tolist(), own[i // 2], [*base, *subset]) for i, one in enumerate(q)]
        loss = torch.stack(each).mean()
        loss.backward()
        expected[subset] = loss.item(), q.grad
    draws = []
    for seed in range(120):
        torch.manual_seed(seed)
        q = draw_points(8, 3, 1).requires_grad_()
        loss = proto_nce(q.unflatten(0, (4, 2)), c, phi, torch.tensor(own), r, duplicates)
        loss.backward()
        draws += [subset for subset, (value, _) in expected.items() if abs(value - loss.item()) < 1e-8]
        torch.testing.assert_close(q.grad, expected[draws[-1]][1], atol=1e-8, rtol=0)
    assert len(draws) == 120
    assert min(draws.count(subset) for subset in expected) > 120 / len(expected) / 4


@pytest.mark.parametrize("sides", [(4, 4), (4, 4, 2, 2)], ids=["two views", "and two small crops"])
@pytest.mark.parametrize("duplicates", [False, True])
def test_pcl(sides: tuple[int, ...], duplicates: bool, tiny: Any, paper: Any, same: Any) -> None:
    """Six steps in three epochs, of which the first is warm-up: InfoNCE alone, then + 1/M sum_m ProtoNCE_m.

    The E-step clusters what the momentum encoder in eval mode makes of all images; phi comes before the centroids are
    normalised. Keys are in the authors' order: the momentum update first, inside forward.
    """
    tau, m, granularities = 0.3, 0.8, [2, 4]
    options = {"temperature": tau, "momentum": m, "queue": 7, "clusters": "2+4", "warmup_epochs": 1, "iterations": 4}
    options |= {"alpha": 10.0, "starts": 2, "head_dim": 3, "duplicates": duplicates}
    method = tiny.build("pcl", IMAGES, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    (images,) = tiny.batches([range(IMAGES)], (4,), seed=1)[0].views
    queue = list(w["queue.rows"])  # the oldest key first
    clusterings: list[tuple[list[Tensor], list[int], list[float]]] = []

    def embed(x: Tensor, kind: str, training: bool = True) -> list[Tensor]:
        of = {"query": ("encoder", "head"), "key": ("key_encoder.network", "key_head.network")}[kind]
        h = [one.clamp(min=0) for one in paper.linear(w, f"{of[1]}.0", paper.encoder(w, of[0], x, training))]
        return [paper.unit(one) for one in paper.linear(w, f"{of[1]}.2", h)]

    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches, images, per_epoch=2), batches, strict=True)):
        x1, x2, *small = batch.views
        y = batch.index.tolist()
        q = [embed(x, "query") for x in (x1, *small)]
        if step:
            paper.follow(w, m)
        if step in (2, 4):  # our E-step comes with the update of the step to come
            v = embed(images, "key", training=False)
            torch.manual_seed(100 + step // 2)
            clustered = [lloyd(v, k, 4, starts=2) for k in granularities]
            clusterings = [
                ([paper.unit(one) for one in c], own, compute_phis(v, c, own, tau, 10.0)) for c, own in clustered
            ]
            same(ours.before["prototypes"], [one for c, _, _ in clusterings for one in c])
            same(ours.before["phi"], torch.tensor([one for *_, phi in clusterings for one in phi], dtype=torch.float64))
            assert ours.before["assigned"].tolist() == [own for _, own, _ in clusterings]
        k = embed(x2, "key")
        instance = [paper.info_nce(one, k[b], queue, tau) for view in q for b, one in enumerate(view)]
        loss = sum(instance) / len(instance)
        expected = {"info_nce": loss}
        if step >= 2:
            terms = []
            for c, own, phi in clusterings:
                images_of = [own[i] for i in y]
                columns = [j for j in range(len(c)) for _ in range(max(1, images_of.count(j) if duplicates else 1))]
                terms += [loop_proto(one, c, phi, images_of[b], columns) for view in q for b, one in enumerate(view)]
            expected["proto_nce"] = sum(terms) / len(terms)
            loss = loss + expected["proto_nce"]
        same(ours.scalars, {"loss": loss, **expected})
        same(ours.gradients, paper.sgd(w, loss))
        queue = [*queue, *k][-7:]
        same(ours.after["queue.rows"].roll(-int(ours.after["queue.pointer"]), 0), queue)
    paper.follow(w, m)
    networks = [name for name in w if "encoder" in name or "head" in name if "num_batches" not in name]
    same({name: ours.after[name] for name in networks}, {name: w[name] for name in networks})
