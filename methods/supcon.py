"""SupCon: Supervised Contrastive Learning (arXiv:2004.11362).

SimCLR with labels: every view of every image of one's class is a positive. Equation 2 (L_out), the logarithm inside the
sum over positives; one's own other view is among them, so no anchor is without. The authors' code multiplies the loss
by tau / 0.07, which belongs to the learning rate and is left out. A supervised reference: it is told the labels.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.losses import log_sum_of_others


class SupCon(Method):
    family = "reference"
    views = ("crop", "crop")
    multicrop = True
    supervised = True
    read_with = {"head_hidden": ("head", "mlp")}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 0.5),  # ours: about the paper's 0.1
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau in equation 2 (training details)
        head: Literal["mlp", "linear"] = "mlp"  # projection head (section 3.1)
        head_hidden: int = 0  # hidden width of the MLP; 0 is the backbone's
        head_dim: int = 128  # width of z (section 3.1)

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.head_dim < 1 or self.head_hidden < 0:
                raise ValueError("temperature must be above 0, head_dim at least 1, head_hidden at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, classes: int) -> None:
        super().__init__(config, encoder, width, images)
        self.classes = classes
        self.head = projector(config.head, width, config.head_hidden or width, config.head_dim, norm=False)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        assert batch.labels is not None
        z = normalise(self.head(encode(self.encoder, batch.views)))
        return {"z": by_image(z, len(batch.views)), "labels": batch.labels}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z = rows["z"].transpose(0, 1).flatten(0, 1)  # (V N, D)
        label = F.one_hot(rows["labels"].repeat(rows["z"].shape[1]), self.classes).to(z.dtype)
        # sum_p z_i.z_p over the positives of i is z_i times the sum of its class without itself.
        positives = label @ (label.T @ z) - z
        count = (label @ label.sum(dim=0)) - 1
        tau = self.config.temperature
        attraction = (z * positives).sum(dim=1) / count / tau
        return {"loss": log_sum_of_others(z, tau, paired=False) - attraction.mean()}
