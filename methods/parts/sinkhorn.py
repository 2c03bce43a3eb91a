"""Balanced codes: the Sinkhorn-Knopp iteration of SwAV (arXiv:2006.09882, section 3.1, equations 3 to 5)."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Codes (B, K), each row a distribution over the K prototypes, of scores (B, K); float32 or better, no gradient.

    Q = diag(u) exp(scores / epsilon) diag(v): in turn every prototype is given the same mass over the B samples, then
    every sample the same mass over the K prototypes. Prototypes first, so that rows sum to 1 in the end. It is done on
    logarithms: constants cancel, nothing overflows, and a prototype that nobody wants does not divide by zero.
    """
    q = (scores if scores.dtype == torch.float64 else scores.float()) / epsilon
    for _ in range(iterations):
        q = q - q.logsumexp(dim=0, keepdim=True)
        q = q - q.logsumexp(dim=1, keepdim=True)
    return q.exp()
