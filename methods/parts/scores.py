"""SimCLR's other losses and similarities (arXiv:2002.05709, tables 2, 4 and 5), and NT-Xent with negatives that are
weighed (arXiv:2010.04592) and debiased (arXiv:2007.00224), on the whole matrix of scores.

They are for the ablation that asks whether NT-Xent and the cosine matter, and not for large batches: all M x M scores
of M = 2B views are held at once. Views lie as in `losses.nt_xent`: first all of one, then all of the other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def scores(z: Tensor, similarity: str) -> Tensor:
    """(M, M) of z (M, D): inner products, of unit vectors for `cosine`; minus squared distances for `l2`."""
    return -torch.cdist(z, z).square() if similarity == "l2" else z @ z.T


def pairs(s: Tensor) -> tuple[Tensor, Tensor]:
    """(M,) the score of each view with its other view, (M, M - 2) its scores with the views of other images."""
    views = len(s)
    other = torch.arange(views, device=s.device).roll(views // 2)
    positive = s.gather(1, other[:, None]).squeeze(1)
    outside = torch.ones_like(s, dtype=torch.bool).scatter_(1, other[:, None], False).fill_diagonal_(False)
    return positive, s[outside].view(views, views - 2)


def nt_xent_of(s: Tensor, temperature: float) -> Tensor:
    """NT-Xent, equation 1, from any scores."""
    positive, negative = pairs(s / temperature)
    return (torch.logaddexp(positive, negative.logsumexp(dim=1)) - positive).mean()


def reweighted_nt_xent(s: Tensor, temperature: float, hardness: float, class_share: float) -> Tensor:
    """NT-Xent of cosines with hard negatives (arXiv:2010.04592) that are debiased (arXiv:2007.00224); mean over views.

    -log( e+ / (e+ + G) ), e = exp(s / tau), M negatives of both views. S = M sum_k w_k e_k / sum_k w_k with weights
    w = e^beta, which carry a gradient as in the authors' code; G = (S - tau+ M e+) / (1 - tau+), and no less than
    M exp(-1 / tau), of negatives that are all opposite. beta = `hardness`, tau+ = `class_share`.
    """
    positive, negative = pairs(s / temperature)
    log_m = math.log(negative.shape[1])
    log_sum = log_m + ((1 + hardness) * negative).logsumexp(dim=1) - (hardness * negative).logsumexp(dim=1)
    if class_share:
        share = math.log(class_share) + log_m + positive - log_sum  # of S, in logarithms: that is taken out of it
        left = share < 0
        rest = log_sum + (-torch.where(left, share, -1).expm1()).log() - math.log1p(-class_share)
        least = torch.full_like(rest, log_m - 1 / temperature)
        log_sum = torch.where(left, rest.maximum(least), least)
    return (torch.logaddexp(positive, log_sum) - positive).mean()


def nt_logistic(s: Tensor, temperature: float) -> Tensor:
    """NT-Logistic of table 2, -log sigma(s+ / tau) - log sigma(-s- / tau), the mean over negatives and views."""
    positive, negative = pairs(s / temperature)
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def margin_triplet(s: Tensor, margin: float, semi_hard: bool) -> Tensor:
    """The margin triplet loss of table 2, max(s- - s+ + m, 0), the mean over negatives and views.

    `semi_hard`: only over negatives within the margin and below the positive (table 4; FaceNet,
    arXiv:1503.03832), and 0 where there is none.
    """
    positive, negative = pairs(s)
    gap = negative - positive[:, None]
    violation = F.relu(gap + margin)
    if not semi_hard:
        return violation.mean()
    chosen = (gap < 0) & (gap > -margin)
    return (violation * chosen).sum() / chosen.sum().clamp(min=1)
