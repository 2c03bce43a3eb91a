"""What a method remembers between steps. Buffers, so that checkpoints hold them; written from gathered rows only."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
    def push(self, keys: Tensor) -> None:
        """Write (n, D) keys over the oldest rows; of more than K keys the last K remain."""
        length = len(self.rows)
        start = self.pointer + max(0, len(keys) - length)
        keys = keys[-length:]
        places = (start + torch.arange(len(keys), device=keys.device)) % length
        self.rows[places] = keys.to(self.rows.dtype)
        self.pointer.copy_((start + len(keys)) % length)
