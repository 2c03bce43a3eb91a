"""Supervised training with the cross-entropy of the labels: the upper reference point.

One augmented view of each image under the same policy and budget as the other methods, and its small crops if there
are any; the linear classifier is thrown away like any head, and the backbone is evaluated by the same probes.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode


class Supervised(Method):
    family = "reference"
    views = ("crop",)
    multicrop = True
    supervised = True

    def __init__(self, config: Any, encoder: nn.Module, width: int, images: int, classes: int) -> None:
        super().__init__(config, encoder, width, images)
        self.classifier = nn.Linear(width, classes)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        assert batch.labels is not None
        logits = self.classifier(encode(self.encoder, batch.views))
        return {"logits": by_image(logits, len(batch.views)), "labels": batch.labels}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        logits, labels = rows["logits"], rows["labels"][:, None].expand(rows["logits"].shape[:2])
        hits = (logits.argmax(dim=2) == labels).float().mean()
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "train_top1": hits}
