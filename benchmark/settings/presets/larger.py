"""For images of 64 pixels and more: STL-10, and ImageNet's subsets."""

from __future__ import annotations

from benchmark.settings.presets import distilled, masked, regularised, relational
from benchmark.settings.presets.cifar import adam_for_pixels, cifar, plain_crops
from benchmark.settings.presets.sourced import Preset, cite, ours


def stl10() -> Preset:
    """`run methods=simclr,swav dataset=stl10 dataset.root=DIR`, also for folders of 64 to 96 pixels; a GPU's work.

    Not measured by us, and no table of several methods is published. CIFAR's settings, with the blur that images of
    this size are given (SimCLR and MoCo on ImageNet) and twice the clusters for twice the images. PIRL's patches are
    of 24 pixels (of 16 at 64).
    """
    views = ours("the authors' views on ImageNet, with the blur that images of this size are given")
    twice = ours("twice CIFAR's for twice the images")
    differs = (
        cite("", ours("SimCLR's on ImageNet, with blur"), augmentation="simclr")
        | cite("instdisc", views, augmentation="instdisc")
        | cite("instdisc", "InstDisc, authors' code", batch_size="256")
        | cite("moco,pcl", views, augmentation="moco_v2")
        | cite("moco_v3", views, augmentation="moco_v3")
        | cite("pirl", views, augmentation="pirl")
        | cite("moco,pcl", ours("a sixth of the images"), queue="16384")
        | cite("pcl", twice, clusters="500+1000+2000")
        | cite("swav", twice, prototypes="1000", batch_size="1024")
        | cite("deepcluster", twice, prototypes="1000")
    )
    return cifar() | differs | regularised.on_stl10() | relational.on_stl10()


def imagenet() -> Preset:
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
    length = ours("one backbone and length for all, of those that most papers report")
    for_all = cite("", length, **{"dataset.side": "256"}, backbone="resnet50", view_size="224", epochs="200")
    by_family = _large_batches() | _without_negatives() | _small_batches() | _older_tasks()
    by_family |= regularised.on_imagenet() | distilled.on_imagenet() | relational.on_imagenet()
    return for_all | by_family | masked.on_imagenet()


def imagenet100() -> Preset:
    """`run methods=moco,swav dataset=imagenet100 dataset.root=DIR dataset.cache=256`: as `imagenet`, with memories and
    clusters for a tenth of the images. Not run by us.

    Published for the nearest protocol (ResNet-18, 400 epochs, solo-learn): SimCLR 77.6 %, MoCo v2+ 79.3, SwAV 74.3,
    DeepCluster-v2 75.4, NNCLR 80.2, BYOL 80.3, SimSiam 78.7, Barlow Twins 80.2, VICReg 79.4 (offline probe).
    """
    copies = ours("a longer queue holds each image's own recent copy")
    tenth = ours("a tenth of ImageNet's clusters, for a tenth of the images")
    for_126_689_images = (
        cite("moco", "solo-learn's ImageNet-100 configuration, and a quarter of the images", queue="32768")
        | cite("nnclr", copies, queue="32768")
        | cite("pcl", tenth, clusters="2500+5000+10000")
        | cite("swav,deepcluster", ours("ten prototypes a class; solo-learn keeps 3,000"), prototypes="1000")
    )
    return imagenet() | for_126_689_images | distilled.on_imagenet100() | relational.on_imagenet100()


def _large_batches() -> Preset:
    """Those whose authors train with 4,096 images a step, by forms of LARS."""
    simclr = "SimCLR, section 2 and appendix B: LARS 0.3 x B/256, ten epochs of warm-up, no decay of biases and norms"
    dcl = "DCL's paper: as SimCLR, whose appendix B.1 has 0.075 sqrt(B), at batch 256"
    nnclr = "NNCLR's paper, implementation details: LARS 0.3 x B/256, ten epochs of warm-up"
    # 1.5e-6 and momentum 0.996 are for 1,000 epochs.
    moco_v3 = "MoCo v3, authors' code, ResNet-50 for 300 epochs: LARS 0.3 x B/256, ten epochs of warm-up"
    swav = "SwAV and DeepCluster-v2, authors' scripts: LARC 4.8 at batch 4,096, decay on everything"
    lars = {"batch_size": "4096", "learning_rate": "0.3", "warmup": "0.05", "weight_decay": "1e-6"}
    return (
        cite("simclr", simclr, augmentation="simclr", optimiser="lars", **lars)
        | cite("simclr", "SimCLR, table 5", temperature="0.1")
        | cite("dcl", dcl, augmentation="simclr", batch_size="256", optimiser="lars", learning_rate="1.2")
        | cite("dcl", dcl, learning_rate_rule="sqrt", warmup="0.05", weight_decay="1e-6")
        | cite("nnclr", nnclr, augmentation="simclr", optimiser="lars", **lars)
        | cite("moco_v3", moco_v3, augmentation="moco_v3", optimiser="lars_fb", **lars)
        | cite("swav,deepcluster", swav, augmentation="swav+6x96", optimiser="larc", **lars)
    )


