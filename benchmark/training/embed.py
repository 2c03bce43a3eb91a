"""Every un-augmented training image through a function of the method, for what it clusters between epochs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.augment.transforms import resize
from benchmark.data.files import read_batches
from benchmark.training.batches import Batches
from benchmark.training.engine import Engine

ROWS = 512  # images encoded at once


@torch.no_grad()
def embed(f: Callable[[Tensor], Tensor], engine: Engine, batches: Batches, count: int | None = None) -> Tensor:
    """(N, D) float32: `f` of every un-augmented training image, or of the first `count`, in dataset order, the same on
    every rank."""
    world, total = engine.world, count or len(batches.split)
    size = math.ceil(total / world.size)
    rows = torch.arange(world.rank * size, (world.rank + 1) * size).clamp(
        max=total - 1
    )  # equal shares; the excess is cut
    parts = []
    training = engine.method.training
    engine.method.eval()
    with engine.uncompiled():
        for images in read_batches(batches.split.images, rows.split(ROWS)):
            with engine.autocast():
                parts.append(f(batches.normalise(resize(images.to(engine.device), batches.size))))
    engine.method.train(training)
    share = torch.cat(parts)
    share = share if share.dtype == torch.float64 else share.float()
    return engine.gather({"rows": share})["rows"][:total]
