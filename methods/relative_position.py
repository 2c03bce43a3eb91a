"""Context prediction: Unsupervised Visual Representation Learning by Context Prediction (arXiv:1505.05192).

Of nine patches of an image the centre and one other are shown, and a small network on their two features says which of
the eight places the other is from (section 3). All eight pairs of an image are in the batch. The patches lie on a
jittered grid with gaps, and are augmented each on its own, which takes the place of the paper's colour dropping:
otherwise the lens's colour fringes give the place away. The two-layer network on the pair follows the revisited form
(arXiv:1901.09005) without its dropout, whose draws would depend on how a batch is cut. Batch norm's running statistics
follow whole views, as in `jigsaw.py`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.crops import patches
from methods.parts.symptoms import at_chance

CENTRE, PLACES = 4, 8


class RelativePosition(Method):
    family = "pretext"
    views = ("grid", "crop")
    version = 2  # since batch norm is evaluated with the statistics of whole images

    @dataclass(frozen=True)
    class Config:
        head_hidden: int = 4096  # width of the network on the pair of features (the paper's fc7)

        def __post_init__(self) -> None:
            if self.head_hidden < 1:
                raise ValueError("head_hidden must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        hidden = config.head_hidden
        self.pair = nn.Sequential(
            nn.Linear(2 * width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, PLACES)
        )

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        grid, whole = batch.views
        h = patches(self.encoder, grid, whole)  # (n, 9, width)
        others = torch.cat([h[:, :CENTRE], h[:, CENTRE + 1 :]], dim=1)
        pairs = torch.cat([h[:, CENTRE : CENTRE + 1].expand_as(others), others], dim=2)
        logits = self.pair(pairs.transpose(0, 1).flatten(0, 1))  # view by view, as batch norm over groups takes rows
        return {"logits": logits.unflatten(0, (PLACES, -1)).transpose(0, 1)}  # (n, 8, 8)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        logits = rows["logits"].flatten(0, 1)
        places = torch.arange(PLACES, device=logits.device).repeat(len(rows["logits"]))
        hits = (logits.argmax(dim=1) == places).float().mean()
        return {"loss": F.cross_entropy(logits, places), "train_top1": hits}

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from at_chance(logged["loss"], math.log(PLACES), "a lower learning rate or larger patches help")
