"""For what looks for an image's like in a queue, ReSSL and All4One: in all presets."""

from __future__ import annotations

from benchmark.settings.presets.sourced import BY_TRIALS, NOT_TUNED, Preset, cite, ours

_WEAK = "colour+grey+one_branch+crop_large+flip"
_FRESH = ours("a queue of at most half of the training set, for a longer one holds each image's own recent copy")


def on_digits() -> Preset:
    """MoCo's and NNCLR's there.

    ReSSL's weak view is the whole digit, its batch norm of the whole batch, its momentum higher and its rate twice the
    usual 0.12: with a weak view of 8 to 100 % of the area, and MoCo's settings, all embeddings became one point.
    """
    point = ours("with MoCo's settings and a weak view of crops all embeddings became one point", BY_TRIALS)
    return (
        cite("ressl", point, augmentation="crop+colour+one_branch", momentum="0.99")
        | cite("ressl", point, batch_norm="sync", learning_rate="0.25")
        | cite("ressl", ours("MoCo's there"), queue="256", head_hidden="512", head_dim="128", batch_size="64")
        | cite("all4one", ours("NNCLR's there"), queue="256", momentum="0.95", head_hidden="512", head_dim="128")
        | cite("all4one", ours("NNCLR's there"), predictor_hidden="512")
    )


def on_cifar() -> Preset:
    """None was measured at full length by us."""
    solo = "solo-learn's CIFAR configuration (batch 256, 1,000 epochs)"
    lars = ours("solo-learn's LARS is another than ours: the rate of others")
    return (
        cite("ressl", solo, head_dim="256", learning_rate="0.05", weight_decay="1e-4")
        | cite("ressl", f"{solo}; {NOT_TUNED}: without blur", augmentation=_WEAK)
        | cite("ressl", ours("solo-learn's queue of 65,536 is longer than the data"), queue="4096", momentum="0.99")
        | cite("all4one", _FRESH, queue="16384")
        | cite("all4one", lars, learning_rate="0.12", weight_decay="5e-4")
    )


def quickly_on_cifar() -> Preset:
    """Not measured by us yet."""
    own, nnclr = ours("as on the digits"), ours("NNCLR's there")
    return (
        cite("ressl", ours("as in `cifar`"), augmentation=_WEAK)
        | cite("ressl", own, queue="1024", momentum="0.99", head_hidden="1024", head_dim="128")
        | cite("ressl", own, batch_norm="sync", learning_rate="0.25")
        | cite("all4one", nnclr, queue="1024", momentum="0.95", head_hidden="512", predictor_hidden="512")
    )


def on_stl10() -> Preset:
    return cite("ressl", "ReSSL, authors' code: with blur", augmentation="ressl") | cite(
        "ressl", ours("MoCo's there"), queue="16384"
    )


def on_imagenet() -> Preset:
    """Not run by us."""
    code = "ReSSL, authors' code: SGD 0.05 at batch 256, no decay of biases and norms, five epochs of warm-up"
    nnclr = ours("nothing published at this size that we know; NNCLR's")
    return (
        cite("ressl", code, augmentation="ressl", batch_size="256", learning_rate="0.05")
        | cite("ressl", code, warmup="0.025", weight_decay="1e-4")
        | cite("all4one", nnclr, augmentation="simclr", batch_size="4096", optimiser="lars")
        | cite("all4one", nnclr, learning_rate="0.3", warmup="0.05", weight_decay="1e-6")
    )


def on_imagenet100() -> Preset:
    return cite("ressl,all4one", ours("a quarter of the images"), queue="32768")
