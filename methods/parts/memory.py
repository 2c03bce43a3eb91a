"""What a method remembers between steps. Buffers, so that checkpoints hold them; written from gathered rows only."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.parts.chance import draw
from methods.parts.losses import bank_nce, info_nce, nce_constant, shared_nce

Form = Literal["nce", "softmax", "infonce", "shared"]  # of the loss against a bank: InstDisc's two, MoCo's, PIRL's


class Bank(nn.Module):
    """One row of width D for each of N images, and what noise-contrastive losses draw from it (InstDisc, section 3.2).

    The K negatives of the next step are drawn uniformly, with replacement, when a step ends: the loss then only reads.
    """

    rows: Tensor  # (N, D)
    drawn: Tensor  # (K,) int64, rows that are the next step's negatives
    z: Tensor  # () the constant of noise-contrastive estimation (`nce_constant`), 0 until the first step has set it

    def __init__(self, images: int, width: int, negatives: int, unit: bool) -> None:
        """`unit`: rows start on the unit sphere (PIRL); otherwise uniform with length about 1 (InstDisc)."""
        super().__init__()
        start = (2 * torch.rand(images, width) - 1) * (3 / width) ** 0.5
        self.register_buffer("rows", F.normalize(start, dim=1) if unit else start)
        self.register_buffer("drawn", torch.randint(images, (negatives,)))
        self.register_buffer("z", torch.zeros(()))

    def contrast(self, form: Form, v: Tensor, index: Tensor, temperature: float, z: Tensor) -> Tensor:
        """The loss of v (n, D) against rows `index` (n,) as positives; (), mean over n.

        `nce` may draw an image's own row, as in the authors' code; `infonce` and `shared` leave it out.
        """
        m = self.rows[index]
        if form == "softmax":
            return info_nce(v, m, self.rows, temperature, inside=True)
        negatives, own = self.rows[self.drawn], (index, self.drawn)
        if form == "infonce":
            return info_nce(v, m, negatives, temperature, own=own)
        if form == "shared":
            return shared_nce(v, m, negatives, temperature, own)
        return bank_nce(v, m, negatives, temperature, z, len(self.rows))

    def constant(self, form: Form, step: int, v: Tensor, index: Tensor, temperature: float) -> Tensor:
        """Z, (): what the very first batch gives (`nce_constant`), and then never anything else."""
        if step > 0 or form != "nce":
            return self.z
        return nce_constant(v, self.rows[index], self.rows[self.drawn], temperature, len(self.rows))

    def chance(self, form: Form) -> float:
        """The loss where all scores are equal."""
        negatives = len(self.drawn)
        if form in ("softmax", "infonce"):
            return math.log(len(self.rows) if form == "softmax" else negatives + 1)
        return math.log(negatives + 1) + negatives * math.log1p(1 / negatives)

    @torch.no_grad()
    def write(self, index: Tensor, v: Tensor, momentum: float) -> None:
        """m_y <- norm(momentum m_y + (1 - momentum) v) for rows y = `index` (n,) and v (n, D), then draw negatives.

        Rows that are written twice both start from the old one, and the last wins.
        """
        moved = F.normalize(torch.lerp(v.to(self.rows.dtype), self.rows[index], momentum), dim=1)
        self.rows[index] = moved[last_of_each(index)]
        self.drawn.copy_(draw(lambda: torch.randint(len(self.rows), self.drawn.shape), self.drawn.device))


def last_of_each(index: Tensor) -> Tensor:
    """(n,) for each entry of `index` (n,) the last position that holds the same value: what wins a write."""
    ordered, order = index.sort(stable=True)
    return order[torch.searchsorted(ordered, index, right=True) - 1]


class Queue(nn.Module):
    """A first-in first-out dictionary of K unit vectors of width D (MoCo, section 3.2), as a ring.

    It starts with normalised Gaussian rows. `push` takes any number of rows, also across the ring's end; nothing is
    dropped there, and no number is read back from the device.
    """

    rows: Tensor  # (K, D)
    pointer: Tensor  # () int64, where the next row goes

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"queue={length}: a queue needs at least one row")
        self.register_buffer("rows", F.normalize(torch.randn(length, width), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """NN(z, Q) of NNCLR (arXiv:2104.14548): for each of z (n, D) the row with the largest cosine, (n, D)."""
        return self.rows[(z.to(self.rows.dtype) @ self.rows.T).argmax(dim=1)]

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Write (n, D) keys over the oldest rows; of more than K keys the last K remain."""
        length = len(self.rows)
        start = self.pointer + max(0, len(keys) - length)
        keys = keys[-length:]
        places = (start + torch.arange(len(keys), device=keys.device)) % length
        self.rows[places] = keys.to(self.rows.dtype)
        self.pointer.copy_((start + len(keys)) % length)
