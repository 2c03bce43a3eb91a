"""Augmentation policies as data: what may happen to an image, how strongly and how often. Needs no torch.

The operations always run in one order: crop, flip, rotate, then as in the published pipelines jitter, grey, blur,
solarise, then sobel, noise, cutout; so noise is neither blurred nor taken for edges, and nothing is seen in a hole.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Policy:
    """One view's distribution. The defaults switch everything off: shorter side resized, centre crop.

    Probabilities are per image. ``crop_scale`` is a share of the image's area, ``crop_ratio`` width over height; None
    crops nothing at random. The jitter strengths are torchvision's: a factor from [max(0, 1 - s), 1 + s], a hue shift
    from [-s, s] turns, in an order drawn per image. ``blur_sigma`` is in pixels of the view, ``blur_kernel`` a share
    of its side, ``solarise_threshold`` on the [0, 1] scale of pixels, as are ``noise_sigma`` and ``cutout_fill``.
    ``cutout_side`` is a share of the view's side. ``rotate`` turns by 0, 90, 180 or 270 degrees, each as often.
    """

    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    grey_first: bool = False  # grey before jitter, so that hue and saturation then leave a grey image alone
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: float = 0.1
    solarise: float = 0.0
    solarise_threshold: float = 0.5
    rotate: float = 0.0
    sobel: float = 0.0
    noise: float = 0.0
    # SimCLR's figure 4 has a level per image, and no numbers: our own, about torchvision's GaussianNoise(sigma=0.1).
    noise_sigma: tuple[float, float] = (0.0, 0.2)
    cutout: float = 0.0
    # DeVries and Taylor 2017 (arXiv 1708.04552), section 4: 16 of CIFAR-10's 32 pixels. They fill with the training
    # images' mean, 0 once normalised; our pixels are not yet, and of CIFAR and ImageNet that is .4 to .5 a channel.
    cutout_side: float = 0.5
    cutout_fill: float = 0.5

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grey", "blur", "solarise", "rotate", "sobel", "noise", "cutout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability in [0, 1], not {getattr(self, name)}")
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise ValueError(f"jitter strengths must be at least 0, and hue at most 0.5: {self}")
        if self.crop_scale is not None and not 0 < self.crop_scale[0] <= self.crop_scale[1]:
            raise ValueError(f"crop_scale must be (low, high) with 0 < low <= high, not {self.crop_scale}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1] or not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise ValueError(f"crop_ratio and blur_sigma must be (low, high) with 0 < low <= high: {self}")
        if not 0 <= self.noise_sigma[0] <= self.noise_sigma[1]:
            raise ValueError(f"noise_sigma must be (low, high) with 0 <= low <= high, not {self.noise_sigma}")
        if not (0 < self.cutout_side <= 1 and 0 <= self.cutout_fill <= 1):
            raise ValueError(f"cutout_side is a share in (0, 1], cutout_fill a pixel in [0, 1]: {self}")


# Each operation's switch and the settings that go with it: a merge takes or leaves them together.
_OPERATIONS = {
    "crop_scale": ("crop_scale", "crop_ratio"),
    "flip": ("flip",),
    "jitter": ("jitter", "brightness", "contrast", "saturation", "hue"),
    "grey": ("grey", "grey_first"),
    "blur": ("blur", "blur_sigma", "blur_kernel"),
    "solarise": ("solarise", "solarise_threshold"),
    "rotate": ("rotate",),
    "sobel": ("sobel",),
    "noise": ("noise", "noise_sigma"),
    "cutout": ("cutout", "cutout_side", "cutout_fill"),
}


def merge(left: Policy, right: Policy) -> Policy:
    """``left`` with every operation that ``right`` switches on, at the right one's settings."""
    settings = [name for switch, group in _OPERATIONS.items() if getattr(right, switch) for name in group]
    return replace(left, **{name: getattr(right, name) for name in settings})


def _jitter(brightness: float, contrast: float, saturation: float, hue: float, probability: float = 0.8) -> Policy:
    return Policy(jitter=probability, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)


_CROP = Policy(crop_scale=(0.08, 1.0))
_CROP_LARGE = Policy(crop_scale=(0.2, 1.0))
_FLIP = Policy(flip=0.5)
_COLOUR = _jitter(0.4, 0.4, 0.4, 0.1)
_COLOUR_STRONG = _jitter(0.8, 0.8, 0.8, 0.2)
_COLOUR_ALWAYS = _jitter(0.4, 0.4, 0.4, 0.4, probability=1.0)
_COLOUR_BYOL = _jitter(0.4, 0.4, 0.2, 0.1)
_COLOUR_PIRL = _jitter(0.4, 0.4, 0.4, 0.2, probability=1.0)
_GREY = Policy(grey=0.2)
_BLUR = Policy(blur=0.5)
_SOLARISE = Policy(solarise=0.2)


