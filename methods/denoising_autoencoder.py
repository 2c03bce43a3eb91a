"""Denoising autoencoder: Extracting and Composing Robust Features with Denoising Autoencoders (ICML 2008).

The view is corrupted, and the decoder makes the clean one from the pooled feature (section 2.3): squared error of
normalised pixels, no connections from encoder to decoder past the feature. Corruption is Gaussian noise (of their later
paper, JMLR 2010), or blocks of 4 x 4 pixels set to the mean (`mask`; the paper sets single ones, which a network fills
in from their neighbours). The decoder is for views of 8 to 96 pixels, and refuses others.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.chance import Chance
from methods.parts.decoder import Decoder

BLOCK = 4  # pixels


class DenoisingAutoencoder(Method):
    family = "reconstruction"
    views = ("crop",)
    sized = True
    search_space = {  # noqa: RUF012
        "noise": (0.1, 1.0),  # ours: about the default
    }

    @dataclass(frozen=True)
    class Config:
        noise: float = 0.5  # standard deviation of the noise, in standard deviations of the pixels
        mask: float = 0.0  # share of the blocks that are set to the mean

        def __post_init__(self) -> None:
            if self.noise < 0 or not 0 <= self.mask < 1:
                raise ValueError("noise must be at least 0, mask in [0, 1)")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        self.decoder = Decoder(width, size)
        self.noise, self.holes = Chance(), Chance()

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x = batch.views[0]
        made = self.decoder(self.encoder(self.corrupt(x, batch.index, at.step)))
        return {"error": (made.to(x.dtype) - x).square().flatten(1).mean(dim=1)}

    def corrupt(self, x: Tensor, index: Tensor, step: int) -> Tensor:
        """x (n, 3, H, W) with noise, then with holes."""
        _, _, height, width = x.shape
        noisy = x + self.config.noise * self.noise.normal(index, step, *x.shape[1:]).to(x.dtype)
        blocks = self.holes.uniform(index, step, 1, -(-height // BLOCK), -(-width // BLOCK)) >= self.config.mask
        kept = F.interpolate(blocks.to(x.dtype), scale_factor=BLOCK, mode="nearest")[..., :height, :width]
        return noisy * kept

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": rows["error"].mean()}
