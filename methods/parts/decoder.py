"""A small decoder, from a vector to an image, for the methods that make pictures."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST, LARGEST = 8, 96  # pixels; beyond, a decoder of this size paints blurs
START = 4  # pixels of the map that the vector becomes
WIDEST, NARROWEST = 128, 32  # channels of the first map and of the last


class Decoder(nn.Module):
    """(n, width) -> (n, 3, size, size): a linear layer to 4 x 4 pixels, then doublings, each with a 3 x 3 convolution.

    Raises ValueError where `size` is not between 8 and 96.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        if not SMALLEST <= size <= LARGEST:
            raise ValueError(f"views of {size} pixels: its decoder is for {SMALLEST} to {LARGEST}, see view_size=")
        self.size = size
        doublings = math.ceil(math.log2(size / START))
        channels = [max(NARROWEST, WIDEST >> i) for i in range(doublings + 1)]
        self.first = nn.Linear(width, channels[0] * START * START)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after in itertools.pairwise(channels)
        )
        self.last = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, code: Tensor) -> Tensor:
        x = F.relu(self.first(code)).unflatten(1, (-1, START, START))
        for number, stage in enumerate(self.stages, start=1):
            side = min(START << number, self.size)
            x = stage(F.interpolate(x, size=(side, side), mode="nearest"))
        return self.last(x)
