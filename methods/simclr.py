"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (arXiv:2002.05709).

Two augmented views of each image, one encoder, one projection head; every other view in the global batch is a
negative. Equation 1 is `nt_xent`. The authors' code returns twice this loss; here it is the paper's mean over 2N.
The batch norms in the head are in the authors' code, not in the paper's text (google-research/simclr issue 205).
With small crops, which the paper does not have, the loss is the mean of equation 1 over all pairs of views with at
least one large crop. The other losses of table 4, but for the semi-hard NT-Logistic, and other similarities than the
cosine (table 5: `dot` with a temperature of 10 or 100; `l2` is ours) answer why these two; they hold all scores at
once. The paper took the negatives of the other losses from one view (appendix B.10); here they are of both.

`hardness` and `class_share` make it Contrastive Learning with Hard Negative Samples (arXiv:2010.04592) and Debiased
Contrastive Learning (arXiv:2007.00224), whose code has a temperature of 0.5, a hardness of 1 and a share of 0.1; these
hold all scores at once, too.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, cat, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.losses import nt_xent
from methods.parts.scores import margin_triplet, nt_logistic, nt_xent_of, reweighted_nt_xent, scores
from methods.parts.symptoms import at_chance


class SimCLR(Method):
    family = "end_to_end"
    views = ("crop", "crop")
    multicrop = True
    younger = ("hardness", "class_share")
    read_with = {  # noqa: RUF012
        "margin": ("loss", "margin", "semi_hard"),
        "temperature": ("loss", "nt_xent", "nt_logistic"),
        "head_layers": ("head", "mlp"),
        "head_hidden": ("head", "mlp"),
        "head_norm": ("head", "mlp"),
        "head_dim": ("head", "mlp", "linear"),
    }
    variants = {  # noqa: RUF012
        "hcl": "simclr.hardness=1 simclr.class_share=0.1",
        "debiased": "simclr.class_share=0.1",
    }
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 1.0),  # table 5: 0.05, 0.1, 0.5 and 1
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau in equation 1 (ImageNet, section 5.1; 0.5 on CIFAR-10, appendix B.9)
        loss: Literal["nt_xent", "nt_logistic", "margin", "semi_hard"] = "nt_xent"  # of table 4
        margin: float = 0.4  # m of the margin loss (appendix B.10 tunes it in 0, 0.4, 0.8 and 1.6)
        similarity: Literal["cosine", "dot", "l2"] = "cosine"  # dot and l2: of vectors that are not normalised
        hardness: float = 0.0  # beta, by which a negative weighs more the nearer it is (arXiv:2010.04592); 0: all alike
        class_share: float = 0.0  # tau+ of the negatives taken to be of the anchor's class (arXiv:2007.00224); 0: none
        head: Literal["mlp", "linear", "none"] = "mlp"  # projection head g (section 4.2)
        head_layers: int = 2  # layers of the MLP (paper: 2; SimCLR v2: 3)
        head_hidden: int = 0  # hidden width of the MLP; 0 is the backbone's
        head_dim: int = 128  # width of z
        head_norm: bool = True  # batch norm in the MLP, also behind its last layer

        def __post_init__(self) -> None:
            if self.temperature <= 0 or min(self.head_hidden, self.margin) < 0:
                raise ValueError("temperature must be above 0, head_hidden and margin at least 0")
            if self.hardness < 0 or not 0 <= self.class_share < 1:
                raise ValueError("hardness must be at least 0, class_share at least 0 and below 1")
            if (self.hardness or self.class_share) and (self.loss, self.similarity) != ("nt_xent", "cosine"):
                raise ValueError("hardness and class_share are of loss=nt_xent with similarity=cosine")
            if min(self.head_dim, self.head_layers) < 1:
                raise ValueError("head_dim and head_layers must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        hidden, norm = config.head_hidden or width, config.head_norm
        last = "scaled" if norm else "linear"
        self.head = projector(config.head, width, hidden, config.head_dim, config.head_layers, norm, last)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = self.head(encode(self.encoder, batch.views))
        z = normalise(z) if self.config.similarity == "cosine" else z
        return {"z": by_image(z, len(batch.views))}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z = rows["z"].unbind(dim=1)
        pairs = [(z[large], z[other]) for large in (0, 1) for other in range(large + 1, len(z))]
        return {"loss": stack([self.contrast(z1, z2) for z1, z2 in pairs]).mean()}

    def contrast(self, z1: Tensor, z2: Tensor) -> Tensor:
        """The loss of two views (N, D), the mean over all 2N."""
        c = self.config
        if c.hardness or c.class_share:
            return reweighted_nt_xent(scores(cat([z1, z2]), "cosine"), c.temperature, c.hardness, c.class_share)
        if c.loss == "nt_xent" and c.similarity != "l2":
            return nt_xent(z1, z2, c.temperature)
        s = scores(cat([z1, z2]), c.similarity)
        if c.loss in ("margin", "semi_hard"):
            return margin_triplet(s, c.margin, c.loss == "semi_hard")
        return nt_xent_of(s, c.temperature) if c.loss == "nt_xent" else nt_logistic(s, c.temperature)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        if self.config.loss != "nt_xent":
            return
        chance = math.log(2 * len(rows["z"]) - 1)
        yield from at_chance(logged["loss"], chance, "a lower learning rate or a longer warm-up helps")
