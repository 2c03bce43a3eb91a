"""SimCLR's other losses (arXiv:2002.05709, table 2) and similarities, and NT-Xent with hard (arXiv:2010.04592) and
debiased (arXiv:2007.00224) negatives, as plain loops."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.parts.losses import nt_xent
from methods.parts.scores import reweighted_nt_xent

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4]]
TAU, MARGIN = 0.8, 0.4

SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda a, b: torch.dot(a, b) / (torch.dot(a, a) * torch.dot(b, b)).sqrt(),
    "dot": torch.dot,
    "l2": lambda a, b: -((a - b) ** 2).sum(),
}


def loop(kind: str, similarity: str, z: list[Tensor]) -> Tensor:
    """Views i and i + N are of one image; all others are negatives of both."""
    s, m = SIMILARITIES[similarity], len(z)
    losses, terms, positives = [], [], []
    for i in range(m):
        j = (i + m // 2) % m
        positive, negatives = s(z[i], z[j]), [s(z[i], z[k]) for k in range(m) if k not in (i, j)]
        if kind == "nt_xent":
            others = sum((negative / TAU).exp() for negative in negatives)
            losses.append(-((positive / TAU).exp() / ((positive / TAU).exp() + others)).log())
        elif kind == "nt_logistic":
            apart = [-(1 / (1 + (negative / TAU).exp())).log() for negative in negatives]
            losses.append(-(1 / (1 + (-positive / TAU).exp())).log() + sum(apart) / len(apart))
        else:
            for negative in negatives:
                terms.append((negative - positive + MARGIN).clamp(min=0))
                if positive - MARGIN < negative < positive:
                    positives.append(terms[-1])
    if kind == "margin":
        losses = terms
    elif kind == "semi_hard":
        losses = positives or [0 * z[0].sum()]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("kind", ["nt_xent", "nt_logistic", "margin", "semi_hard"])
@pytest.mark.parametrize("sides", [(4, 4), (4, 4, 2)], ids=["two views", "and a small crop"])
def test_loss(sides: tuple[int, ...], kind: str, similarity: str, tiny: Any, paper: Any, same: Any) -> None:
    options = {"loss": kind, "similarity": similarity, "temperature": TAU, "margin": MARGIN}
    method = tiny.build("simclr", 6, head="linear", head_dim=3, **options)
    w, batches, n = paper.start(method), tiny.batches(BATCHES, sides), 4
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        h = paper.encoder(w, "encoder", torch.cat(batch.views[:2]))
        h = h + (paper.encoder(w, "encoder", batch.views[2]) if len(sides) > 2 else [])
        rows = paper.linear(w, "head", h)
        z = [rows[n * v : n * v + n] for v in range(len(sides))]
        pairs = [(a, b) for b in range(len(sides)) for a in range(b)]
        loss = sum(loop(kind, similarity, z[a] + z[b]) for a, b in pairs) / len(pairs)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))


def test_a_margin_that_is_kept_costs_nothing(tiny: Any) -> None:
    """Positives that are equal, negatives opposite: 0, and 0 where no negative is semi-hard."""
    axes = torch.tensor([[1.0, 0], [-1, 0]], dtype=torch.float64)
    for kind in ("margin", "semi_hard"):
        method = tiny.build("simclr", 6, loss=kind, margin=MARGIN)
        assert method.contrast(axes, axes).item() == 0
        # The positive at -1, one negative at 1 and the other at -1.
        hard = method.contrast(axes, axes.flip(0)).item()
        assert hard == pytest.approx((2 + 2 * MARGIN) / 2 if kind == "margin" else 0)


def reweigh(z: list[Tensor], tau: float, beta: float, share: float) -> tuple[Tensor, list[bool]]:
    """-log( e+ / (e+ + G) ), the mean over all views, and where G is at its least."""
    m, losses, least = len(z), [], []
    for i in range(m):
        j = (i + m // 2) % m
        positive = (SIMILARITIES["cosine"](z[i], z[j]) / tau).exp()
        e = [(SIMILARITIES["cosine"](z[i], z[k]) / tau).exp() for k in range(m) if k not in (i, j)]
        weights = [one**beta for one in e]
        s = len(e) * sum(w * one for w, one in zip(weights, e, strict=True)) / sum(weights)
        g = (s - share * len(e) * positive) / (1 - share)
        least.append(bool(g < len(e) * math.exp(-1 / tau)))
        g = torch.full_like(g, len(e) * math.exp(-1 / tau)) if least[-1] else g
        losses.append(-(positive / (positive + g)).log())
    return sum(losses) / m, least


@pytest.mark.parametrize(("beta", "share"), [(1.0, 0.0), (0.0, 0.1), (0.5, 0.4)])
def test_hard_and_debiased_negatives(beta: float, share: float, tiny: Any, paper: Any, same: Any) -> None:
    """Negatives are of both views, own and other view apart; their weights and the positive inside G have gradients."""
    options = {"hardness": beta, "class_share": share, "temperature": TAU}
    method = tiny.build("simclr", 6, head="linear", head_dim=3, **options)
    w, batches, sides = paper.start(method), tiny.batches(BATCHES), []
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        z = paper.linear(w, "head", paper.encoder(w, "encoder", torch.cat(batch.views)))
        loss, least = reweigh(z, TAU, beta, share)
        sides += least
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    if share == 0.4:
        assert len(set(sides)) == 2, "both sides of the least value are seen"


@pytest.mark.parametrize(("beta", "share"), [(0.0, 0.1), (2.0, 0.1), (1.0, 0.0), (0.0, 1e-12)])
def test_reweighted_negatives_are_known_beforehand(beta: float, share: float) -> None:
    """ln(2N - 1) where all are equal; NT-Xent itself as both go to 0; finite at a low temperature."""
    equal = torch.ones(8, 8, dtype=torch.float64)
    assert reweighted_nt_xent(equal, 0.5, beta, share).item() == pytest.approx(math.log(7))
    z = torch.nn.functional.normalize(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    if (beta, share) == (0.0, 1e-12):
        plain = nt_xent(z[:4], z[4:], 0.5)
        torch.testing.assert_close(reweighted_nt_xent(z @ z.T, 0.5, beta, share), plain)
    s = (z @ z.T).requires_grad_()
    reweighted_nt_xent(s, 0.01, beta, share).backward()
    assert s.grad is not None
    assert s.grad.isfinite().all()
