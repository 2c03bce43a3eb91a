"""NNCLR: With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning (arXiv:2104.14548).

As SimCLR, but the positive of an image's view is the nearest neighbour, in a queue of earlier embeddings, of the other
view. Row i is NN(z_i), the columns are the predictions p of the batch, the positive is on the diagonal; both directions
are averaged, as in the paper's pseudocode. Its text adds a second term, whose softmax is over the neighbours NN(z_k) of
all images at one prediction, which neither the pseudocode nor this has. Embeddings of the first view enter the queue
behind the step, so that no image is its own neighbour there.

A queue longer than half of the training set holds recent copies of most images: their neighbours are themselves, and
the method becomes SimCLR with old keys. Small crops are further predictions, as in the paper's multi-crop.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn, stack
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.memory import Queue
from methods.parts.symptoms import at_chance, dead_queue


class NNCLR(Method):
    family = "end_to_end"
    views = ("crop", "crop")
    multicrop = True
    counts = {"queue": "keys"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 1.0),  # as SimCLR's
        "queue": ("x0.25", "x0.5", "x1", "x2"),  # ours: about the preset's, which the size of the data decides
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau (as the further defaults from the paper's implementation details)
        queue: int = 98304  # embeddings in the support set
        head_hidden: int = 2048  # hidden width of the projector's three layers
        head_dim: int = 256  # width of z and p
        predictor_hidden: int = 4096  # hidden width of the predictor

        def __post_init__(self) -> None:
            if self.temperature <= 0:
                raise ValueError("temperature must be above 0")
            if min(self.queue, self.head_hidden, self.head_dim, self.predictor_hidden) < 1:
                raise ValueError("queue, head_hidden, head_dim and predictor_hidden must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        dim = config.head_dim
        self.head = projector("mlp", width, config.head_hidden, dim, layers=3, norm=True, last="normed")
        self.predictor = projector("mlp", dim, config.predictor_hidden, dim, layers=2, norm=True)
        self.queue = Queue(config.queue, dim)

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        g, views = self.head(encode(self.encoder, batch.views)), len(batch.views)
        p = by_image(normalise(self.predictor(g)), views)  # (n, V, D)
        return {"z": by_image(normalise(g.detach()), views)[:, :2], "p": p}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z, p = rows["z"].unbind(dim=1), rows["p"].unbind(dim=1)
        near = [self.queue.nearest(one) for one in z]
        pairs = [(near[large], p[other]) for large in (0, 1) for other in range(len(p)) if other != large]
        return {"loss": stack([self.contrast(neighbour, other) for neighbour, other in pairs]).mean()}

    def contrast(self, neighbour: Tensor, p: Tensor) -> Tensor:
        """-log( exp(NN_i . p_i / tau) / sum_k exp(NN_i . p_k / tau) ) of (N, D) each, the mean over the batch."""
        logits = neighbour @ p.T / self.config.temperature
        return F.cross_entropy(logits, torch.arange(len(p), device=p.device))

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        self.queue.push(rows["z"][:, 0])

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from at_chance(logged["loss"], math.log(len(rows["p"])), "a lower learning rate helps")
        yield from dead_queue(self.queue.rows, "a lower learning rate helps")
