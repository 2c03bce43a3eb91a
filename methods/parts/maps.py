"""The inner maps of a backbone, for methods that look at places and not only at the whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEAST = 9  # places of a map that is worth looking at


class Maps:
    """Reads an inner map and the pooled feature of a timm backbone in one pass; holds no weights."""

    def __init__(self, encoder: Any, size: int) -> None:
        """For views of `size` pixels. Raises ValueError for a backbone that shows no inner maps.

        The last map is not looked at where there is another: its mean is the pooled feature, with nothing between.
        """
        if not hasattr(encoder, "forward_intermediates"):
            raise ValueError(f"the backbone {type(encoder).__name__} shows no inner maps; a ResNet does")
        training = encoder.training
        encoder.eval()
        device = next(encoder.parameters()).device
        with torch.no_grad():
            _, maps = encoder.forward_intermediates(torch.zeros(1, 3, size, size, device=device))
        encoder.train(training)
        places = [one.shape[-2] * one.shape[-1] for one in maps[:-1] or maps]
        wide = [i for i, count in enumerate(places) if count >= LEAST]
        self.level = wide[-1] if wide else places.index(max(places))
        self.width = maps[self.level].shape[1]

    def __call__(self, encoder: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, L, C) the places of the map, (n, width) the pooled feature."""
        last, (inner,) = encoder.forward_intermediates(x, indices=[self.level])
        return inner.flatten(2).transpose(1, 2), encoder.forward_head(last)
