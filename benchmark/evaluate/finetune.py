"""Fine-tuning with few labels: the whole encoder and a linear layer, on the same draws as the few-label probe.

Crops and flips, momentum 0.9 and no weight decay as in SimCLR (arXiv:2002.05709, appendix B.5); 20 epochs as in SwAV
(arXiv:2006.09882, its `eval_semisup.py`), because SimCLR's 60 cost as much as a training. A cosine decays the rate. It
is chosen on validation, for the first draw, and is the same for all; the test set is looked at once a draw.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import seeds
from benchmark.augment.transforms import resize
from benchmark.data.source import Split
from benchmark.evaluate.features import encode
from benchmark.evaluate.few_labels import DRAWS, SHARES, draw_rows, format_share
from benchmark.evaluate.frozen_cell import FrozenCell, describe_sgd
from benchmark.evaluate.linear import top1

EPOCHS, BATCH, MOMENTUM = 20, 64, 0.9
RATES = (0.02, 0.1)


class Tuned(NamedTuple):
    """A copy of the encoder, and the classifier on it."""

    encoder: nn.Module
    classifier: nn.Module


def state_protocol() -> dict[str, Any]:
    """What the evaluation's protocol states, by which its numbers are told from others'."""
    return {"shares": list(SHARES), "draws": DRAWS, **describe_sgd(EPOCHS, BATCH, MOMENTUM, RATES)}


def evaluate(frozen: FrozenCell) -> Iterator[tuple[str, float]]:
    """Yields, for each share, the mean test accuracy over the draws, and the rate that validation chose."""
    for share in SHARES:
        first, *others = draw_rows(frozen.features.train[1], share)
        tried = [tune(frozen, first, rate) for rate in RATES]
        accuracy = [measure(frozen, tuned, frozen.data.validation) for tuned in tried]
        best = max(range(len(RATES)), key=accuracy.__getitem__)
        accuracies = [measure(frozen, tried[best], frozen.data.test)]
        accuracies += [measure(frozen, tune(frozen, rows, RATES[best]), frozen.data.test) for rows in others]
        yield f"{format_share(share)}_finetune_top1", sum(accuracies) / len(accuracies)
        yield f"{format_share(share)}_finetune_rate", RATES[best]


def tune(frozen: FrozenCell, rows: Tensor, rate: float) -> Tuned:
    """The encoder's copy and a linear layer that starts at 0, trained on these training rows."""
    train, features = frozen.data.train, frozen.features
    encoder = copy.deepcopy(frozen.encoder).requires_grad_(True)
    classifier = nn.Linear(features.train[0].shape[1], features.classes).to(frozen.device)
    for parameter in classifier.parameters():
        nn.init.zeros_(parameter)
    subset = Split(train.images[rows.to(train.images.device)], train.labels[rows.to(train.labels.device)])
    # Nearly equal batches: what does not fill a last one would wait for the next epoch.
    batches = frozen.labelled_batches(subset, len(rows) // math.ceil(len(rows) / BATCH), seeds.mix("finetune"))
    steps = EPOCHS * batches.per_epoch
    parameters = [*encoder.parameters(), *classifier.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=rate, momentum=MOMENTUM, nesterov=True)
    torch.manual_seed(seeds.mix("finetune", "forward"))  # a backbone may drop units
    encoder.train()
    for step, batch in enumerate(batches.feed(0, steps)):
        assert batch.labels is not None
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(classifier(encoder(batch.views[0])), batch.labels).backward()
        optimiser.step()
    return Tuned(encoder, classifier)


@torch.no_grad()
def measure(frozen: FrozenCell, tuned: Tuned, split: Split) -> float:
    """Accuracy on the un-augmented images of `split`."""
    whole = nn.Sequential(*tuned)
    scores = encode(whole, split.images, lambda x: frozen.normalise(resize(x, frozen.size)), frozen.device)
    return top1(scores, split.labels.to(frozen.device))
