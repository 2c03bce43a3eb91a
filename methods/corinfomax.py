"""CorInfoMax: Self-Supervised Learning with an Information Maximization Criterion (arXiv:2209.07999).

Two views of an image are drawn together, and the entropy of each view's embeddings, were they Gaussian, is held up by
the log-determinant of their covariance, which must so keep full rank. Of each view, with l the forgetting factor,
mu' = l mu + (1 - l) mean z and R' = l R + (1 - l) (z - mu')^T (z - mu') / N, from mu = 0 and R = I, z unit vectors;
L = alpha MSE(z1, z2) - [log det(R1' + eps I) + log det(R2' + eps I)] / D, the MSE over images and dimensions.

l is the weight of the old value, 0.01 in the authors' code: nearly all is of the batch. Gradients go through mu' and
R'. They are computed again, and kept, behind the step. All of it is computed in float64, for collapsed dimensions are
small numbers, and kept in the precision of the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn, stack
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.heads import normalise, projector

EPSILON = 1e-8  # on the diagonal of R (authors' code)


class CorInfoMax(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    # Authors' code for CIFAR decays biases and norms as well.
    recommends = {"decay_all": "true"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "invariance": (50.0, 2000.0),  # authors' code: 250 (CIFAR-10) to 1,000 (CIFAR-100)
        "head_dim": ("x0.5", "x1", "x2"),  # authors' code: 64 (CIFAR-10) and 128 (CIFAR-100)
    }

    mean: Tensor  # (2, D), mu of each view
    covariance: Tensor  # (2, D, D), R of each view

    @dataclass(frozen=True)
    class Config:
        invariance: float = 250.0  # alpha, weight of the MSE (authors' code for CIFAR-10; 1,000 for CIFAR-100)
        forgetting: float = 0.01  # l, weight of the old mean and covariance (authors' code; 0.1 for Tiny ImageNet)
        head_layers: int = 3  # of the projector, without batch norm (authors' code)
        head_hidden: int = 2048  # width of its hidden layers (authors' code; 4,096 for CIFAR-100)
        head_dim: int = 64  # D, width of z (authors' code; 128 for CIFAR-100)

        def __post_init__(self) -> None:
            if self.invariance < 0 or not 0 <= self.forgetting < 1:
                raise ValueError("invariance must be at least 0, forgetting at least 0 and below 1")
            if min(self.head_layers, self.head_hidden, self.head_dim) < 1:
                raise ValueError("head_layers, head_hidden and head_dim must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        hidden, dim = config.head_hidden, config.head_dim
        self.head = projector("mlp", width, hidden, dim, config.head_layers, norm=False, last="bare")
        self.register_buffer("mean", torch.zeros(2, dim, dtype=torch.float64))
        self.register_buffer("covariance", torch.eye(dim, dtype=torch.float64).repeat(2, 1, 1))

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        return {"z": stack([normalise(self.head(self.encoder(x))) for x in batch.views], dim=1)}  # (n, 2, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z = rows["z"]
        covariance = self.accumulate(z)[1]
        diagonal = EPSILON * torch.eye(z.shape[2], dtype=torch.float64, device=z.device)
        entropy = (torch.logdet(covariance + diagonal).sum() / z.shape[2]).to(z.dtype)
        invariance = F.mse_loss(z[:, 0], z[:, 1])
        return {"loss": self.config.invariance * invariance - entropy, "invariance": invariance, "entropy": entropy}

    def accumulate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """mu' (2, D) and R' (2, D, D) of z (N, 2, D)."""
        old = self.config.forgetting
        z = z.double().transpose(0, 1)  # (2, N, D)
        mean = old * self.mean + (1 - old) * z.mean(dim=1)
        apart = z - mean[:, None]
        return mean, old * self.covariance + (1 - old) * apart.mT @ apart / z.shape[1]

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        mean, covariance = self.accumulate(rows["z"])
        self.mean.copy_(mean)
        self.covariance.copy_(covariance)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        spread = float(rows["z"].var(dim=0, correction=0).sum(dim=1).mean())
        if spread < 0.01:
            yield "one_point", f"all embeddings are one point (variance {spread:.4f}); a lower invariance helps"
