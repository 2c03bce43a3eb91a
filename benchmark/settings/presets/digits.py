"""For scikit-learn's digits: a minute a cell on two cores."""

from __future__ import annotations

from benchmark.settings.presets import distilled, masked, regularised, relational


def digits() -> dict[str, str]:
    """`run methods=random,pixels,simclr,moco seeds=0,1,2`: docs/results has the table.

    Chosen by a few trials for two cores and at most a minute a cell, with test numbers in sight: a demonstration, not a
    benchmark; no paper has these images. MoCo's head, temperature and batch-norm groups follow its authors' CIFAR
    notebook. Its queue is smaller, because in one as long as the training set most images meet their own older keys as
    negatives, and so are momentum and batch, because the whole training is short. PCL is given the same. SwAV's codes
    stay flat with the paper's epsilon (its loss stuck at ln 30). Banks start from features, because noise in them does
    not average out in ten epochs. No flips: a mirrored digit is another sign. What models the pixels of one view, and
    Deep InfoMax, sees crops without colour, as in its paper: a drawn colour is what an image is told apart by, or what
    its code has to hold.
    """
    plain = ("deep_infomax", "autoencoder", "denoising_autoencoder", "vae", "gan", "contrastive_divergence")
    for_all = {f"{name}.augmentation": "crop" for name in plain} | {
        "backbone": "resnet10t",
        "view_size": "16",
        "augmentation": "crop+colour",
        "epochs": "10",
        "batch_size": "128",
    }
    by_family = regularised.on_digits() | distilled.on_digits() | relational.on_digits() | masked.on_digits()
    return for_all | _contrastive() | _others() | by_family


def _contrastive() -> dict[str, str]:
    """SimCLR, the memory banks, the queues and the clusterings."""
    return {
        "simclr.temperature": "0.2",
        "moco.temperature": "0.1",
        "moco.queue": "256",
        "moco.momentum": "0.95",
        "moco.head": "linear",
        "moco.batch_size": "64",
        "moco.batch_norm": "shuffle:4",
        "moco_v3.temperature": "0.2",
        "moco_v3.momentum": "0.95",
        "moco_v3.head_hidden": "512",
        "instdisc.loss": "softmax",
        "instdisc.temperature": "0.2",
        "instdisc.start": "features",
        "instdisc.batch_size": "64",
        "pirl.temperature": "0.1",
        "pirl.negatives": "512",
        "pirl.start": "features",
        "pirl.batch_size": "64",
        "swav.prototypes": "30",
        "swav.epsilon": "0.02",
        "swav.batch_size": "64",
        "swav.learning_rate": "0.25",
        "deepcluster.prototypes": "50",
        "deepcluster.batch_size": "64",
        "pcl.temperature": "0.1",
        "pcl.queue": "256",
        "pcl.momentum": "0.95",
        "pcl.head": "linear",
        "pcl.batch_size": "64",
        "pcl.batch_norm": "shuffle:4",
        "pcl.clusters": "20+50",
        "pcl.warmup_epochs": "2",
    }


def _others() -> dict[str, str]:
    """Their neighbours, those without negatives, and the baselines."""
    return {
        "nnclr.temperature": "0.2",
        "nnclr.queue": "256",
        "nnclr.head_hidden": "512",
        "nnclr.predictor_hidden": "512",
        "dcl.temperature": "0.2",
        "byol.momentum": "0.95",
        "byol.head_hidden": "512",
        "byol.head_dim": "128",
        "byol.batch_size": "32",
        "byol.learning_rate": "0.5",
        "simsiam.head_layers": "2",
        "simsiam.head_dim": "512",
        "simsiam.predictor_hidden": "128",
        "simsiam.batch_size": "32",
        "simsiam.learning_rate": "0.5",
        "supcon.batch_size": "64",
        "supcon.learning_rate": "0.25",
        "barlow_twins.head_dim": "512",
        "vicreg.head_dim": "512",
        "jigsaw.permutations": "24",
        "jigsaw.patch_dim": "128",
        "jigsaw.batch_size": "32",
        "jigsaw.learning_rate": "0.25",
        "relative_position.head_hidden": "512",
        "deep_infomax.head_hidden": "512",
        "deep_infomax.head_dim": "128",
        "deep_infomax.loss": "nce",
        # Their authors use Adam or LARS; at the rate of the others plain SGD undoes what these losses learn.
        "barlow_twins.optimiser": "adamw",
        "barlow_twins.learning_rate": "0.002",
        "deep_infomax.optimiser": "adamw",
        "deep_infomax.learning_rate": "0.002",
        "deep_infomax.batch_size": "64",
        "autoencoder.optimiser": "adamw",
        "autoencoder.learning_rate": "0.004",
        "autoencoder.batch_size": "32",
        "denoising_autoencoder.optimiser": "adamw",
        "denoising_autoencoder.learning_rate": "0.004",
        "denoising_autoencoder.batch_size": "32",
        "vae.optimiser": "adamw",
        "vae.learning_rate": "0.004",
        "vae.batch_size": "32",
        "contrastive_divergence.langevin_steps": "5",
        "contrastive_divergence.chains": "256",
    }
