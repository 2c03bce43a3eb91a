"""What keeps embeddings apart without negatives, where methods share it: the variance term of VICReg (arXiv:2105.04906)
and VIbCReg; of LeJEPA (arXiv:2511.08544) and VISReg (arXiv:2606.02572) the prediction of an image's centre, and
random directions along which a batch of embeddings is looked at.

Shapes: N images, V views, of them G large ones, D width, M directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.chance import draw

EPSILON = 1e-4  # of VICReg's equation 2


def variance(z: Tensor) -> Tensor:
    """v(Z), equations 1 and 2 of VICReg, of z (N, D): the mean over dimensions of
    max(0, 1 - standard deviation over the batch)."""
    return F.relu(1 - (z.var(dim=0) + EPSILON).sqrt()).mean()


def centre(z: Tensor, views: Sequence[Tensor]) -> Tensor:
    """(n, D), the mean of z (n, V, D) over the G views that are as large as the first; small crops have no part."""
    large = [row for row, view in zip(z.unbind(1), views, strict=True) if view.shape == views[0].shape]
    return torch.stack(large, dim=1).mean(dim=1)


def prediction(z: Tensor, centre: Tensor) -> Tensor:
    """The mean over images, all views and dimensions of (c - z_v)^2. The gradient flows through c as well."""
    return (centre[:, None] - z).square().mean()


def draw_directions(like: Tensor, count: int) -> Tensor:
    """(D, M) of z (..., D): columns uniform on the sphere."""
    width, dtype = like.shape[-1], like.dtype
    return draw(lambda: F.normalize(torch.randn(width, count, dtype=dtype), dim=0), like.device)
