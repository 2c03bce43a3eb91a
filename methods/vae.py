"""VAE: Auto-Encoding Variational Bayes (arXiv:1312.6114).

The feature gives mean and variance of a Gaussian code; a sample of it, reparameterised as mean + deviation * noise, is
decoded. The loss is minus the lower bound (Gaussian case), with a Gaussian of unit variance on normalised pixels,
without its constant and divided by the number of pixel values; `beta` weighs the divergence (beta-VAE, Higgins et al.,
ICLR 2017). What is evaluated is the feature, not the code. The decoder is for views of 8 to 96 pixels, and refuses
others.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from methods.method import Batch, Method, Progress
from methods.parts.chance import Chance
from methods.parts.decoder import Decoder


class VAE(Method):
    family = "reconstruction"
    views = ("crop",)
    sized = True
    search_space = {  # noqa: RUF012
        "beta": (0.1, 10.0),  # ours: a decade below and above the lower bound itself
    }

    @dataclass(frozen=True)
    class Config:
        code: int = 64  # numbers of the code
        beta: float = 1.0  # weight of the divergence; 1 is the lower bound itself

        def __post_init__(self) -> None:
            if self.code < 1 or self.beta < 0:
                raise ValueError("code must be at least 1, beta at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        self.moments = nn.Linear(width, 2 * config.code)
        self.decoder = Decoder(config.code, size)
        self.chance = Chance()

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x = batch.views[0]
        mean, log_variance = self.moments(self.encoder(x)).to(x.dtype).chunk(2, dim=1)
        noise = self.chance.normal(batch.index, at.step, self.config.code).to(x.dtype)
        made = self.decoder(mean + (log_variance / 2).exp() * noise)
        error = (made.to(x.dtype) - x).square().flatten(1).sum(dim=1) / 2
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2  # appendix B
        return {"error": error / x[0].numel(), "divergence": divergence / x[0].numel()}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        error, divergence = rows["error"].mean(), rows["divergence"].mean()
        return {"loss": error + self.config.beta * divergence, "error": error, "divergence": divergence}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        if self.config.beta > 0 and logged["divergence"] < 1e-5:
            yield "unused code", "the code says nothing of the image (divergence 0); a lower beta helps"
