"""What a trained network gives beside its encoder's pooled feature: g(h), other tokens, and its momentum copy's.

g(h) is what the projection head keeps of the features (SimCLR, arXiv:2002.05709, section 4.2 and figure 8). Effective
rank, uniformity and alignment are as `representation` has them for h, of the same validation images.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.backbones.tokens import LAYERS, TokenFeatures, list_kinds
from benchmark.evaluate import knn, linear, representation
from benchmark.evaluate.features import Features, extract
from benchmark.evaluate.frozen_cell import FrozenCell
from benchmark.training.embed import ROWS

TOKEN_NUMBERS = ("linear_validation_top1", "linear_top1", "knn20_top1")
_LINEAR = {"linear_strengths": [round(s, 12) for s in linear.STRENGTHS]}
_KNN = {"knn": {"k": list(knn.NEIGHBOURS), "temperature": knn.TEMPERATURE, "similarity": "cosine"}}
_HEALTH = {"health": {"images": representation.IMAGES, "positives": representation.POSITIVES}}
# What each evaluation's protocol states, by which its numbers are told from others'.
HEAD_SETTINGS: dict[str, Any] = {"head": "projection head, eval mode", **_LINEAR, **_HEALTH}
TEACHER_SETTINGS: dict[str, Any] = {"encoder": "momentum copy, eval mode", **_LINEAR, **_KNN, **_HEALTH}
TOKEN_SETTINGS: dict[str, Any] = {"layers": LAYERS, "norm": "the network's last, of each layer", **_LINEAR, **_KNN}


def evaluate_head(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """Yields the linear probe's numbers on g(h) and the three measures of it; nothing where there is no head."""
    if frozen.head is None:
        return
    g = project(frozen.features, frozen.head)
    for name, value in linear.evaluate(g):
        yield f"head_{name}", value
    for name, value in _measure_health(frozen, nn.Sequential(frozen.encoder, frozen.head), g):
        yield f"head_{name}", value


def evaluate_teacher(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """Yields what the record has of the encoder, of its momentum copy; nothing where there is none."""
    if frozen.teacher is None:
        return
    h = _extract(frozen, frozen.teacher)
    health = _measure_health(frozen, frozen.teacher, h)
    for name, value in chain(linear.evaluate(h), knn.evaluate(h), health):
        yield f"teacher_{name}", value


def evaluate_tokens(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """Yields `TOKEN_NUMBERS` of each kind of token that the encoder has, and of its momentum copy where there is
    one."""
    for prefix, encoder in (("", frozen.encoder), ("teacher_", frozen.teacher)):
        for kind in list_kinds(encoder):
            h = _extract(frozen, TokenFeatures(encoder, kind))
            for name, value in chain(linear.evaluate(h), knn.evaluate(h)):
                if name in TOKEN_NUMBERS:
                    yield f"{prefix}{kind}_{name}", value


def _extract(frozen: FrozenCell, encoder: nn.Module) -> Features:
    return extract(encoder, frozen.data, frozen.normalise, frozen.size, frozen.device)


def _measure_health(frozen: FrozenCell, network: nn.Module, features: Features) -> Iterator[tuple[str, float]]:
    yield from representation.evaluate(
        network, features.validation[0], frozen.data.validation, frozen.normalise, frozen.size, frozen.device
    )


@torch.no_grad()
def project(features: Features, head: nn.Module) -> Features:
    """g(h) of every image."""
    head.eval()

    def project_part(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return torch.cat([head(rows) for rows in part[0].split(ROWS)]).float(), part[1]

    return Features(
        project_part(features.train), project_part(features.validation), project_part(features.test), features.classes
    )
