"""VISReg: Variance-Invariance-Sketching Regularization for JEPA training (arXiv:2606.02572).

LeJEPA's prediction, kept from collapse by three terms for each view's embeddings over the batch: their centre,
mean mu^2; their scale, mean (1 - sigma)^2, from both sides, which draws apart what has collapsed as strongly as ever;
and their shape: standardised by mu and a constant sigma, along M random directions, sorted, they are drawn to the
quantiles q_i = Phi^-1(i / (N + 1)) of N(0, 1) by the mean of (p_(i) - q_i)^2.
L = (1 - lambda) prediction + lambda (scale + shape + centre).

The directions are the same on all devices, where the authors' code draws other ones on each.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import projector
from methods.parts.sketch import centre, draw_directions, prediction

EPSILON = 1e-6  # the least standard deviation


class VISReg(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    multicrop = True
    younger = ("clip",)
    search_space = {  # noqa: RUF012
        "weight": ("0.4", "0.6", "0.8", "0.9"),  # ours: about the authors' 0.6 for small data and 0.9 for ImageNet
    }

    @dataclass(frozen=True)
    class Config:
        weight: float = 0.9  # lambda (authors' configuration of ViT-B; ViT-L 0.8, Imagenette 0.6)
        directions: int = 4096  # M, drawn anew every step (authors' configurations)
        head_layers: int = 3  # of the projector, with GELU
        head_hidden: int = 2048  # width of its hidden layers
        head_dim: int = 256  # width of z (ViT-B, a third of its width; Imagenette 128)
        clip: float = 0.0  # largest norm of the whole gradient (1 in the authors' code, for ViTs); 0: as it is

        def __post_init__(self) -> None:
            if not 0 <= self.weight <= 1:
                raise ValueError("weight must be between 0 and 1")
            if min(self.directions, self.head_layers, self.head_hidden, self.head_dim) < 1:
                raise ValueError("directions, head_layers, head_hidden and head_dim must be at least 1")
            if self.clip < 0:
                raise ValueError("clip must be at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        hidden, dim, layers = config.head_hidden, config.head_dim, config.head_layers
        self.head = projector("mlp", width, hidden, dim, layers, gelu=True)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = by_image(self.head(encode(self.encoder, batch.views)), len(batch.views))
        return {"z": z, "centre": centre(z, batch.views)}  # (n, V, D), (n, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z, weight = rows["z"], self.config.weight
        mu, sigma = z.mean(dim=0), (z.var(dim=0, correction=0) + EPSILON**2).sqrt()  # (V, D)
        terms = {
            "prediction": prediction(z, rows["centre"]),
            "scale": (1 - sigma).square().mean(),
            "shape": shape((z - mu) / sigma.detach() @ draw_directions(z, self.config.directions)),
            "centre": mu.square().mean(),
        }
        regularised = terms["scale"] + terms["shape"] + terms["centre"]
        return {"loss": (1 - weight) * terms["prediction"] + weight * regularised} | terms

    def after_backward(self, at: Progress) -> None:
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.parameters(), self.config.clip)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        spread = float(rows["z"].var(dim=0, correction=0).mean().sqrt())
        if spread < 0.02:
            yield "one_point", f"all embeddings are one point (spread {spread:.3f}); a larger weight helps"


def shape(x: Tensor) -> Tensor:
    """The mean squared difference of sorted samples x (N, ...) and the quantiles of N(0, 1); ()."""
    places = torch.arange(1, len(x) + 1, dtype=torch.float64, device=x.device) / (len(x) + 1)
    quantiles = torch.special.ndtri(places).to(x.dtype)
    return (x.sort(dim=0).values - quantiles.view(-1, *[1] * (x.ndim - 1))).square().mean()
