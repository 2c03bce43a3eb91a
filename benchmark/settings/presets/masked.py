"""For masked image models, in all presets: a vision transformer where the method needs one, whatever others have."""

from __future__ import annotations

NEED_PATCHES = ("mae", "ijepa")
TINY = {f"{name}.backbone": "vit_tiny_patch16_224" for name in NEED_PATCHES}  # 5.4 million weights
TINY |= {f"{name}.stem": "small" for name in NEED_PATCHES}  # patches of 4 pixels


def on_digits() -> dict[str, str]:
    """timm's smallest vision transformer with 16 patches an image, and more epochs, for masking is slow to learn.

    MAE's, and SimMIM's rate of three, were chosen by a few trials on the validation split; I-JEPA's are not tuned.
    """
    return {
        "mae.backbone": "test_vit",
        "mae.stem": "small",
        "mae.augmentation": "crop_large",
        "mae.epochs": "45",
        "mae.batch_size": "64",
        "mae.mask": "0.5",
        "mae.decoder_dim": "64",
        "mae.decoder_blocks": "2",
        "mae.decoder_heads": "4",
        "mae.learning_rate": "0.006",
        "mae.weight_decay": "0.05",
        "simmim.augmentation": "crop_large",
        "simmim.epochs": "20",
        "simmim.batch_size": "64",
        "simmim.learning_rate": "0.002",
        "ijepa.backbone": "test_vit",
        "ijepa.stem": "small",
        "ijepa.augmentation": "ijepa",
        "ijepa.epochs": "30",
        "ijepa.batch_size": "64",
        "ijepa.momentum": "0.95",
        "ijepa.predictor_dim": "64",
        "ijepa.predictor_blocks": "2",
        "ijepa.predictor_heads": "4",
        "ijepa.learning_rate": "0.004",
    }


def on_cifar() -> dict[str, str]:
    """None was measured at full length by us. Patches of 4 pixels as solo-learn's MAE on CIFAR, which publishes no
    number for it."""
    return TINY | {
        # MAE: the authors' rate of 1.5e-4 x B/256 and decay; the decoder is ours, for a tiny encoder.
        "mae.augmentation": "mae",
        "mae.batch_size": "512",
        "mae.decoder_dim": "192",
        "mae.decoder_blocks": "4",
        "mae.decoder_heads": "3",
        "mae.learning_rate": "1.5e-4",
        "mae.weight_decay": "0.05",
        # SimMIM: the authors' crops and decay; the rate is ours, for a ResNet and fewer epochs (theirs: 5e-5 x B/256).
        "simmim.augmentation": "simmim",
        "simmim.learning_rate": "0.001",
        "simmim.weight_decay": "0.05",
        # I-JEPA: the authors' crops, decays and rate (1e-3 at 2,048); the predictor is ours, for a tiny encoder.
        "ijepa.augmentation": "ijepa",
        "ijepa.predictor_dim": "192",
        "ijepa.predictor_blocks": "4",
        "ijepa.predictor_heads": "3",
        "ijepa.learning_rate": "1.25e-4",
        "ijepa.weight_decay": "0.04",
        "ijepa.weight_decay_end": "0.4",
    }


def quickly_on_cifar() -> dict[str, str]:
    """Not measured by us yet: a higher rate, for there are few steps."""
    return TINY | {
        "mae.augmentation": "mae",
        "mae.decoder_dim": "128",
        "mae.decoder_blocks": "2",
        "mae.decoder_heads": "4",
        "mae.learning_rate": "0.001",
        "mae.weight_decay": "0.05",
        "simmim.augmentation": "simmim",
        "simmim.learning_rate": "0.002",
        "simmim.weight_decay": "0.05",
        "ijepa.augmentation": "ijepa",
        "ijepa.momentum": "0.95",
        "ijepa.predictor_dim": "96",
        "ijepa.predictor_blocks": "2",
        "ijepa.predictor_heads": "3",
        "ijepa.learning_rate": "0.001",
        "ijepa.weight_decay": "0.04",
    }


def on_stl10() -> dict[str, str]:
    """Views of 64 pixels and more: the tiny transformer's own patches of 16, of which 96 pixels have 36."""
    return {f"{name}.stem": "native" for name in NEED_PATCHES}


def on_imagenet() -> dict[str, str]:
    """Not run by us."""
    return {
        # MAE, authors' code: ViT-B/16, AdamW 1.5e-4 x B/256 at 4,096, decay 0.05, 40 epochs of warm-up of 800 (a
        # twentieth); here it is the epochs that all methods have
        "mae.backbone": "vit_base_patch16_224",
        "mae.augmentation": "mae",
        "mae.batch_size": "4096",
        "mae.learning_rate": "1.5e-4",
        "mae.warmup": "0.05",
        "mae.weight_decay": "0.05",
        # SimMIM, authors' code: 1e-4 x B/512 at 2,048, decay 0.05, a tenth at 700 of 800 epochs, for Swin and ViT; here
        # it is a cosine, the ResNet-50 of all, and their cells
        "simmim.augmentation": "simmim",
        "simmim.cell": "32",
        "simmim.batch_size": "2048",
        "simmim.learning_rate": "5e-5",
        "simmim.weight_decay": "0.05",
        # I-JEPA, authors' configurations: rate 1e-3 at 2,048, 40 of 300 epochs of warm-up, decay 0.04 to 0.4; their
        # patches of 14 are 16 here, and their ViT-H a ViT-B, whose predictor has six blocks
        "ijepa.backbone": "vit_base_patch16_224",
        "ijepa.augmentation": "ijepa",
        "ijepa.batch_size": "2048",
        "ijepa.predictor_blocks": "6",
        "ijepa.learning_rate": "1.25e-4",
        "ijepa.warmup": "0.13",
        "ijepa.weight_decay": "0.04",
        "ijepa.weight_decay_end": "0.4",
    }
