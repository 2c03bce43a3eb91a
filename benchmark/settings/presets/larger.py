"""For images of 64 pixels and more: STL-10, and ImageNet's subsets."""

from __future__ import annotations

from benchmark.settings.presets import distilled, masked, regularised, relational
from benchmark.settings.presets.cifar import adam_for_pixels, cifar, plain_crops


def stl10() -> dict[str, str]:
    """`run methods=simclr,swav dataset=stl10 dataset.root=DIR`, also for folders of 64 to 96 pixels; a GPU's work.

    Not measured by us, and no table of several methods is published. CIFAR's settings, with the blur that images of
    this size are given (SimCLR and MoCo on ImageNet) and twice the clusters for twice the images. PIRL's patches are
    of 24 pixels (of 16 at 64).
    """
    differs = {
        "augmentation": "simclr",
        "instdisc.augmentation": "instdisc",
        "instdisc.batch_size": "256",
        "moco.augmentation": "moco_v2",
        "pcl.augmentation": "moco_v2",
        "moco_v3.augmentation": "moco_v3",
        "pirl.augmentation": "pirl",
        "moco.queue": "16384",
        "pcl.queue": "16384",
        "pcl.clusters": "500+1000+2000",
        "swav.prototypes": "1000",
        "swav.batch_size": "1024",
        "deepcluster.prototypes": "1000",
        # W-MSE, authors' code for STL-10: twice the width and the sub-batches, four of them drawn with two views
        "wmse.head_dim": "128",
        "wmse.whitened": "256",
        "wmse.passes": "4",
        "wmse.learning_rate": "0.002",
    }
    return cifar() | differs | relational.on_stl10() | masked.on_stl10()


def imagenet() -> dict[str, str]:
    """`run methods=moco,swav dataset=imagenet dataset.root=DIR dataset.cache=256`. Not run by us.

    ResNet-50, 200 epochs, each method by its authors' settings. Their linear top-1 on ImageNet after 200 epochs, by
    protocols of their own: SimCLR 66.5 % (arXiv:2002.05709 v3, table B.1), InstDisc 54.0 %, PIRL 62.9 % (VISSL),
    MoCo v2 67.5 %, MoCo v3 72.8 % (after 300), SwAV 73.9 %, DeepCluster-v2 75.2 % (after 800), PCL v2 67.6 %, SimSiam
    70.0 % (table 4), BYOL 74.3 % and Barlow Twins and VICReg 73.2 % (after 1,000), NNCLR 75.4 % (after 1,000).

    What differs from theirs: SwAV's and DeepCluster's warm-up starts at 0 instead of 0.3 and their cosine ends at 0
    instead of a thousandth, as does Barlow Twins'; its biases and norms have the rate of the weights, not 0.0048;
    MoCo's, SimSiam's and PCL's cosine falls by step, not by epoch; batch norm of InstDisc and PIRL is synchronised;
    timm's zero start of each residual branch's last scale is on for all.
    """
    for_all = {
        "backbone": "resnet50",
        "dataset.side": "256",
        "view_size": "224",
        "epochs": "200",
    }
    by_family = _large_batches() | _without_negatives() | _small_batches() | _older_tasks()
    by_family |= regularised.on_imagenet() | distilled.on_imagenet() | relational.on_imagenet()
    return for_all | by_family | masked.on_imagenet()


def imagenet100() -> dict[str, str]:
    """`run methods=moco,swav dataset=imagenet100 dataset.root=DIR dataset.cache=256`: as `imagenet`, with memories and
    clusters for a tenth of the images. Not run by us.

    Published for the nearest protocol (ResNet-18, 400 epochs, solo-learn): SimCLR 77.6 %, MoCo v2+ 79.3, SwAV 74.3,
    DeepCluster-v2 75.4, NNCLR 80.2, BYOL 80.3, SimSiam 78.7, Barlow Twins 80.2, VICReg 79.4 (offline probe).
    """
    for_126_689_images = {
        "moco.queue": "32768",  # solo-learn's, and a quarter of the images
        "nnclr.queue": "32768",  # ours: a longer one holds each image's own recent copy
        "pcl.clusters": "2500+5000+10000",  # ours: a tenth of ImageNet's, for a tenth of the images
        "swav.prototypes": "1000",  # ours: ten a class; solo-learn keeps 3,000
        "deepcluster.prototypes": "1000",
        "dino.prototypes": "16384",  # ours
    }
    return imagenet() | for_126_689_images | relational.on_imagenet100()


