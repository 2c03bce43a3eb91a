"""Named settings, as words that the user's own words override. `preset=auto` takes the one of the dataset.

Each docstring states the command, the expected time and the expected accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmark.errors import unknown


def digits() -> dict[str, str]:
    """`run methods=random,pixels,simclr,moco seeds=0,1,2`: README has the table and the time on two cores.

    Chosen by a few trials for two cores and at most a minute a cell, with test numbers in sight: a demonstration, not a
    benchmark; no paper has these images. MoCo's head, temperature and batch-norm groups follow its authors' CIFAR
    notebook. Its queue is smaller, because in one as long as the training set most images meet their own older keys as
    negatives, and so are momentum and batch, because the whole training is short. PCL is given the same. SwAV's codes
    stay flat with the paper's epsilon (its loss stuck at ln 30). Banks start from features, because noise in them does
    not average out in ten epochs. No flips: a mirrored digit is another sign.
    """
    return {
        "backbone": "resnet10t",
        "view_size": "16",
        "augmentation": "crop+colour",
        "epochs": "10",
        "batch_size": "128",
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
        "nnclr.temperature": "0.2",
        "nnclr.queue": "256",
        "nnclr.head_hidden": "512",
        "nnclr.predictor_hidden": "512",
        "dcl.temperature": "0.2",
        "byol.momentum": "0.95",
        "byol.head_hidden": "512",
        "byol.head_dim": "128",
        "simsiam.head_layers": "2",
        "simsiam.head_dim": "512",
        "simsiam.predictor_hidden": "128",
        "barlow_twins.head_dim": "512",
        "vicreg.head_dim": "512",
        "jigsaw.permutations": "24",
        "jigsaw.patch_dim": "128",
        "relative_position.head_hidden": "512",
        "deep_infomax.head_hidden": "512",
        "deep_infomax.head_dim": "128",
        "deep_infomax.loss": "nce",
        # Their authors use Adam or LARS; at the rate of the others plain SGD undoes what these losses learn.
        "barlow_twins.optimiser": "adamw",
        "barlow_twins.learning_rate": "0.002",
        "deep_infomax.optimiser": "adamw",
        "deep_infomax.learning_rate": "0.002",
        "gan.optimiser": "adamw",
        "gan.learning_rate": "0.004",
        "gan.batch_size": "32",
        "contrastive_divergence.langevin_steps": "5",
        "contrastive_divergence.chains": "256",
    }


def cifar() -> dict[str, str]:
    """`run methods=simclr,moco dataset=cifar10 dataset.root=DIR`: a GPU's work; not measured by us at full length.

    ResNet-18 with the small stem, 200 epochs. Published for the nearest protocols (CIFAR-10, ResNet-18): SimCLR 90.7 %
    linear after 1,000 epochs (solo-learn, online probe), MoCo 82.6 % kNN after 200 (authors' notebook, asymmetric),
    InstDisc 80.8 % kNN (paper), SwAV 84.2 % kNN after 200 (lightly), DeepCluster-v2 88.9 % linear after 1,000 and MoCo
    v3 93.1 % (solo-learn). Nobody has published settings or numbers for PIRL and PCL here.

    One difference to all of them is left: the backbone is the same for all methods, with timm's zero start of each
    residual branch's last scale, which the authors of MoCo, PCL, SwAV and InstDisc do not have.
    """
    return {
        "backbone": "resnet18",
        "augmentation": "simclr_cifar",  # SimCLR, appendix B.9: strength 0.5, no blur
        "epochs": "200",
        "batch_size": "256",
        "learning_rate": "0.12",  # 0.06 x B/128, lightly's CIFAR benchmark
        "weight_decay": "5e-4",  # the same
        "simclr.temperature": "0.2",  # solo-learn; 0.5 in the paper for long training
        # MoCo: the authors' CIFAR notebook. Rate 0.06 at batch 512, no warm-up, decay on everything.
        "moco.temperature": "0.1",
        "moco.queue": "4096",
        "moco.momentum": "0.99",
        "moco.head": "linear",
        "moco.batch_norm": "shuffle:8",
        "moco.learning_rate": "0.03",
        "moco.warmup": "0",
        "moco.decay_all": "true",
        # MoCo v3: temperature and heads of solo-learn's CIFAR recipe; its LARS is another, so the rate is our own.
        "moco_v3.temperature": "0.2",
        "moco_v3.head_hidden": "4096",
        # InstDisc: the authors' CIFAR script. Softmax over all rows, rate 0.03 at batch 128, no flip.
        "instdisc.loss": "softmax",
        "instdisc.temperature": "0.1",
        "instdisc.augmentation": "instdisc_cifar",
        "instdisc.batch_size": "128",
        "instdisc.learning_rate": "0.06",
        "instdisc.schedule": "step",
        "instdisc.warmup": "0",
        "instdisc.decay_all": "true",
        # PIRL: our own, no reference exists. K as in the paper's analysis (4,096), rate the paper's 0.03 at batch 256.
        "pirl.negatives": "4096",
        "pirl.learning_rate": "0.03",
        # SwAV and DeepCluster-v2: our own (solo-learn: 3,000 prototypes and a LARS of its own). SwAV's authors advise
        # fewer than ImageNet's (swav issue 23); 512 as lightly's, which a batch of that size can balance.
        "swav.prototypes": "512",
        "swav.batch_size": "512",
        "deepcluster.prototypes": "512",
        # PCL: MoCo's settings; our own numbers of clusters, warm-up a tenth of the training as in the paper.
        "pcl.temperature": "0.1",
        "pcl.queue": "4096",
        "pcl.momentum": "0.99",
        "pcl.head": "linear",
        "pcl.batch_norm": "shuffle:8",
        "pcl.learning_rate": "0.03",
        "pcl.warmup": "0",
        "pcl.decay_all": "true",
        "pcl.clusters": "250+500+1000",
        "pcl.warmup_epochs": "20",
    } | _neighbours_on_cifar()


def _neighbours_on_cifar() -> dict[str, str]:
    """Those without negatives and the baselines; none was measured at full length by us."""
    return {
        "nnclr.temperature": "0.2",
        "nnclr.queue": "16384",  # at most half of the training set: a longer one holds each image's own recent copy
        "dcl.temperature": "0.2",
        # SimSiam: section on CIFAR-10. Rate 0.03 x B/256, two layers in the projector, 91.8 % after 800 epochs.
        "simsiam.head_layers": "2",
        "simsiam.learning_rate": "0.03",
        "simsiam.warmup": "0",
        # BYOL: solo-learn's heads on CIFAR; the rate is our own.
        "byol.momentum": "0.99",
        # Barlow Twins and VICReg: heads of 2,048 as solo-learn's on CIFAR; AdamW is our own, for SGD's rates are not
        # theirs and their LARS is another than ours.
        "barlow_twins.head_dim": "2048",
        "barlow_twins.optimiser": "adamw",
        "barlow_twins.learning_rate": "0.001",
        "vicreg.head_dim": "2048",
        "vicreg.optimiser": "adamw",
        "vicreg.learning_rate": "0.001",
        # Baselines: our own, after the Adam of their authors.
        "deep_infomax.loss": "nce",
        "deep_infomax.optimiser": "adamw",
        "deep_infomax.learning_rate": "0.001",
        "gan.optimiser": "adamw",
        "gan.learning_rate": "0.0008",
        "gan.batch_size": "64",
    }


def cifar100() -> dict[str, str]:
    """`run methods=simclr,pcl dataset=cifar100 dataset.root=DIR`: as `cifar`, with twice the clusters (our own).

    Published for the nearest protocols (ResNet-18, 1,000 epochs, solo-learn, online probe): SimCLR 65.8 %, MoCo v2+
    69.9, MoCo v3 68.8, SwAV 64.9, DeepCluster-v2 63.6. Not measured by us.
    """
    clusters = {
        "swav.prototypes": "1000",
        "swav.batch_size": "1024",
        "deepcluster.prototypes": "1000",
        "pcl.clusters": "500+1000+2000",
    }
    return cifar() | clusters


def cifar_quick() -> dict[str, str]:
    """`run methods=... dataset=cifar10 dataset.root=DIR preset=cifar_quick`: ten minutes a method on two cores.

    10,000 images, ten epochs of a small backbone: enough to see that a method learns, and no more. README has the
    table. One warm-up and decay for all, and one rate but for SwAV, whose codes stay flat with less, and MoCo. Memories
    are short and momentum is low, because there are 700 steps in all; banks start from features, because ten epochs of
    noise do not average out. Chosen by a few short trials with test numbers in sight.
    """
    for_all = {
        "dataset.limit": "10000",
        "backbone": "resnet10t",
        "augmentation": "simclr_cifar",
        "epochs": "10",
        "batch_size": "128",
        "learning_rate": "0.12",
        "weight_decay": "5e-4",
    }
    return for_all | {
        "simclr.temperature": "0.2",
        "moco.queue": "1024",
        "moco.momentum": "0.95",
        "moco.batch_norm": "shuffle:2",
        "moco.learning_rate": "0.25",
        "moco_v3.temperature": "0.2",
        "moco_v3.head_hidden": "1024",
        "moco_v3.momentum": "0.95",
        "instdisc.loss": "softmax",
        "instdisc.temperature": "0.1",
        "instdisc.start": "features",
        "instdisc.augmentation": "instdisc_cifar",
        "pirl.negatives": "1024",
        "pirl.temperature": "0.1",
        "pirl.start": "features",
        "swav.prototypes": "100",
        "swav.epsilon": "0.03",
        "swav.learning_rate": "0.25",
        "deepcluster.prototypes": "200",
        "pcl.temperature": "0.1",
        "pcl.queue": "1024",
        "pcl.momentum": "0.95",
        "pcl.head": "linear",
        "pcl.batch_norm": "shuffle:4",
        "pcl.clusters": "100+200",
        "pcl.warmup_epochs": "2",
        "nnclr.temperature": "0.2",
        "nnclr.queue": "1024",
        "nnclr.head_hidden": "512",
        "nnclr.predictor_hidden": "512",
        "dcl.temperature": "0.2",
        "byol.momentum": "0.95",
        "byol.head_hidden": "1024",
        "simsiam.head_layers": "2",
        "simsiam.head_dim": "1024",
        "simsiam.predictor_hidden": "256",
        "barlow_twins.head_dim": "1024",
        "barlow_twins.optimiser": "adamw",
        "barlow_twins.learning_rate": "0.002",
        "vicreg.head_dim": "1024",
        "jigsaw.patch_dim": "128",
        "relative_position.head_hidden": "512",
        "deep_infomax.loss": "nce",
        "deep_infomax.head_hidden": "512",
        "deep_infomax.head_dim": "128",
        "deep_infomax.optimiser": "adamw",
        "deep_infomax.learning_rate": "0.002",
        "gan.optimiser": "adamw",
        "gan.learning_rate": "0.002",
        "contrastive_divergence.langevin_steps": "5",
    }


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
    """`run methods=moco,swav dataset=folder dataset.root=DIR preset=imagenet`, for subsets such as ImageNet-100: all
    images lie on each GPU, 25 GB for ImageNet-100, and the whole of ImageNet fits on none. Not run by us.

    ResNet-50, 200 epochs, each method by its authors' settings. Their linear top-1 on ImageNet after 200 epochs, by
    protocols of their own: SimCLR 66.5 % (arXiv:2002.05709 v3, table B.1), InstDisc 54.0 %, PIRL 62.9 % (VISSL),
    MoCo v2 67.5 %, MoCo v3 72.8 % (after 300), SwAV 73.9 %, DeepCluster-v2 75.2 % (after 800), PCL v2 67.6 %.

    What differs from theirs: SwAV's and DeepCluster's warm-up starts at 0 instead of 0.3 and their cosine ends at 0
    instead of a thousandth; MoCo's and PCL's cosine falls by step, not by epoch; batch norm of InstDisc and PIRL is
    synchronised; timm's zero start of each residual branch's last scale is on for all.
    """
    return {
        "backbone": "resnet50",
        "dataset.side": "256",
        "view_size": "224",
        "epochs": "200",
        # SimCLR, section 2 and appendix B: LARS 0.3 x B/256, ten epochs of warm-up, decay 1e-6 but for biases and norms
        "simclr.augmentation": "simclr",
        "simclr.batch_size": "4096",
        "simclr.optimiser": "lars",
        "simclr.learning_rate": "0.3",
        "simclr.warmup": "0.05",
        "simclr.weight_decay": "1e-6",
        "simclr.temperature": "0.1",
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


PRESETS: dict[str, Callable[[], dict[str, str]]] = {
    "digits": digits,
    "cifar": cifar,
    "cifar100": cifar100,
    "cifar_quick": cifar_quick,
    "stl10": stl10,
    "imagenet": imagenet,
}
OF_DATASET = {"digits": "digits", "cifar10": "cifar", "cifar100": "cifar100", "stl10": "stl10"}


def words(name: str, dataset: str) -> dict[str, str]:
    """The preset's words for a cell on `dataset`; none for `none`, or for `auto` where the dataset has no preset."""
    if name == "auto":
        name = OF_DATASET.get(dataset, "none")
    if name == "none":
        return {}
    if name not in PRESETS:
        raise unknown("preset", name, ["auto", "none", *PRESETS])
    return PRESETS[name]()
