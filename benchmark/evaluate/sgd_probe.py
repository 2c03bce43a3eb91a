"""The papers' linear probe: a linear classifier on frozen h of augmented views, by SGD.

SimCLR (arXiv:2002.05709, appendix B.6) and MoCo (arXiv:1911.05722, section 4.1): random resized crops and flips,
momentum 0.9, no weight decay, no regularisation. The rate decays by a cosine, as SimCLR's. Both tune it, SimCLR to 0.1
and MoCo to 30: here eight rates are trained at once, on the same views, and validation chooses. Batches of 256 as
MoCo's; fewer epochs than their 90 and 100, because each encodes the whole training set. The classifier is not fitted
anew with the validation images; it has seen a tenth fewer images than the L-BFGS probe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark import seeds
from benchmark.evaluate import linear
from benchmark.evaluate.frozen_cell import FrozenCell, describe_sgd
from benchmark.training.batches import Batches

EPOCHS, BATCH, MOMENTUM = 30, 256, 0.9
RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def state_protocol() -> dict[str, Any]:
    """What the evaluation's protocol states, by which its numbers are told from others'."""
    return describe_sgd(EPOCHS, BATCH, MOMENTUM, RATES)


def evaluate(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """Yields test and validation accuracy, and the rate that validation chose."""
    features, split = frozen.features, frozen.data.train
    batches = frozen.labelled_batches(split, min(BATCH, len(split)), seeds.mix("sgd_probe"))
    weights = fit(frozen, batches, features.classes)
    x, y = features.validation
    scores = linear.logits(x, weights)
    accuracy = [linear.top1(s, y) for s in scores]
    losses = [float(F.cross_entropy(s, y)) for s in scores]
    # A rate that diverged has no finite loss, and is not to be chosen for a lucky class.
    finite = [i for i, loss in enumerate(losses) if math.isfinite(loss)]
    if not finite:
        raise ValueError("no learning rate of the SGD probe gives a finite loss on these features")
    best = max(finite, key=lambda i: (accuracy[i], -losses[i]))
    test = linear.logits(features.test[0], weights[best : best + 1])[0]
    yield "sgd_probe_top1", linear.top1(test, features.test[1])
    yield "sgd_probe_validation_top1", accuracy[best]
    yield "sgd_probe_rate", RATES[best]


def fit(frozen: FrozenCell, batches: Batches, classes: int) -> Tensor:
    """Weights of a classifier a rate, (S, D + 1, C), the last row being the bias."""
    width = frozen.features.train[0].shape[1]
    rates = torch.tensor(RATES, device=frozen.device)[:, None, None]
    free = torch.zeros(len(RATES), device=frozen.device)
    weights = torch.zeros(len(RATES), width + 1, classes, device=frozen.device)
    velocity = torch.zeros_like(weights)
    steps = EPOCHS * batches.per_epoch
    frozen.encoder.eval()
    with torch.no_grad():
        for step, batch in enumerate(batches.feed(0, steps)):
            assert batch.labels is not None
            h = frozen.encoder(batch.views[0]).float()
            _, gradient = linear.objective(h, batch.labels, weights, free)
            velocity = MOMENTUM * velocity + gradient
            weights -= (1 + math.cos(math.pi * step / steps)) / 2 * rates * velocity
    return weights
