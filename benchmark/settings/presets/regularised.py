"""For what a batch's statistics keep from collapse: LeJEPA, VISReg, W-MSE, MMCR, VIbCReg and CorInfoMax."""

from __future__ import annotations

from benchmark.settings.presets.sourced import NOT_TUNED, Preset, cite, ours

_HEADS = ours("heads of the digits' size; W-MSE whitens all of a batch at once")
_ADAM = ours("AdamW as for Barlow Twins there")
_IMAGENETTE = "VISReg, authors' configuration of Imagenette"
_MMCR = "MMCR, authors' CIFAR script: Adam, the decay an L2; they have 32 images of 40 views, here it is two views"
_WMSE = "W-MSE, authors' code for CIFAR: Adam, the decay an L2; flat but for its end, where ours is a cosine"


def on_digits() -> Preset:
    adam = ours("AdamW as for Barlow Twins there before it was tuned")
    return (
        cite("lejepa", "LeJEPA, MINIMAL.md", weight="0.02", directions="256")
        | cite("visreg", _IMAGENETTE, weight="0.6")
        | cite("visreg", ours("LeJEPA's"), directions="256")
        | cite("lejepa,visreg", _HEADS, head_hidden="512", head_dim="32")
        | cite("wmse", _HEADS, head_hidden="512", head_dim="16")
        | cite("mmcr", _MMCR, head_layers="2", head_hidden="512", head_dim="128")
        | cite("vibcreg", _HEADS, head_dim="512")
        | cite("corinfomax", _HEADS, head_hidden="512")
        | cite("lejepa,visreg,mmcr,vibcreg,corinfomax", adam, optimiser="adamw", learning_rate="0.002")
        | cite("wmse", adam, optimiser="adamw", learning_rate="0.004")
    )


def on_cifar() -> Preset:
    """None was measured at full length by us."""
    jitter = "a tenth solarised, saturation .2, here none and .4"
    eb_jepa = f"eb_jepa's CIFAR-10 (ResNet-18, batch 256): lambda .038 in this form; {jitter}"
    large, without_lars = "crop_large+flip+colour+grey", ours("eb_jepa's LARS is another than ours")
    solo = f"solo-learn's CIFAR configuration; {jitter}"
    corinfomax = "CorInfoMax, authors' code for CIFAR-10: SGD 0.5 at batch 512, ten epochs of warm-up, BYOL's pair"
    return (
        cite("lejepa", eb_jepa, weight="0.04", directions="256", augmentation=large)
        | cite("lejepa", f"LeJEPA, authors' README; the rate is {without_lars}", optimiser="adamw")
        | cite("lejepa", without_lars, learning_rate="0.001")
        | cite("lejepa", "LeJEPA, authors' README, for ResNets", weight_decay="5e-4")
        | cite("visreg", _IMAGENETTE, weight="0.6", head_dim="128")
        | cite("visreg", ours("LeJEPA's there"), directions="256", augmentation=large)
        | cite("visreg", ours("LeJEPA's there"), optimiser="adamw", learning_rate="0.001", weight_decay="5e-4")
        | cite("wmse", _WMSE, augmentation="crop_large+flip+colour+grey_rare", batch_size="512", optimiser="adamw")
        | cite("wmse", _WMSE, learning_rate="0.003", learning_rate_rule="none", weight_decay="1e-6")
        | cite("wmse", "W-MSE, authors' code for CIFAR: 500 steps of warm-up", warmup="0.03")
        | cite("mmcr", _MMCR, head_layers="2", head_hidden="512", head_dim="128")
        | cite("mmcr", _MMCR, optimiser="adamw", learning_rate="0.001", weight_decay="1e-6")
        | cite("vibcreg", solo, augmentation=large, weight_decay="1e-4")
        | cite("vibcreg", ours("solo-learn's LARS is another; VICReg's"), optimiser="adamw", learning_rate="0.001")
        | cite("corinfomax", corinfomax, augmentation="byol", batch_size="512", learning_rate="0.25")
        | cite("corinfomax", corinfomax, warmup="0.05", weight_decay="1e-4")
    )


def quickly_on_cifar() -> Preset:
    """Not measured by us yet: rates as for Barlow Twins and VICReg there."""
    narrow = ours("narrower heads for two cores")
    adamw = "lejepa,visreg,wmse,mmcr,vibcreg,corinfomax"
    return (
        cite("lejepa", "eb_jepa's CIFAR-10, as in `cifar`", weight="0.04", directions="256")
        | cite("visreg", _IMAGENETTE, weight="0.6", head_dim="128")
        | cite("visreg", ours("LeJEPA's"), directions="256")
        | cite("lejepa,visreg,corinfomax", narrow, head_hidden="1024")
        | cite("wmse", _WMSE, augmentation="crop_large+flip+colour+grey_rare")
        | cite("mmcr", _MMCR, head_layers="2", head_hidden="512", head_dim="128")
        | cite("vibcreg", narrow, head_dim="1024")
        | cite(adamw, _ADAM, optimiser="adamw", learning_rate="0.002")
    )


def on_stl10() -> Preset:
    code = "W-MSE, authors' code for STL-10: twice CIFAR's width and sub-batches, four of them drawn with two views"
    return cite("wmse", code, head_dim="128", whitened="256", passes="4", learning_rate="0.002")


def on_imagenet() -> Preset:
    """Not run by us."""
    lejepa = "LeJEPA, authors' README: AdamW, decay 5e-4 for ResNets, small crops of 98 pixels and 5 to 30 %"
    visreg = "VISReg, authors' code: four large and six small crops; its hue is .05"
    no_resnet = ours("the authors train ViTs alone; LeJEPA's")
    wmse = ours("nothing published at this size; the authors' width and sub-batches on ImageNet-100, rate on CIFAR")
    mmcr = "MMCR, authors' script: LARS 0.6 x B/256 at 2,048 for 100 epochs"
    vicreg = ours("VICReg's")
    return (
        cite("lejepa", lejepa, augmentation="lejepa+6x98@.05-.3", optimiser="adamw")
        | cite("lejepa", lejepa, learning_rate="5e-4", weight_decay="5e-4")
        | cite("visreg", visreg, augmentation="lejepa+2x224@.3-1+6x96@.05-.3")
        | cite("visreg", no_resnet, optimiser="adamw", learning_rate="5e-4", weight_decay="5e-4")
        | cite("lejepa,visreg", NOT_TUNED, batch_size="256")
        | cite("wmse", wmse, augmentation="moco_v2", batch_size="512", head_dim="128", whitened="256")
        | cite("wmse", wmse, optimiser="adamw", learning_rate="0.003", learning_rate_rule="none", weight_decay="1e-6")
        | cite("mmcr", mmcr, augmentation="byol", batch_size="2048", optimiser="lars_fb", learning_rate="0.6")
        | cite("mmcr", ours("Barlow Twins'"), warmup="0.05", weight_decay="1e-6")
        | cite("vibcreg", "solo-learn's ImageNet-100 configuration", augmentation="moco_v3")
        | cite("corinfomax", "CorInfoMax, authors' code for CIFAR-100", invariance="1000", head_hidden="4096")
        | cite("corinfomax", "CorInfoMax, authors' code for CIFAR-100", head_dim="128", augmentation="byol")
        | cite("vibcreg,corinfomax", vicreg, batch_size="2048", optimiser="lars_fb", learning_rate="0.2")
        | cite("vibcreg,corinfomax", vicreg, warmup="0.05", weight_decay="1e-6")
        | cite("corinfomax", vicreg, decay_all="false")
    )