def _without_negatives() -> Preset:
    """Those that have neither negatives nor clusters."""
    # 0.2, 1.5e-6 and 0.996 are for 1,000 epochs.
    byol = "BYOL, section 5 and code, for 300 epochs: LARS 0.3 x B/256, ten epochs of warm-up"
    simsiam = "SimSiam, section 4 and code: SGD 0.05 x B/256, decay on everything"
    barlow = "Barlow Twins and VICReg, authors' scripts: LARS 0.2 x B/256 at 2,048, ten epochs of warm-up"
    return (
        cite("byol", byol, augmentation="byol", batch_size="4096", optimiser="lars", learning_rate="0.3")
        | cite("byol", byol, warmup="0.05", weight_decay="1e-6", momentum="0.99")
        | cite("simsiam", simsiam, augmentation="moco_v2", batch_size="512", learning_rate="0.05")
        | cite("simsiam", simsiam, warmup="0", weight_decay="1e-4")
        | cite("barlow_twins,vicreg", barlow, augmentation="byol", batch_size="2048", optimiser="lars_fb")
        | cite("barlow_twins,vicreg", barlow, learning_rate="0.2", warmup="0.05", weight_decay="1e-6")
    )


def _older_tasks() -> Preset:
    """With labels, by older pretext tasks, and models of pixels."""
    tasks = "rotation,jigsaw,relative_position"
    vissl = "VISSL's configurations of rotation and jigsaw: SGD 0.1 x B/256, tenths on the way"
    goyal = "Goyal et al. (arXiv 1706.02677): SGD 0.1 x B/256, decay on everything; tenths, here a cosine"
    supcon = ours("SimCLR's, for the authors' ImageNet code is of another method (with a momentum encoder)")
    return (
        cite(tasks, ours("without the colours that their papers have not"), augmentation="crop_large+flip")
        | cite(tasks, vissl, batch_size="256", learning_rate="0.1", schedule="step", warmup="0", weight_decay="1e-4")
        | plain_crops()
        | adam_for_pixels()
        | cite("supervised", goyal, augmentation="crop+flip", batch_size="256", learning_rate="0.1")
        | cite("supervised", goyal, weight_decay="1e-4", decay_all="true")
        | cite("supcon", supcon, augmentation="simclr", batch_size="4096", optimiser="lars")
        | cite("supcon", supcon, learning_rate="0.3", warmup="0.05", weight_decay="1e-6")
    )


def _small_batches() -> Preset:
    """Those whose authors train by plain SGD."""
    instdisc = "InstDisc, section 4 and code: 0.03 at batch 256, a tenth at epochs 120 and 160, decay on everything"
    pirl = "PIRL, VISSL's configuration: 0.03 x B/256, cosine, no decay of biases and norms"
    moco = "MoCo v2 and PCL v2, authors' commands: 0.03 at batch 256, cosine, decay on everything"
    sgd = {"batch_size": "256", "learning_rate": "0.03", "warmup": "0", "weight_decay": "1e-4", "decay_all": "true"}
    return (
        cite("instdisc", instdisc, augmentation="instdisc", schedule="step", **sgd)
        | cite("pirl", pirl, augmentation="pirl", loss="nce", batch_size="1024", learning_rate="0.03")
        | cite("pirl", pirl, warmup="0", weight_decay="1e-4")
        | cite("moco,pcl", moco, augmentation="moco_v2", **sgd)
    )
