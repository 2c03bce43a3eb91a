"""MoCo v3: An Empirical Study of Training Self-Supervised Vision Transformers (arXiv:2104.02057).

No queue: the keys of the global batch are the negatives. A predictor on the query's side, both directions, and a
momentum that grows to 1. Algorithm 1 and the authors' code for ResNet-50. `moco_v3.head_layers=3` is their ViT's
projector; the batch norm that ends its predictor is not offered. Small crops, which the paper does not have, are
further queries, averaged within each direction.

The authors update the key encoder before they compute keys; here it is updated after the optimiser's step, with the
momentum of the step to come, so that the keys of every step are the same.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy, normalise, projector
from methods.parts.losses import info_nce
from methods.parts.symptoms import at_chance


class MoCoV3(Method):
    family = "momentum"
    views = ("crop", "crop")
    momentum_encoder = "key_encoder"
    multicrop = True
    search_space = {  # noqa: RUF012
        "temperature": (0.1, 1.0),  # 1.0 for ResNet-50, 0.2 for ViT
        "momentum": ("0.9", "0.95", "0.99", "0.996"),  # 0.99 and 0.996 in the authors' code; less for short trainings
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 1.0  # tau of ctr (ResNet-50: 1.0; ViT: 0.2)
        momentum: float = 0.99  # m at the start, growing to 1 by half a cosine (authors' code; 0.996 for 1,000 epochs)
        head_layers: int = 2  # layers of the projector (ResNet-50: 2; ViT: 3)
        head_hidden: int = 4096  # hidden width of projector and predictor
        head_dim: int = 256  # width of q and k
        freeze_patches: bool = False  # do not train a ViT's patch embedding, for stability (section 4.2)

        def __post_init__(self) -> None:
            if self.temperature <= 0 or not 0 <= self.momentum <= 1:
                raise ValueError("temperature must be above 0, momentum between 0 and 1")
            if min(self.head_layers, self.head_hidden, self.head_dim) < 1:
                raise ValueError("head_layers, head_hidden and head_dim must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        if config.freeze_patches:
            if not isinstance(getattr(encoder, "patch_embed", None), nn.Module):
                raise ValueError("freeze_patches=true needs a backbone with a patch embedding")
            encoder.patch_embed.requires_grad_(False)
        hidden, dim = config.head_hidden, config.head_dim
        self.head = projector("mlp", width, hidden, dim, config.head_layers, norm=True, last="whitened")
        self.predictor = projector("mlp", dim, hidden, dim, layers=2, norm=True, last="bare")
        self.key_encoder = MomentumCopy(encoder)
        self.key_head = MomentumCopy(self.head)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        # Each view in a pass of its own: the two come from different distributions.
        q = stack([self.query(x) for x in batch.views], dim=1)  # (n, V, D)
        return {"q": q, "k": stack([self.key(x) for x in batch.views[:2]], dim=1)}

    def query(self, x: Tensor) -> Tensor:
        return normalise(self.predictor(self.head(self.encoder(x))))

    @torch.no_grad()
    def key(self, x: Tensor) -> Tensor:
        return normalise(self.key_head(self.key_encoder(x)))

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        q, k = rows["q"].unbind(dim=1), rows["k"].unbind(dim=1)
        directions = [
            stack([self.contrast(q[view], k[other]) for view in range(len(q)) if view != other]).mean()
            for other in (1, 0)
        ]
        return {"loss": directions[0] + directions[1]}

    def contrast(self, q: Tensor, k: Tensor) -> Tensor:
        """ctr(q, k) of algorithm 1: cross-entropy over the keys of the batch, times 2 tau."""
        tau = self.config.temperature
        return 2 * tau * info_nce(q, k, k, tau, inside=True)

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        share = (at.step + 1) / at.steps
        momentum = 1 - (1 - self.config.momentum) * (1 + math.cos(math.pi * share)) / 2
        self.key_encoder.update(self.encoder, momentum)
        self.key_head.update(self.head, momentum)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        chance = 4 * self.config.temperature * math.log(len(rows["q"]))
        yield from at_chance(logged["loss"], chance, "a lower learning rate or a lower temperature helps")
