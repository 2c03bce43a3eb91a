"""MoCo v1 and v2: Momentum Contrast for Unsupervised Visual Representation Learning (arXiv:1911.05722, 2003.04297).

A query of one view against the momentum-encoded key of the other (positive) and a queue of earlier keys (negatives).
Defaults are v2's. v1 is `moco.head=linear moco.temperature=0.07 augmentation=moco_v1 schedule=step warmup=0
decay_all=true`. Small crops, which the papers do not have, are further queries.

Neither head has batch norm, as in the authors' code, and keys begin as a narrow cone: on the digits, by three seeds,
two images' keys have a mean cosine of 0.50 to 0.53 (resnet10t, 16 pixels) and 0.85 to 0.86 (resnet18, 32 pixels) as
weights start, and of 0.30 to 0.40 with batch norm in the head.

The authors update the key encoder before they compute keys; here it is updated after the optimiser's step. With a
constant m and equal starts the keys are the same, and the end of a step is a state that can be saved.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, cat, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy, normalise, projector
from methods.parts.losses import info_nce
from methods.parts.memory import Queue
from methods.parts.symptoms import at_chance, dead_queue, stale_queue


class MoCo(Method):
    family = "momentum"
    views = ("crop", "crop")
    momentum_encoder = "key_encoder"
    multicrop = True
    counts = {"queue": "keys"}  # noqa: RUF012
    read_with = {"head_hidden": ("head", "mlp"), "head_dim": ("head", "mlp", "linear")}  # noqa: RUF012
    # Shuffled batch norm (v1, section 3.3): with one set of statistics for all, a key's tell which query it belongs to.
    recommends = {"batch_norm": "shuffle:8"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 0.5),  # v2, section 3: 0.07 to 0.5
        "momentum": ("0.9", "0.95", "0.99", "0.999"),  # v1, section 4.1: 0.9 to 0.9999; 0.95 for short trainings
        "queue": ("x0.25", "x0.5", "x1", "x2"),  # v1, figure 3: 256 to 65,536; ours: about the preset's
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.2  # tau in equation 1 (v2: 0.2; v1: 0.07)
        queue: int = 65536  # K, the keys in the queue (v1, section 4.1; 4096 in the authors' CIFAR notebook)
        momentum: float = 0.999  # m in equation 2 (v1, section 4.1; 0.99 in the authors' CIFAR notebook)
        head: Literal["mlp", "linear", "none"] = "mlp"  # projection head (v2: mlp; v1: linear)
        head_hidden: int = 0  # hidden width of the MLP; 0 is the backbone's
        head_dim: int = 128  # width of q and k
        symmetric: bool = False  # sum both directions, against the same old queue (authors' CIFAR notebook)

        def __post_init__(self) -> None:
            if self.temperature <= 0 or min(self.head_dim, self.queue) < 1:
                raise ValueError("temperature must be above 0, head_dim and queue at least 1")
            if not 0 <= self.momentum <= 1 or self.head_hidden < 0:
                raise ValueError("momentum must be between 0 and 1, head_hidden at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        hidden = config.head_hidden or width
        self.head = projector(config.head, width, hidden, config.head_dim, layers=2, norm=False)
        self.key_encoder = MomentumCopy(encoder)
        self.key_head = MomentumCopy(self.head)
        self.queue = Queue(config.queue, width if config.head == "none" else config.head_dim)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x1, x2, *small = batch.views
        queries, keys = ([x1, x2], [x1, x2]) if self.config.symmetric else ([x1], [x2])
        # Each view in a pass of its own: the authors' queries and keys never share statistics with another view.
        q = stack([self.query(x) for x in [*queries, *small]], dim=1)  # (n, V, D)
        return {"q": q, "k": stack([self.key(x) for x in keys], dim=1)}

    def query(self, x: Tensor) -> Tensor:
        return normalise(self.head(self.encoder(x)))

    @torch.no_grad()
    def key(self, x: Tensor) -> Tensor:
        return normalise(self.key_head(self.key_encoder(x)))

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        q, k = rows["q"], rows["k"]
        if not self.config.symmetric:
            return {"loss": self.contrast(q, k[:, 0])}
        small = q[:, 2:]
        forth = self.contrast(cat([q[:, :1], small], dim=1), k[:, 1])
        back = self.contrast(cat([q[:, 1:2], small], dim=1), k[:, 0])
        return {"loss": forth + back}

    def contrast(self, q: Tensor, k: Tensor) -> Tensor:
        """Equation 1 for queries (N, V, D) of the images whose keys are k (N, D), the mean over all."""
        keys = k[:, None].expand_as(q)
        return info_nce(q.flatten(0, 1), keys.flatten(0, 1), self.queue.rows, self.config.temperature)

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        self.key_encoder.update(self.encoder, self.config.momentum)
        self.key_head.update(self.head, self.config.momentum)
        self.queue.push(cat(rows["k"].unbind(dim=1)))

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        chance = math.log(self.config.queue + 1) * (2 if self.config.symmetric else 1)
        yield from at_chance(logged["loss"], chance, "a lower learning rate or a shorter queue helps")
        yield from dead_queue(
            self.queue.rows, "a momentum nearer to 1, and batch norm over more groups (batch_norm=shuffle:N), help"
        )
        q, k = rows["q"][:, 0], rows["k"][:, -1]
        yield from stale_queue(q, k, self.queue.rows, "a shorter queue helps")
