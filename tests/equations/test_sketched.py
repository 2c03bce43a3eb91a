"""LeJEPA (arXiv:2511.08544) and VISReg (2606.02572) as plain loops: what looks at a batch along random directions."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.lejepa import epps_pulley
from methods.method import Progress

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0]]
AT = Progress(0, 1, 0, 1)
DIM, DIRECTIONS = 3, 2
HEAD = {"directions": DIRECTIONS, "head_hidden": 6, "head_dim": DIM}
views = pytest.mark.parametrize(
    ("sides", "large"), [((4, 4), 2), ((4, 4, 4, 2, 2), 3)], ids=["two views", "three large views, two small crops"]
)


def embeddings(w: dict[str, Tensor], batch: Any, large: int, paper: Any, gelu: bool = False) -> list[list[Tensor]]:
    """z of each view and image: a pass through the encoder for each size, and one for all through the head."""
    h = paper.encoder(w, "encoder", torch.cat(batch.views[:large]))
    h = h + (paper.encoder(w, "encoder", torch.cat(batch.views[large:])) if len(batch.views) > large else [])
    z, n = paper.mlp(w, "head", h, 3, gelu=gelu), len(batch.index)
    return [z[n * v : n * v + n] for v in range(len(batch.views))]


def prediction(z: Sequence[Sequence[Tensor]], large: int) -> Tensor:
    """The mean over views, images and dimensions of (c - z)^2; c, the mean of the large views, has its gradient."""
    n, loss = len(z[0]), torch.zeros((), dtype=torch.float64)
    for i in range(n):
        c = sum((z[v][i] for v in range(1, large)), z[0][i]) / large
        for view in z:
            loss = loss + ((c - view[i]) ** 2).sum() / (len(z) * n * DIM)
    return loss


def draw_directions() -> list[Tensor]:
    """As many numbers as the loss draws, each direction of length 1."""
    normals = torch.randn(DIM, DIRECTIONS, dtype=torch.float64)
    return [normals[:, m] / (normals[:, m] ** 2).sum().sqrt() for m in range(DIRECTIONS)]


def statistic(x: Sequence[Tensor]) -> Tensor:
    """The trapezoid rule over 33 points of [-3, 3] on |mean exp(i t x) - exp(-t^2 / 2)|^2 exp(-t^2 / 2), times N."""
    points = [-3 + 6 * k / 32 for k in range(33)]
    total = torch.zeros((), dtype=torch.float64)
    for k, t in enumerate(points):
        phi, ends = math.exp(-(t**2) / 2), k in (0, 32)
        real = sum((t * one).cos() for one in x) / len(x) - phi
        imaginary = sum((t * one).sin() for one in x) / len(x)
        total = total + (0.5 if ends else 1) * 6 / 32 * phi * (real**2 + imaginary**2)
    return len(x) * total


@views
def test_lejepa(sides: tuple[int, ...], large: int, tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """L = (1 - lambda) prediction + lambda SIGReg, each view a sample of its own, the same directions for all."""
    weight = 0.3
    method = tiny.build("lejepa", 6, weight=weight, **HEAD)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        torch.manual_seed(100 + step)
        z, slices = embeddings(w, batch, large, paper), draw_directions()
        tests = [statistic([torch.dot(one, a) for one in view]) for a in slices for view in z]
        predicted, sigreg = prediction(z, large), sum(tests) / len(tests)
        loss = (1 - weight) * predicted + weight * sigreg
        for name, value in (("loss", loss), ("prediction", predicted), ("sigreg", sigreg)):
            same(ours.scalars[name], value)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_sigreg_is_known_beforehand(tiny: Any) -> None:
    """1.05 in the mean over samples of N(0, 1), whatever their size; 0.402 N where all is 0, which is a dead point."""
    normals = torch.randn(16, 40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert epps_pulley(normals).mean().item() == pytest.approx(1.0525, abs=0.02)
    z = torch.zeros(256, 2, DIM, dtype=torch.float64, requires_grad=True)
    method = tiny.build("lejepa", 6, **HEAD)
    rows = {"z": z, "centre": z.mean(dim=1)}
    scalars = method.loss(rows, AT)
    assert scalars["sigreg"].item() == pytest.approx(0.40205 * 256, rel=1e-4)
    scalars["loss"].backward()
    assert z.grad is not None
    assert not z.grad.any()
    logged = {name: value.item() for name, value in scalars.items()}
    assert [name for name, _ in method.symptoms(logged, rows)] == ["one_point"]
    assert not list(method.symptoms(logged | {"sigreg": 0.9 * logged["sigreg"]}, rows))


@views
@pytest.mark.parametrize("most", [0.0, 0.05], ids=["", "clipped"])
def test_visreg(
    most: float, sides: tuple[int, ...], large: int, tiny: Any, paper: Any, same: Any, same_state: Any
) -> None:
    """L = (1 - lambda) prediction + lambda (scale + shape + centre); in `shape` sigma is a constant, mu is not."""
    weight = 0.3
    method = tiny.build("visreg", 6, weight=weight, clip=most, **HEAD)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        torch.manual_seed(100 + step)
        z, slices, n = embeddings(w, batch, large, paper, gelu=True), draw_directions(), len(batch.index)
        centre = scale = shape = torch.zeros((), dtype=torch.float64)
        for view in z:
            mu = sum(view[1:], view[0]) / n
            sigma = (sum((one - mu) ** 2 for one in view) / n + 1e-12).sqrt()
            centre = centre + (mu**2).sum() / (len(z) * DIM)
            scale = scale + ((1 - sigma) ** 2).sum() / (len(z) * DIM)
            for a in slices:
                projected = [torch.dot((one - mu) / sigma.detach(), a) for one in view]
                for rank, p in enumerate(sorted(projected, key=Tensor.item), 1):
                    q = NormalDist().inv_cdf(rank / (n + 1))
                    shape = shape + (p - q) ** 2 / (len(z) * n * DIRECTIONS)
        predicted = prediction(z, large)
        loss = (1 - weight) * predicted + weight * (scale + shape + centre)
        terms = {"loss": loss, "prediction": predicted, "scale": scale, "shape": shape, "centre": centre}
        for name, value in terms.items():
            same(ours.scalars[name], value)
        before = {name: value.clone() for name, value in w.items()}
        slopes = paper.sgd(w, loss)
        norm = float(sum((slope**2).sum() for slope in slopes.values()) ** 0.5)
        factor = min(1.0, most / (norm + 1e-6)) if most else 1.0
        assert (factor < 1) == bool(most)
        slopes = {name: factor * slope for name, slope in slopes.items()}
        same(ours.gradients, slopes)
        w.update({n: (before[n] - paper.RATE * slope).detach().requires_grad_() for n, slope in slopes.items()})
    same_state(ours.after, w)


def test_visreg_is_known_beforehand(tiny: Any) -> None:
    """A Gaussian sample has a shape of 0.0062 at 256 images; what has collapsed keeps a gradient on the way."""
    method = tiny.build("visreg", 6, **(HEAD | {"directions": 512}))
    torch.manual_seed(0)
    z = torch.randn(256, 2, DIM, dtype=torch.float64)
    scalars = method.loss({"z": z, "centre": z.mean(dim=1)}, AT)
    assert scalars["shape"].item() == pytest.approx(0.0062, rel=0.3)
    small = (1e-4 * z).requires_grad_()
    rows = {"z": small, "centre": small.mean(dim=1)}
    scalars = method.loss(rows, AT)
    assert scalars["scale"].item() == pytest.approx(1, abs=1e-3)
    scalars["loss"].backward()
    assert small.grad is not None
    assert float(small.grad.norm()) > 0.01
    assert [name for name, _ in method.symptoms({}, {"z": small.detach()})] == ["one_point"]
    assert not list(method.symptoms({}, {"z": z}))
    equal = torch.zeros(256, 2, DIM, dtype=torch.float64, requires_grad=True)
    method.loss({"z": equal, "centre": equal.mean(dim=1)}, AT)["loss"].backward()
    assert equal.grad is not None
    assert equal.grad.isfinite().all()
