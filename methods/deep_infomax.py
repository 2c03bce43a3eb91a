"""Deep InfoMax: Learning Deep Representations by Mutual Information Estimation and Maximization (arXiv:1808.06670).

The local form: every place of an inner map of an image should be told from places of other images by the image's
pooled feature. Critic: the inner product of two small networks' outputs (appendix A.1, encode and dot). Bound:
Jensen-Shannon, equation 4, by default, or noise contrast, equation 5 (`nce`), in which other places of the same image
are no negatives. The map is the deepest with at least nine places before the last one, whose mean is the pooled
feature. Without the paper's third part, which draws the pooled feature towards a prior by a discriminator (equation 7).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.tokens import Maps


class DeepInfoMax(Method):
    family = "pretext"
    views = ("crop",)
    sized = True

    @dataclass(frozen=True)
    class Config:
        loss: Literal["jsd", "nce"] = "jsd"  # the bound (equations 4 and 5)
        head_hidden: int = 2048  # hidden width of the critic's two networks
        head_dim: int = 512  # width in which the critic takes its inner product (ours)

        def __post_init__(self) -> None:
            if min(self.head_hidden, self.head_dim) < 1:
                raise ValueError("head_hidden and head_dim must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        self.maps = Maps(encoder, size)
        self.local = Critic(self.maps.width, config.head_hidden, config.head_dim)
        self.whole = Critic(width, config.head_hidden, config.head_dim)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        places, pooled = self.maps(self.encoder, batch.views[0])  # (n, L, C), (n, width)
        return {"global": self.whole(pooled), "local": self.local(places)}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        t = torch.einsum("nd,mld->nml", rows["global"], rows["local"])  # T of each image with each place, (N, N, L)
        same = torch.eye(len(t), dtype=torch.bool, device=t.device)[:, :, None]
        own = t.diagonal().T  # (N, L); masks instead of picking, for which a GPU would wait
        if self.config.loss == "nce":
            # Each positive against all places of other images, and itself.
            others = t.masked_fill(same, -torch.inf).flatten(1).logsumexp(dim=1)  # (N,)
            return {"loss": (torch.logaddexp(others[:, None], own) - own).mean()}
        # Equation 4 with the constant that makes it 0 for a critic that says nothing.
        positive = math.log(2) - F.softplus(-own)
        negative = F.softplus(t).masked_fill(same, 0).sum() / (t.numel() - own.numel()) - math.log(2)
        return {"loss": negative - positive.mean()}


class Critic(nn.Module):
    """A network of two layers beside a linear way, for vectors (..., width)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
        self.straight = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.deep(x) + self.straight(x)
