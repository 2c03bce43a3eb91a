"""W-MSE: Whitening for Self-Supervised Representation Learning (arXiv:2007.06346).

No negatives: the embeddings of each view are whitened, so that they cannot collapse, and the views of an image drawn
together. Whitening is of sub-batches, drawn anew every step and the same for all views: that their covariances differ
by chance is part of the regulariser. With mean m and covariance S = L L^T (Cholesky) of a sub-batch, v = L^-1 (z - m);
the loss is the mean over images and pairs of views of 2 - 2 cos(v, v'), or of the squared distance of v and v'. The
gradient flows through m, L and both views (solo-learn stops it in one of each pair).

With two views this is the paper's W-MSE 2. Further ones, the small crops of `augmentation`, take part in all pairs: two
that are as large as the first make its W-MSE 4, such as `2x32@.2-1` for views of 32 pixels.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, cat, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.chance import draw
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.symptoms import at_chance


class WMSE(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    multicrop = True
    search_space = {  # noqa: RUF012
        "head_dim": ("x0.5", "x1"),  # ours: more dimensions than half of `whitened` have no sure covariance
    }

    @dataclass(frozen=True)
    class Config:
        whitened: int = 128  # images of a sub-batch, twice the width of z or more (authors' code; 256 for 128)
        passes: int = 1  # how often a batch is cut into sub-batches (authors' code; 4 for STL-10 and Tiny ImageNet)
        epsilon: float = 0.0  # share of the identity in the covariance (authors' code: 0)
        euclidean: bool = False  # squared distances in place of cosines
        head_hidden: int = 1024  # hidden width of the head (authors' code)
        head_dim: int = 64  # width of z (authors' code, CIFAR; 128 for STL-10, Tiny ImageNet and ImageNet-100)

        def __post_init__(self) -> None:
            if min(self.passes, self.head_hidden, self.head_dim) < 1 or self.whitened < 2:
                raise ValueError("passes, head_hidden and head_dim must be at least 1, whitened at least 2")
            if not 0 <= self.epsilon < 1:
                raise ValueError("epsilon must be at least 0 and below 1")
            if self.head_hidden < self.head_dim and not self.epsilon:
                raise ValueError("head_hidden must be at least head_dim, or epsilon above 0: else z has no full rank")

        def require(self, batch_size: int) -> None:
            least = batch_size // max(1, batch_size // self.whitened)
            if least <= self.head_dim and not self.epsilon:
                raise ValueError(
                    f"{least} images whitened at once in {self.head_dim} dimensions have no full rank: batch_size and "
                    f"whitened above head_dim={self.head_dim}, twice as many at best, a smaller head_dim or epsilon > 0"
                )

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.head = projector("mlp", width, config.head_hidden, config.head_dim)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        return {"z": by_image(self.head(encode(self.encoder, batch.views)), len(batch.views))}  # (n, V, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": stack([self.distance(rows["z"]) for _ in range(self.config.passes)]).mean()}

    def distance(self, z: Tensor) -> Tensor:
        """Of one cut of the batch (N, V, D) into parts of `whitened` images, or of a few more where those do not divide
        it."""
        order = draw(lambda: torch.randperm(len(z)), z.device)
        parts = order.tensor_split(max(1, len(z) // self.config.whitened))
        v = cat([whiten(z[part], self.config.epsilon) for part in parts])
        pairs = [(v[:, i], v[:, j]) for i, j in itertools.combinations(range(v.shape[1]), 2)]
        if self.config.euclidean:
            return stack([(a - b).square().mean() for a, b in pairs]).mean()
        return stack([2 - 2 * (normalise(a) * normalise(b)).sum(dim=1).mean() for a, b in pairs]).mean()

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from at_chance(logged["loss"], 2.0, "a lower learning rate or more images whitened at once helps")


def whiten(z: Tensor, epsilon: float) -> Tensor:
    """(w, V, D): each view of z less its mean, times the inverse of the Cholesky factor of its covariance."""
    z = (z - z.mean(dim=0)).transpose(0, 1)  # (V, w, D)
    identity = torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
    covariance = (1 - epsilon) * z.transpose(1, 2) @ z / (z.shape[1] - 1) + epsilon * identity
    try:
        if z.shape[1] <= z.shape[2] and not epsilon:  # less their mean; rounding may hide it
            raise torch.linalg.LinAlgError
        factor = torch.linalg.cholesky(covariance)
    except torch.linalg.LinAlgError:
        raise RuntimeError(
            f"{z.shape[1]} embeddings of {z.shape[2]} dimensions have no full rank, and cannot be whitened: "
            "a larger whitened or batch_size, a smaller head_dim, epsilon or a lower learning rate helps"
        ) from None
    return torch.linalg.solve_triangular(factor, z.transpose(1, 2), upper=False).permute(2, 0, 1)
