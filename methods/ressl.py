"""ReSSL: Relational Self-Supervised Learning with Weak Augmentation (arXiv:2107.09282).

MoCo's momentum copy and queue, but no positive: what is learnt is how similar an image is to the keys in the queue. The
momentum network compares its key k of the weakly augmented second view with them, P = softmax(k Q / tau_t), the query q
of the strongly augmented first view has to find the same, L = -mean sum P log softmax(q Q / tau_s). P is sharper than
what is compared with it: tau_t < tau_s. The key itself is no column; it enters the queue behind the step. Small crops
are further queries of the same key, as in the paper's multi-crop.

The views are what the augmentation says: `ressl`, or pieces such as `colour+grey+one_branch+crop_large+flip`, by which
every second small crop is weak too. With a strong second view the authors lose several points. A queue longer than half
of the training set holds mostly recent copies of the images themselves. The head has two layers without batch norm, as
in the authors' code.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy, normalise, projector
from methods.parts.memory import Queue
from methods.parts.symptoms import at_chance, dead_queue


class ReSSL(Method):
    family = "momentum"
    views = ("crop", "crop")
    momentum_encoder = "key_encoder"
    multicrop = True
    counts = {"queue": "keys"}  # noqa: RUF012
    # Authors' code shuffles the keys' batch norm over 8 devices, as MoCo's.
    recommends = {"batch_norm": "shuffle:8"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "target_temperature": (0.02, 0.07),  # ours: about the authors' 0.04, and below 0.1
        "momentum": ("0.9", "0.95", "0.99", "0.999"),  # ours: the authors' 0.999 is for 200 epochs of ImageNet
        "queue": ("x0.25", "x0.5", "x1", "x2"),  # ours: about the preset's
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau_s, of the queries (authors' code)
        target_temperature: float = 0.04  # tau_t, of the keys (authors' code)
        queue: int = 131072  # keys to be compared with (authors' code)
        momentum: float = 0.999  # of the key encoder, constant (authors' code; 0.99 on small images)
        head_hidden: int = 4096  # hidden width of the head (authors' code)
        head_dim: int = 512  # width of q and k (authors' code)

        def __post_init__(self) -> None:
            if not 0 < self.target_temperature < self.temperature:
                raise ValueError("target_temperature must be above 0 and below temperature")
            if not 0 <= self.momentum <= 1 or min(self.queue, self.head_hidden, self.head_dim) < 1:
                raise ValueError("momentum must be between 0 and 1, queue, head_hidden and head_dim at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.head = projector("mlp", width, config.head_hidden, config.head_dim, layers=2, norm=False)
        self.key_encoder = MomentumCopy(encoder)
        self.key_head = MomentumCopy(self.head)
        self.queue = Queue(config.queue, config.head_dim)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        strong, weak, *small = batch.views
        q = stack([normalise(self.head(self.encoder(x))) for x in (strong, *small)], dim=1)  # (n, V, D)
        return {"q": q, "k": self.key(weak)}

    @torch.no_grad()
    def key(self, x: Tensor) -> Tensor:
        return normalise(self.key_head(self.key_encoder(x)))

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        target = (rows["k"] @ self.queue.rows.T / self.config.target_temperature).softmax(dim=1)  # P, (N, K)
        log_share = (rows["q"] @ self.queue.rows.T / self.config.temperature).log_softmax(dim=2)  # (N, V, K)
        return {"loss": -(target[:, None] * log_share).sum(dim=2).mean()}

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        self.key_encoder.update(self.encoder, self.config.momentum)
        self.key_head.update(self.head, self.config.momentum)
        self.queue.push(rows["k"])

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        chance = math.log(self.config.queue)
        yield from at_chance(logged["loss"], chance, "a lower learning rate or target_temperature helps")
        yield from dead_queue(
            self.queue.rows, "a momentum nearer to 1, and batch norm over more groups (batch_norm=shuffle:N), help"
        )
