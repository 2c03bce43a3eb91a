"""All4One: Symbiotic Neighbour Contrastive Learning via Self-Attention and Redundancy Reduction (arXiv:2303.09417).

NNCLR on a momentum copy's embeddings t, and two objectives more, each with a half of the weight (solo-learn's code):
(1) neighbour: NN_1(t) of one view against the predictions p of the other, as NNCLR, tau = 0.2;
(2) context: the first output of a transformer over the five nearest neighbours of t, against that of the other view
over [p', NN_1 to NN_4], p' from a second predictor; contrasted as in (1), tau = 0.1;
(3) feature: C1 = t1^T z2 and C2 = t2^T z1, every column of t and z of length 1 over the batch, not centred;
5 [sqrt(mean over both of (c_ii - 1)^2) + sqrt(mean over both of c_ij^2, i != j)].

t of first views enters the queue behind the step. Without the dropout of 0.1 and the rate of its own (0.1) that
solo-learn's transformer has; its sinusoidal positions are of the five places here. A queue longer than half of the
training set holds recent copies of most images: their neighbours are themselves.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, cat, nn, stack
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy, growing, normalise, projector
from methods.parts.memory import Queue
from methods.parts.symptoms import at_chance, dead_queue

NEAREST, LAYERS, HEADS, CONTEXT_TEMPERATURE = 5, 3, 8, 0.1  # solo-learn's


class All4One(Method):
    family = "end_to_end"
    views = ("crop", "crop")
    momentum_encoder = "target_encoder"
    counts = {"queue": "keys"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "temperature": (0.05, 1.0),  # as NNCLR's
        "momentum": ("0.9", "0.95", "0.99", "0.996"),  # as BYOL's
        "queue": ("x0.25", "x0.5", "x1", "x2"),  # ours: about the preset's, which the size of the data decides
    }

    positions: Tensor  # (5, D), sinusoidal

    @dataclass(frozen=True)
    class Config:
        temperature: float = 0.2  # tau of the neighbour objective (as all defaults, solo-learn's for CIFAR)
        queue: int = 98304  # embeddings in the support set
        momentum: float = 0.99  # of the target, growing to 1 by half a cosine
        head_hidden: int = 2048  # hidden width of the projector's three layers
        head_dim: int = 256  # width of z and p, a multiple of 8
        predictor_hidden: int = 4096  # hidden width of both predictors

        def __post_init__(self) -> None:
            if self.temperature <= 0 or not 0 <= self.momentum <= 1:
                raise ValueError("temperature must be above 0, momentum between 0 and 1")
            if self.head_dim < 8 or self.head_dim % 8 or self.queue < 5:
                raise ValueError("head_dim must be a multiple of 8, the transformer's heads, and queue at least 5")
            if min(self.head_hidden, self.predictor_hidden) < 1:
                raise ValueError("head_hidden and predictor_hidden must be at least 1")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int) -> None:
        super().__init__(config, encoder, width, images)
        dim = config.head_dim
        self.head = projector("mlp", width, config.head_hidden, dim, layers=3, norm=True, last="normed")
        self.predictor = projector("mlp", dim, config.predictor_hidden, dim, layers=2, norm=True)
        self.context_predictor = projector("mlp", dim, config.predictor_hidden, dim, layers=2, norm=True)
        layer = nn.TransformerEncoderLayer(dim, HEADS, 2 * dim, dropout=0.0, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.target_encoder = MomentumCopy(encoder)
        self.target_head = MomentumCopy(self.head)
        self.queue = Queue(config.queue, dim)
        angle = torch.arange(NEAREST)[:, None] / 10000 ** (torch.arange(0, dim, 2) / dim)
        self.register_buffer("positions", stack([angle.sin(), angle.cos()], dim=2).flatten(1))

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        first, second = (self.embed(x) for x in batch.views)
        return {name: stack([first[name], second[name]], dim=1) for name in first}  # (n, 2, D) each

    def embed(self, x: Tensor) -> dict[str, Tensor]:
        z, t = self.head(self.encoder(x)), self.target(x)
        near = self.queue.rows[(t @ self.queue.rows.T).topk(NEAREST).indices]  # (n, 5, D)
        shifted = cat([self.context_predictor(z)[:, None], near[:, :-1]], dim=1)
        return {
            "z": z,
            "t": t,
            "near": near[:, 0],
            "p": normalise(self.predictor(z)),
            "context": self.attend(near),
            "shifted": self.attend(shifted),
        }

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        return normalise(self.target_head(self.target_encoder(x)))

    def attend(self, tokens: Tensor) -> Tensor:
        """The transformer's first output for (n, 5, D), unit vectors (n, D)."""
        return normalise(self.transformer(tokens + self.positions)[:, 0])

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        tau = self.config.temperature
        neighbour = contrast(rows["near"], rows["p"], tau)
        context = contrast(rows["context"], rows["shifted"], CONTEXT_TEMPERATURE)
        feature = correlate(rows["t"], rows["z"])
        loss = (neighbour + context + feature) / 2
        return {"loss": loss, "neighbour": neighbour, "context": context, "feature": feature}

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        momentum = growing(self.config.momentum, at.step, at.steps)
        self.target_encoder.update(self.encoder, momentum)
        self.target_head.update(self.head, momentum)
        self.queue.push(rows["t"][:, 0])

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from at_chance(logged["neighbour"], math.log(len(rows["p"])), "a lower learning rate helps")
        yield from dead_queue(self.queue.rows, "a lower learning rate helps")


def contrast(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """-log( exp(a_i . b_i / tau) / sum_k exp(a_i . b_k / tau) ) of a and b (N, 2, D), of different views; the mean."""
    target = torch.arange(len(a), device=a.device)
    directions = ((a[:, 0], b[:, 1]), (a[:, 1], b[:, 0]))
    return stack([F.cross_entropy(one @ other.T / temperature, target) for one, other in directions]).mean()


def correlate(t: Tensor, z: Tensor) -> Tensor:
    """(3) of t and z (N, 2, D)."""
    t, z = F.normalize(t, dim=0), F.normalize(z, dim=0)
    c = torch.einsum("nvi,nvj->vij", t, z.flip(1))
    own = c.diagonal(dim1=1, dim2=2)
    count = c.shape[2] * (c.shape[2] - 1)
    others = (c.square().sum() - own.square().sum()) / (2 * count)
    return 5 * ((own - 1).square().mean().sqrt() + others.sqrt())
