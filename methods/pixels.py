"""Raw pixels: the flattened image as the feature, a reference point without a network."""

from typing import Any

from torch import nn

from methods.method import Method


class Pixels(Method):
    family = "reference"
    views = ()
    trains = False
    ignores = ("backbone", "stem", "seed", "weights")

    def __init__(self, config: Any, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, nn.Flatten(), width, images)
