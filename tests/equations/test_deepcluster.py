"""DeepCluster-v2 (arXiv:2006.09882, appendix) as plain loops: spherical k-means, banks, losses, ignored images."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.method import Progress
from methods.parts.kmeans import kmeans

IGNORED = -100
BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1], [1, 2, 3, 4], [5, 6, 7, 8]]
IMAGES = 9


def spherical_kmeans(x: list[Tensor], k: int, rounds: int, paper: Any) -> tuple[list[Tensor], list[int]]:
    """`rounds` times: each row to the centroid of largest inner product; the mean of its rows, at unit length.

    An empty cluster keeps its centroid. In the end the rows are assigned once more. The first centroids are K random
    rows.
    """
    c = [x[i] for i in torch.randperm(len(x))[:k].tolist()]

    def assign() -> list[int]:
        return [max(range(k), key=lambda j: float(torch.dot(row, c[j]))) for row in x]

    for _ in range(rounds):
        own = assign()
        for j in range(k):
            members = [row for row, i in zip(x, own, strict=True) if i == j]
            if members:
                c[j] = paper.unit(sum(members) / len(members))
    return c, assign()


def draw_points(rows: int, width: int, seed: int) -> Tensor:
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("rows", "k"), [(40, 3), (40, 20), (12, 12), (30, 29)])
@pytest.mark.parametrize("seed", [0, 1])
def test_spherical_kmeans(rows: int, k: int, seed: int, paper: Any, same: Any) -> None:
    x = draw_points(rows, 3, seed)
    torch.manual_seed(seed)
    centroids, assigned = kmeans(x, k, 10, spherical=True)
    torch.manual_seed(seed)
    c, own = spherical_kmeans(list(x), k, 10, paper)
    same(centroids, c)
    assert assigned.tolist() == own


def test_an_empty_cluster_keeps_its_centroid(paper: Any, same: Any) -> None:
    """Two starts at one point: the second of them never wins a row."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    empty = 0
    for seed in range(6):
        torch.manual_seed(seed)
        centroids, assigned = kmeans(x, 3, 5, spherical=True)
        torch.manual_seed(seed)
        c, own = spherical_kmeans(list(x), 3, 5, paper)
        same(centroids, c)
        assert assigned.tolist() == own
        empty += 3 - len(set(own))
    assert empty >= 6


def head(w: dict[str, Tensor], h: list[Tensor], paper: Any, training: bool = True) -> list[Tensor]:
    h = paper.batch_norm(w, "head.1", paper.linear(w, "head.0", h), training)
    return [paper.unit(one) for one in paper.linear(w, "head.3", [one.clamp(min=0) for one in h])]


@pytest.mark.parametrize("sides", [(4, 4), (4, 4, 2, 2)], ids=["2 large", "2 large and 2 small"])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("k", [2, 3])
def test_deepcluster(sides: tuple[int, ...], heads: int, k: int, tiny: Any, paper: Any, same: Any) -> None:
    """Six steps in three epochs. Head h clusters the bank of large crop h mod 2; the loss is the mean over the heads
    of the cross-entropy of z.c / tau over all crops of the images that have a cluster.

    Epoch 0 clusters what `embed` sees, with its mean taken off; a later one the last embeddings of the last epoch.
    """
    tau, n, views = 0.2, 4, len(sides)
    options = {"temperature": tau, "prototypes": k, "heads": heads, "iterations": 4, "head_hidden": 6, "head_dim": 3}
    method = tiny.build("deepcluster", IMAGES, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    (images,) = tiny.batches([range(IMAGES)], (4,), seed=1)[0].views
    bank: list[dict[int, Tensor]] = [{}, {}]
    ignored = 0
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches, images, per_epoch=2), batches, strict=True)):
        if step % 2 == 0:
            if step == 0:
                z = [one.detach() for one in head(w, paper.encoder(w, "encoder", images, False), paper, False)]
                mean = sum(z) / IMAGES
                bank = [{i: paper.unit(one - mean) for i, one in enumerate(z)} for _ in (0, 1)]
            torch.manual_seed(100 + step // 2)
            targets, centroids = [], []
            for one in range(heads):
                last = bank[one % 2]
                indices = sorted(last)
                c, own = spherical_kmeans([last[i] for i in indices], k, 4, paper)
                cluster = dict(zip(indices, own, strict=True))
                targets.append([cluster.get(i, IGNORED) for i in range(IMAGES)])
                centroids.append(c)
                same(ours.before["centroids"][one], c)
            assert ours.before["assigned"].tolist() == targets
            bank = [{}, {}]
        y = batch.index.tolist()
        h = paper.encoder(w, "encoder", torch.cat(batch.views[:2]))
        h = h + (paper.encoder(w, "encoder", torch.cat(batch.views[2:])) if views > 2 else [])
        z = head(w, h, paper)
        loss = torch.zeros((), dtype=torch.float64)
        for c, target in zip(centroids, targets, strict=True):
            terms = []
            for row, v in enumerate(z):
                own = target[y[row % n]]
                if own == IGNORED:
                    ignored += 1
                    continue
                p = torch.stack([(torch.dot(v, one) / tau).exp() for one in c])
                terms.append(-(p[own] / p.sum()).log())
            loss = loss + (sum(terms) / len(terms) if terms else 0 * z[0].sum()) / heads
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
        for row in range(2 * n):
            bank[row // n][y[row % n]] = z[row].detach()  # the last of an image stays
        for crop in (0, 1):
            for i, v in bank[crop].items():
                same(ours.after["bank"][crop, i], v)
        assert ours.after["seen"].tolist() == [i in bank[0] for i in range(IMAGES)]
    assert ignored > 0


def test_a_batch_of_ignored_images_has_loss_0_and_gradient_0(tiny: Any) -> None:
    method = tiny.build("deepcluster", IMAGES, prototypes=3, head_dim=3)
    (batch,), at = tiny.batches([[0, 1, 2, 3]]), Progress(4, 6, 2, 3)
    assert (method.assigned == IGNORED).all()
    loss = method.loss(method(batch, at), at)["loss"]
    loss.backward()
    assert loss.item() == 0
    for name, parameter in method.named_parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter)), name


def test_targets_and_centroids_are_not_trained(tiny: Any) -> None:
    method = tiny.build("deepcluster", IMAGES, prototypes=3, head_dim=3)
    assert not [name for name, _ in method.named_parameters() if not name.startswith(("encoder.", "head."))]


def test_flat_scores_give_ln_k(tiny: Any) -> None:
    method, at = tiny.build("deepcluster", IMAGES, prototypes=3, head_dim=3), Progress(0, 6, 0, 3)
    method.assigned.fill_(1)
    rows = {"z": draw_points(4, 3, 0)[:, None].expand(-1, 2, -1), "index": torch.arange(4)}
    assert method.loss(rows, at)["loss"].item() == pytest.approx(math.log(3))
