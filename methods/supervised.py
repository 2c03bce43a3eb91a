"""Supervised training with the cross-entropy of the labels: the upper reference point.

One augmented view of each image under the same policy and budget as the other methods; the linear classifier is
thrown away like any head, and the backbone is evaluated by the same probes.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress


class Supervised(Method):
    views = ("crop",)
    supervised = True

    def __init__(self, config: Any, encoder: nn.Module, width: int, images: int, classes: int) -> None:
        super().__init__(config, encoder, width, images)
        self.classifier = nn.Linear(width, classes)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        assert batch.labels is not None
        return {"logits": self.classifier(self.encoder(batch.views[0])), "labels": batch.labels}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        hits = (rows["logits"].argmax(dim=1) == rows["labels"]).float().mean()
        return {"loss": F.cross_entropy(rows["logits"], rows["labels"]), "train_top1": hits}