def _large_batches() -> dict[str, str]:
    """Those whose authors train with 4,096 images a step, by forms of LARS."""
    return {
        # SimCLR, section 2 and appendix B: LARS 0.3 x B/256, ten epochs of warm-up, decay 1e-6 but for biases and norms
        "simclr.augmentation": "simclr",
        "simclr.batch_size": "4096",
        "simclr.optimiser": "lars",
        "simclr.learning_rate": "0.3",
        "simclr.warmup": "0.05",
        "simclr.weight_decay": "1e-6",
        "simclr.temperature": "0.1",
        # DCL: no settings but "as SimCLR"; at its batch of 256 by SimCLR's root rule (appendix B.1), 0.075 sqrt(B)
        "dcl.augmentation": "simclr",
        "dcl.batch_size": "256",
        "dcl.optimiser": "lars",
        "dcl.learning_rate": "1.2",
        "dcl.learning_rate_rule": "sqrt",
        "dcl.warmup": "0.05",
        "dcl.weight_decay": "1e-6",
        # NNCLR, implementation details: LARS 0.3 x B/256, decay 1e-6, ten epochs of warm-up
        "nnclr.augmentation": "simclr",
        "nnclr.batch_size": "4096",
        "nnclr.optimiser": "lars",
        "nnclr.learning_rate": "0.3",
        "nnclr.warmup": "0.05",
        "nnclr.weight_decay": "1e-6",
        # MoCo v3, ResNet-50 of its authors' code for 300 epochs: LARS 0.3 x B/256, decay 1e-6 (1.5e-6 and momentum
        # 0.996 are for 1,000), ten epochs of warm-up
        "moco_v3.augmentation": "moco_v3",
        "moco_v3.batch_size": "4096",
        "moco_v3.optimiser": "lars_fb",
        "moco_v3.learning_rate": "0.3",
        "moco_v3.warmup": "0.05",
        "moco_v3.weight_decay": "1e-6",
        # SwAV and DeepCluster-v2, authors' scripts: LARC 4.8 at batch 4,096 (0.3 x B/256), decay 1e-6 on everything
        "swav.augmentation": "swav+6x96",
        "swav.batch_size": "4096",
        "swav.optimiser": "larc",
        "swav.learning_rate": "0.3",
        "swav.warmup": "0.05",
        "swav.weight_decay": "1e-6",
        "deepcluster.augmentation": "swav+6x96",
        "deepcluster.batch_size": "4096",
        "deepcluster.optimiser": "larc",
        "deepcluster.learning_rate": "0.3",
        "deepcluster.warmup": "0.05",
        "deepcluster.weight_decay": "1e-6",
    }


