"""DCL: Decoupled Contrastive Learning (arXiv:2110.06848). "Debiased" contrastive learning is another method.

SimCLR without the positive in the denominator (L_DC): what is pushed away no longer depends on how near the
positive already is, so that small batches lose less. The negatives of a view are both views of all other images, in
one log-sum-exp. The loss may be negative.

DCLW (the negative von Mises-Fisher weight) weighs each positive by 2 - N softmax_i(s_i / sigma): hard positives count
more. As in lightly the weight carries no gradient; the paper does not say.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.losses import log_sum_of_others
from methods.parts.symptoms import at_chance


class DCL(Method):
    family = "end_to_end"
    views = ("crop", "crop")
    multicrop = True
    read_with = {  # noqa: RUF012
        "sigma": ("weighted", "true"),
        "head_hidden": ("head", "mlp"),
        "head_dim": ("head", "mlp", "linear"),
    }
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 1.0),  # as SimCLR's
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau in L_DC
        weighted: bool = False  # DCLW: positives weighted by how hard they are
        sigma: float = 0.5  # of the weights
        head: Literal["mlp", "linear", "none"] = "mlp"  # projection head, as SimCLR's
        head_hidden: int = 0  # hidden width of the MLP; 0 is the backbone's
        head_dim: int = 128  # width of z

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.sigma <= 0 or self.head_dim < 1 or self.head_hidden < 0:
                raise ValueError("temperature and sigma must be above 0, head_dim at least 1, head_hidden at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        hidden = config.head_hidden or width
        self.head = projector(config.head, width, hidden, config.head_dim, layers=2, norm=True, last="scaled")

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        h = encode(self.encoder, batch.views)
        return {"z": by_image(normalise(self.head(h)), len(batch.views))}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z = rows["z"].unbind(dim=1)
        pairs = [(z[large], z[other]) for large in (0, 1) for other in range(large + 1, len(z))]
        return {"loss": stack([self.decoupled_loss(z1, z2) for z1, z2 in pairs]).mean()}

    def decoupled_loss(self, z1: Tensor, z2: Tensor) -> Tensor:
        """L_DC, or L_DCW, for two views (N, D), the mean over both views of all images."""
        s = (z1 * z2).sum(dim=1)
        w = 2 - len(s) * (s.detach() / self.config.sigma).softmax(dim=0) if self.config.weighted else 1.0
        tau = self.config.temperature
        return log_sum_of_others(torch.cat([z1, z2]), tau, paired=True) - (w * s).mean() / tau

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        # Where all are equal, the logarithm of the negatives: the similarities of positive and negatives cancel.
        chance = math.log(2 * len(rows["z"]) - 2)
        yield from at_chance(logged["loss"], chance, "a lower learning rate or a longer warm-up helps")
