"""What keeps embeddings apart without negatives: VICReg's variance term, which VIbCReg shares."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-4  # of equation 2


def variance(z: Tensor) -> Tensor:
    """v(Z), equations 1 and 2 of VICReg (arXiv:2105.04906), of z (N, D): the mean over dimensions of
    max(0, 1 - standard deviation over the batch)."""
    return F.relu(1 - (z.var(dim=0) + EPSILON).sqrt()).mean()
