"""For scikit-learn's digits: a minute a cell on two cores."""

from __future__ import annotations

from benchmark.settings.presets import distilled, masked, regularised, relational
from benchmark.settings.presets.sourced import BY_TRIALS, Preset, cite, ours

_NOTEBOOK = "MoCo, authors' CIFAR notebook"
_SHORT = ours("the training is short, and the batch its images few", BY_TRIALS)
_NARROW = ours("narrower heads for two cores", BY_TRIALS)
_BANK = ours("banks start from features, because noise in them does not average out in ten epochs", BY_TRIALS)
_ADAM = ours("the authors use Adam or LARS; at the rate of the others plain SGD undoes what is learned", BY_TRIALS)


def digits() -> Preset:
    """`run methods=random,pixels,simclr,moco seeds=0,1,2`: docs/results has the table.

    Chosen by a few trials for two cores and at most a minute a cell, with test numbers in sight: a demonstration, not a
    benchmark; no paper has these images. No flips: a mirrored digit is another sign. What models the pixels of one
    view, and Deep InfoMax, sees crops without colour, as in its paper: a drawn colour is what an image is told apart
    by, or what its code has to hold.
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
    return for_all | _contrastive() | _others() | by_family


def _contrastive() -> Preset:
    """SimCLR, the memory banks, the queues and the clusterings."""
    queue = ours(
        "in a queue as long as the training set images meet their own older keys; the training is short", BY_TRIALS
    )
    flat = ours("with the paper's epsilon codes stay flat, the loss at ln 30", BY_TRIALS)
    return (
        cite("simclr,moco_v3", BY_TRIALS, temperature="0.2")
        | cite("moco,pcl", _NOTEBOOK, temperature="0.1", head="linear")
        | cite("moco,pcl", queue, queue="256", momentum="0.95", batch_size="64")
        | cite("moco,pcl", f"{_NOTEBOOK} has groups of 64; {BY_TRIALS}: groups of 16", batch_norm="shuffle:4")
        | cite("pcl", ours("clusters for few images", BY_TRIALS), clusters="20+50", warmup_epochs="2")
        | cite("moco_v3", _NARROW, momentum="0.95", head_hidden="512")
        | cite("instdisc", "InstDisc, authors' CIFAR script", loss="softmax")
        | cite("instdisc", _BANK, temperature="0.2", start="features", batch_size="64")
        | cite("pirl", _BANK, temperature="0.1", negatives="512", start="features", batch_size="64")
        | cite("swav", flat, prototypes="30", epsilon="0.02", batch_size="64", learning_rate="0.25")
        | cite("deepcluster", ours("clusters for few images", BY_TRIALS), prototypes="50", batch_size="64")
    )


def _others() -> Preset:
    """Their neighbours, those without negatives, and the baselines."""
    pixels = "autoencoder,denoising_autoencoder,vae"
    return (
        cite("nnclr", _NARROW, temperature="0.2", queue="256", head_hidden="512", predictor_hidden="512")
        | cite("dcl", ours("SimCLR's", BY_TRIALS), temperature="0.2")
        | cite("byol", _NARROW, momentum="0.95", head_hidden="512", head_dim="128")
        | cite("simsiam", "SimSiam, appendix D (CIFAR)", head_layers="2")
        | cite("simsiam", _NARROW, head_dim="512", predictor_hidden="128")
        | cite("byol,simsiam", _SHORT, batch_size="32", learning_rate="0.5")
        | cite("supcon", _SHORT, batch_size="64", learning_rate="0.25")
        | cite("barlow_twins,vicreg", _NARROW, head_dim="512")
        | cite("jigsaw", _SHORT, permutations="24", patch_dim="128", batch_size="32", learning_rate="0.25")
        | cite("relative_position", _NARROW, head_hidden="512")
        | cite("deep_infomax", _NARROW, head_hidden="512", head_dim="128", loss="nce")
        | cite("barlow_twins,deep_infomax", _ADAM, optimiser="adamw", learning_rate="0.002")
        | cite("deep_infomax", _SHORT, batch_size="64")
        | cite(pixels, _ADAM, optimiser="adamw", learning_rate="0.004", batch_size="32")
        | cite("contrastive_divergence", _SHORT, langevin_steps="5", chains="256")
    )
