"""Named ablations: which axes a question needs, and what is held fixed. Words like any other, below the user's own.

`x2` is twice what the preset, or the method, says, and of 0 it is 0: the same ablation fits ten epochs of digits and a
thousand of ImageNet. Values that a method does not have are left out for it, with a note.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.errors import unknown

Words = dict[str, tuple[str, ...]]  # key -> its values
Figure = Literal["curve", "heatmap of pairs", "bars"]


def _split_batch(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """A larger batch than usual comes in parts of the usual one: it fits where that does, with its batch norm."""
    usual, whole = base["batch_size"], base["batch_norm"] not in (None, "sync", "local")  # such groups need it at once
    return {} if whole or values.get("batch_size", 0) <= usual else {"microbatch": base["microbatch"] or usual}


@dataclass(frozen=True)
class Ablation:
    """`parts` are products of axes, and the ablation is all of them; `fixed` says what is not changed with them."""

    question: str
    parts: tuple[Words, ...]
    fixed: str
    # What else a cell gets: of its settings without the ablation, and of those that the axes give it.
    also: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] | None = None
    figure: Figure = "curve"  # the picture that a report draws of it
    published: tuple[str, ...] = ()  # curves of published.csv to lay over it, by the ids of `results.published`


OPERATIONS = ("crop", "cutout", "colour", "sobel", "noise", "blur", "rotate")
PAIRS = tuple("+".join(pair) for pair in itertools.combinations(OPERATIONS, 2))
CHAIN = ("crop", "crop+colour", "crop+colour+grey", "crop+colour+grey+blur")
SIZES = ("x0.25", "x0.5", "x1", "x2", "x4")
NORM = "above the usual batch, by micro-batches, the images of a batch norm, but for shuffle and split"

ABLATIONS = {
    "batch_size": Ablation(
        "Does a larger batch help, or only the learning rate that goes with it? (SimCLR, figure 9 and table B.1)",
        ({"batch_size": SIZES, "learning_rate_rule": ("linear", "sqrt")},),
        f"epochs, so larger batches take fewer steps; {NORM}",
        _split_batch,
        published=(
            "simclr-tableB1/epochs=100/learning_rate_rule=linear/learning_rate=0.3",
            "simclr-tableB1/epochs=100/learning_rate_rule=sqrt/learning_rate=1.2",
        ),
    ),
    "temperature": Ablation(
        "How sharp should the softmax over negatives or prototypes be? (SimCLR, table 5; MoCo v2, section 3)",
        ({"temperature": ("0.05", "0.1", "0.2", "0.5", "1", "x1")},),
        "all else, the learning rate too, although gradients scale with 1 / temperature",
        published=(
            "simclr-table5",
            "moco_v2-temperature/options.head=linear",
            "moco_v2-temperature/options.head=mlp",
        ),
    ),
    "projection_head": Ablation(
        "None, linear or MLP, and how wide: what is lost behind the head? (SimCLR, figure 8)",
        ({"head": ("none",)}, {"head": ("linear", "mlp"), "head_dim": ("32", "128", "512")}),
        "the MLP's hidden width",
        figure="bars",
        published=("moco_v2-temperature/options.temperature=0.2",),
    ),
    "loss": Ablation(
        "NT-Xent, NT-Logistic or a margin, with all negatives or the semi-hard ones? (SimCLR, table 4)",
        ({"loss": ("nt_xent", "nt_logistic", "margin", "semi_hard")},),
        "temperature and margin, which the paper tunes for each loss",
        figure="bars",
    ),
    "similarity": Ablation(
        "Why the cosine, and not the inner product or the distance? (SimCLR, table 5)",
        (
            {"similarity": ("cosine",), "temperature": ("x1",)},
            {"similarity": ("dot", "l2"), "temperature": ("1", "10")},
        ),
        "all else; what is not normalised has other scales, hence the temperatures",
        figure="bars",
    ),
    "augmentation": Ablation(
        "Which operations, alone and in pairs, make the task worth solving? (SimCLR, figure 5)",
        ({"augmentation": tuple(dict.fromkeys((*OPERATIONS, *PAIRS, *CHAIN)))},),
        "both views get the operations, each of them in our one order; the paper's figure changes one view only",
        figure="heatmap of pairs",
    ),
    "queue": Ablation(
        "How many negatives does a queue need? (MoCo, figure 3)",
        ({"queue": SIZES},),
        "momentum and batch, so that a longer queue holds older keys",
    ),
    "prototypes": Ablation(
        "How many clusters, for SwAV and DeepCluster-v2, or outputs, for DINO and iBOT?",
        ({"prototypes": ("x0.25", "x0.5", "x1", "x2")},),
        "batch and queue, from which the codes are balanced",
    ),
    "epochs": Ablation(
        "Who learns fast, and who profits from more? (SimCLR, figure 9)",
        ({"epochs": ("x0.25", "x0.5", "x1", "x2")},),
        "the schedule's shape, stretched with the training",
        published=(
            "simclr-tableB1/batch_size=256/learning_rate_rule=linear/learning_rate=0.3",
            "simclr-tableB1/batch_size=256/learning_rate_rule=sqrt/learning_rate=1.2",
            "moco-readme",
            "moco_v3-readme",
            "swav-readme/batch_size=4096",
            "vissl/pirl",
        ),
    ),
    "learning_rate_rule": Ablation(
        "How should the rate grow with the batch? (SimCLR, table B.1)",
        ({"learning_rate_rule": ("linear", "sqrt", "none"), "batch_size": ("x0.5", "x1", "x2")},),
        f"epochs; {NORM}",
        _split_batch,
        figure="bars",
        # Not over the rules: the paper changes the base rate along with them.
        published=(
            "simclr-tableB1/epochs=100/learning_rate_rule=linear/learning_rate=0.3",
            "simclr-tableB1/epochs=100/learning_rate_rule=sqrt/learning_rate=1.2",
        ),
    ),
}


def find(name: str) -> Ablation:
    """The ablation, or the error that a typo deserves."""
    if name not in ABLATIONS:
        raise unknown("ablation", name, ABLATIONS)
    return ABLATIONS[name]
