"""Several views, of one size or more, through one network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, cat, nn

from methods.parts.statistics import frozen_statistics, move_statistics


def encode(network: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """(V n, D): `network` of V views (n, 3, H, W), first all rows of the first view, then all of the second.

    Neighbouring views of one size share a pass, and so their batch-norm statistics; other sizes have a pass, and
    statistics, of their own, as SwAV's authors have it (arXiv:2006.09882, section 3.2).
    """
    passes = [list(group) for _, group in itertools.groupby(views, key=lambda view: view.shape[-2:])]
    return cat([network(cat(group)) for group in passes])


def by_image(rows: Tensor, views: int) -> Tensor:
    """(V n, D) as `encode` makes them -> (n, V, D), one entry an image, as `forward` returns them."""
    return rows.unflatten(0, (views, -1)).transpose(0, 1)


def patches(network: nn.Module, grid: Tensor, whole: Tensor, each: nn.Module | None = None) -> Tensor:
    """(n, 9, D): `network`, and `each` behind it, of the patches `grid` (n, 9, 3, p, p), in their order.

    They are laid out patch by patch in the pass, all images' first patch first, as batch norm over groups takes rows.
    Its running statistics, by which whole images are evaluated, follow the views `whole` (n, 3, H, W) instead.
    """
    move_statistics(network, whole)
    with frozen_statistics(network):
        h = network(grid.transpose(0, 1).flatten(0, 1))
    h = h if each is None else each(h)
    return h.unflatten(0, (grid.shape[1], -1)).transpose(0, 1)
