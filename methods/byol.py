"""BYOL: Bootstrap Your Own Latent (arXiv:2006.07733).

No negatives: a predictor on the online network has to say what a momentum copy, the target, makes of the other view.
Equation 2: 2 - 2 cos(q(z), z'), summed over both directions (L + L~, which equation 3 minimises), not halved. The
target has its own batch-norm statistics. Small crops, which the paper does not have, are further predictions, averaged
in each direction.

`neighbours=K` makes it NNBYOL (named in NNCLR, arXiv:2104.14548; solo-learn's code, K 65,536): what has to be said is
the nearest neighbour of the target's z' in a queue of its K last embeddings of first views, which enter behind the
step. In a queue longer than half of the training set an image's neighbour is its own recent copy.

The target starts as a copy of the online network; in the authors' code from another seed. It is updated behind the
optimiser's step with the momentum of that step, 1 - (1 - m) (cos(pi k / K) + 1) / 2 (section 3.3).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn, stack

from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy, growing, normalise, projector
from methods.parts.memory import Queue
from methods.parts.symptoms import dead_queue


class BYOL(Method):
    family = "no_negatives"
    views = ("crop", "crop")
    momentum_encoder = "target_encoder"
    multicrop = True
    counts = {"neighbours": "keys"}  # noqa: RUF012
    younger = ("neighbours",)
    variants = {"nnbyol": "byol.neighbours=1024"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "momentum": ("0.9", "0.95", "0.99", "0.996"),  # table 5a: 0.9 to 0.999; section 3.3: 0.996
    }

    @dataclass(frozen=True)
    class Config:
        momentum: float = 0.996  # tau_base, growing to 1 by half a cosine (section 3.3; 300 epochs, section 5: 0.99)
        head_hidden: int = 4096  # hidden width of projector and predictor (section 3.3)
        head_dim: int = 256  # width of z and q (section 3.3)
        neighbours: int = 0  # rows of the queue that targets are replaced from (NNBYOL); 0: the targets themselves

        def __post_init__(self) -> None:
            if not 0 <= self.momentum <= 1 or min(self.head_hidden, self.head_dim) < 1:
                raise ValueError("momentum must be between 0 and 1, head_hidden and head_dim at least 1")
            if self.neighbours < 0:
                raise ValueError("neighbours must be at least 0")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        hidden, dim = config.head_hidden, config.head_dim
        self.head = projector("mlp", width, hidden, dim, layers=2, norm=True, last="bare")
        self.predictor = projector("mlp", dim, hidden, dim, layers=2, norm=True, last="bare")
        self.target_encoder = MomentumCopy(encoder)
        self.target_head = MomentumCopy(self.head)
        self.queue = Queue(config.neighbours, dim) if config.neighbours else None

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        # Each view in a pass of its own: the two may come from different distributions.
        q = stack([normalise(self.predictor(self.head(self.encoder(x)))) for x in batch.views], dim=1)
        return {"q": q, "target": stack([self.target(x) for x in batch.views[:2]], dim=1)}

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        return normalise(self.target_head(self.target_encoder(x)))

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        q, target = rows["q"].unbind(dim=1), rows["target"].unbind(dim=1)
        if self.queue is not None:
            target = tuple(self.queue.nearest(one) for one in target)
        directions = [
            stack([(2 - 2 * (q[view] * target[other]).sum(dim=1)).mean() for view in range(len(q)) if view != other])
            for other in (1, 0)
        ]
        return {"loss": directions[0].mean() + directions[1].mean()}

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        momentum = growing(self.config.momentum, at.step, at.steps)
        self.target_encoder.update(self.encoder, momentum)
        self.target_head.update(self.head, momentum)
        if self.queue is not None:
            self.queue.push(rows["target"][:, 0])

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        if self.queue is not None:
            yield from dead_queue(self.queue.rows, "a lower learning rate helps")
