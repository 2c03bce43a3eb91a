"""SimSiam: Exploring Simple Siamese Representation Learning (arXiv:2011.10566).

No negatives and no momentum: a predictor, and no gradient through what it predicts. Equation 4:
L = D(p1, stopgrad(z2)) / 2 + D(p2, stopgrad(z1)) / 2 with D the negative cosine (equation 1). The predictor's learning
rate stays where it is while the rest decays (section 4.2; the authors' `fix_pred_lr`); the authors decay the weights
of everything (`decay_all=true`). Small crops, which the paper does not have, are further predictions.

`neighbours=K` makes it NNSiam (named in NNCLR, arXiv:2104.14548; solo-learn's code, K 65,536 and a predictor of 4,096):
what is predicted is the nearest neighbour of z in a queue of the K last z of first views, which enter behind the step.
In a queue longer than half of the training set an image's neighbour is its own recent copy.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.heads import normalise, projector
from methods.parts.memory import Queue
from methods.parts.symptoms import dead_queue


class SimSiam(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    multicrop = True
    unscheduled = ("predictor",)
    recommends = {"decay_all": "true"}  # noqa: RUF012
    counts = {"neighbours": "keys"}  # noqa: RUF012
    younger = ("neighbours",)
    variants = {"nnsiam": "simsiam.neighbours=1024"}  # noqa: RUF012

    @dataclass(frozen=True)
    class Config:
        head_layers: int = 3  # of the projector (section 3; CIFAR-10, appendix D: 2)
        head_dim: int = 2048  # hidden and last width of the projector (section 3)
        predictor_hidden: int = 512  # the predictor's bottleneck (section 3)
        neighbours: int = 0  # rows of the queue that z is replaced from (NNSiam); 0: z itself

        def __post_init__(self) -> None:
            if min(self.head_layers, self.head_dim, self.predictor_hidden) < 1:
                raise ValueError("head_layers, head_dim and predictor_hidden must be at least 1")
            if self.neighbours < 0:
                raise ValueError("neighbours must be at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        dim = config.head_dim
        self.head = projector("mlp", width, dim, dim, config.head_layers, norm=True, last="whitened")
        self.predictor = projector("mlp", dim, config.predictor_hidden, dim, layers=2, norm=True)
        self.queue = Queue(config.neighbours, dim) if config.neighbours else None

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        z = [self.head(self.encoder(x)) for x in batch.views]
        p = stack([normalise(self.predictor(one)) for one in z], dim=1)  # (n, V, D)
        return {"p": p, "z": stack([normalise(one.detach()) for one in z[:2]], dim=1)}

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        p, z = rows["p"].unbind(dim=1), rows["z"].unbind(dim=1)
        if self.queue is not None:
            z = tuple(self.queue.nearest(one) for one in z)
        directions = [
            stack([-(p[view] * z[other]).sum(dim=1).mean() for view in range(len(p)) if view != other]).mean()
            for other in (1, 0)
        ]
        return {"loss": (directions[0] + directions[1]) / 2}

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        if self.queue is not None:
            self.queue.push(rows["z"][:, 0])

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        if self.queue is not None:
            yield from dead_queue(self.queue.rows, "a lower learning rate helps")
