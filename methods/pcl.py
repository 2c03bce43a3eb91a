"""PCL: Prototypical Contrastive Learning of Unsupervised Representations (arXiv:2005.04966).

MoCo's loss, plus ProtoNCE against the centroids of k-means at several granularities (equation 11). The E-step clusters
the momentum encoder's features of all images at an epoch's start; each centroid has a concentration phi of its own
(equation 12), which is its temperature. Defaults are v2's (v1 is `pcl.head=linear augmentation=moco_v1 schedule=step`);
tau is the code's 0.2.

Each prototype counts once in the denominator, as in the paper. In the authors' code one that several images of the
batch belong to counts several times (salesforce/PCL issue 5): `pcl.duplicates=true`. An empty cluster keeps its
place, where faiss would split a large one. The momentum encoder is updated after the step, as in `moco.py`, so the
E-step sees it one update later than the authors' does. Small crops are further queries.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy, normalise, projector
from methods.parts.kmeans import kmeans
from methods.parts.losses import concentration, info_nce, proto_nce
from methods.parts.memory import Queue
from methods.parts.symptoms import at_chance, dead_queue, one_takes_all


class PCL(Method):
    family = "clustering"
    views = ("crop", "crop")
    momentum_encoder = "key_encoder"
    multicrop = True
    counts = {"queue": "keys", "clusters": "clusters"}  # noqa: RUF012
    read_with = {"head_dim": ("head", "mlp", "linear")}  # noqa: RUF012
    recommends = {"batch_norm": "shuffle:8"}  # as MoCo  # noqa: RUF012
    prototypes: Tensor  # (sum of K, D) unit vectors, one granularity behind the other
    phi: Tensor  # (sum of K,) the concentration of each
    assigned: Tensor  # (granularities, N) int64, the cluster of each image
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 0.5),  # as MoCo's
        "momentum": ("0.9", "0.95", "0.99", "0.999"),  # as MoCo's
        "queue": ("x0.25", "x0.5", "x1", "x2"),  # as MoCo's
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.2  # tau of InfoNCE and the mean of phi (authors' code)
        queue: int = 16384  # keys in the queue (authors' code)
        momentum: float = 0.999  # of the momentum encoder
        clusters: str = "25000+50000+100000"  # numbers of clusters of the granularities (section 4.1)
        negative_prototypes: int = 16384  # r, drawn of each granularity (authors' code); of fewer, all are taken
        warmup_epochs: int = 20  # epochs with InfoNCE alone (section 4.1)
        alpha: float = 10.0  # smoothing in equation 12
        duplicates: bool = False  # count a prototype once for each image of the batch that belongs to it
        iterations: int = 20  # of k-means
        starts: int = 5  # of k-means, the best of which is kept (faiss' redo in the authors' code)
        head: Literal["mlp", "linear", "none"] = "mlp"  # projection head (v2: mlp; v1: linear)
        head_dim: int = 128  # width of v

        def __post_init__(self) -> None:
            parts = self.clusters.split("+")
            if not all(part.isdigit() and int(part) > 1 for part in parts):
                raise ValueError("clusters must be whole numbers from 2 on joined by +, such as 250+500+1000")
            if self.temperature <= 0 or not 0 <= self.momentum <= 1 or self.warmup_epochs < 0 or self.alpha <= 0:
                raise ValueError("temperature and alpha must be above 0, momentum in [0, 1], warmup_epochs at least 0")
            if min(self.queue, self.negative_prototypes, self.iterations, self.starts, self.head_dim) < 1:
                raise ValueError("queue, negative_prototypes, iterations, starts and head_dim must be at least 1")

        def require(self, epochs: int, images: int) -> None:
            if self.warmup_epochs >= epochs:
                raise ValueError(
                    f"warmup_epochs={self.warmup_epochs} of {epochs} epochs: prototypes would never take part"
                )
            if max(map(int, self.clusters.split("+"))) > images:
                raise ValueError(f"clusters={self.clusters}: at most the {images} training images")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.clusters = [int(part) for part in config.clusters.split("+")]
        self.head = projector(config.head, width, width, config.head_dim, norm=False)
        self.key_encoder = MomentumCopy(encoder)
        self.key_head = MomentumCopy(self.head)
        dim = width if config.head == "none" else config.head_dim
        self.queue = Queue(config.queue, dim)
        self.register_buffer("prototypes", torch.zeros(sum(self.clusters), dim))
        self.register_buffer("phi", torch.ones(sum(self.clusters)))
        self.register_buffer("assigned", torch.zeros(len(self.clusters), images, dtype=torch.int64))

    def before_epoch(self, at: Progress, embed: Callable[[Callable[[Tensor], Tensor]], Tensor]) -> None:
        """The E-step, and the concentration of what it found."""
        warm, iterations, starts = self.config.warmup_epochs, self.config.iterations, self.config.starts
        if at.epoch < warm:
            return
        v = embed(self.key)
        found = [kmeans(v, k, iterations, spherical=False, starts=starts) for k in self.clusters]
        for row, (_, assigned) in zip(self.assigned, found, strict=True):
            row.copy_(assigned)
        tau, alpha = self.config.temperature, self.config.alpha
        self.phi.copy_(torch.cat([concentration(v, *one, tau, alpha) for one in found]))
        self.prototypes.copy_(normalise(torch.cat([centroids for centroids, _ in found])))  # after phi

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x1, x2, *small = batch.views
        q = stack([normalise(self.head(self.encoder(x))) for x in (x1, *small)], dim=1)  # (n, V, D)
        return {"q": q, "k": self.key(x2), "index": batch.index}

    @torch.no_grad()
    def key(self, x: Tensor) -> Tensor:
        return normalise(self.key_head(self.key_encoder(x)))

    def phase(self, at: Progress) -> bool:
        return at.epoch < self.config.warmup_epochs

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        q, k = rows["q"], rows["k"][:, None].expand_as(rows["q"])
        instance = info_nce(q.flatten(0, 1), k.flatten(0, 1), self.queue.rows, self.config.temperature)
        if at.epoch < self.config.warmup_epochs:
            return {"loss": instance, "info_nce": instance.detach()}
        each = zip(self.prototypes.split(self.clusters), self.phi.split(self.clusters), self.assigned, strict=True)
        r, twice = self.config.negative_prototypes, self.config.duplicates
        proto = stack([proto_nce(q, c, phi, assigned[rows["index"]], r, twice) for c, phi, assigned in each]).mean()
        return {"loss": instance + proto, "info_nce": instance.detach(), "proto_nce": proto.detach()}

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        self.key_encoder.update(self.encoder, self.config.momentum)
        self.key_head.update(self.head, self.config.momentum)
        self.queue.push(rows["k"])

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        chance = math.log(self.config.queue + 1)
        yield from at_chance(logged["info_nce"], chance, "a lower learning rate or a shorter queue helps")
        yield from dead_queue(
            self.queue.rows, "a momentum nearer to 1, and batch norm over more groups (batch_norm=shuffle:N), help"
        )
        if float(self.prototypes.abs().sum()) > 0:
            yield from one_takes_all(self.assigned[0], self.clusters[0], "a longer warmup_epochs helps")
