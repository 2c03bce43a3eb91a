"""RotNet: Unsupervised Representation Learning by Predicting Image Rotations (arXiv:1803.07728).

Each view is turned by 0, 90, 180 and 270 degrees, and a linear classifier on the backbone says by how much: the mean
cross-entropy over all four copies of an image, which are in the batch together, as the authors do. So a step encodes
four views an image. The view is turned after crop and jitter, without interpolation. Nothing is contrasted.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image
from methods.parts.symptoms import at_chance

TURNS = 4


class Rotation(Method):
    family = "pretext"
    views = ("crop",)

    def __init__(self, config: Any, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.classifier = nn.Linear(width, TURNS)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        turned = torch.cat([batch.views[0].rot90(turn, dims=(2, 3)) for turn in range(TURNS)])
        return {"logits": by_image(self.classifier(self.encoder(turned)), TURNS)}  # (n, 4, 4)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        logits = rows["logits"].flatten(0, 1)
        turns = torch.arange(TURNS, device=logits.device).repeat(len(rows["logits"]))
        hits = (logits.argmax(dim=1) == turns).float().mean()
        return {"loss": F.cross_entropy(logits, turns), "train_top1": hits}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        remedy = "images that look the same when turned have nothing to tell; else a lower learning rate helps"
        yield from at_chance(logged["loss"], math.log(TURNS), remedy)
