"""For what a batch's statistics keep from collapse: LeJEPA, VISReg, W-MSE, MMCR, VIbCReg and CorInfoMax."""

from __future__ import annotations


def on_digits() -> dict[str, str]:
    """Heads of the digits' size, and AdamW as for Barlow Twins; W-MSE whitens all of a batch at once."""
    return {
        "lejepa.weight": "0.02",
        "lejepa.directions": "256",
        "lejepa.head_hidden": "512",
        "lejepa.head_dim": "32",
        "lejepa.optimiser": "adamw",
        "lejepa.learning_rate": "0.002",
        "visreg.weight": "0.6",
        "visreg.directions": "256",
        "visreg.head_hidden": "512",
        "visreg.head_dim": "32",
        "visreg.optimiser": "adamw",
        "visreg.learning_rate": "0.002",
        "wmse.head_hidden": "512",
        "wmse.head_dim": "16",
        "wmse.optimiser": "adamw",
        "wmse.learning_rate": "0.004",
        "mmcr.head_layers": "2",
        "mmcr.head_hidden": "512",
        "mmcr.head_dim": "128",
        "mmcr.optimiser": "adamw",
        "mmcr.learning_rate": "0.002",
        "vibcreg.head_dim": "512",
        "vibcreg.optimiser": "adamw",
        "vibcreg.learning_rate": "0.002",
        "corinfomax.head_hidden": "512",
        "corinfomax.optimiser": "adamw",
        "corinfomax.learning_rate": "0.002",
    }


def on_cifar() -> dict[str, str]:
    """None was measured at full length by us."""
    return {
        # LeJEPA: eb_jepa's CIFAR-10 (ResNet-18): lambda .038 in this form, 256 directions, batch 256, crops of 20 to
        # 100 %, no blur (and a tenth solarised). Its LARS is another; AdamW and decay 5e-4 for ResNets are the authors'
        # (README), the rate is our own.
        "lejepa.weight": "0.04",
        "lejepa.directions": "256",
        "lejepa.augmentation": "crop_large+flip+colour+grey",
        "lejepa.optimiser": "adamw",
        "lejepa.learning_rate": "0.001",
        # VISReg: no CIFAR of the authors; ours, LeJEPA's, with lambda and width of their Imagenette.
        "visreg.weight": "0.6",
        "visreg.directions": "256",
        "visreg.head_dim": "128",
        "visreg.augmentation": "crop_large+flip+colour+grey",
        "visreg.optimiser": "adamw",
        "visreg.learning_rate": "0.001",
        # W-MSE, authors' code for CIFAR: Adam 3e-3 at batch 512 for 1,000 epochs, flat but for a fifth of it 50 and 25
        # epochs before the end, where ours is a cosine; its decay of 1e-6 is an L2; crops of 20 to 100 %, a tenth in
        # grey, where ours has a fifth.
        "wmse.augmentation": "crop_large+flip+colour+grey",
        "wmse.batch_size": "512",
        "wmse.optimiser": "adamw",
        "wmse.learning_rate": "0.003",
        "wmse.learning_rate_rule": "none",
        "wmse.weight_decay": "1e-6",
        # MMCR: the authors' CIFAR head, Adam 1e-3 and decay of 1e-6 (an L2); they take 32 images of 40 views a step for
        # 500 epochs, here it is two views and the batch of the others.
        "mmcr.head_layers": "2",
        "mmcr.head_hidden": "512",
        "mmcr.head_dim": "128",
        "mmcr.optimiser": "adamw",
        "mmcr.learning_rate": "0.001",
        "mmcr.weight_decay": "1e-6",
        # VIbCReg: solo-learn's CIFAR (batch 256, decay 1e-4, crops of 20 to 100 %, no blur, a tenth solarised) without
        # its IterNorm; its LARS is another, so optimiser and rate are our own, as for VICReg.
        "vibcreg.augmentation": "crop_large+flip+colour+grey",
        "vibcreg.optimiser": "adamw",
        "vibcreg.learning_rate": "0.001",
        "vibcreg.weight_decay": "1e-4",
        # CorInfoMax, authors' CIFAR-10 (ResNet-18, 1,000 epochs, 93.2 %): SGD 0.5 at batch 512, decay 1e-4 on
        # everything, ten epochs of warm-up, BYOL's pair with its blur.
        "corinfomax.augmentation": "byol",
        "corinfomax.batch_size": "512",
        "corinfomax.learning_rate": "0.25",
        "corinfomax.warmup": "0.05",
        "corinfomax.weight_decay": "1e-4",
    }


