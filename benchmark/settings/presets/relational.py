"""For what looks for an image's like in a queue, ReSSL and All4One: in all presets."""

from __future__ import annotations


def on_digits() -> dict[str, str]:
    """ours: MoCo's and NNCLR's there.

    ReSSL's weak view is the whole digit, its batch norm of the whole batch, its momentum higher and its rate twice that
    of others: with a weak view of 8 to 100 % of the area, and MoCo's settings, all embeddings became one point.
    """
    return {
        "ressl.augmentation": "crop+colour+one_branch",
        "ressl.queue": "256",
        "ressl.momentum": "0.99",
        "ressl.head_hidden": "512",
        "ressl.head_dim": "128",
        "ressl.batch_size": "64",
        "ressl.batch_norm": "sync",
        "ressl.learning_rate": "0.25",
        "all4one.queue": "256",
        "all4one.momentum": "0.95",
        "all4one.head_hidden": "512",
        "all4one.head_dim": "128",
        "all4one.predictor_hidden": "512",
    }


def on_cifar() -> dict[str, str]:
    """None was measured at full length by us."""
    return {
        # ReSSL, solo-learn's CIFAR (batch 256 for 1,000 epochs): rate 0.05, decay 1e-4, a head of 4096-256, crops of 20
        # to 100 %. ours: the queue (theirs of 65,536 is longer than the data), a constant momentum, and no blur.
        "ressl.augmentation": "colour+grey+one_branch+crop_large+flip",
        "ressl.queue": "4096",
        "ressl.momentum": "0.99",
        "ressl.head_dim": "256",
        "ressl.learning_rate": "0.05",
        "ressl.weight_decay": "1e-4",
        # All4One: its defaults are solo-learn's for CIFAR, whose LARS is another than ours. ours: the rate of all
        # others, and a queue of at most half of the training set, for a longer one holds each image's own recent copy
        "all4one.queue": "16384",
    }


def quickly_on_cifar() -> dict[str, str]:
    """ours: NNCLR's there, and ReSSL's as on the digits. Not measured by us yet."""
    return {
        "ressl.augmentation": "colour+grey+one_branch+crop_large+flip",
        "ressl.queue": "1024",
        "ressl.momentum": "0.99",
        "ressl.head_hidden": "1024",
        "ressl.head_dim": "128",
        "ressl.batch_norm": "sync",
        "ressl.learning_rate": "0.25",
        "all4one.queue": "1024",
        "all4one.momentum": "0.95",
        "all4one.head_hidden": "512",
        "all4one.predictor_hidden": "512",
    }


def on_stl10() -> dict[str, str]:
    """ours: with the blur that images of this size are given, and MoCo's queue."""
    return {"ressl.augmentation": "ressl", "ressl.queue": "16384"}


def on_imagenet() -> dict[str, str]:
    """Not run by us."""
    return {
        # ReSSL, authors' code: SGD 0.05 at batch 256, decay 1e-4 but for biases and norms, five epochs of warm-up
        "ressl.augmentation": "ressl",
        "ressl.batch_size": "256",
        "ressl.learning_rate": "0.05",
        "ressl.warmup": "0.025",
        "ressl.weight_decay": "1e-4",
        # All4One: nothing published at this size that we know. ours: NNCLR's
        "all4one.augmentation": "simclr",
        "all4one.batch_size": "4096",
        "all4one.optimiser": "lars",
        "all4one.learning_rate": "0.3",
        "all4one.warmup": "0.05",
        "all4one.weight_decay": "1e-6",
    }


def on_imagenet100() -> dict[str, str]:
    """ours: a quarter of the images."""
    return {"ressl.queue": "32768", "all4one.queue": "32768"}
