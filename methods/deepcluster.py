"""DeepCluster-v2, in: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (arXiv:2006.09882).

Its appendix; DeepCluster is arXiv:1807.05520. At the start of an epoch the embeddings that the last epoch left in two
banks, one for each large crop, are clustered by spherical k-means, once for each of several heads; the centroids are
then the frozen prototypes that all crops of an image have to be assigned to. An image that the last epoch did not see
has no cluster and is left out.

Two deviations: the authors fill the banks before the first epoch in train mode; here both with un-augmented images in
eval mode, their mean subtracted, because batch norm has no statistics yet that would do it. And k-means starts from
rows of all images, where the authors' starts from those of the first process.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.kmeans import kmeans
from methods.parts.memory import last_of_each
from methods.parts.symptoms import at_chance, one_takes_all

IGNORED = -100


class DeepCluster(Method):
    family = "clustering"
    views = ("crop", "crop")
    multicrop = True
    counts = {"prototypes": "clusters"}  # noqa: RUF012
    bank: Tensor  # (2, N, D) the last z of each image in each large crop
    seen: Tensor  # (N,) bool, written since the last clustering
    centroids: Tensor  # (heads, K, D)
    assigned: Tensor  # (heads, N) int64, the cluster of each image, or `IGNORED`
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 0.5),  # ours: about the authors' 0.1
        "prototypes": ("x0.5", "x1", "x2"),  # ours: about the preset's, which the size of the data decides
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau of the cross-entropy
        prototypes: int = 3000  # K, the clusters of each head
        heads: int = 3  # clusterings that are predicted at once
        iterations: int = 10  # of k-means
        head_hidden: int = 0  # hidden width of the projection head; 0 is the backbone's (2,048 for ResNet-50)
        head_dim: int = 128  # width of z

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.prototypes < 2:
                raise ValueError("temperature must be above 0, prototypes at least 2")
            if min(self.heads, self.iterations, self.head_dim) < 1 or self.head_hidden < 0:
                raise ValueError("heads, iterations and head_dim must be at least 1, head_hidden at least 0")

        def require(self, images: int) -> None:
            if self.prototypes > images:
                raise ValueError(f"prototypes={self.prototypes}: at most the {images} training images")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.head = projector("mlp", width, config.head_hidden or width, config.head_dim, norm=True)
        self.register_buffer("bank", torch.zeros(2, images, config.head_dim))
        self.register_buffer("seen", torch.zeros(images, dtype=torch.bool))
        self.register_buffer("centroids", torch.zeros(config.heads, config.prototypes, config.head_dim))
        self.register_buffer("assigned", torch.full((config.heads, images), IGNORED))

    def project(self, x: Tensor) -> Tensor:
        return normalise(self.head(self.encoder(x)))

    def before_epoch(self, at: Progress, embed: Callable[[Callable[[Tensor], Tensor]], Tensor]) -> None:
        if at.epoch == 0:
            z = embed(self.project)
            self.bank.copy_(normalise(z - z.mean(dim=0)))
            self.seen.fill_(True)
        self.assigned.fill_(IGNORED)
        for head in range(self.config.heads):
            z = self.bank[head % 2, self.seen]
            found = kmeans(z, self.config.prototypes, self.config.iterations, spherical=True)
            self.centroids[head], self.assigned[head, self.seen] = found
        self.seen.fill_(False)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = normalise(self.head(encode(self.encoder, batch.views)))
        return {"z": by_image(z, len(batch.views)), "index": batch.index}  # (n, V, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z, targets = rows["z"], self.assigned[:, rows["index"]]  # (N, V, D), (heads, N)
        targets = targets[:, :, None].expand(-1, -1, z.shape[1])  # every crop has its image's cluster
        loss = z.new_zeros(())
        for centroids, target in zip(self.centroids, targets, strict=True):
            scores = z.flatten(0, 1) @ centroids.T / self.config.temperature  # (N V, K)
            target = target.flatten()
            total = F.cross_entropy(scores, target, ignore_index=IGNORED, reduction="sum")
            loss = loss + total / (target != IGNORED).sum().clamp(min=1)
        return {"loss": loss / self.config.heads}

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        index, z = rows["index"], rows["z"].to(self.bank.dtype)
        last = last_of_each(index)
        for crop in (0, 1):
            self.bank[crop, index] = z[last, crop]
        self.seen.index_fill_(0, index, True)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        remedy = "fewer prototypes or a lower learning rate helps"
        yield from at_chance(logged["loss"], math.log(self.config.prototypes), remedy)
        known = self.assigned[0][self.assigned[0] != IGNORED]
        yield from one_takes_all(known, self.config.prototypes, remedy)
