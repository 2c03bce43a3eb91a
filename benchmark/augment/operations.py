"""The operations one by one, as done to the images that they hit: (m, 3, S, S) float32 in [0, 1] in and out."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.augment.policies import Policy

GREY = (0.2989, 0.587, 0.114)  # of red, green, blue: torchvision.transforms.v2.functional.rgb_to_grayscale
SPLITMIX = tuple(odd - (1 << 64) for odd in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))  # as int64


@lru_cache
def make_constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(k,) float32, copied to ``device`` once."""
    return torch.tensor(values, device=device)


def to_grey(x: Tensor) -> Tensor:
    """Each channel alike, as rgb_to_grayscale has it."""
    red, green, blue = x.unbind(1)
    return red.mul(GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2]).unsqueeze(1).expand_as(x)


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """adjust_hue of ``x`` (m, 3, H, W) by ``turns`` (m,) of the colour circle.

    Through HSV, in closed forms that are continuous: no look-up by sextant, and no jump where rounding puts a hue on
    the other side of a border. With channels scaled to (c - low) / chroma, a hue is 1 - red + green + blue sextants
    away from red, towards green where green is above blue. Each channel is full within one sextant of its own hue (0,
    2 or 4) and falls to nothing over the next.
    """
    red, green, blue = x.unbind(1)
    low = torch.minimum(red, green)
    low = torch.minimum(low, blue, out=low)
    chroma = torch.maximum(red, green)
    chroma = torch.maximum(chroma, blue, out=chroma).sub_(low)
    hue = (green + blue).sub_(red).sub_(low)
    hue.div_(chroma.clamp(min=1e-30)).add_(1)  # a grey pixel has no hue: any will do
    hue.copysign_(green - blue).add_(6 * turns[:, None, None]).remainder_(6)
    peaks = make_constant((0.0, 2.0, 4.0), x.device).view(3, 1, 1)
    share = (hue[:, None] - peaks).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    return torch.addcmul(low[:, None], share, chroma[:, None])


def blur(x: Tensor, sigma: Tensor, taps: int) -> Tensor:
    """gaussian_blur of ``x`` (m, 3, S, S) by ``sigma`` (m,) pixels, reflecting at the border."""
    size, device = x.shape[-1], x.device
    offset = torch.arange(taps, device=device) - taps // 2
    kernel = (-0.5 * (offset / sigma[:, None]) ** 2).softmax(1)
    pixel = torch.arange(size, device=device)
    source = size - 1 - (size - 1 - (pixel + offset[:, None]).abs()).abs()  # (taps, S), reflected
    one_hot = (source[:, :, None] == pixel).float().view(taps, size * size)
    band = (kernel @ one_hot).view(-1, size, size)
    x = torch.bmm(x.view(len(x), 3 * size, size), band.transpose(1, 2)).view_as(x)
    return torch.matmul(band[:, None], x).clamp_(0, 1)


def sobel(x: Tensor) -> Tensor:
    """Magnitude of the gradient of grey ``x`` (m, 3, S, S), thrice: sqrt((dy^2 + dx^2) / 2) of derivatives in [-1, 1].

    Kernels (1, 2, 1) / 4 and (1, 0, -1); at the border, pixels are repeated.
    """
    padded = functional.pad(to_grey(x)[:, :1], (1, 1, 1, 1), mode="replicate")
    down = padded[:, :, 2:] - padded[:, :, :-2]
    across = padded[..., 2:] - padded[..., :-2]
    down = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 4
    across = (across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]) / 4
    return torch.hypot(down, across).div_(math.sqrt(2)).clamp_(max=1).expand_as(x)


def add_noise(x: Tensor, sigma: Tensor, seed: Tensor) -> Tensor:
    """``x`` (m, 3, S, S) plus Gaussian noise of ``sigma`` (m,), clamped: gaussian_noise."""
    noise = draw_normals(seed, x[0].numel())
    return torch.addcmul(x, noise.view_as(x), sigma[:, None, None, None]).clamp_(0, 1)


@torch.compiler.disable  # its compiler counts in numbers that do not wrap around
def draw_normals(seed: Tensor, count: int) -> Tensor:
    """(m, count) float32 standard normal numbers of each ``seed`` (m,) int64, on its device.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): its k-th number needs none before it, so that an image's noise is
    the same on every device and whatever images stand beside it. The upper 23 bits, through the inverse of the normal
    distribution; int64 wraps around, and its right shift, which repeats the sign, is masked.
    """
    z = seed[:, None] + SPLITMIX[0] * torch.arange(1, count + 1, device=seed.device)
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * SPLITMIX[1]
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * SPLITMIX[2]
    return (z >> 41).float().add_(0.5).div_(1 << 22).erfinv_().mul_(math.sqrt(2))


def cut_out(x: Tensor, centre: Tensor, policy: Policy) -> Tensor:
    """``x`` (m, 3, S, S) with a square filled in around a pixel of each, its ``centre`` (m, 2), of which what lies
    outside the image is lost (arXiv:1708.04552, section 3.1; uoguelph-mlrg/Cutout)."""
    size, side = x.shape[-1], max(1, round(policy.cutout_side * x.shape[-1]))
    start = (centre * size).long() - side // 2
    offset = torch.arange(size, device=x.device) - start[..., None]  # (m, 2, S)
    down, across = ((offset >= 0) & (offset < side)).unbind(1)
    return x.masked_fill((down[:, :, None] & across[:, None, :])[:, None], policy.cutout_fill)
