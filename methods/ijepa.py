"""I-JEPA: Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (arXiv:2301.08243).

Of a view a student sees one large block of patches, less what four smaller blocks cover, and a predictor says from that
what a teacher, who sees the whole view, makes of each of the four: smooth L1 between the predicted tokens and the
teacher's, which are normalised over their features without scale and shift (as in the authors' code; the paper has the
squared error). The teacher follows the student by a moving average whose momentum grows to 1 in a straight line. No
pixels are predicted, and no other views are needed.

All images of a step share the blocks' height and width, drawn by one number for scale and aspect, and each has its own
places, the last row and column among them, which the authors' code leaves out. Of 20 places for the context the first
that keeps a tenth of the patches is taken, and no more than ten are asked for; where none does, the last of the four
blocks is not taken out, and so on. Contexts of several lengths are attention masks, where the authors cut all to the
shortest of the batch. It needs a vision transformer; a class token, which the paper's have not, is seen by the student
and predicts nothing. Positions are fixed sines and cosines, in place of those that weights= may bring. What is
evaluated is the student; the authors evaluate the teacher (`evaluations=teacher,tokens` adds theirs).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

from methods.method import Batch, Method, Progress
from methods.parts.chance import Chance
from methods.parts.heads import MomentumCopy
from methods.parts.tokens import (
    TARGETS,
    TRIES,
    context_and_targets,
    embed,
    encode,
    fix_positions,
    grid_of_used,
    require_several,
    sine_positions,
    transformer,
)

ALIKE = 1e-4  # of the variance of normalised tokens: below that, all images have the same (ours)


class IJEPA(Method):
    family = "no_negatives"
    views = ("crop",)
    momentum_encoder = "teacher"
    sized = True
    tokens = True
    recommends = {"pool": "avg", "optimiser": "adamw"}  # noqa: RUF012
    search_space = {  # noqa: RUF012
        "momentum": ("0.95", "0.99", "0.996"),  # 0.996 in the authors' code; less for short trainings
    }
    positions: Tensor  # (L, predictor_dim)

    @dataclass(frozen=True)
    class Config:
        momentum: float = 0.996  # of the teacher at the start (authors' configuration)
        predictor_dim: int = 384  # width of the predictor (authors' configuration)
        predictor_blocks: int = 12  # (authors' configuration of ViT-H/14; 6 for smaller ones)
        predictor_heads: int = 12  # of its attention (as the encoder's, authors' code)

        def __post_init__(self) -> None:
            if not 0 <= self.momentum <= 1:
                raise ValueError("momentum must be between 0 and 1")
            if min(self.predictor_dim, self.predictor_blocks, self.predictor_heads) < 1:
                raise ValueError("predictor_dim, predictor_blocks and predictor_heads must be at least 1")
            if self.predictor_dim % self.predictor_heads:
                raise ValueError("predictor_dim must be a multiple of predictor_heads")

    def __init__(self, config: Config, encoder: nn.Module, width: int, images: int, size: int) -> None:
        super().__init__(config, encoder, width, images)
        self.side, _, self.prefix = grid_of_used(encoder, size)
        require_several(self.side**2, size)
        fix_positions(encoder, self.side, width)
        dim = config.predictor_dim
        self.teacher = MomentumCopy(encoder)
        self.narrow = nn.Linear(width, dim)
        self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        self.register_buffer("positions", sine_positions(self.side, dim))
        self.predictor = transformer(dim, config.predictor_blocks, config.predictor_heads)
        self.widen = nn.Linear(dim, width)
        self.sizes, self.places = Chance(), Chance()

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        x = batch.views[0]
        context, targets = self.blocks(batch.index, at.step)  # (n, L), (n, 4, L)
        visible = cat([context.new_ones(len(x), self.prefix), context], dim=1)
        seen = encode(self.encoder, embed(self.encoder, x), visible)[:, self.prefix :]
        predicted = self.predict(seen, context, targets).to(x.dtype)  # (n, 4, L, D)
        target = self.target(x)
        error = F.smooth_l1_loss(predicted, target[:, None].expand_as(predicted), reduction="none").mean(dim=3)
        error = (error * targets).flatten(1).sum(dim=1) / targets.flatten(1).sum(dim=1)
        return {"error": error, "target": target.mean(dim=1)}

    def predict(self, seen: Tensor, context: Tensor, targets: Tensor) -> Tensor:
        """(n, 4, L, D): tokens at every place, of which those of each target block mean something.

        A block's mask tokens see one another and the context's tokens (n, L, D), each where it stands.
        """
        count, (n, patches) = targets.shape[1], context.shape
        t = self.narrow(seen) + self.positions
        t = cat([t, (self.mask_token + self.positions).to(t.dtype).expand(n, -1, -1)], dim=1)  # (n, 2 L, d)
        visible = cat([context[:, None].expand(-1, count, -1), targets], dim=2)  # (n, 4, 2 L)
        t = self.predictor(t.repeat_interleave(count, dim=0), src_key_padding_mask=~visible.flatten(0, 1))
        return self.widen(t[:, patches:]).unflatten(0, (n, count))

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        """(n, L, D): the teacher's tokens of the whole view, each normalised over its features."""
        t = encode(self.teacher.network, embed(self.teacher.network, x))[:, self.prefix :].to(x.dtype)
        return F.layer_norm(t, t.shape[-1:])

    def blocks(self, index: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """(n, L) and (n, 4, L) bool: the context's patches and the targets' of the images `index` (n,)."""
        u = self.sizes.uniform(torch.zeros_like(index[:1]), step, 2)[0]
        return context_and_targets(u, self.places.uniform(index, step, TARGETS + TRIES, 2), self.side)

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        return {"loss": rows["error"].mean()}

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        momentum = self.config.momentum
        self.teacher.update(self.encoder, momentum + (1 - momentum) * at.step / at.steps)

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        if len(rows["target"]) > 1 and float(rows["target"].var(dim=0).mean()) < ALIKE:
            yield "one_point", "the teacher's tokens are the same for all images; a higher momentum helps"
