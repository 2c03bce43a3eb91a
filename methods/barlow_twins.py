"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction (arXiv:2103.03230).

No negatives: the cross-correlation of the two views' embeddings, over the batch, is drawn to the identity. Equation 1:
L = sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2, with C of equation 2 from embeddings that are centred and
scaled along the batch (their batch norm without affine parameters, biased variance). Exact over the global batch; the
authors sum C over devices without its gradient, which is 1 / W of it on W devices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.heads import projector

EPSILON = 1e-5  # of batch norm


class BarlowTwins(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    search_space = {  # noqa: RUF012
        "weight": (0.001, 0.05),  # ours: a decade below and above section 2.2's 0.005
    }

    @dataclass(frozen=True)
    class Config:
        weight: float = 0.0051  # lambda in equation 1 (authors' code; section 2.2: 0.005)
        head_layers: int = 3  # of the projector (section 2.2)
        head_dim: int = 8192  # width of each of its layers (section 2.2)

        def __post_init__(self) -> None:
            if self.weight < 0 or min(self.head_layers, self.head_dim) < 1:
                raise ValueError("weight must be at least 0, head_layers and head_dim at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        dim = config.head_dim
        self.head = projector("mlp", width, dim, dim, config.head_layers, norm=True, last="bare")

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        return {"z": stack([self.head(self.encoder(x)) for x in batch.views], dim=1)}  # (n, 2, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z = rows["z"]
        z = (z - z.mean(dim=0)) / (z.var(dim=0, correction=0) + EPSILON).sqrt()
        c = z[:, 0].T @ z[:, 1] / len(z)  # (D, D), equation 2
        on_diagonal = (1 - c.diagonal()).square().sum()
        off_diagonal = c.square().sum() - c.diagonal().square().sum()
        loss = on_diagonal + self.config.weight * off_diagonal
        return {"loss": loss, "on_diagonal": on_diagonal, "off_diagonal": off_diagonal}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        width = rows["z"].shape[2]
        if logged["on_diagonal"] > 0.998 * width:
            yield (
                "uncorrelated",
                f"the views' embeddings are uncorrelated ({logged['on_diagonal']:.0f} of {width}); "
                "a lower learning rate helps",
            )
