"""Published protocols as words: `like=NAME` makes a cell the nearest of ours to a published number.

What their code and ours cannot have alike is in `differences`, which `report` repeats beside both numbers. The words
stand for the authors' code as it was read: dkobak/simclr-cifar10 (README and script), facebookresearch/moco
(colab/moco_cifar10_demo.ipynb at commit f736491) and lightly-ai/lightly (cifar10_benchmark.py at commit e93a49d).
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.errors import unknown


@dataclass(frozen=True)
class Protocol:
    """`words` are as a user would type them; those without a method's name are for all `methods`."""

    source: str
    methods: tuple[str, ...]
    words: dict[str, str]
    differences: tuple[str, ...]  # what cannot be had alike


_CIFAR10 = {
    "dataset": "cifar10",
    "backbone": "resnet18",  # with the small stem, 3x3 and no pooling, which all of them have
    "batch_size": "512",
    "optimiser": "sgd",
    "sgd_momentum": "0.9",
    "learning_rate_rule": "linear",
    "schedule": "cosine",
    "warmup": "0",
    "weight_decay": "5e-4",
    "decay_all": "true",  # torch's SGD over all parameters
}
_SPLIT = (
    "5,000 of the 50,000 training images are kept for validation: 87 steps an epoch, theirs 97 or 98",
    "the rate falls every step, theirs every epoch",
)
_SCALE = "each residual branch's last scale starts at 0 (timm), theirs at 1"
_ONE_PASS = "SimCLR's two views share a pass and its batch-norm statistics, theirs have a pass each"

PROTOCOLS = {
    "simclr-dkobak-100": Protocol(
        "dkobak/simclr-cifar10, README, training for 100 epochs",
        ("simclr",),
        _CIFAR10
        | {
            "epochs": "100",
            "learning_rate": "0.06",  # x B / 256; 0.03 for 1,000 epochs
            "augmentation": "crop_large+flip+colour+grey_rare",
            "simclr.temperature": "0.5",
            "simclr.head_hidden": "1024",
            "simclr.head_dim": "128",
            "simclr.head_norm": "false",
        },
        (
            *_SPLIT,
            _SCALE,
            _ONE_PASS,
            "pixels are normalised by the dataset's mean and deviation, theirs are not",
            "the linear probe is L-BFGS on standardised features, theirs Adam, 500 epochs at decay 5e-6",
            "ten neighbours vote by weight, in theirs each has one vote",
        ),
    ),
    "moco-notebook-200": Protocol(
        "facebookresearch/moco, branch colab-notebook: asymmetric, 200 epochs",
        ("moco",),
        _CIFAR10
        | {
            "epochs": "200",
            "learning_rate": "0.03",  # 0.06 for 512 images
            "augmentation": "moco_cifar",
            "moco.temperature": "0.1",
            "moco.queue": "4096",
            "moco.momentum": "0.99",
            "moco.head": "linear",
            "moco.head_dim": "128",
            "moco.symmetric": "false",
            "moco.batch_norm": "shuffle:8",
        },
        (
            *_SPLIT,
            _SCALE,
            "neighbours are by the backbone's 512 dimensions at temperature 0.07, theirs by the head's 128 at 0.1",
        ),
    ),
    "simsiam-cifar10-800": Protocol(
        "SimSiam paper (arXiv 2011.10566), appendix D",
        ("simclr", "simsiam"),
        _CIFAR10
        | {
            "epochs": "800",
            "learning_rate": "0.03",
            "augmentation": "crop_large+flip+colour+grey",  # ImageNet's (section 3) without blur
            "simsiam.head_layers": "2",
            "simsiam.head_dim": "2048",
            "simsiam.predictor_hidden": "512",  # section 3
            "simclr.temperature": "0.5",  # SimCLR, appendix B.9
        },
        (
            *_SPLIT,
            _ONE_PASS,
            "SimCLR's temperature and head are not said there: 0.5, as in its own paper, and the usual head",
            "the linear probe is L-BFGS on standardised features, theirs SGD on augmented views",
        ),
    ),
    "lightly-cifar10-200": Protocol(
        "lightly-ai/lightly, CIFAR-10 benchmark, batch 512, 200 epochs",
        ("simclr", "moco", "simsiam"),
        _CIFAR10
        | {
            "epochs": "200",
            "learning_rate": "0.12",  # 0.06 x B / 128
            "augmentation": "simclr_cifar",
            "simclr.temperature": "0.5",  # the default of its loss
            "simclr.head_hidden": "512",
            "simclr.head_dim": "128",
            "moco.temperature": "0.1",
            "moco.queue": "8192",  # raised for batch 512, as the table says
            "moco.momentum": "0.99",
            "moco.head": "mlp",
            "moco.head_hidden": "512",
            "moco.head_dim": "128",
            "moco.symmetric": "true",
            "moco.batch_norm": "shuffle:8",
            # Theirs is the mean of both directions, ours the sum: the same steps at half the rate and twice the decay.
            "moco.learning_rate": "0.06",
            "moco.weight_decay": "1e-3",
            "simsiam.learning_rate": "0.03",  # 0.06 at any batch
            "simsiam.augmentation": "crop_large+flip+colour+grey",
            "simsiam.head_layers": "2",
            "simsiam.head_dim": "2048",
            "simsiam.predictor_hidden": "512",
        },
        (
            *_SPLIT,
            _SCALE,
            "the last epoch counts, theirs is the best epoch by the test set",
            "neighbours are weighed at temperature 0.07, theirs at 0.1",
            _ONE_PASS,
            "whether SimCLR's head had batch norm when the number was made is not said: that of today's code has",
            "MoCo's second direction meets the queue of before the step, theirs the keys of its first direction too",
            "SimSiam's predictor keeps its rate, theirs decays; its last batch norm has no scale, theirs has",
        ),
    ),
}


def require(name: str) -> None:
    """Raise UsageError unless there is such a protocol; "" is none."""
    if name and name not in PROTOCOLS:
        raise unknown("published protocol", name, PROTOCOLS, "; `python -m benchmark published` describes them")


def methods(name: str) -> list[str]:
    """The protocol's methods; none for the name ""."""
    return list(PROTOCOLS[name].methods) if name else []


def words(name: str) -> dict[str, str]:
    """The protocol's words; none for the name ""."""
    return PROTOCOLS[name].words if name else {}
