"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations (arXiv:2002.05709).

Two augmented views of each image, one encoder, one projection head; every other view in the global batch is a
negative. Equation 1 is `nt_xent`. The authors' code returns twice this loss; here it is the paper's mean over 2N.
The batch norms in the head are in the authors' code, not in the paper's text (google-research/simclr issue 205).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, cat, nn

from methods.method import Batch, Method, Progress
from methods.parts.heads import normalise, projector
from methods.parts.losses import nt_xent


class SimCLR(Method):
    views = ("crop", "crop")

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
        self.head = projector(config.head, width, hidden, config.head_dim, config.head_layers, norm, last_norm=norm)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        h = self.encoder(cat(batch.views))
        z1, z2 = normalise(self.head(h)).chunk(2)
        return {"z1": z1, "z2": z2}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": nt_xent(rows["z1"], rows["z2"], self.config.temperature)}
