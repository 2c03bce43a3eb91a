"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning (arXiv:2105.04906).

No negatives: the two views' embeddings are drawn together (equation 5), each of their dimensions keeps a standard
deviation of 1 over the batch (equation 1), and no two dimensions say the same (equations 3 and 4). Equation 6:
L = lambda s(Z, Z') + mu [v(Z) + v(Z')] + nu [c(Z) + c(Z')]. The authors' code halves the variance term
(`vicreg.halved=true`; vicreg issues 8 and 26), and takes s as the mean over images and dimensions, as here.
"""

from dataclasses import dataclass

from torch import Tensor, nn, stack
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.heads import projector
from methods.parts.sketch import variance


class VICReg(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    search_space = {  # noqa: RUF012
        "covariance": (0.25, 10.0),  # section 4.2 searches lambda = mu at nu = 1: these are 100 to 2.5 times nu
    }

    @dataclass(frozen=True)
    class Config:
        invariance: float = 25.0  # lambda in equation 6 (section 4.2)
        variance: float = 25.0  # mu
        covariance: float = 1.0  # nu
        halved: bool = False  # halve the variance term, as the authors' code does
        head_layers: int = 3  # of the expander (section 4.2)
        head_dim: int = 8192  # width of each of its layers (section 4.2)

        def __post_init__(self) -> None:
            if min(self.invariance, self.variance, self.covariance) < 0:
                raise ValueError("invariance, variance and covariance must be at least 0")
            if min(self.head_layers, self.head_dim) < 1:
                raise ValueError("head_layers and head_dim must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        dim = config.head_dim
        self.head = projector("mlp", width, dim, dim, config.head_layers, norm=True, last="bare")

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        return {"z": stack([self.head(self.encoder(x)) for x in batch.views], dim=1)}  # (n, 2, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z1, z2 = rows["z"].unbind(dim=1)
        s = F.mse_loss(z1, z2)
        v = variance(z1) + variance(z2)
        c = covariance(z1) + covariance(z2)
        v = v / 2 if self.config.halved else v
        loss = self.config.invariance * s + self.config.variance * v + self.config.covariance * c
        return {"loss": loss, "invariance": s, "variance": v, "covariance": c}


def covariance(z: Tensor) -> Tensor:
    """c(Z), equations 3 and 4: the squared off-diagonal covariances, summed, over the width."""
    z = z - z.mean(dim=0)
    c = z.T @ z / (len(z) - 1)
    return (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]
