"""Deep InfoMax: Learning Deep Representations by Mutual Information Estimation and Maximization (arXiv:1808.06670).

The local form: every place of an inner map of an image should be told from places of other images by the image's
pooled feature. Critic: the inner product of two small networks' outputs (appendix A.1, encode and dot). Bound:
Jensen-Shannon, equation 4, by default, or noise contrast, equation 5 (`nce`), in which other places of the same image
are no negatives. The map is the deepest with at least nine places before the last one, whose mean is the pooled
feature.

With `prior`, gamma of equation 8, the feature is drawn towards a uniform distribution on [0, 1]^64 by a discriminator D
(equation 7): it learns to tell drawn numbers v from y, the encoder to be told from them no more, min_E max_D of
E[log D(v)] + E[log(1 - D(y))]. Both take their step at once, the encoder's gradient being the reversed one, and D's is
weighed by gamma too. y is the sigmoid of a linear map of the pooled feature, which in a ResNet is never negative.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.chance import Chance
from methods.parts.tokens import Maps

CODE = 64  # numbers of y (section 4)


class DeepInfoMax(Method):
    family = "pretext"
    views = ("crop",)
    sized = True
    younger = ("prior",)

    @dataclass(frozen=True)
    class Config:
        loss: Literal["jsd", "nce"] = "jsd"  # the bound (equations 4 and 5)
        head_hidden: int = 2048  # hidden width of the critic's two networks
        head_dim: int = 512  # width in which the critic takes its inner product (ours)
        prior: float = 0.0  # weight of prior matching, gamma in equation 8; 0: the local objective alone

        def __post_init__(self) -> None:
            if min(self.head_hidden, self.head_dim) < 1 or self.prior < 0:
                raise ValueError("head_hidden and head_dim must be at least 1, prior at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        self.maps = Maps(encoder, size)
        self.local = Critic(self.maps.width, config.head_hidden, config.head_dim)
        self.whole = Critic(width, config.head_hidden, config.head_dim)
        if config.prior:
            self.code = nn.Sequential(nn.Linear(width, CODE), nn.Sigmoid())
            layers = [nn.Linear(CODE, 1000), nn.ReLU(), nn.Linear(1000, 200), nn.ReLU(), nn.Linear(200, 1)]
            self.discriminator = nn.Sequential(*layers)  # (appendix A.1)
            self.chance = Chance()

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        places, pooled = self.maps(self.encoder, batch.views[0])  # (n, L, C), (n, width)
        rows = {"global": self.whole(pooled), "local": self.local(places)}
        if not self.config.prior:
            return rows
        y, v = self.code(pooled), self.chance.uniform(batch.index, at.step, CODE)
        reversed_y = 2 * y.detach() - y  # y, with minus its gradient
        return rows | {"of_code": self.discriminator(reversed_y), "of_prior": self.discriminator(v.to(y.dtype))}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        local = self.local_loss(rows)
        if not self.config.prior:
            return {"loss": local}
        discriminator = F.softplus(-rows["of_prior"]).mean() + F.softplus(rows["of_code"]).mean()
        return {"loss": local + self.config.prior * discriminator, "local": local, "discriminator": discriminator}

    def local_loss(self, rows: dict[str, Tensor]) -> Tensor:
        """Equation 4 or 5, (), of "global" (N, D) and "local" (N, L, D)."""
        t = torch.einsum("nd,mld->nml", rows["global"], rows["local"])  # T of each image with each place, (N, N, L)
        same = torch.eye(len(t), dtype=torch.bool, device=t.device)[:, :, None]
        own = t.diagonal().T  # (N, L); masks instead of picking, for which a GPU would wait
        if self.config.loss == "nce":
            # Each positive against all places of other images, and itself.
            others = t.masked_fill(same, -torch.inf).flatten(1).logsumexp(dim=1)  # (N,)
            return (torch.logaddexp(others[:, None], own) - own).mean()
        # Equation 4 with the constant that makes it 0 for a critic that says nothing.
        positive = math.log(2) - F.softplus(-own)
        negative = F.softplus(t).masked_fill(same, 0).sum() / (t.numel() - own.numel()) - math.log(2)
        return negative - positive.mean()


class Critic(nn.Module):
    """A network of two layers beside a linear way, for vectors (..., width)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.deep = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out))
        self.straight = nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.deep(x) + self.straight(x)
