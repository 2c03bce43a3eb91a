"""MMCR: Efficient Coding of Natural Images using Maximum Manifold Capacity Representations (arXiv:2303.03307).

No pairs: the views of an image are a manifold, of which few numbers are to be needed, and the centres of all manifolds
should fill the space. Views are unit vectors; c_n is the mean over those of image n, not normalised, so that it is long
where they agree; L = -|C|_* + lambda mean_n |Z_n|_*, with the nuclear norm (the sum of the singular values) of all
centres C (N, D) and of the views Z_n (V, D) of one image. lambda is 0 in all of the authors' scripts.

The loss is a sum, of at most sqrt(N min(N, D)), as in the authors' code: rates of optimisers that are not free of
scale belong to a batch size. Without the momentum copy of their code for ImageNet, whose embeddings enter the centres.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.symptoms import at_chance


class MMCR(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    multicrop = True
    search_space = {  # noqa: RUF012
        "head_dim": ("x0.5", "x1", "x2"),  # ours: the dimensions that centres fill
    }

    @dataclass(frozen=True)
    class Config:
        local: float = 0.0  # lambda, of the nuclear norm of each image's views (authors' scripts)
        head_layers: int = 3  # of the projector (authors' code for ImageNet; 2 for CIFAR-10 and STL-10)
        head_hidden: int = 8192  # width of its hidden layers (authors' code for ImageNet; 512)
        head_dim: int = 512  # width of z (authors' code for ImageNet; 128)

        def __post_init__(self) -> None:
            if self.local < 0 or min(self.head_layers, self.head_hidden, self.head_dim) < 1:
                raise ValueError("local must be at least 0, head_layers, head_hidden and head_dim at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.head = projector("mlp", width, config.head_hidden, config.head_dim, config.head_layers)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = normalise(self.head(encode(self.encoder, batch.views)))
        return {"z": by_image(z, len(batch.views))}  # (n, V, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z = rows["z"]
        centres = torch.linalg.svdvals(z.mean(dim=1)).sum()
        if not self.config.local:
            return {"loss": -centres, "centres": centres}
        local = torch.linalg.svdvals(z).sum(dim=1).mean()
        return {"loss": self.config.local * local - centres, "centres": centres, "local": local}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        alike = math.sqrt(len(rows["z"]))  # of centres that are all one unit vector
        yield from at_chance(logged["centres"], alike, "a lower learning rate or a longer warm-up helps")
