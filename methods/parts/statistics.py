"""Running statistics of batch norm, which only evaluation uses: who may move them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def move_statistics(network: nn.Module, x: Tensor) -> None:
    """Let the running statistics of `network` follow images x (n, 3, H, W), by a pass without a gradient."""
    if any(isinstance(m, _BatchNorm) for m in network.modules()):
        with torch.no_grad():
            network(x)


@contextlib.contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Passes inside normalise by their batch but leave the running statistics of `network` alone."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone()) for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)
