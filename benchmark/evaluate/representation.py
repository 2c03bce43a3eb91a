"""Whether features are healthy: effective rank, alignment, uniformity. On validation images, never on test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import seeds
from benchmark.augment.augmentation import parse
from benchmark.augment.parameters import draw
from benchmark.augment.transforms import augment
from benchmark.data.source import Split, spread_evenly
from benchmark.evaluate.features import encode
from benchmark.training.collapse import effective_rank

IMAGES, POSITIVES = 1000, "crop"  # at most so many images; positives are two crops, the same for every method


def evaluate(
    encoder: nn.Module,
    features: Tensor,
    validation: Split,
    normalised: Callable[[Tensor], Tensor],
    size: int,
    device: torch.device,
) -> Iterator[tuple[str, float]]:
    """Yields the three measures of `features` (n, D), those of the validation images."""
    chosen = spread_evenly(len(features), IMAGES)
    sample = features[chosen.to(features.device)]
    yield "effective_rank", effective_rank(sample)
    yield "uniformity", uniformity(sample)
    images = validation.images[chosen]
    policy = parse(POSITIVES).policies[0]
    generator = seeds.generator("alignment")
    views = []
    for _ in range(2):
        parameters = draw(policy, len(images), images.shape[2], images.shape[3], generator)
        whole = augment(images.to(device), policy, parameters, size)
        views.append(encode(encoder, whole, normalised, device))
    yield "alignment", alignment(views[0], views[1])


def alignment(x: Tensor, y: Tensor) -> float:
    """Mean squared distance of unit-length positives, 0 to 4 (Wang and Isola, arXiv:2005.10242, equation 1)."""
    return float((F.normalize(x, dim=1) - F.normalize(y, dim=1)).square().sum(dim=1).mean())


def uniformity(x: Tensor) -> float:
    """log mean exp(-2 d^2) over pairs of unit-length features, -8 to 0 (Wang and Isola, equation 2)."""
    squared = torch.pdist(F.normalize(x, dim=1).double()).square()
    return float((-2 * squared).exp().mean().log())