def quickly_on_cifar() -> dict[str, str]:
    """Not measured by us yet: rates as for Barlow Twins and VICReg there."""
    return {
        "lejepa.weight": "0.04",
        "lejepa.directions": "256",
        "lejepa.head_hidden": "1024",
        "lejepa.optimiser": "adamw",
        "lejepa.learning_rate": "0.002",
        "visreg.weight": "0.6",
        "visreg.directions": "256",
        "visreg.head_hidden": "1024",
        "visreg.head_dim": "128",
        "visreg.optimiser": "adamw",
        "visreg.learning_rate": "0.002",
        "wmse.augmentation": "crop_large+flip+colour+grey",
        "wmse.optimiser": "adamw",
        "wmse.learning_rate": "0.002",
        "mmcr.head_layers": "2",
        "mmcr.head_hidden": "512",
        "mmcr.head_dim": "128",
        "mmcr.optimiser": "adamw",
        "mmcr.learning_rate": "0.002",
        "vibcreg.head_dim": "1024",
        "vibcreg.optimiser": "adamw",
        "vibcreg.learning_rate": "0.002",
        "corinfomax.head_hidden": "1024",
        "corinfomax.optimiser": "adamw",
        "corinfomax.learning_rate": "0.002",
    }


def on_imagenet() -> dict[str, str]:
    """Not run by us."""
    return {
        # LeJEPA, authors' README: AdamW 5e-4, decay 5e-4 for ResNets, six small crops of 98 pixels; the batch is ours.
        # Their large crops are of 30 to 100 % of the area, the small ones of 5 to 30 %.
        "lejepa.augmentation": "crop_large+flip+colour+grey+blur+solarise+6x98",
        "lejepa.batch_size": "256",
        "lejepa.optimiser": "adamw",
        "lejepa.learning_rate": "5e-4",
        "lejepa.weight_decay": "5e-4",
        # VISReg: ours, LeJEPA's; the authors train ViTs alone (AdamW 9e-4, decay 0.05, four large and six small crops)
        "visreg.augmentation": "crop_large+flip+colour+grey+blur+solarise+6x96",
        "visreg.batch_size": "256",
        "visreg.optimiser": "adamw",
        "visreg.learning_rate": "5e-4",
        "visreg.weight_decay": "5e-4",
        # W-MSE: nothing published at this size. ours: the authors' ImageNet-100 width and sub-batches, their rate on
        # CIFAR, which they do not scale with the batch
        "wmse.augmentation": "moco_v2",
        "wmse.batch_size": "512",
        "wmse.head_dim": "128",
        "wmse.whitened": "256",
        "wmse.optimiser": "adamw",
        "wmse.learning_rate": "0.003",
        "wmse.learning_rate_rule": "none",
        "wmse.weight_decay": "1e-6",
        # MMCR, authors' script: LARS 0.6 x B/256 at 2,048 for 100 epochs; decay and warm-up are ours, Barlow Twins'
        "mmcr.augmentation": "byol",
        "mmcr.batch_size": "2048",
        "mmcr.optimiser": "lars_fb",
        "mmcr.learning_rate": "0.6",
        "mmcr.warmup": "0.05",
        "mmcr.weight_decay": "1e-6",
        # VIbCReg: ours, VICReg's, with solo-learn's crops for ImageNet-100
        "vibcreg.augmentation": "moco_v3",
        "vibcreg.batch_size": "2048",
        "vibcreg.optimiser": "lars_fb",
        "vibcreg.learning_rate": "0.2",
        "vibcreg.warmup": "0.05",
        "vibcreg.weight_decay": "1e-6",
        # CorInfoMax: the authors' width, weight and head of CIFAR-100. ours: optimiser and decay, VICReg's
        "corinfomax.invariance": "1000",
        "corinfomax.head_hidden": "4096",
        "corinfomax.head_dim": "128",
        "corinfomax.augmentation": "byol",
        "corinfomax.batch_size": "2048",
        "corinfomax.optimiser": "lars_fb",
        "corinfomax.learning_rate": "0.2",
        "corinfomax.warmup": "0.05",
        "corinfomax.weight_decay": "1e-6",
        "corinfomax.decay_all": "false",
    }
