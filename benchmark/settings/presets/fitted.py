"""Settings from what a dataset holds: for image folders, and whatever has no preset of its own.

`run methods=simclr,moco dataset=folder dataset.root=DIR`. Each rule has its reason, which `plan`, the notes of `run`
and the record repeat. What follows from nothing but the size is taken from other presets: `cifar` and `stl10` at full
length; where the training is short, `cifar_quick` and what `digits` had before twelve of its methods were tuned, both
chosen by trials.
"""

from __future__ import annotations

from typing import NamedTuple

from benchmark.data.identity import Facts
from benchmark.settings.cell import Settings
from benchmark.settings.presets.cifar import cifar
from benchmark.settings.presets.larger import stl10

LARGEST_VIEW = 128
LONG = 10_000  # steps, above which momenta, rates and heads are those of the authors' CIFAR settings


class Rule(NamedTuple):
    """A word's value, and why it is that one; "" where the size of the data has no part in it."""

    value: str
    why: str


def fit(facts: Facts, epochs: int | None = None, batch: int | None = None) -> dict[str, Rule]:
    """Word -> rule. ``epochs`` and ``batch``, images of a step, are those that the user's words give."""
    n = facts.images
    view = max(32, min(LARGEST_VIEW, facts.side // 32 * 32))
    usual, length = _length(n, epochs, batch)
    tenth = f"about a tenth of {n} images, from {_smallest(n)} to 256, so that an epoch has steps"
    rules = {name: Rule(value, "") for name, (value, _) in (cifar() if view < 64 else stl10()).items()}
    rules |= {name: Rule(str(usual), "") for name in rules if name.endswith(".batch_size")}
    rules |= {
        "view_size": Rule(str(view), f"the shorter side is {facts.side} pixels, in steps of 32 up to {LARGEST_VIEW}"),
        "batch_size": Rule(str(usual), tenth),
        "epochs": Rule(str(length), f"a million images seen with {n}, from 200 to 500 epochs"),
    }
    rules |= {f"{name}.batch_norm": Rule(f"shuffle:{_groups(usual, 8)}", "") for name in ("moco", "pcl", "ressl")}
    rules |= _memories(n, usual, length)
    steps = length * max(1, n // usual)
    return rules | (_short(n, usual, steps) if is_short(facts, epochs, batch) else {})


def is_short(facts: Facts, epochs: int | None = None, batch: int | None = None) -> bool:
    """Whether the training that `fit` has settings for has too few steps for the authors' momenta, rates and heads."""
    usual, length = _length(facts.images, epochs, batch)
    return length * max(1, facts.images // usual) < LONG


def _length(n: int, epochs: int | None, batch: int | None) -> tuple[int, int]:
    """Images of a step, and epochs."""
    usual = batch or min(256, max(_smallest(n), _power_below(n / 10)))
    return usual, epochs or min(500, max(200, round(1e6 / n / 100) * 100))


def _smallest(n: int) -> int:
    """The smallest batch that is fitted: 16 images, or as many of fewer as are a power of two."""
    return max(2, min(16, _power_below(n)))


def explain(settings: Settings, facts: Facts) -> tuple[str, str]:
    """'epochs=500 (why), ...' of the rules for all methods, and of those for the cell's own, whose values it has."""
    values = vars(settings) | settings.options
    parts: dict[str, dict[str, str]] = {"": {}, settings.method: {}}
    for_all = {word: rule for word, rule in fit(facts).items() if word in ("epochs", "batch_size")}
    for word, (value, why) in (fit(facts, settings.epochs, settings.batch_size) | for_all).items():
        owner, _, name = word.rpartition(".")
        if why and owner in parts and str(values.get(name)) == value:
            parts[owner][name] = f"{name}={value} ({why})"
    return ", ".join(parts[""].values()), ", ".join(parts[settings.method].values())


def _memories(n: int, batch: int, epochs: int) -> dict[str, Rule]:
    """Queues, drawn negatives, clusters, and what is whitened together."""
    quarter = max(batch, _power_below(n / 4))
    keys = f"at most a quarter of {n} images, or a batch: in a longer queue an image meets its own older keys"
    prototypes = min(batch, max(10, min(512, batch * 3 // 4)))
    few = max(2, min(4, n // 2))  # clusters of hardly any images
    clusters = max(few, min(512, n // 25))
    outputs = Rule(str(min(4096, max(64, _power_below(n / 4)))), f"a quarter of {n} images, from 64 to 4,096")
    pcl = [max(few, min(largest, n // share)) for largest, share in ((250, 60), (500, 25), (1000, 12))]
    each = f"12 or more of {n} images a cluster, or {few} clusters"
    return {
        "moco.queue": Rule(str(min(4096, quarter)), keys),
        "pcl.queue": Rule(str(min(4096, quarter)), keys),
        "ressl.queue": Rule(str(min(4096, quarter)), keys),
        "nnclr.queue": Rule(str(min(16384, quarter)), keys),
        "all4one.queue": Rule(str(max(5, min(16384, quarter))), keys),  # it looks up 5 neighbours
        "pirl.negatives": Rule(str(min(4096, max(1, _power_below(n / 2)))), f"at most half of the bank's {n} rows"),
        "instdisc.negatives": Rule(str(min(4096, max(1, _power_below(n / 2)))), f"at most half of the {n} rows"),
        "swav.prototypes": Rule(str(prototypes), f"no more than the {batch} images that a step balances over them"),
        "dino.prototypes": outputs,
        "ibot.prototypes": outputs,
        "deepcluster.prototypes": Rule(str(clusters), f"25 or more of {n} images a cluster, or {few} clusters"),
        "pcl.clusters": Rule("+".join(map(str, sorted(set(pcl)))), each),
        "pcl.warmup_epochs": Rule(str(min(max(1, epochs // 10), epochs - 1)), "a tenth of the training"),
        "wmse.whitened": Rule(str(min(128, batch)), f"of the {batch} images of a step"),
        "wmse.head_dim": Rule(str(min(64, batch // 2)), "half of the images whitened at once, or less"),
        "corinfomax.head_dim": Rule(str(min(64, batch // 2)), "half of the images of a step, or less"),
    }


# Of DINO and iBOT where steps are few.
_TEACHER = {
    "teacher_temperature": "0.02",
    "teacher_warmup": "0",
    "momentum": "0.99",
    "head_norm": "true",
    "head_hidden": "512",
    "head_dim": "64",
}


def _short(n: int, batch: int, steps: int) -> dict[str, Rule]:
    """Where steps are few: `cifar_quick`'s, and what `digits` had before twelve of its methods were tuned."""
    momentum = Rule("0.95" if steps < 2000 else "0.99", f"the key encoder has to follow within {steps} steps")
    rate = f"of {steps} steps; the authors' 0.03 is for {LONG} and more"
    plain = {
        "instdisc.schedule": "cosine",
        "rotation.schedule": "cosine",
        "rotation.learning_rate": "0.12",
        "rotation.warmup": "0.1",
        "instdisc.loss": "softmax",
        "instdisc.start": "features",
        "pirl.start": "features",
        "pirl.temperature": "0.1",
        "swav.epsilon": "0.03",
        "swav.freeze": "1",
        "moco_v3.head_hidden": "1024",
        "byol.head_hidden": "1024",
        "simsiam.head_dim": "1024",
        "simsiam.predictor_hidden": "256",
        "nnclr.head_hidden": "512",
        "nnclr.predictor_hidden": "512",
        "all4one.head_hidden": "512",
        "all4one.predictor_hidden": "512",
        "ressl.head_hidden": "1024",
        "ressl.batch_norm": "sync",
        "ressl.learning_rate": "0.25",
        "corinfomax.optimiser": "adamw",
        "corinfomax.learning_rate": "0.002",
        "barlow_twins.head_dim": "1024",
        "vicreg.head_dim": "1024",
        "barlow_twins.learning_rate": "0.002",
        "vicreg.learning_rate": "0.002",
        "lejepa.head_hidden": "1024",
        "lejepa.learning_rate": "0.002",
        "visreg.head_hidden": "1024",
        "visreg.learning_rate": "0.002",
        "wmse.warmup": "0.1",
        "mmcr.learning_rate": "0.002",
        "vibcreg.head_dim": "1024",
        "vibcreg.learning_rate": "0.002",
        "mae.learning_rate": "0.001",
        "simmim.learning_rate": "0.002",
        "ijepa.learning_rate": "0.001",
    }
    plain |= {f"{name}.{word}": value for name in ("dino", "ibot") for word, value in _TEACHER.items()}
    plain |= {"dino.optimiser": "adamw", "dino.learning_rate": "0.002", "ibot.learning_rate": "0.001"}
    groups = Rule(f"shuffle:{_groups(batch, batch // 16)}", "two groups or more, of 16 images where there are as many")
    return (
        {name: Rule(value, "") for name, value in plain.items()}
        | {f"{name}.momentum": momentum for name in ("moco", "pcl", "moco_v3", "byol", "all4one", "ijepa")}
        | {f"{name}.batch_norm": groups for name in ("moco", "pcl")}
        | {f"{name}.learning_rate": Rule("0.12", rate) for name in ("moco", "pcl", "instdisc", "pirl")}
        | {f"{name}.warmup": Rule("0.1", "") for name in ("moco", "pcl", "instdisc", "pirl", "simsiam")}
        | {"swav.learning_rate": Rule("0.25", f"of {steps} steps: with less its codes stayed flat on small data")}
        | {"deepcluster.temperature": Rule("0.25", f"of {steps} steps: with 0.1, photos were 1 to 4 points worse")}
    )


def _groups(batch: int, most: int) -> int:
    """Equal groups of a batch, for batch norm: at most `most` and 8 where it divides so, else the fewest; 2 of a prime,
    which is refused."""
    most = max(2, min(8, most))
    dividing = [count for count in range(2, most + 1) if batch % count == 0]
    return max(dividing, default=next((count for count in range(most + 1, min(batch, 100)) if batch % count == 0), 2))


def _power_below(number: float) -> int:
    """The largest power of two that is not above it, at least 1."""
    return 1 << max(0, int(number).bit_length() - 1)
