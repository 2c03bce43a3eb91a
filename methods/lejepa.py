"""LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics (arXiv:2511.08544).

No negatives, no teacher, no stopped gradient: every view of an image is drawn to the centre of its large views, and
SIGReg (sketched isotropic Gaussian regularisation) keeps each view's embeddings a sample of N(0, I). Along M random
directions, new ones every step, it compares the characteristic function of the batch with that of N(0, 1) by the test
of Epps and Pulley: T = N sum_k w_k phi_k [(C_k - phi_k)^2 + S_k^2], with C_k and S_k the means over the batch of
cos(t_k x) and sin(t_k x), and phi_k = exp(-t_k^2 / 2). SIGReg is the mean of T over directions and views, each view a
sample of its own; L = (1 - lambda) prediction + lambda SIGReg.

Where the listing in the paper and the authors' code differ, this is the code (MINIMAL.md): the integral over [-3, 3] by
17 points on its half, where the paper has 17 on [-5, 5]. A Gaussian sample has T = 1.05 in the mean, for any N: the
loss ends no lower than that times lambda. Other codes weigh T against the prediction without the factors N or
1 - lambda: their lambda is another number.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import projector
from methods.parts.sketch import centre, draw_directions, prediction

REACH, KNOTS = 3.0, 17  # the last of the t_k, and how many there are from 0 (MINIMAL.md)


class LeJEPA(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    multicrop = True
    search_space = {  # noqa: RUF012
        "weight": (0.01, 0.2),  # ours: from half of the authors' 0.02 (MINIMAL.md) to four times the default
    }

    @dataclass(frozen=True)
    class Config:
        weight: float = 0.05  # lambda of the loss (lightly's; 0.02 in the authors' MINIMAL.md)
        directions: int = 1024  # M, drawn anew every step (authors' README; 256 in MINIMAL.md)
        head_layers: int = 3  # of the projector (MINIMAL.md)
        head_hidden: int = 2048  # width of its hidden layers (MINIMAL.md)
        head_dim: int = 128  # width of z (16 for Imagenette's ten classes, MINIMAL.md)

        def __post_init__(self) -> None:
            if not 0 <= self.weight <= 1:
                raise ValueError("weight must be between 0 and 1")
            if min(self.directions, self.head_layers, self.head_hidden, self.head_dim) < 1:
                raise ValueError("directions, head_layers, head_hidden and head_dim must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.head = projector("mlp", width, config.head_hidden, config.head_dim, config.head_layers)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = by_image(self.head(encode(self.encoder, batch.views)), len(batch.views))
        return {"z": z, "centre": centre(z, batch.views)}  # (n, V, D), (n, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z, weight = rows["z"], self.config.weight
        predicted = prediction(z, rows["centre"])
        sigreg = epps_pulley(z @ draw_directions(z, self.config.directions)).mean()
        return {"loss": (1 - weight) * predicted + weight * sigreg, "prediction": predicted, "sigreg": sigreg}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        z = rows["z"]
        dead = float(epps_pulley(torch.zeros_like(z[:, :1, :1])))  # where its gradient is 0
        if logged["sigreg"] >= 0.99 * dead:
            yield "one_point", f"all embeddings are one point (SIGReg {logged['sigreg']:.0f}); a larger weight helps"


def epps_pulley(x: Tensor) -> Tensor:
    """T of x (N, ...), a sample of N numbers in each place, (...); by the trapezoid rule."""
    total = torch.zeros_like(x[0])
    for k in range(1, KNOTS):  # at t = 0 both functions are 1
        t = REACH * k / (KNOTS - 1)
        phi, width = math.exp(-(t**2) / 2), REACH / (KNOTS - 1) * (1 if k == KNOTS - 1 else 2)
        total = total + width * phi * (((t * x).cos().mean(dim=0) - phi).square() + (t * x).sin().mean(dim=0).square())
    return len(x) * total
