"""Signs of collapse while training: what the loop asks the method and the embeddings, and how long a sign must last."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmark.training.distributed import World
from methods.method import Method

LOOKS = 50  # in a training
PATIENCE = 5  # looks in a row at which a sign must be seen: a tenth of the training
RISE = 1.1  # times the loss after the first tenth: above that it rose
MILD = "sign: "  # how the names of signs begin that are no collapse
LEAST = 20  # steps that these looks must span, in a short training
IMAGES = 512  # at most, of the batch at hand
COLLAPSED_RANK = 1.1  # an effective rank below this is one direction


class CollapseWatch:
    """Looks for signs of collapse some fifty times in a training of `steps` steps.

    The first tenth is not looked at: MoCo's loss rightly rises towards ln(K + 1) while its queue fills. The leading
    process judges for all, so that a last digit in which devices differ cannot part them.
    """

    def __init__(self, method: Method, steps: int, world: World | None = None) -> None:
        self.method, self.steps, self.world = method, steps, world or World()
        self.interval = max(1, steps // LOOKS)
        self.patience = max(PATIENCE, math.ceil(LEAST / self.interval))
        self.sums: dict[str, Tensor] = {}  # of the scalars since the last look, on their device
        self.counts: dict[str, int] = {}
        self.lasting: dict[str, tuple[int, str]] = {}  # sign -> looks in a row that saw it, what the last one said
        self.phase: object = None
        self.losses: list[float] = []  # means over the first look behind the first tenth, and over the last

    @property
    def verdict(self) -> str | None:
        """What is seen, and the remedy, of a sign of collapse that has lasted long enough and still lasts."""
        lasting = {name: text for name, (count, text) in self.lasting.items() if count >= self.patience}
        return next((text for name, text in lasting.items() if not name.startswith(MILD)), None)

    @property
    def signs(self) -> list[str]:
        """What is no collapse but has to be said: mild signs that last, and a loss that rose."""
        mild = [
            text for name, (count, text) in self.lasting.items() if count >= self.patience and name.startswith(MILD)
        ]
        if len(self.losses) == 2 and self.losses[1] > max(RISE * self.losses[0], 0.0):
            first, last = self.losses
            mild.append(f"loss rose from {first:.3f}, after a tenth of the training, to {last:.3f}")
        return mild

    def update(
        self, step: int, scalars: dict[str, Tensor], rows: dict[str, Tensor], phase: object = None
    ) -> str | None:
        """Take in what `step` (from 0) gave, gathered and detached; the verdict behind it. Waits only for a look.

        `phase`: the method's own; in another one its loss is another, and is not compared.
        """
        if phase != self.phase:
            self.phase, self.losses = phase, [] if self.phase is not None else self.losses
        for name, value in scalars.items():
            value = value.double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1
        done = step + 1
        if done % self.interval == 0:
            sums, counts = self.sums, self.counts
            self.sums, self.counts = {}, {}
            if 10 * done > self.steps:
                means = {name: float(sums[name]) / counts[name] for name in sums}
                signs = self.world.broadcast(lambda: self._signs(means, rows))
                self.lasting = {name: (self._count(name) + 1, text) for name, text in signs.items()}
                self.losses = [*self.losses[:1], means["loss"]]
        return self.verdict

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs to come to the same verdict."""
        sums = {name: value.cpu() for name, value in self.sums.items()}
        return {"sums": sums, "counts": dict(self.counts), "lasting": self.lasting, "losses": self.losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.counts, self.lasting = state["sums"], state["counts"], state["lasting"]
        self.losses = state.get("losses", [])  # younger than the first checkpoints

    def _count(self, name: str) -> int:
        return self.lasting[name][0] if name in self.lasting else 0

    @torch.no_grad()
    def _signs(self, logged: dict[str, float], rows: dict[str, Tensor]) -> dict[str, str]:
        """The signs of this look. A loss that is not finite is none: the loop itself ends on that one."""
        if not math.isfinite(logged["loss"]):
            return {}
        signs = dict(self.method.symptoms(logged, rows))
        return signs if self.method.supervised else signs | dict(_one_direction(rows))


def _one_direction(rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Whether the embeddings, which are the first rows of floating point, have shrunk to a line or point.

    Of two classes a supervised method rightly makes one line, so it is not asked.
    """
    x = next((row for row in rows.values() if row.is_floating_point() and row.ndim >= 2), None)
    if x is None:
        return
    while x.ndim > 2:  # (n, V, D): the first view
        x = x[:, 0]
    x = x[:IMAGES]
    if min(len(x) - 1, x.shape[1]) < 2 or not torch.isfinite(x).all():
        return  # two images, or one column, are one line however healthy
    rank = effective_rank(x)
    if rank < COLLAPSED_RANK:
        yield (
            "effective rank",
            f"effective rank {rank:.1f} of the embeddings: all on one line or point; "
            "a lower learning rate or a longer warm-up helps",
        )


def effective_rank(x: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred features, 1 to min(n, D).

    Roy and Vetterli, EUSIPCO 2007, equation 3. Near 1, all images lie on one line. Constant features count 0.
    """
    x = x.double()  # before centring: float32 would leave rounding, which has full rank
    singular = torch.linalg.svdvals(x - x.mean(dim=0))
    if float(singular.sum()) <= 1e-6 * float(x.norm()):
        return 0.0
    p = singular / singular.sum()
    return float(torch.special.entr(p).sum().exp())
