"""Named settings, as words that the user's own words override. `preset=auto` takes the one of the dataset.

Each docstring states the command, the expected time and the expected accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmark.errors import unknown


def digits() -> dict[str, str]:
    """`run methods=random,pixels,simclr,moco seeds=0,1,2`: README has the table and the time on two cores.

    Chosen by a few trials for two cores and some 20 seconds a cell, with test numbers in sight: a demonstration, not a
    benchmark; no paper has these images. MoCo's head, temperature and batch-norm groups follow its authors' CIFAR
    notebook. Its queue is smaller, because in one as long as the training set most images meet their own older keys as
    negatives, and so are momentum and batch, because the whole training is short. No flips: a mirrored digit is another
    sign.
    """
    return {
        "backbone": "resnet10t",
        "view_size": "16",
        "augmentation": "crop+colour",
        "epochs": "10",
        "batch_size": "128",
        "simclr.temperature": "0.2",
        "moco.temperature": "0.1",
        "moco.queue": "256",
        "moco.momentum": "0.95",
        "moco.head": "linear",
        "moco.batch_size": "64",
        "moco.batch_norm": "shuffle:4",
    }


def cifar() -> dict[str, str]:
    """`run methods=simclr,moco dataset=cifar10 dataset.root=DIR`: a GPU's work; not measured by us yet.

    Published for the nearest protocols, ResNet-18 with the small stem: SimCLR 90.7 % linear after 1,000 epochs
    (solo-learn, online probe), MoCo 86.3 % kNN after 400 (authors' notebook, asymmetric).
    SimCLR: learning rate 0.06 x B/128 and weight decay 5e-4 as lightly's CIFAR benchmark; temperature 0.2 as
    solo-learn's (0.5 in the paper, appendix B.9, for long training). MoCo: its authors' CIFAR notebook: linear head,
    K 4096, m 0.99, tau 0.1, batch norm of 8 imitated devices, rate 0.06 at batch 512 without warm-up, decay on
    everything. One difference is left: the backbone is the same for all methods, with timm's zero start of each
    residual branch's last scale, which the notebook does not have.
    """
    return {
        "backbone": "resnet18",
        "augmentation": "simclr_cifar",
        "epochs": "200",
        "batch_size": "256",
        "learning_rate": "0.12",
        "weight_decay": "5e-4",
        "simclr.temperature": "0.2",
        "moco.temperature": "0.1",
        "moco.queue": "4096",
        "moco.momentum": "0.99",
        "moco.head": "linear",
        "moco.batch_norm": "shuffle:8",
        "moco.learning_rate": "0.03",
        "moco.warmup": "0",
        "moco.decay_all": "true",
    }


PRESETS: dict[str, Callable[[], dict[str, str]]] = {"digits": digits, "cifar": cifar}
OF_DATASET = {"digits": "digits", "cifar10": "cifar", "cifar100": "cifar"}


def words(name: str, dataset: str) -> dict[str, str]:
    """The preset's words for a cell on `dataset`; none for `none`, or for `auto` where the dataset has no preset."""
    if name == "auto":
        name = OF_DATASET.get(dataset, "none")
    if name == "none":
        return {}
    if name not in PRESETS:
        raise unknown("preset", name, ["auto", "none", *PRESETS])
    return PRESETS[name]()
