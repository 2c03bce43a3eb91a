"""The papers' equations as pure functions of unit vectors, exact and in tiles.

The logits of a large batch do not fit in memory: NT-Xent at batch 8192 has 16,384 x 16,384 of them, 1 GiB, and
several copies of that live through a plain backward. Here each block of rows is scored, its log-sum-exp taken, its
share of the gradient formed while it is at hand, and forgotten. Memory grows with N, not with N^2, and the result is
that of the plain form up to rounding.

Shapes: B images in the global batch, M = 2B views, K negatives in a queue, D width, t rows of a tile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits of one tile: 16 MiB in float32 stay near a CPU's caches, a GPU wants larger products.
TILE_CPU, TILE_GPU = 2**22, 2**26


def nt_xent(z1: Tensor, z2: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """NT-Xent, equation 1 of SimCLR (arXiv:2002.05709), mean over all 2B views.

    l(i, j) = -log( exp(s_ij / tau) / sum_{k != i} exp(s_ik / tau) ), s the inner product of unit vectors.
    z1, z2: (B, D) unit vectors, row b of both from image b. `tile`: rows scored at once, chosen by default.
    """
    return _NTXent.apply(torch.cat([z1, z2]), temperature, tile)


def info_nce(q: Tensor, k: Tensor, negatives: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """InfoNCE, equation 1 of MoCo (arXiv:1911.05722), mean over the batch.

    L_q = -log( exp(q.k+ / tau) / (exp(q.k+ / tau) + sum_j exp(q.n_j / tau)) ). q, k: (B, D) unit vectors, k the
    positive of each q; negatives: (K, D), shared by all, without gradient. `tile`: rows scored at once.
    """
    return _InfoNCE.apply(q, k, negatives, temperature, tile)


class _NTXent(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, tile: int | None) -> Tensor:
        views, needs_gradient = len(z), ctx.needs_input_grad[0]
        gradient = torch.zeros_like(z)
        total = z.new_zeros(())
        for start, stop in _tiles(views, views, tile, z):
            anchors = z[start:stop]
            own = torch.arange(start, stop, device=z.device)
            row, positive = own - start, (own + views // 2) % views
            logits = anchors @ z.T / temperature  # (t, M)
            logits[row, own] = -torch.inf
            log_sum = logits.logsumexp(dim=1, keepdim=True)
            total += (log_sum.squeeze(1) - logits[row, positive]).sum()
            if needs_gradient:
                slope = logits.sub_(log_sum).exp_()  # (t, M): softmax minus the one-hot positive
                slope[row, positive] -= 1
                gradient[start:stop] += slope @ z  # through the anchor
                gradient.addmm_(slope.T, anchors)  # through the other view
        ctx.save_for_backward(gradient.div_(views * temperature))
        return total / views

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, negatives: Tensor, temperature: float, tile: int | None) -> Tensor:
        count = len(q)
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        to_q, to_k = torch.empty_like(q), torch.empty_like(k)
        total = q.new_zeros(())
        for start, stop in _tiles(count, len(negatives), tile, q):
            query, key = q[start:stop], k[start:stop]
            positive = (query * key).sum(dim=1, keepdim=True) / temperature  # (t, 1)
            logits = query @ negatives.T / temperature  # (t, K)
            log_sum = torch.logaddexp(logits.logsumexp(dim=1, keepdim=True), positive)
            total += (log_sum - positive).sum()
            if needs_gradient:
                missing = (positive - log_sum).exp() - 1  # p+ - 1
                to_k[start:stop] = missing * query
                to_q[start:stop] = missing * key
                to_q[start:stop] += logits.sub_(log_sum).exp_() @ negatives
        scale = 1 / (count * temperature)
        ctx.save_for_backward(to_q.mul_(scale), to_k.mul_(scale))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        to_q, to_k = ctx.saved_tensors
        return upstream * to_q, upstream * to_k, None, None, None


def _tiles(rows: int, columns: int, tile: int | None, like: Tensor) -> list[tuple[int, int]]:
    """Row ranges whose blocks of logits stay within the tile size of the device."""
    size = tile or max(32, (TILE_GPU if like.is_cuda else TILE_CPU) // max(1, columns))
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]
