"""What methods need with a vision transformer in place of a preset's words, which are for convolutions.

For timm's names such as vit_tiny_patch16_224, at any size of view. The authors' rates end at 1e-6 or a thousandth, ours
at 0; timm's positions are learned, and drop path is off.
"""

from __future__ import annotations

import re

from benchmark.backbones import SMALL, SMALL_PATCH
from benchmark.settings.presets.sourced import Preset, cite, ours

MEDIUM = 128  # pixels of the views of Imagenette, for which authors have settings of their own


def find_patch(backbone: str) -> int:
    """Pixels of a side of the backbone's patches, by its name; 0 where it is no vision transformer."""
    name = re.fullmatch(r"(?:vit|deit3?)_\w*patch(\d+)_.*|test_vit\d?", backbone.partition(".")[0])
    return int(name[1] or 16) if name else 0


def choose_stem(backbone: str, view: int) -> dict[str, str]:
    """Patches of 4 for views of up to 64 pixels, which have few of 16; no word for other views and backbones."""
    return {"stem": "small"} if view <= SMALL and find_patch(backbone) > SMALL_PATCH else {}


def has_recipe(method: str) -> bool:
    """Whether there are settings of its own for a vision transformer."""
    return any(word.startswith(f"{method}.") for word in (for_all() | on_small_views() | on_large_views()))


def recipe(method: str, view: int, short: bool) -> Preset:
    """The method's words for a vision transformer and views of `view` pixels: its authors', or MoCo v3's where they
    have none. `short`: where steps are too few for the authors' rates."""
    words = for_all() | (on_large_views() if view > MEDIUM else on_small_views())
    words |= {word.partition(".")[2]: value for word, value in words.items() if word.startswith(f"{method}.")}
    words |= on_few_steps() if short else {}
    return {f"{method}.{word}": value for word, value in words.items() if "." not in word}


def for_all() -> Preset:
    """Those of any size of view; what has no method is for methods without a published recipe. MAE and I-JEPA, which
    need a transformer, have theirs in each preset."""
    moco = "MoCo v3, authors' code for ViT-S, 300 epochs: AdamW 1.5e-4 x B/256, 40 epochs of warm-up, all decays"
    dino = "DINO, authors' code for ViT-S: AdamW 5e-4 x B/256, ten epochs of warm-up"
    none = ours("MoCo v3's for ViT-S, where the method has no recipe that we know")
    deit = "DeiT (arXiv 2012.12877): AdamW 5e-4 x B/512, five of 300 epochs of warm-up"
    lejepa = "LeJEPA, authors' README and MINIMAL.md: AdamW, decay 0.05 for ViTs"
    visreg = "VISReg, authors' configurations: AdamW, decay 0.05, gradients of a norm of 1 at most"
    simmim = "SimMIM, authors' code: AdamW, decay 0.05"
    return (
        cite("", none, optimiser="adamw", learning_rate="1.5e-4", learning_rate_rule="linear", schedule="cosine")
        | cite("", none, warmup="0.13", weight_decay="0.1", decay_all="false")
        | cite("moco_v3", moco, learning_rate="1.5e-4", warmup="0.13", weight_decay="0.1", decay_all="true")
        | cite("moco_v3", moco, temperature="0.2", head_layers="3", freeze_patches="true")
        | cite("dino", dino, learning_rate="5e-4", warmup="0.1", clip="3")
        | cite("dino", "DINO, authors' code for ViT-S", weight_decay="0.04", weight_decay_end="0.4")
        | cite("lejepa", lejepa, weight_decay="0.05")
        | cite("visreg", visreg, weight_decay="0.05", clip="1")
        | cite("simmim", simmim, weight_decay="0.05")
        | cite("lejepa,visreg,simmim", ours("the warm-up of all presets"), warmup="0.1")
        | cite("simmim", ours("the mean of the patches: nothing trains the class token"), pool="avg")
        | cite("supervised", deit, learning_rate="2.5e-4", warmup="0.02", weight_decay="0.05")
    )


def on_small_views() -> Preset:
    """Up to 128 pixels."""
    minimal = "LeJEPA, MINIMAL.md: Imagenette, ViT-S/8 at 128 pixels, batch 256"
    imagenette = "VISReg, authors' configuration of Imagenette: ViT-S/8 at 128 pixels"
    return (
        cite("lejepa", minimal, learning_rate="0.002", weight="0.02", directions="256", head_dim="16")
        | cite("visreg", imagenette, learning_rate="0.001", weight="0.6", head_dim="128")
        | cite("simmim", ours("MAE's, for fewer epochs than the authors' 5e-5 x B/256"), learning_rate="1.5e-4")
    )


def on_large_views() -> Preset:
    """More than 128 pixels, as on ImageNet."""
    lejepa = "LeJEPA, authors' README; its small crops have 98 pixels, which patches of 16 do not divide"
    return (
        cite("moco_v3", "MoCo v3, authors' code for ViTs: crops from 8 %", augmentation="byol")
        | cite("dino", "DINO, authors' code: eight small crops of 5 to 40 %", augmentation="dino+8x96@.05-.4")
        | cite("lejepa", lejepa, learning_rate="5e-4", augmentation="lejepa+6x96@.05-.3")
        | cite("visreg", "VISReg, authors' configurations: ViT-B", learning_rate="9e-4")
        | cite("simmim", "SimMIM, authors' code: 1e-4 x B/512", learning_rate="5e-5")
    )


def on_few_steps() -> Preset:
    """Below 10,000 steps."""
    return cite("", ours("the published rates are for many more steps"), learning_rate="0.001", warmup="0.1")
