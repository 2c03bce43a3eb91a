"""SwAV: Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (arXiv:2006.09882).

Each of two large crops is given a code, a soft assignment to K prototypes that is balanced over the batch; every other
crop of the image has to predict it (equation 2, "swapped" prediction). Codes carry no gradient. Prototypes are unit
vectors: they are normalised after every step, which is before the next, as the authors do.

A queue of earlier embeddings helps to balance where the batch is smaller than K. As in the authors' code it starts to
fill at epoch `queue_start`, is scored with today's prototypes, and takes part only once it is full.
"""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from torch import Tensor, cat, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.crops import by_image, encode
from methods.parts.heads import normalise, projector
from methods.parts.memory import Queue
from methods.parts.sinkhorn import sinkhorn
from methods.parts.symptoms import at_chance, one_takes_all


class SwAV(Method):
    family = "clustering"
    views = ("crop", "crop")
    multicrop = True
    counts = {"prototypes": "codes"}  # noqa: RUF012
    read_with = {"queue_start": ("queue",)}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 0.5),  # ours: about appendix A's 0.1
        "epsilon": ("0.02", "0.03", "0.05"),  # appendix A: 0.05; less where codes stay flat on small data
        "prototypes": ("x0.5", "x1", "x2"),  # ours: about the preset's, which a batch can balance
    }

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.1  # tau in equation 2 (appendix A)
        prototypes: int = 3000  # K, at most the batch with its queue, or codes degenerate (appendix A)
        epsilon: float = 0.05  # of equation 3 (appendix A)
        iterations: int = 3  # of Sinkhorn-Knopp (section 3.1)
        freeze: int = 1  # epochs in which the prototypes stay as they start (authors' code, 313 and 5,005 steps)
        queue: int = 0  # earlier embeddings of each crop that help to balance; 0 is none (3,840 at batch 256)
        queue_start: int = 15  # epoch from which the queue fills (section 4.3)
        head_hidden: int = 0  # hidden width of the head; 0 is the backbone's (2,048 for ResNet-50)
        head_dim: int = 128  # width of z

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.epsilon <= 0:
                raise ValueError("temperature and epsilon must be above 0")
            if self.prototypes < 2 or min(self.iterations, self.head_dim) < 1:
                raise ValueError("prototypes must be at least 2, iterations and head_dim at least 1")
            if min(self.freeze, self.queue, self.queue_start, self.head_hidden) < 0:
                raise ValueError("freeze, queue, queue_start and head_hidden must be at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        self.images = images
        self.head = projector("mlp", width, config.head_hidden or width, config.head_dim, norm=True)
        self.prototypes = nn.Linear(config.head_dim, config.prototypes, bias=False)
        self.normalise_prototypes()
        self.queues = nn.ModuleList(Queue(config.queue, config.head_dim) for _ in range(2 if config.queue else 0))

    def normalise_prototypes(self) -> None:
        self.prototypes.weight.data.copy_(F.normalize(self.prototypes.weight.data, dim=1))

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = normalise(self.head(encode(self.encoder, batch.views)))
        return {"z": by_image(z, len(batch.views))}  # (n, V, D)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        z = rows["z"]
        scores = self.prototypes(z)  # (N, V, K)
        log_p = F.log_softmax(scores / self.config.temperature, dim=2)
        loss = scores.new_zeros(())
        for crop in (0, 1):
            q = self.codes(scores[:, crop].detach(), crop, at)
            others = cat([log_p[:, :crop], log_p[:, crop + 1 :]], dim=1)
            loss = loss - (q[:, None] * others).sum(dim=2).mean()
        return {"loss": loss / 2}

    def codes(self, scores: Tensor, crop: int, at: Progress) -> Tensor:
        """(N, K) balanced codes of the batch's scores (N, K), with those of the queue where it takes part."""
        if self.queues and self.steps_queued(at) * len(scores) >= self.config.queue:
            earlier = self.queues[crop].get_buffer("rows") @ self.prototypes.weight.detach().T
            return sinkhorn(cat([scores, earlier]), self.config.epsilon, self.config.iterations)[: len(scores)]
        return sinkhorn(scores, self.config.epsilon, self.config.iterations)

    def phase(self, at: Progress) -> Hashable:
        """Whether the queue takes part; the step itself for the one or two where only the batch's size can say."""
        if not self.queues:
            return None
        per_epoch, queued = at.steps // at.epochs, self.steps_queued(at)
        if queued * (self.images // per_epoch) < self.config.queue:  # a batch has no more images
            return "without"
        return "with" if queued * (self.images // (per_epoch + 1)) >= self.config.queue else at.step  # and no fewer

    def steps_queued(self, at: Progress) -> int:
        """The steps whose embeddings the queue has been given before this one."""
        return at.step - self.config.queue_start * (at.steps // at.epochs)

    def after_backward(self, at: Progress) -> None:
        if at.epoch < self.config.freeze:
            self.prototypes.weight.grad = None  # neither decay nor momentum: a learning rate of 0 would not do

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        if at.epoch >= self.config.freeze:
            self.normalise_prototypes()
        for crop, queue in enumerate(self.queues):
            assert isinstance(queue, Queue)
            if self.steps_queued(at) >= 0:
                queue.push(rows["z"][:, crop])

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        clusters = self.config.prototypes
        remedy = "a lower epsilon, fewer prototypes, a longer freeze or a lower learning rate helps"
        yield from at_chance(logged["loss"], math.log(clusters), remedy)
        yield from one_takes_all(self.prototypes(rows["z"][:, 0]).argmax(dim=1), clusters, remedy)
