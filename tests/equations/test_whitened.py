"""W-MSE (arXiv:2007.06346), MMCR (2303.03307) and CorInfoMax (2209.07999) as plain loops: embeddings that have to fill
the space."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.method import Progress

BATCHES = [[0, 3, 3, 1, 2, 4], [5, 1, 0, 0, 2, 3]]
AT = Progress(0, 1, 0, 1)
views = pytest.mark.parametrize("sides", [(4, 4), (4, 4, 2)], ids=["two views", "and a small crop"])


def embeddings(w: dict[str, Tensor], batch: Any, paper: Any) -> list[list[Tensor]]:
    """z of each view and image: a pass through the encoder for each size, and one for all through the head."""
    h = paper.encoder(w, "encoder", torch.cat(batch.views[:2]))
    h = h + (paper.encoder(w, "encoder", torch.cat(batch.views[2:])) if len(batch.views) > 2 else [])
    z, n = paper.mlp(w, "head", h, 2), len(batch.index)
    return [z[n * v : n * v + n] for v in range(len(batch.views))]


def whiten(z: Sequence[Tensor], epsilon: float) -> list[Tensor]:
    """L^-1 (z - m), L the Cholesky factor by its recurrence, and forward substitution."""
    n, dim = len(z), len(z[0])
    m = sum(z[1:], z[0]) / n
    s = [[sum((one - m)[i] * (one - m)[j] for one in z) / (n - 1) for j in range(dim)] for i in range(dim)]
    s = [[(1 - epsilon) * s[i][j] + (epsilon if i == j else 0) for j in range(dim)] for i in range(dim)]
    low: list[list[Any]] = [[0.0] * dim for _ in range(dim)]
    for i in range(dim):
        for j in range(i + 1):
            remainder = s[i][j] - sum(low[i][k] * low[j][k] for k in range(j))
            low[i][j] = remainder.sqrt() if i == j else remainder / low[j][j]
    whitened = []
    for one in z:
        v: list[Tensor] = []
        for i in range(dim):
            v.append(((one - m)[i] - sum(low[i][k] * v[k] for k in range(i))) / low[i][i])
        whitened.append(torch.stack(v))
    return whitened


@views
@pytest.mark.parametrize("euclidean", [False, True])
def test_wmse(euclidean: bool, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """Twice a new order of the images, the same for all views, in parts of three; each view and part whitened alone."""
    epsilon, dim, passes = 0.1, 2, 2
    options = {"epsilon": epsilon, "passes": passes, "euclidean": euclidean, "head_dim": dim, "head_hidden": 6}
    method = tiny.build("wmse", 6, whitened=3, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        torch.manual_seed(100 + step)
        z, n, each = embeddings(w, batch, paper), len(batch.index), []
        for _ in range(passes):
            order = torch.randperm(n).tolist()
            for part in (order[:3], order[3:]):
                v = [whiten([view[i] for i in part], epsilon) for view in z]
                for a in range(len(v)):
                    for b in range(a):
                        for x, y in zip(v[a], v[b], strict=True):
                            near = torch.dot(paper.unit(x), paper.unit(y))
                            each.append(((x - y) ** 2).sum() / dim if euclidean else 2 - 2 * near)
        loss = sum(each) / len(each)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_wmse_is_known_beforehand(tiny: Any) -> None:
    """2 for views that have nothing in common, 0 for equal ones; the same for what a triangular map makes of z."""
    method = tiny.build("wmse", 6, whitened=16, head_dim=4)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4096, 2, 4, generator=generator, dtype=torch.float64)

    def loss(z: Tensor) -> float:
        torch.manual_seed(0)
        return float(method.loss({"z": z}, AT)["loss"])

    assert loss(z) == pytest.approx(2, abs=0.1)
    assert [name for name, _ in method.symptoms({"loss": 2.001}, {})] == ["chance"]
    assert loss(z[:, :1].expand(-1, 2, -1)) == pytest.approx(0, abs=1e-9)
    upper = torch.randn(4, 4, generator=generator, dtype=torch.float64).triu()
    assert loss(z @ upper + 3) == pytest.approx(loss(z), abs=1e-9)
    with pytest.raises(RuntimeError, match="cannot be whitened"):
        loss(torch.zeros_like(z))
    for few in (3, 4):  # less their mean, four have rank three
        with pytest.raises(RuntimeError, match=f"{few} embeddings of 4 dimensions"):
            loss(z[:few])


@views
@pytest.mark.parametrize("local", [0.0, 0.3])
def test_mmcr(local: float, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """L = -|C|_* + lambda mean_n |Z_n|_*: singular values as roots of the eigenvalues of the smaller Gram matrix."""
    method = tiny.build("mmcr", 6, local=local, head_layers=2, head_hidden=6, head_dim=3)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)

    def nuclear(rows: Sequence[Tensor]) -> Tensor:
        a = torch.stack(list(rows))
        gram = a @ a.T if len(a) < a.shape[1] else a.T @ a
        return torch.linalg.eigvalsh(gram).clamp(min=1e-300).sqrt().sum()

    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        z = [[paper.unit(one) for one in view] for view in embeddings(w, batch, paper)]
        images = range(len(batch.index))
        centres = nuclear([sum((view[i] for view in z[1:]), z[0][i]) / len(z) for i in images])
        loss = -centres
        if local:
            loss = loss + local * sum(nuclear([view[i] for view in z]) for i in images) / len(images)
        same(ours.scalars["centres"], centres)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_mmcr_is_known_beforehand(tiny: Any) -> None:
    """-sqrt(N) where all are one unit vector, and at best -sqrt(N D), where each dimension has its share."""
    method = tiny.build("mmcr", 6, head_layers=2, head_hidden=6, head_dim=4)
    one = torch.eye(4, dtype=torch.float64)[:1].expand(64, 4)
    best = torch.eye(4, dtype=torch.float64).repeat(16, 1)
    values = []
    for z in (one, best):
        rows = {"z": z[:, None].expand(-1, 2, -1)}
        logged = {name: float(value) for name, value in method.loss(rows, AT).items()}
        values.append(logged["loss"])
        assert [name for name, _ in method.symptoms(logged, rows)] == (["chance"] if z is one else [])
    assert values == pytest.approx([-math.sqrt(64), -math.sqrt(64 * 4)])


def test_corinfomax(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """mu' = l mu + (1 - l) mean z, R' = l R + (1 - l) mean (z - mu')(z - mu')^T, of each view, kept behind the step;
    L = alpha MSE - [log det(R1' + eps I) + log det(R2' + eps I)] / D."""
    alpha, old, dim = 3.0, 0.2, 3
    method = tiny.build("corinfomax", 6, invariance=alpha, forgetting=old, head_hidden=6, head_dim=dim)
    w, batches = paper.start(method), tiny.batches(BATCHES)
    same(w["mean"], torch.zeros(2, dim, dtype=torch.float64))
    same(w["covariance"], torch.eye(dim, dtype=torch.float64).expand(2, dim, dim))
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        z = []
        for x in batch.views:
            h = paper.encoder(w, "encoder", x)
            for layer in (0, 2):
                h = [one.clamp(min=0) for one in paper.linear(w, f"head.{layer}", h)]
            z.append([paper.unit(one) for one in paper.linear(w, "head.4", h)])
        n, entropy = len(batch.index), torch.zeros((), dtype=torch.float64)
        for view in (0, 1):
            mean = old * w["mean"][view] + (1 - old) * sum(z[view]) / n
            spread = sum(torch.outer(one - mean, one - mean) for one in z[view]) / n
            r = old * w["covariance"][view] + (1 - old) * spread
            entropy = entropy + torch.linalg.eigvalsh(r + 1e-8 * torch.eye(dim)).log().sum() / dim
            w["mean"][view], w["covariance"][view] = mean.detach(), r.detach()
        mse = sum((a[i] - b[i]) ** 2 for a, b in zip(*z, strict=True) for i in range(dim)) / n / dim
        for name, value in (("loss", alpha * mse - entropy), ("entropy", entropy), ("invariance", mse)):
            same(ours.scalars[name], value)
        same(ours.gradients, paper.sgd(w, alpha * mse - entropy))
        same_state(ours.after, w)


def test_corinfomax_is_known_beforehand(tiny: Any) -> None:
    """METHODS-2.md 5, at D = 64: at the first step -2 ln .01 where all are one point, at best -2 ln(.01 + .99 / D)."""
    method = tiny.build("corinfomax", 6, head_dim=64, forgetting=0.01)
    axes = torch.eye(64, dtype=torch.float64)
    one, best = axes[:1].expand(128, 64), torch.cat([axes, -axes])
    for z, expected, signs in ((one, 0.0, ["one_point"]), (best, -2 * math.log(0.01 + 0.99 / 64), [])):
        rows = {"z": z[:, None].expand(-1, 2, -1)}
        loss = method.loss(rows, AT)
        if signs:  # the mean has forgotten a hundredth: 64 - 1 directions have only what is left of I
            away = 0.01 + 0.99 * 0.01**2
            expected = -2 * (63 * math.log(0.01) + math.log(away)) / 64
            assert expected == pytest.approx(-2 * math.log(0.01), abs=1e-3)
        assert float(loss["loss"]) == pytest.approx(expected, abs=1e-5)
        assert [name for name, _ in method.symptoms({}, rows)] == signs
