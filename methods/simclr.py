"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (arXiv:2002.05709).

Two augmented views of each image, one encoder, one projection head; every other view in the global batch is a
negative. Equation 1 is `nt_xent`. The authors' code returns twice this loss; here it is the paper's mean over 2N.
The batch norms in the head are in the authors' code, not in the paper's text (google-research/simclr issue 205).
With small crops, which the paper does not have, the loss is the mean of equation 1 over all pairs of views with at
least one large crop.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.losses import nt_xent
from methods.parts.symptoms import at_chance


class SimCLR(Method):
    views = ("crop", "crop")
    multicrop = True

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau in equation 1 (ImageNet, section 5.1; 0.5 on CIFAR-10, appendix B.9)
        head: Literal["mlp", "linear", "none"] = "mlp"  # projection head g (section 4.2)
        head_layers: int = 2  # layers of the MLP (paper: 2; SimCLR v2: 3)
        head_hidden: int = 0  # hidden width of the MLP; 0 is the backbone's
        head_dim: int = 128  # width of z
        head_norm: bool = True  # batch norm in the MLP, also behind its last layer

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.head_dim < 1 or self.head_layers < 1 or self.head_hidden < 0:
                raise ValueError(
                    "temperature must be above 0, head_dim and head_layers at least 1, head_hidden at least 0"
                )

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        hidden, norm = config.head_hidden or width, config.head_norm
        last = "scaled" if norm else "linear"
        self.head = projector(config.head, width, hidden, config.head_dim, config.head_layers, norm, last)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        h = encode(self.encoder, batch.views)
        return {"z": by_image(normalise(self.head(h)), len(batch.views))}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z = rows["z"].unbind(dim=1)
        pairs = [(z[large], z[other]) for large in (0, 1) for other in range(large + 1, len(z))]
        return {"loss": stack([nt_xent(z1, z2, self.config.temperature) for z1, z2 in pairs]).mean()}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        chance = math.log(2 * len(rows["z"]) - 1)
        yield from at_chance(logged["loss"], chance, "a lower learning rate or a longer warm-up helps")
