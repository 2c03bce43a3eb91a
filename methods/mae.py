"""MAE: Masked Autoencoders Are Scalable Vision Learners (arXiv:2111.06377).

Of the patches of a view a random quarter goes through the vision transformer; a small transformer, thrown away later,
makes the pixels of the others from these tokens and learned mask tokens put back in their places. The loss is the mean
squared error over the patches that were removed, of pixels that are normalised patch by patch: x' = (x - mean) /
sqrt(var + 1e-6) over all numbers of a patch, the variance with n - 1, as in the authors' code. A prediction of 0 has an
error of (P - 1) / P there, with P numbers a patch. Positions are fixed sines and cosines, in the encoder too, in place
of those that weights= may bring.

It needs a vision transformer. Linear and nearest neighbours of its features are far below what contrastive methods
have; the paper's measure is fine-tuning. The decoder's blocks are torch's, whose norms have an epsilon of 1e-5.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, cat, nn

from methods.method import Batch, Method, Progress
from methods.parts.chance import Chance
from methods.parts.symptoms import at_chance
from methods.parts.tokens import cut, embed, encode, fix_positions, grid_of_used, pick, sine_positions, transformer


class MAE(Method):
    family = "reconstruction"
    views = ("crop",)
    sized = True
    tokens = True
    recommends = {"pool": "avg", "optimiser": "adamw", "adamw_beta2": "0.95"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "mask": ("0.5", "0.6", "0.75", "0.85"),  # figure 5: 0.4 to 0.8 are alike for fine-tuning, 0.75 best for a probe
    }

    positions: Tensor  # (P + L, decoder_dim)

    @dataclass(frozen=True)
    class Config:
        mask: float = 0.75  # share of the patches that is removed (section 4.1)
        norm_pix: bool = True  # predict pixels that are normalised patch by patch (table 1d)
        decoder_dim: int = 512  # width of the decoder (table 1b)
        decoder_blocks: int = 8  # (table 1a)
        decoder_heads: int = 16  # of its attention (authors' code)

        def __post_init__(self) -> None:
            if not 0 < self.mask < 1:
                raise ValueError("mask must be above 0 and below 1")
            if min(self.decoder_dim, self.decoder_blocks, self.decoder_heads) < 1:
                raise ValueError("decoder_dim, decoder_blocks and decoder_heads must be at least 1")
            if self.decoder_dim % self.decoder_heads:
                raise ValueError("decoder_dim must be a multiple of decoder_heads")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        self.side, self.pixels, self.prefix = grid_of_used(encoder, size)
        self.patches, dim = self.side**2, config.decoder_dim
        self.kept = round(self.patches * (1 - config.mask))
        if not 0 < self.kept < self.patches:
            raise ValueError(
                f"mask={config.mask} keeps {self.kept} of {self.patches} patches; some, not all, are needed: another "
                "mask, smaller patches, as by stem=small, or a larger view_size"
            )
        fix_positions(encoder, self.side, width)
        self.narrow = nn.Linear(width, dim)
        self.mask_token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, dim), std=0.02))
        self.register_buffer("positions", sine_positions(self.side, dim, self.prefix))
        self.decoder = transformer(dim, config.decoder_blocks, config.decoder_heads)
        self.to_pixels = nn.Linear(dim, 3 * self.pixels**2)
        self.chance = Chance()

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x = batch.views[0]
        order = self.chance.uniform(batch.index, at.step, self.patches).argsort(dim=1)  # (n, L), those kept first
        t = embed(self.encoder, x)
        prefix, patches = t[:, : self.prefix], pick(t[:, self.prefix :], order[:, : self.kept])
        seen = self.narrow(encode(self.encoder, cat([prefix, patches], dim=1)))
        place = order.argsort(dim=1)  # (n, L), of each patch in `order`
        target, predicted = self.target(x), self.decode(seen, place).to(x.dtype)
        removed = (place >= self.kept).to(x.dtype)
        error, of_zero = (
            ((p - target).square().mean(dim=2) * removed).sum(dim=1) / (self.patches - self.kept)
            for p in (predicted, torch.zeros_like(predicted))
        )
        return {"error": error, "of_zero": of_zero}

    def decode(self, seen: Tensor, place: Tensor) -> Tensor:
        """(n, L, 3 p^2) pixels of all patches, from the tokens (n, P + kept, D) and each patch's `place` (n, L)."""
        missing = self.mask_token.to(seen.dtype).expand(len(seen), self.patches - self.kept, -1)
        patches = pick(cat([seen[:, self.prefix :], missing], dim=1), place)
        t = cat([seen[:, : self.prefix], patches], dim=1) + self.positions
        return self.to_pixels(self.decoder(t)[:, self.prefix :])

    def target(self, x: Tensor) -> Tensor:
        """(n, L, 3 p^2): the patches' pixels, normalised patch by patch where `norm_pix` says so."""
        target = cut(x, self.side, self.pixels)
        if not self.config.norm_pix:
            return target
        return (target - target.mean(dim=2, keepdim=True)) / (target.var(dim=2, keepdim=True) + 1e-6).sqrt()

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": rows["error"].mean()}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from at_chance(
            logged["loss"], float(rows["of_zero"].mean()), "more epochs or a higher learning rate help"
        )
