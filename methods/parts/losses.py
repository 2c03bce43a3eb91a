"""The papers' equations as pure functions of unit vectors, exact, and in tiles where there are too many logits.

The logits of a large batch do not fit in memory: NT-Xent at batch 8192 has 16,384 x 16,384 of them, 1 GiB, and
several copies of that live through a plain backward. Here each block is scored, its log-sum-exp taken, its share of
the gradient formed while it is at hand, and forgotten. Memory grows with N, not with N^2, and the result is
that of the plain form up to rounding.

Shapes: B images in the global batch, M = 2B views, K negatives in a queue, D width, t rows of a tile; in PCL's, N
images, V views, K clusters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from methods.parts.chance import draw
from methods.parts.kmeans import mean_by_cluster

# Logits of one tile: 16 MiB in float32 stay near a CPU's caches, a GPU wants larger products.
TILE_CPU, TILE_GPU = 2**22, 2**26
BLOCK_CPU, BLOCK_GPU = 2**20, 2**26  # of NT-Xent's square blocks, of which two are at hand at once


def nt_xent(z1: Tensor, z2: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """NT-Xent, equation 1 of SimCLR (arXiv:2002.05709), mean over all 2B views.

    l(i, j) = -log( exp(s_ij / tau) / sum_{k != i} exp(s_ik / tau) ), s the inner product of unit vectors.
    z1, z2: (B, D) unit vectors, row b of both from image b. `tile`: side of a block of logits, chosen by default.
    """
    return _LogSum.apply(torch.cat([z1, z2]), temperature, "nt_xent", tile)


def log_sum_of_others(z: Tensor, temperature: float, paired: bool, tile: int | None = None) -> Tensor:
    """log sum_{k != i} exp(s_ik / tau) of each view i, the mean over all M; what views are pushed apart by.

    z: (M, D) unit vectors. `paired`: they are two views of M / 2 images, first all of one and then all of the other,
    and an image's own other view is left out of its sum (DCL, arXiv:2110.06848).
    """
    return _LogSum.apply(z, temperature, "negatives" if paired else "others", tile)


Own = tuple[Tensor, Tensor]  # the images of the anchors (B,) and of the negatives (K,), both int64


def info_nce(
    q: Tensor,
    k: Tensor,
    negatives: Tensor,
    temperature: float,
    inside: bool = False,
    own: Own | None = None,
    tile: int | None = None,
) -> Tensor:
    """InfoNCE, equation 1 of MoCo (arXiv:1911.05722), mean over the batch.

    L_q = -log( exp(q.k+ / tau) / (exp(q.k+ / tau) + sum_j exp(q.n_j / tau)) ). q, k: (B, D) unit vectors, k the
    positive of each q; negatives: (K, D), shared by all, without gradient. `inside`: each positive is one of the
    negatives already, as where all keys of a batch or all rows of a memory bank are scored; the sum over them is then
    the whole denominator. `own`: negatives of the anchor's own image are left out. `tile`: rows scored at once.
    """
    anchors, others = own or (None, None)
    return _InfoNCE.apply(q, k, negatives, temperature, inside, anchors, others, tile)


def bank_nce(v: Tensor, m: Tensor, negatives: Tensor, temperature: float, z: Tensor, images: int) -> Tensor:
    """Noise-contrastive estimation with the constant Z, equations 4 to 7 of InstDisc (arXiv:1805.01978).

    P_j = exp(v.m_j / tau) / Z; h_j = P_j / (P_j + K / N); L = -mean_b( log h_0 + sum_j log(1 - h_j) ), a sum over the K
    negatives. v: (B, D) unit vectors, m: (B, D) their own rows of the bank, negatives: (K, D) rows drawn uniformly,
    z: () the constant of `nce_constant`, `images`: N. log h = log sigmoid(a) and log(1 - h) = log sigmoid(-a) with
    a = v.m_j / tau - log(Z K / N): nothing overflows.
    """
    offset = torch.where(z < 0, -z, z.log()) + math.log(len(negatives) / images)
    positive = (v * m).sum(dim=1) / temperature - offset
    others = v @ negatives.T / temperature - offset  # (B, K)
    return -(F.logsigmoid(positive) + F.logsigmoid(-others).sum(dim=1)).mean()


@torch.no_grad()
def nce_constant(v: Tensor, m: Tensor, negatives: Tensor, temperature: float, images: int) -> Tensor:
    """Z = N mean exp(v.m_j / tau) over the B x (K + 1) scores of a batch (InstDisc, equation 8); ().

    Where that is too large for a float, as at low temperatures, it is -log Z, which is then far below 0.
    """
    scores = torch.cat([(v * m).sum(dim=1, keepdim=True), v @ negatives.T], dim=1) / temperature
    plain = images * scores.exp().mean()
    return torch.where(plain.isfinite(), plain, -(scores.flatten().logsumexp(0) + math.log(images / scores.numel())))


def shared_nce(v: Tensor, m: Tensor, negatives: Tensor, temperature: float, own: Own) -> Tensor:
    """L_NCE of PIRL, equations 3 and 4 (arXiv:1912.01991), with one softmax seen from the anchor; mean over the batch.

    h_j = exp(v.m_j / tau) / sum_i exp(v.m_i / tau) over the positive (j = 0) and the K negatives;
    L = -log h_0 - sum_{j > 0} log(1 - h_j). Shapes as in `bank_nce`; `own` as in `info_nce`.
    """
    others = (v @ negatives.T).masked_fill(own[0][:, None] == own[1], -torch.inf)
    scores = torch.cat([(v * m).sum(dim=1, keepdim=True), others], dim=1) / temperature  # (B, 1 + K)
    top = scores.argmax(dim=1, keepdim=True)
    rest = scores.scatter(1, top, -torch.inf).logsumexp(dim=1, keepdim=True)  # of all but the largest
    largest = scores.gather(1, top)
    log_sum = torch.logaddexp(rest, largest)
    # Only the largest share can be so near 1 that 1 - h has no digits left: its complement is the rest.
    shares = (scores - log_sum).exp().scatter(1, top, 0.0)
    complements = torch.log1p(-shares).scatter(1, top, rest - log_sum)
    return (log_sum.squeeze(1) - scores[:, 0] - complements[:, 1:].sum(dim=1)).mean()


def proto_nce(
    q: Tensor, prototypes: Tensor, phi: Tensor, own: Tensor, negatives: int, duplicates: bool = False
) -> Tensor:
    """ProtoNCE of one granularity, equation 11 of PCL (arXiv:2005.04966), mean over images and views; ().

    -log( exp(v.c_s / phi_s) / sum_j exp(v.c_j / phi_j) ), each column with its own phi; s is the cluster of the image.
    j runs over the clusters of the batch's images, each once (`duplicates`: once an image), and over `negatives` drawn
    from the others. q: (N, V, D) unit vectors, prototypes: (K, D), phi: (K,), own: (N,) int64.
    """
    clusters = len(prototypes)
    counts = torch.zeros(clusters, dtype=torch.int64, device=own.device)
    counts.scatter_add_(0, own, torch.ones_like(own))  # `bincount` would wait for a GPU
    # The batch's clusters come last in the draw.
    order = draw(lambda: torch.rand(clusters), q.device).masked_fill(counts > 0, 2.0).argsort()
    drawn = torch.zeros_like(counts).index_fill(0, order[:negatives], 1)
    times = torch.maximum(counts if duplicates else counts.clamp(max=1), drawn)
    logits = q @ (prototypes / phi[:, None]).T  # (N, V, K)
    positive = logits.gather(2, own[:, None, None].expand(-1, logits.shape[1], 1)).squeeze(2)
    return ((logits + times.to(q.dtype).log()).logsumexp(dim=2) - positive).mean()


def concentration(v: Tensor, centroids: Tensor, own: Tensor, temperature: float, alpha: float) -> Tensor:
    """phi of each cluster, (K,), equation 12 of PCL, clipped and scaled as its authors do.

    phi = sum_members |v - c| / (Z log(Z + alpha)) with Z members; the largest phi where Z < 2; clipped to its own 10th
    and 90th percentile; scaled to the mean `temperature`. v: (N, D), centroids: (K, D) before they are normalised,
    own: (N,) int64 the cluster of each row.
    """
    distance, count = mean_by_cluster((v - centroids[own]).norm(dim=1, keepdim=True), own, len(centroids))
    several = count > 1
    phi = torch.where(several, distance.squeeze(1) / (count.to(v.dtype) + alpha).log(), 0)
    phi = torch.where(several, phi, phi.max())
    phi = phi.clamp(phi.quantile(0.1), phi.quantile(0.9))
    phi = torch.where(phi.mean() > 0, phi / phi.mean(), torch.ones_like(phi))
    return temperature * phi.clamp(min=0.01)  # clusters of identical images have none


class _LogSum(torch.autograd.Function):
    """The mean over views of the log-sum-exp of their similarities to others, in three forms: `nt_xent` subtracts the
    positive, `others` does not, `negatives` leaves it out of the sum as well.

    Square blocks of logits, none below the diagonal: s_ij = s_ji serves both of its rows. Each block is scored twice,
    first for the log-sum-exp of the rows, then, when those are complete, for the gradient: two thirds of the products
    that tiles of whole rows take. On one core 1.4 to 1.8 times as fast at batch 8192.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, temperature: float, form: str, side: int | None) -> Tensor:
        views, half, pulled = len(z), len(z) // 2, form == "nt_xent"
        log_sum, positive = z.new_full((views,), -torch.inf), z.new_zeros(views)
        for rows, columns, logits, offset in _LogSum.blocks(z, temperature, form, side):
            log_sum[rows] = torch.logaddexp(log_sum[rows], logits.logsumexp(dim=1))
            if rows != columns:
                log_sum[columns] = torch.logaddexp(log_sum[columns], logits.logsumexp(dim=0))
            if pulled:
                own = logits.diagonal(offset)  # s_ij where j is the other view of i
                first = rows.start + max(-offset, 0)
                for start in (first, first + half):
                    positive[start : start + len(own)] = own
        if ctx.needs_input_grad[0]:
            gradient = torch.zeros_like(z)
            for rows, columns, slope, offset in _LogSum.blocks(z, temperature, form, side):
                # softmax minus the one-hot positive, of the rows, and where the block is mirrored of the columns too
                if rows == columns:
                    slope.sub_(log_sum[rows, None]).exp_()
                    if pulled:
                        slope.diagonal(-offset).sub_(1)
                else:
                    mirrored = (slope - log_sum[columns]).exp_()
                    slope.sub_(log_sum[rows, None]).exp_().add_(mirrored)
                    if pulled:
                        slope.diagonal(offset).sub_(1)
                if pulled:
                    slope.diagonal(offset).sub_(1)
                gradient[rows].addmm_(slope, z[columns])
                gradient[columns].addmm_(slope.T, z[rows])
            ctx.save_for_backward(gradient.div_(views * temperature))
        return (log_sum - positive).sum() / views

    @staticmethod
    def blocks(
        z: Tensor, temperature: float, form: str, side: int | None
    ) -> Iterator[tuple[slice, slice, Tensor, int]]:
        """(rows, columns, their logits, offset of the diagonal on which the positives are); the caller may overwrite.

        A view is no negative of itself: its logit is -inf; and the positive's, where the form leaves it out.
        """
        side = side or math.isqrt(BLOCK_GPU if z.is_cuda else BLOCK_CPU)
        for i in range(0, len(z), side):
            for j in range(i, len(z), side):
                rows, columns, offset = slice(i, i + side), slice(j, j + side), i + len(z) // 2 - j
                logits = (z[rows] @ z[columns].T).div_(temperature)
                if i == j:
                    logits.fill_diagonal_(-torch.inf)
                if form == "negatives":
                    for diagonal in {offset, -offset} if i == j else {offset}:
                        logits.diagonal(diagonal).fill_(-torch.inf)
                yield rows, columns, logits, offset

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None, None


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        negatives: Tensor,
        temperature: float,
        inside: bool,
        anchors: Tensor | None,
        others: Tensor | None,
        tile: int | None,
    ) -> Tensor:
        count = len(q)
        needs_gradient = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        to_q, to_k = torch.empty_like(q), torch.empty_like(k)
        total = q.new_zeros(())
        for start, stop in _tiles(count, len(negatives), tile, q):
            query, key = q[start:stop], k[start:stop]
            positive = (query * key).sum(dim=1, keepdim=True) / temperature  # (t, 1)
            logits = (query @ negatives.T).div_(temperature)  # (t, K)
            if anchors is not None and others is not None:
                logits.masked_fill_(anchors[start:stop, None] == others, -torch.inf)
            top = logits.amax(dim=1, keepdim=True)
            if not inside:
                top = torch.maximum(top, positive)
            shares = logits.sub_(top).exp_()  # (t, K), up to the sum: a queue's logits are passed over once
            own = torch.zeros_like(positive) if inside else (positive - top).exp()
            sums = shares.sum(dim=1, keepdim=True) + own
            total += (sums.log() + top - positive).sum()
            if needs_gradient:
                missing = own / sums - 1  # p+ - 1, where the positive is not inside
                to_k[start:stop] = missing * query
                to_q[start:stop] = missing * key
                to_q[start:stop] += (shares @ negatives).div_(sums)
        scale = 1 / (count * temperature)
        ctx.save_for_backward(to_q.mul_(scale), to_k.mul_(scale))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        to_q, to_k = ctx.saved_tensors
        return upstream * to_q, upstream * to_k, *[None] * 6


def _tiles(rows: int, columns: int, tile: int | None, like: Tensor) -> list[tuple[int, int]]:
    """Row ranges whose blocks of logits stay within the tile size of the device."""
    size = tile or max(32, (TILE_GPU if like.is_cuda else TILE_CPU) // max(1, columns))
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]
