"""The linear probe with few labels: 1 % and 10 % of the training images, the same three draws for all methods.

A draw is stratified, with at least an image of each class, and the smaller share lies in the larger one. Features are
standardised by the moments of all training images, for which no label is needed. The strength is chosen on the whole
validation split, as in the papers, though it may hold more labels than the draw; the probe is not fitted anew with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.splits import subsample
from benchmark.evaluate import linear
from benchmark.evaluate.features import Features
from benchmark.evaluate.frozen_cell import FrozenCell

SHARES, DRAWS = (0.01, 0.1), 3
STRENGTHS = linear.STRENGTHS


def state_protocol() -> dict[str, Any]:
    """What the evaluation's protocol states, by which its numbers are told from others'."""
    return {"shares": list(SHARES), "draws": DRAWS, "probe": "L-BFGS", "strengths": [round(s, 12) for s in STRENGTHS]}


def evaluate(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """Yields, for each share, the mean test accuracy over the draws."""
    for share in SHARES:
        chosen = [probe(frozen.features, rows) for rows in draw_rows(frozen.features.train[1], share)]
        yield f"{format_share(share)}_linear_top1", sum(chosen) / len(chosen)


def format_share(share: float) -> str:
    """Such as `labels1` for 1 %."""
    return f"labels{100 * share:g}"


def explain(frozen: FrozenCell) -> list[str]:
    """What is to be known of the numbers: that a share is less than an image of each class, which are taken all the
    same."""
    labels, notes = frozen.data.train.labels, []
    for share in SHARES:
        count = len(draw_rows(labels, share)[0])
        if count > round(share * len(labels)):
            notes.append(
                f"{100 * share:g} % of {len(labels)} training images are fewer than an image of each class: {count} "
                f"are taken, {100 * count / len(labels):.3g} %"
            )
    return notes


def draw_rows(labels: Tensor, share: float) -> list[Tensor]:
    """The rows of each draw from (n,) training labels, sorted."""
    classes = len(labels.unique())
    count = max(round(share * len(labels)), classes)
    return [torch.from_numpy(subsample(labels.cpu().numpy(), count, seed)).to(labels.device) for seed in range(DRAWS)]


def probe(features: Features, rows: Tensor) -> float:
    """Test accuracy of the probe fitted on these training rows."""
    mean, std = linear.moments(features.train[0])
    x, y = linear.standardise(features.train[0][rows], mean, std), features.train[1][rows]
    fits = linear.fit(x, y, features.classes, torch.tensor(STRENGTHS))
    scores = linear.logits(linear.standardise(features.validation[0], mean, std), fits.weights)
    label = features.validation[1]
    ranked = [(linear.top1(s, label), -float(F.cross_entropy(s, label))) for s in scores]
    best = max(range(len(ranked)), key=ranked.__getitem__)
    test = linear.logits(linear.standardise(features.test[0], mean, std), fits.weights[best : best + 1])[0]
    return linear.top1(test, features.test[1])
