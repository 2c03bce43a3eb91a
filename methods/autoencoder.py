"""Autoencoder: the image from its own feature (Goodfellow, Bengio and Courville, Deep Learning, 2016, chapter 14).

A decoder makes the view again from the pooled feature; the loss is the mean squared error of normalised pixels. Nothing
is contrasted. The textbook's constraints are options: `bottleneck` puts a linear code of few numbers between (14.1:
with a linear decoder and this loss it would span PCA's subspace), `sparse` penalises the L1 norm of the code (14.2.1).
The decoder is a small one for views of 8 to 96 pixels, and refuses others.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.decoder import Decoder


class Autoencoder(Method):
    family = "reconstruction"
    views = ("crop",)
    sized = True

    @dataclass(frozen=True)
    class Config:
        bottleneck: int = 0  # numbers of the code; 0 is the feature itself
        sparse: float = 0.0  # weight of the mean absolute value of the code (14.2.1)

        def __post_init__(self) -> None:
            if self.bottleneck < 0 or self.sparse < 0:
                raise ValueError("bottleneck and sparse must be at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        code = config.bottleneck or width
        self.head = nn.Linear(width, code) if config.bottleneck else nn.Identity()
        self.decoder = Decoder(code, size)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x = batch.views[0]
        code = self.head(self.encoder(x))
        return {"error": squared_error(self.decoder(code), x), "size": code.to(x.dtype).abs().mean(dim=1)}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        error, size = rows["error"].mean(), rows["size"].mean()
        return {"loss": error + self.config.sparse * size, "error": error, "code_size": size}


def squared_error(made: Tensor, x: Tensor) -> Tensor:
    """(n,) mean squared error of each image's pixels, at least in float32."""
    return (made.to(x.dtype) - x).square().flatten(1).mean(dim=1)
