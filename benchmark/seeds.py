"""Every random number is a function of the run's seed and of what it is for; nothing depends on what was drawn before.

So a run can be stopped anywhere, and the number of processes and micro-batches changes no draw; but for dropout inside
a backbone, whose masks are drawn anew for each process and micro-batch.
"""

from __future__ import annotations

import hashlib

import torch


def mix(*parts: int | str) -> int:
    """A 63-bit seed from the run's seed and the purpose, e.g. ``mix(seed, "order", epoch)``."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator at the start of its own stream."""
    return torch.Generator().manual_seed(mix(*parts))
