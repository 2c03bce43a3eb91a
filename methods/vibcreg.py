"""VIbCReg: Variance-Invariance-better-Covariance Regularization (arXiv:2109.00783).

VICReg with another covariance term: of the correlations between dimensions instead of their covariances, over D^2
instead of D, so that its size does not depend on the scale of the embeddings. Columns of Z are centred and scaled to
length 1 over the batch; c(Z) is the mean over all D^2 of the squared products of two different ones.
L = lambda s(Z, Z') + mu [v(Z) + v(Z')] + nu [c(Z) + c(Z')], s and v as VICReg's.

The paper whitens the embeddings by IterNorm behind the projector; here, as in solo-learn's code unless it is told
otherwise, they are not.
"""

from dataclasses import dataclass

from torch import Tensor, nn, stack
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.heads import projector
from methods.parts.sketch import variance


class VIbCReg(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    search_space = {  # noqa: RUF012
        "covariance": (50.0, 800.0),  # ours: a quarter to four times the default
    }

    @dataclass(frozen=True)
    class Config:
        invariance: float = 25.0  # lambda (authors' code, as VICReg's)
        variance: float = 25.0  # mu
        covariance: float = 200.0  # nu, of correlations (authors' code)
        head_layers: int = 3  # of the projector, with GELU
        head_dim: int = 2048  # width of each of its layers

        def __post_init__(self) -> None:
            if min(self.invariance, self.variance, self.covariance) < 0:
                raise ValueError("invariance, variance and covariance must be at least 0")
            if min(self.head_layers, self.head_dim) < 1:
                raise ValueError("head_layers and head_dim must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        dim = config.head_dim
        self.head = projector("mlp", width, dim, dim, config.head_layers, last="bare", gelu=True)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        return {"z": stack([self.head(self.encoder(x)) for x in batch.views], dim=1)}  # (n, 2, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z1, z2 = rows["z"].unbind(dim=1)
        s = F.mse_loss(z1, z2)
        v = variance(z1) + variance(z2)
        c = correlation(z1) + correlation(z2)
        loss = self.config.invariance * s + self.config.variance * v + self.config.covariance * c
        return {"loss": loss, "invariance": s, "variance": v, "correlation": c}


def correlation(z: Tensor) -> Tensor:
    """c(Z): the squared correlations of two different dimensions, summed, over D^2."""
    z = F.normalize(z - z.mean(dim=0), dim=0)
    c = z.T @ z
    return (c.square().sum() - c.diagonal().square().sum()) / z.shape[1] ** 2
