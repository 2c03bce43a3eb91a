"""BYOL (arXiv:2006.07733), SimSiam (2011.10566), Barlow Twins (2103.03230), VICReg (2105.04906) and VIbCReg
(2109.00783) as plain loops."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.method import Progress

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1]]
SIDES = [(4, 4), (4, 4, 2, 2)]
crops = pytest.mark.parametrize("sides", SIDES, ids=["two views", "and two small crops"])


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], values[0]) / len(values)


@crops
def test_byol(sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """L = sum over both directions of the mean of 2 - 2 cos(q, z'), not halved; the target has no predictor.

    Behind step k of K the target moves with tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2: with tau_base at first.
    """
    base = 0.7
    method = tiny.build("byol", 6, momentum=base, head_hidden=12, head_dim=3)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    for name in [name for name in w if name.startswith("target_")]:
        part, rest = name.removeprefix("target_").split(".network.")
        assert torch.equal(w[name], w[f"{part}.{rest}"]), "the target starts as a copy"

    for k, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        q = [paper.mlp(w, "predictor", paper.mlp(w, "head", paper.encoder(w, "encoder", x), 2), 2) for x in batch.views]
        with torch.no_grad():
            target = [
                paper.mlp(w, "target_head.network", paper.encoder(w, "target_encoder.network", x), 2)
                for x in batch.views[:2]
            ]
        loss = torch.zeros((), dtype=torch.float64)
        for first, other in ((0, 1), (1, 0)):
            online = [q[first], *q[2:]]
            each = [2 - 2 * cosine(a, b) for view in online for a, b in zip(view, target[other], strict=True)]
            loss = loss + mean(each)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
        assert not any(name.startswith("target_") for name in ours.gradients)
        paper.follow(w, 1 - (1 - base) * (math.cos(math.pi * k / len(batches)) + 1) / 2)
        same_state(ours.after, w)


def test_byol_starts_near_4_and_its_target_moves_at_the_first_step(tiny: Any) -> None:
    """METHODS.md 8.1: within 0 to 8, near 4 for a random predictor; a halved loss would be near 2."""
    method = tiny.build("byol", 64, momentum=0.9, head_hidden=64, head_dim=64)
    (step,) = tiny.train(method, tiny.batches([range(64)]))
    assert step.scalars["loss"].item() == pytest.approx(4, abs=1)
    name = "target_encoder.network.2.weight"
    expected = 0.9 * step.before[name] + 0.1 * step.after["encoder.2.weight"]
    torch.testing.assert_close(step.after[name], expected, atol=1e-12, rtol=0)


@crops
@pytest.mark.parametrize("layers", [2, 3])
def test_simsiam(layers: int, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """L = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2, D = -cos.

    The projector ends on batch norm without scale and shift, the predictor on a linear layer.
    """
    method = tiny.build("simsiam", 6, head_layers=layers, head_dim=5, predictor_hidden=3)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    last = 3 * (layers - 1)
    assert f"head.{last + 1}.running_mean" in w
    assert not {f"head.{last + 1}.weight", "predictor.4.running_mean"} & set(w)
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        z = [paper.mlp(w, "head", paper.encoder(w, "encoder", x), layers, last_norm=True) for x in batch.views]
        p = [paper.mlp(w, "predictor", one, 2) for one in z]
        loss = torch.zeros((), dtype=torch.float64)
        for first, other in ((0, 1), (1, 0)):
            constant = [one.detach() for one in z[other]]
            each = [-cosine(a, b) for view in [p[first], *p[2:]] for a, b in zip(view, constant, strict=True)]
            loss = loss + mean(each) / 2
        assert -1 <= loss <= 1
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def embeddings(batch: Any, w: dict[str, Tensor], layers: int, paper: Any) -> list[Tensor]:
    """(n, D) of each view, in a pass of its own."""
    return [torch.stack(paper.mlp(w, "head", paper.encoder(w, "encoder", x), layers)) for x in batch.views]


@pytest.mark.parametrize("layers", [1, 3])
def test_barlow_twins(layers: int, tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """L = sum_i (1 - C_ii)^2 + lambda sum_{j != i} C_ij^2, C the correlation along the batch (batch norm's epsilon)."""
    weight, dim = 0.3, 4
    method = tiny.build("barlow_twins", 6, weight=weight, head_layers=layers, head_dim=dim)
    w, batches = paper.start(method), tiny.batches(BATCHES)
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        a, b = embeddings(batch, w, layers, paper)
        n = len(a)

        def column(z: Tensor, i: int, n: int = n) -> list[Tensor]:
            middle = sum(z[k, i] for k in range(n)) / n
            variance = sum((z[k, i] - middle) ** 2 for k in range(n)) / n
            return [(z[k, i] - middle) / (variance + 1e-5).sqrt() for k in range(n)]

        of_a, of_b = [[column(z, i) for i in range(dim)] for z in (a, b)]
        c = [[sum(of_a[i][k] * of_b[j][k] for k in range(n)) / n for j in range(dim)] for i in range(dim)]
        on = sum((1 - c[i][i]) ** 2 for i in range(dim))
        off = sum(c[i][j] ** 2 for i in range(dim) for j in range(dim) if i != j)
        loss = on + weight * off
        same(ours.scalars["loss"], loss)
        same(ours.scalars["on_diagonal"], on)
        same(ours.scalars["off_diagonal"], off)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_barlow_twins_is_zero_for_equal_and_independent_dimensions(tiny: Any) -> None:
    """And says so where the views have nothing to do with each other."""
    method = tiny.build("barlow_twins", 6, head_dim=2)
    at = Progress(0, 1, 0, 1)
    z = 100 * torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    equal = method.loss({"z": torch.stack([z, 3 * z + 1], dim=1)}, at)
    assert equal["loss"].item() == pytest.approx(0, abs=1e-6)
    apart = {"z": torch.stack([z, z[:, :1] * z[:, 1:] * torch.ones(2)], dim=1)}
    logged = {name: value.item() for name, value in method.loss(apart, at).items()}
    assert logged["on_diagonal"] == pytest.approx(2)
    assert [name for name, _ in method.symptoms(logged, apart)] == ["uncorrelated"]


@pytest.mark.parametrize("halved", [False, True])
def test_vicreg(halved: bool, tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """Variance with n - 1, epsilon inside the root, the hinge at 1; s the mean over images and dimensions.

    `halved` halves the variance term alone.
    """
    dim, weights = 4, (0.3, 0.2, 0.1)
    options = {"invariance": weights[0], "variance": weights[1], "covariance": weights[2], "head_dim": dim}
    method = tiny.build("vicreg", 6, halved=halved, **options)
    with torch.no_grad():
        method.head[-1].weight *= 4  # so that some dimensions vary by more than 1
    w, batches = paper.start(method), tiny.batches(BATCHES)
    hinged = []
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        views = embeddings(batch, w, 3, paper)
        n = len(views[0])
        s = sum((views[0][k, i] - views[1][k, i]) ** 2 for k in range(n) for i in range(dim)) / n / dim
        v = c = torch.zeros((), dtype=torch.float64)
        for z in views:
            middle = [sum(z[k, i] for k in range(n)) / n for i in range(dim)]
            for i in range(dim):
                spread = sum((z[k, i] - middle[i]) ** 2 for k in range(n)) / (n - 1)
                v = v + (1 - (spread + 1e-4).sqrt()).clamp(min=0) / dim
                hinged.append(bool(spread > 1))
                for j in range(dim):
                    together = sum((z[k, i] - middle[i]) * (z[k, j] - middle[j]) for k in range(n)) / (n - 1)
                    c = c + (together**2 / dim if i != j else 0)
        v = v / 2 if halved else v
        loss = weights[0] * s + weights[1] * v + weights[2] * c
        for name, value in (("loss", loss), ("invariance", s), ("variance", v), ("covariance", c)):
            same(ours.scalars[name], value)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)
    assert len(set(hinged)) == 2, "both sides of the hinge are seen"


def test_vibcreg(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """VICReg's variance and invariance; c is the mean over all D^2 of the squared correlations of different columns."""
    dim, weights = 4, (0.3, 0.2, 0.7)
    options = {"invariance": weights[0], "variance": weights[1], "covariance": weights[2], "head_dim": dim}
    method = tiny.build("vibcreg", 6, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES)
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        z = [torch.stack(paper.mlp(w, "head", paper.encoder(w, "encoder", x), 3, gelu=True)) for x in batch.views]
        n = len(z[0])
        s = sum((z[0][k, i] - z[1][k, i]) ** 2 for k in range(n) for i in range(dim)) / n / dim
        v = c = torch.zeros((), dtype=torch.float64)
        for view in z:
            centred = [view[:, i] - sum(view[k, i] for k in range(n)) / n for i in range(dim)]
            for i, column in enumerate(centred):
                v = v + (1 - ((column**2).sum() / (n - 1) + 1e-4).sqrt()).clamp(min=0) / dim
                for j, other in enumerate(centred):
                    c = c + (cosine(column, other) ** 2 / dim**2 if i != j else 0)
        loss = weights[0] * s + weights[1] * v + weights[2] * c
        for name, value in (("loss", loss), ("invariance", s), ("variance", v), ("correlation", c)):
            same(ours.scalars[name], value)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg", "vibcreg"])
def test_every_parameter_matters(name: str, tiny: Any) -> None:
    """A bias that the loss takes out again would only decay: none is made."""
    method = tiny.build(name, 6, head_layers=2, head_dim=4)
    (step,) = tiny.train(method, tiny.batches(BATCHES[:1]))
    flat = [n for n, g in step.gradients.items() if n.startswith("head") and g.abs().max() < 1e-12]
    assert flat == []