def _without_negatives() -> dict[str, str]:
    """Those that have neither negatives nor clusters."""
    return {
        # BYOL, section 5 and code, for 300 epochs: LARS 0.3 x B/256, decay 1e-6, momentum 0.99 (0.2, 1.5e-6 and 0.996
        # are for 1,000), ten epochs of warm-up
        "byol.augmentation": "byol",
        "byol.batch_size": "4096",
        "byol.optimiser": "lars",
        "byol.learning_rate": "0.3",
        "byol.warmup": "0.05",
        "byol.weight_decay": "1e-6",
        "byol.momentum": "0.99",
        # SimSiam, section 4 and code: SGD 0.05 x B/256, decay 1e-4 on everything, no warm-up
        "simsiam.augmentation": "moco_v2",
        "simsiam.batch_size": "512",
        "simsiam.learning_rate": "0.05",
        "simsiam.warmup": "0",
        "simsiam.weight_decay": "1e-4",
        # Barlow Twins and VICReg, authors' scripts: LARS 0.2 x B/256 at 2,048, decay 1e-6, ten epochs of warm-up
        "barlow_twins.augmentation": "byol",
        "barlow_twins.batch_size": "2048",
        "barlow_twins.optimiser": "lars_fb",
        "barlow_twins.learning_rate": "0.2",
        "barlow_twins.warmup": "0.05",
        "barlow_twins.weight_decay": "1e-6",
        "vicreg.augmentation": "byol",
        "vicreg.batch_size": "2048",
        "vicreg.optimiser": "lars_fb",
        "vicreg.learning_rate": "0.2",
        "vicreg.warmup": "0.05",
        "vicreg.weight_decay": "1e-6",
    }


def _older_tasks() -> dict[str, str]:
    """With labels, by older pretext tasks, and models of pixels."""
    rates = {  # VISSL's configurations of rotation and jigsaw: SGD 0.1 x B/256, decay 1e-4, tenths on the way
        f"{name}.{word}": value
        for name in ("rotation", "jigsaw", "relative_position")
        for word, value in (
            ("augmentation", "crop_large+flip"),  # ours: without the colours that their papers have not
            ("batch_size", "256"),
            ("learning_rate", "0.1"),
            ("schedule", "step"),
            ("warmup", "0"),
            ("weight_decay", "1e-4"),
        )
    }
    with_labels = {
        # Goyal et al. (arXiv 1706.02677): SGD 0.1 x B/256, decay 1e-4 on everything
        "supervised.augmentation": "crop+flip",
        "supervised.batch_size": "256",
        "supervised.learning_rate": "0.1",
        "supervised.weight_decay": "1e-4",
        "supervised.decay_all": "true",
        # SupCon: ours, SimCLR's, for the authors' ImageNet code is of another method (with a momentum encoder)
        "supcon.augmentation": "simclr",
        "supcon.batch_size": "4096",
        "supcon.optimiser": "lars",
        "supcon.learning_rate": "0.3",
        "supcon.warmup": "0.05",
        "supcon.weight_decay": "1e-6",
    }
    return rates | plain_crops() | adam_for_pixels() | with_labels


def _small_batches() -> dict[str, str]:
    """Those whose authors train by plain SGD."""
    return {
        # InstDisc, section 4 and code: rate 0.03 at batch 256, a tenth at epochs 120 and 160
        "instdisc.augmentation": "instdisc",
        "instdisc.batch_size": "256",
        "instdisc.learning_rate": "0.03",
        "instdisc.schedule": "step",
        "instdisc.warmup": "0",
        "instdisc.weight_decay": "1e-4",
        "instdisc.decay_all": "true",
        # PIRL, VISSL's configuration: 0.03 x B/256, cosine, no decay of biases and norms
        "pirl.augmentation": "pirl",
        "pirl.loss": "nce",
        "pirl.batch_size": "1024",
        "pirl.learning_rate": "0.03",
        "pirl.warmup": "0",
        "pirl.weight_decay": "1e-4",
        # MoCo v2 and PCL v2, authors' commands: rate 0.03 at batch 256, cosine, decay on everything
        "moco.augmentation": "moco_v2",
        "moco.batch_size": "256",
        "moco.learning_rate": "0.03",
        "moco.warmup": "0",
        "moco.weight_decay": "1e-4",
        "moco.decay_all": "true",
        "pcl.augmentation": "moco_v2",
        "pcl.batch_size": "256",
        "pcl.learning_rate": "0.03",
        "pcl.warmup": "0",
        "pcl.weight_decay": "1e-4",
        "pcl.decay_all": "true",
    }
