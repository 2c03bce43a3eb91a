"""g(h) beside h: what the projection head keeps of the features (SimCLR, arXiv:2002.05709, section 4.2 and figure 8).

Effective rank, uniformity and alignment as `representation` has them for h, of the same validation images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.evaluate import linear, representation
from benchmark.evaluate.features import Features
from benchmark.evaluate.frozen_cell import FrozenCell
from benchmark.training.embed import ROWS


def settings() -> dict[str, Any]:
    """What the evaluation's protocol states, by which its numbers are told from others'."""
    return {
        "head": "projection head, eval mode",
        "linear_strengths": [round(s, 12) for s in linear.STRENGTHS],
        "health": {"images": representation.IMAGES, "positives": representation.POSITIVES},
    }


def evaluate(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """Yields the linear probe's numbers on g(h) and the three measures of it; nothing where there is no head."""
    if frozen.head is None:
        return
    g = project(frozen.features, frozen.head)
    for name, value in linear.evaluate(g):
        yield f"head_{name}", value
    whole = nn.Sequential(frozen.encoder, frozen.head)
    for name, value in representation.evaluate(
        whole, g.validation[0], frozen.data.validation, frozen.normalise, frozen.size, frozen.device
    ):
        yield f"head_{name}", value


@torch.no_grad()
def project(features: Features, head: nn.Module) -> Features:
    """g(h) of every image."""
    head.eval()

    def project_part(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return torch.cat([head(rows) for rows in part[0].split(ROWS)]).float(), part[1]

    return Features(
        project_part(features.train), project_part(features.validation), project_part(features.test), features.classes
    )
