"""Projection heads, the unit sphere that they end on, and the momentum copy of a network."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def normalise(z: Tensor) -> Tensor:
    """Rows of unit length, (..., D) -> (..., D); at least float32, whatever autocast made of z."""
    return F.normalize(z if z.dtype == torch.float64 else z.float(), dim=-1)


def projector(
    kind: str,
    width: int,
    hidden: int,
    out: int,
    layers: int = 2,
    norm: bool = True,
    last: str = "linear",
    gelu: bool = False,
) -> nn.Module:
    """A projection head (n, width) -> (n, out): `none` (identity, out = width), `linear`, or `mlp` of `layers` layers.

    `norm` puts batch norm behind each hidden layer (which then needs no bias). `last` is the MLP's last layer:
    `linear`, with a bias; `scaled`, without one, and batch norm without a shift behind it, as SimCLR's authors do;
    `whitened`, with batch norm that has neither scale nor shift, as MoCo v3's; `normed`, with batch norm that has both,
    as NNCLR's; `bare`, without a bias. `gelu`: in place of ReLU.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return nn.Linear(width, out)
    modules: list[nn.Module] = []
    for _ in range(layers - 1):
        modules += [nn.Linear(width, hidden, bias=not norm)]
        modules += [nn.BatchNorm1d(hidden)] if norm else []
        modules += [nn.GELU() if gelu else nn.ReLU(inplace=True)]
        width = hidden
    modules += [nn.Linear(width, out, bias=last == "linear")]
    if last in ("scaled", "whitened", "normed"):
        modules += [nn.BatchNorm1d(out, affine=last != "whitened")]
    if last == "scaled":
        modules[-1].bias.requires_grad_(False)
    return nn.Sequential(*modules)


def growing(momentum: float, step: int, steps: int) -> float:
    """`momentum` at the first of the steps, growing to 1 by half a cosine (BYOL, section 3.3)."""
    return 1 - (1 - momentum) * (math.cos(math.pi * step / steps) + 1) / 2


class MomentumCopy(nn.Module):
    """A network that follows another by an exponential moving average of its parameters, and has no gradient.

    Parameters only: batch-norm buffers are the copy's own, from its own batches, as MoCo's authors have it
    (facebookresearch/moco issues 13 and 70). The optimiser never sees it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    @torch.no_grad()
    def update(self, followed: nn.Module, momentum: float) -> None:
        """theta_k <- m theta_k + (1 - m) theta_q (MoCo, equation 2)."""
        own: list[Tensor] = list(self.network.parameters())
        other: list[Tensor] = list(followed.parameters())
        if own:
            torch._foreach_lerp_(own, other, 1.0 - momentum)
