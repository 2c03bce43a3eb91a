"""SimMIM: A Simple Framework for Masked Image Modeling (arXiv:2111.09886).

Random cells of a view are hidden, the network sees the rest and where the holes are, and one linear layer makes the
pixels from its last map (a 1 x 1 convolution and a pixel shuffle). The loss is the mean absolute error of normalised
pixels, over the hidden ones alone. ceil(mask x cells) cells are hidden in every image.

A vision transformer sees one learned token in place of hidden patches, before positions are added. Convolutions have no
tokens: there a learned colour, at first the mean, covers the hidden pixels (ours; convolutions smear it over their
neighbours, and batch norm counts it). Swin, which the paper has too, is not offered. The paper's cells are of 32 pixels
in views of 192 and 224; `cell=0` is an eighth of the view, but no less than a patch. No error reaches a class token but
through the patches, so a transformer's feature should be their mean, as presets say (`pool=avg`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.chance import Chance
from methods.parts.symptoms import at_chance
from methods.parts.tokens import embed, encode, patch_grid, require_all_in_use


class SimMIM(Method):
    family = "reconstruction"
    views = ("crop",)
    sized = True
    recommends = {"optimiser": "adamw"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "mask": ("0.4", "0.5", "0.6", "0.7"),  # ours: about the paper's 0.6
    }

    @dataclass(frozen=True)
    class Config:
        mask: float = 0.6  # share of the cells that is hidden (authors' code)
        cell: int = 0  # pixels of a cell's side, which divide the view's; 0: an eighth of it, a patch at least
        clip: float = 5.0  # largest norm of the whole gradient (authors' code); 0: as it is

        def __post_init__(self) -> None:
            if not 0 < self.mask < 1:
                raise ValueError("mask must be above 0 and below 1")
            if self.cell < 0 or self.clip < 0:
                raise ValueError("cell and clip must be at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        self.patch = patch_grid(encoder)[1] if hasattr(encoder, "patch_embed") else 0
        least = self.patch or 1
        self.cell = config.cell or next(c for c in range(max(least, size // 8), size + 1) if size % c == c % least == 0)
        if size % self.cell or self.cell % least:
            allowed = [c for c in range(least, size // 2 + 1, least) if size % c == 0]
            raise ValueError(f"cell={self.cell} of views of {size} pixels: {', '.join(map(str, allowed))} can be")
        self.side = size // self.cell
        self.hidden = math.ceil(round(config.mask * self.side**2, 6))
        if self.hidden == self.side**2:
            finer = [f"cell={c}" for c in range(least, self.cell, least) if size % c == 0] or [
                "smaller patches, as by stem=small"
            ]
            lower = f", a mask of at most {100 * (self.hidden - 1) // self.hidden / 100}" if self.side > 1 else ""
            raise ValueError(
                f"mask={config.mask} hides all cells of a view, {self.hidden} of {self.cell} pixels: "
                f"{finer[-1]}{lower} or a larger view_size leaves some to see"
            )
        # Of one dimension: it does not decay, as the authors have it.
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(width), std=0.02) if self.patch else torch.zeros(3))
        one = next(encoder.parameters()).new_zeros(1, 3, size, size)
        features = self.features(one, one[:, 0] > 0, encoder.eval())  # batch norm's statistics stay as they are
        require_all_in_use(encoder.train(), features)
        self.stride = math.ceil(size / features.shape[-1])  # pixels that a place of the map stands for
        self.to_pixels = nn.Conv2d(features.shape[1], 3 * self.stride**2, 1)
        self.chance = Chance()

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x = batch.views[0]
        hidden = self.mask(batch.index, at.step)
        made = F.pixel_shuffle(self.to_pixels(self.features(x, hidden, self.encoder)), self.stride)
        counts = hidden[:, None].to(x.dtype) / (3 * self.hidden * self.cell**2)
        made = made[..., : x.shape[-2], : x.shape[-1]].to(x.dtype)
        error, of_zero = (((p - x).abs() * counts).flatten(1).sum(dim=1) for p in (made, torch.zeros_like(x)))
        return {"error": error, "of_zero": of_zero}

    def mask(self, index: Tensor, step: int) -> Tensor:
        """(n, H, W) bool: the hidden pixels of the images `index` (n,)."""
        u = self.chance.uniform(index, step, self.side**2)
        cells = (u.argsort(dim=1).argsort(dim=1) < self.hidden).view(-1, self.side, self.side)
        return cells.repeat_interleave(self.cell, dim=1).repeat_interleave(self.cell, dim=2)

    def features(self, x: Tensor, hidden: Tensor, encoder: Any) -> Tensor:
        """(n, D, h, w): the last map of x (n, 3, H, W), of which `hidden` (n, H, W) bool is covered."""
        if not self.patch:
            return encoder.forward_features(torch.where(hidden[:, None], self.token[:, None, None].to(x.dtype), x))
        patches = hidden[:, :: self.patch, :: self.patch]
        t = encode(encoder, embed(encoder, x, patches, self.token))[:, encoder.num_prefix_tokens :]
        return t.transpose(1, 2).unflatten(2, patches.shape[1:])

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": rows["error"].mean()}

    def after_backward(self, at: Progress) -> None:
        if self.config.clip:
            nn.utils.clip_grad_norm_(self.parameters(), self.config.clip)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from at_chance(
            logged["loss"], float(rows["of_zero"].mean()), "more epochs or a higher learning rate help"
        )
