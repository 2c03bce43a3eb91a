"""SimCLR (arXiv:2002.05709) as plain loops: network, head, equation 1, steps; small crops as further views."""

from typing import Any

import pytest
import torch
from torch import Tensor

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1]]


def nt_xent(z1: list[Tensor], z2: list[Tensor], tau: float) -> Tensor:
    """Equation 1, l(i, j) = -log( exp(s_ij / tau) / sum_{k != i} exp(s_ik / tau) ), the mean over all 2N views."""
    n, z = len(z1), [*z1, *z2]
    loss = torch.zeros((), dtype=torch.float64)
    for i in range(2 * n):
        j = i + n if i < n else i - n
        e = {k: (torch.dot(z[i], z[k]) / tau).exp() for k in range(2 * n) if k != i}
        loss = loss - (e[j] / sum(e.values())).log()
    return loss / (2 * n)


def list_large_pairs(views: int) -> list[tuple[int, int]]:
    """The pairs of views of which at least one is among the two large ones, each once."""
    return [(a, b) for b in range(views) for a in range(b) if a < 2 or b < 2]


@pytest.mark.parametrize("sides", [(4, 4), (4, 4, 2, 2)], ids=lambda s: f"{len(s) - 2} small crops")
@pytest.mark.parametrize("head", ["mlp", "mlp of 3", "mlp without batch norm", "linear", "none"])
def test_simclr(head: str, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any) -> None:
    """The authors' head: layers without bias, each with batch norm behind it, the last one's without a shift."""
    layers, norm = (3 if "3" in head else 2), "without" not in head
    options = {"head": head.split()[0], "head_layers": layers, "head_norm": norm, "head_hidden": 6, "head_dim": 3}
    method = tiny.build("simclr", 6, temperature=0.4, **options)
    w, batches, n, views = paper.start(method), tiny.batches(BATCHES, sides), 4, len(sides)

    def g(h: list[Tensor]) -> list[Tensor]:
        if head in ("none", "linear"):
            return h if head == "none" else paper.linear(w, "head", h)
        each = 3 if norm else 2
        for layer in range(layers):
            assert norm == (f"head.{each * layer}.bias" not in w)
            h = paper.linear(w, f"head.{each * layer}", h)
            h = paper.batch_norm(w, f"head.{each * layer + 1}", h) if norm else h
            h = [one.clamp(min=0) for one in h] if layer < layers - 1 else h
        return h

    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        h = paper.encoder(w, "encoder", torch.cat(batch.views[:2]))
        h = h + (paper.encoder(w, "encoder", torch.cat(batch.views[2:])) if views > 2 else [])
        rows = [paper.unit(one) for one in g(h)]
        z = [rows[n * v : n * v + n] for v in range(views)]
        losses = [nt_xent(z[a], z[b], 0.4) for a, b in list_large_pairs(views)]
        loss = sum(losses) / len(losses)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    compared = [name for name in w if "num_batches" not in name]
    same({name: ours.after[name] for name in compared}, {name: w[name] for name in compared})
    if norm and head.startswith("mlp"):
        assert not w[f"head.{3 * layers - 2}.bias"].any()
