"""For images of 64 pixels and more: STL-10, and ImageNet's subsets."""

from __future__ import annotations

from benchmark.settings.presets.cifar import cifar


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
    }
    return cifar() | differs


def imagenet() -> dict[str, str]:
    """`run methods=moco,swav dataset=imagenet100 dataset.root=DIR dataset.cache=256`, or imagenet. Not run by us.

    ResNet-50, 200 epochs, each method by its authors' settings. Their linear top-1 on ImageNet after 200 epochs, by
    protocols of their own: SimCLR 66.5 % (arXiv:2002.05709 v3, table B.1), InstDisc 54.0 %, PIRL 62.9 % (VISSL),
    MoCo v2 67.5 %, MoCo v3 72.8 % (after 300), SwAV 73.9 %, DeepCluster-v2 75.2 % (after 800), PCL v2 67.6 %.

    What differs from theirs: SwAV's and DeepCluster's warm-up starts at 0 instead of 0.3 and their cosine ends at 0
    instead of a thousandth; MoCo's and PCL's cosine falls by step, not by epoch; batch norm of InstDisc and PIRL is
    synchronised; timm's zero start of each residual branch's last scale is on for all.
    """
    for_all = {
        "backbone": "resnet50",
        "dataset.side": "256",
        "view_size": "224",
        "epochs": "200",
    }
    return for_all | _large_batches() | _small_batches()


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
        # MoCo v3, ResNet-50 of its authors' code for 300 epochs: LARS 0.3 x B/256, decay 1.5e-6, ten epochs of warm-up
        "moco_v3.augmentation": "moco_v3",
        "moco_v3.batch_size": "4096",
        "moco_v3.optimiser": "lars_fb",
        "moco_v3.learning_rate": "0.3",
        "moco_v3.warmup": "0.05",
        "moco_v3.weight_decay": "1.5e-6",
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