def _all(*pieces: Policy) -> Policy:
    merged = Policy()
    for piece in pieces:
        merged = merge(merged, piece)
    return merged


def _byol(crop: Policy) -> tuple[Policy, Policy]:
    base = _all(crop, _FLIP, _COLOUR_BYOL, _GREY)
    return merge(base, Policy(blur=1.0)), _all(base, Policy(blur=0.1), Policy(solarise=0.2))


ONE_BRANCH = "one_branch"

# name -> (one line, one policy, the pair of an asymmetric recipe, or three: the third is that of small crops)
PIECES: dict[str, tuple[str, tuple[Policy, ...]]] = {
    "none": ("the image resized and centre cropped, nothing random", (Policy(),)),
    "crop": ("random resized crop of 8 to 100 % of the area", (_CROP,)),
    "crop_large": ("random resized crop of 20 to 100 % of the area", (_CROP_LARGE,)),
    "flip": ("horizontal flip of every second image", (_FLIP,)),
    "colour": ("jitter .4 .4 .4 .1 of 80 % of the images: SimCLR's strength 0.5", (_COLOUR,)),
    "colour_strong": ("jitter .8 .8 .8 .2 of 80 % of the images: SimCLR's strength 1", (_COLOUR_STRONG,)),
    "grey": ("20 % of the images in grey", (_GREY,)),
    "grey_rare": ("10 % of the images in grey, as W-MSE's authors have it on CIFAR", (Policy(grey=0.1),)),
    "blur": ("Gaussian blur of every second image, sigma .1 to 2 pixels", (_BLUR,)),
    "solarise": ("20 % of the images with pixels from 0.5 inverted", (_SOLARISE,)),
    # What else SimCLR composes in figure 5, which gives no numbers. As in their papers, cutout (arXiv 1708.04552) of
    # every image, and rotation (RotNet, arXiv 1803.07728) by any of the four; sobel and noise as often as its blur.
    "rotate": ("rotation by 0, 90, 180 or 270 degrees", (Policy(rotate=1.0),)),
    "sobel": ("edges of every second image, the Sobel gradient's magnitude in grey", (Policy(sobel=0.5),)),
    "noise": ("Gaussian noise on every second image, sigma 0 to .2 of the range of pixels", (Policy(noise=0.5),)),
    "cutout": ("a grey square of half the side anywhere in each image, cut at the border", (Policy(cutout=1.0),)),
    # SimCLR, section 3.1. There both branches begin with one random crop in common, here with what `none` makes.
    ONE_BRANCH: ("what stands left of it in the first view only, as in SimCLR's figure 5", (Policy(),)),
    # Chen et al. 2020 (arXiv 2002.05709), appendix A; kernel side/10, sigma U(.1, 2).
    "simclr": (
        "SimCLR on ImageNet: strength 1, with blur",
        (_all(_CROP, _FLIP, _COLOUR_STRONG, _GREY, _BLUR),),
    ),
    # The same paper, appendix B.9: strength 0.5 and no blur.
    "simclr_cifar": ("SimCLR on CIFAR: strength 0.5, no blur", (_all(_CROP, _FLIP, _COLOUR, _GREY),)),
    # facebookresearch/moco, main_moco.py without --aug-plus: grey, then jitter on every image.
    "moco_v1": (
        "MoCo v1 on ImageNet: grey before jitter .4 .4 .4 .4 of every image",
        (_all(_CROP_LARGE, _FLIP, _COLOUR_ALWAYS, Policy(grey=0.2, grey_first=True)),),
    ),
    # The same script with --aug-plus. Its blur is PIL's, untruncated; at 224 pixels a kernel of side/10 holds as much.
    "moco_v2": (
        "MoCo v2, SimSiam and PCL v2 on ImageNet",
        (_all(_CROP_LARGE, _FLIP, _COLOUR, _GREY, _BLUR),),
    ),
    # KyleZheng1997/ReSSL: the key's view without colour and blur; small crops are queries, as the first.
    "ressl": (
        "ReSSL on ImageNet: MoCo v2's first view and small crops, a second of crops of 20 to 100 % and flips alone",
        (
            _all(_CROP_LARGE, _FLIP, _COLOUR, _GREY, _BLUR),
            _all(_CROP_LARGE, _FLIP),
            _all(_FLIP, _COLOUR, _GREY, _BLUR),
        ),
    ),
    # facebookresearch/moco, the CIFAR demo notebook: torchvision's default crop area.
    "moco_cifar": ("MoCo's CIFAR notebook", (_all(_CROP, _FLIP, _COLOUR, _GREY),)),
    # zhirongw/lemniscate.pytorch, main.py.
    "instdisc": (
        "InstDisc on ImageNet: as MoCo v1",
        (_all(_CROP_LARGE, _FLIP, _COLOUR_ALWAYS, Policy(grey=0.2, grey_first=True)),),
    ),
    # zhirongw/lemniscate.pytorch, cifar.py: no flip, and jitter first.
    "instdisc_cifar": ("InstDisc on CIFAR: no flip, jitter before grey", (_all(_CROP_LARGE, _COLOUR_ALWAYS, _GREY),)),
    # Grill et al. 2020 (arXiv 2006.07733), table 6; Barlow Twins and VICReg take it over.
    "byol": ("BYOL's pair: blur 1.0 and .1, solarise 0 and .2", _byol(_CROP)),
    # facebookresearch/moco-v3, main_moco.py with --crop-min .2, the setting of its ResNet-50.
    "moco_v3": ("MoCo v3's pair: BYOL's with crops of 20 to 100 % of the area", _byol(_CROP_LARGE)),
    # Caron et al. 2020 (arXiv 2006.09882), section 3.2 and appendix A; facebookresearch/swav, main_swav.py.
    "swav": (
        "SwAV's large crops, 14 to 100 % of the area; add +6x96 for its multi-crop",
        (_all(Policy(crop_scale=(0.14, 1.0)), _FLIP, _COLOUR_STRONG, _GREY, _BLUR),),
    ),
    # Caron et al. 2021 (arXiv 2104.14294); facebookresearch/dino, main_dino.py: BYOL's pair, and small crops apart.
    "dino": (
        "DINO's three kinds of view: BYOL's pair with crops of 40 to 100 % of the area, small crops with blur .5",
        (*_byol(Policy(crop_scale=(0.4, 1.0))), _all(_FLIP, _COLOUR_BYOL, _GREY, _BLUR)),
    ),
    # rbalestr-lab/lejepa, README: all views alike. VISReg's is the same but for a hue of .05.
    "lejepa": (
        "LeJEPA on ImageNet, 30 to 100 % of the area; add +6x98@.05-.3 for its small crops",
        (_all(Policy(crop_scale=(0.3, 1.0)), _FLIP, _COLOUR_BYOL, _GREY, _BLUR, _SOLARISE),),
    ),
    # What masked image models have: facebookresearch/mae, microsoft/SimMIM and facebookresearch/ijepa.
    "mae": ("MAE: crops of 20 to 100 % of the area, and flips", (_all(_CROP_LARGE, _FLIP),)),
    "simmim": ("SimMIM: crops of 67 to 100 % of the area, and flips", (_all(Policy(crop_scale=(0.67, 1.0)), _FLIP),)),
    "ijepa": ("I-JEPA: crops of 30 to 100 % of the area, and nothing else", (Policy(crop_scale=(0.3, 1.0)),)),
    # facebookresearch/vissl, pirl_jigsaw_4node_resnet50.yaml, without its photometric noise.
    "pirl": (
        "PIRL on ImageNet: jitter .4 .4 .4 .2 of every image",
        (_all(_CROP, _FLIP, _COLOUR_PIRL, _GREY),),
    ),
}


def describe(policy: Policy) -> dict[str, Any]:
    """The policy's settings as plain JSON data: only of operations switched on, so that two records compare by eye."""
    values = asdict(policy)
    on = {name for switch, group in _OPERATIONS.items() if values[switch] for name in group}
    return {
        field.name: list(values[field.name]) if isinstance(values[field.name], tuple) else values[field.name]
        for field in fields(policy)
        if field.name in on
    }


def blur_kernel_size(policy: Policy, size: int) -> int:
    """Taps of the blur for a view of ``size`` pixels: the largest odd number within a share of it (at 224: 23), >= 3.

    SimCLR's rule, ``2 * (int(size / 10) // 2) + 1``.
    """
    return max(3, 2 * (int(size * policy.blur_kernel) // 2) + 1)
