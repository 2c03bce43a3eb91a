"""Batched views: uint8 images in, float32 in [0, 1] out, on the device the images are on.

Each operation is torchvision's own of the same name on a float image (torchvision.transforms.v2.functional), with
parameters that differ per image; sobel is skimage.filters.sobel of the grey image, cutout is its authors'. Nothing
loops over images and nothing waits for a GPU: which images an operation hits is decided on the CPU, where the
parameters are. Resizing, colour and blur are matrix products: with TF32 switched on for those, a GPU rounds pixels to
about an eighth of an 8-bit step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmark.augment.parameters import CONTRAST, HUE, SATURATION, Parameters
from benchmark.augment.policies import Policy, blur_kernel_size

GREY = (0.2989, 0.587, 0.114)  # of red, green, blue: torchvision.transforms.v2.functional.rgb_to_grayscale
# Values that a CPU works on at a time: 4 MB a buffer stay in cache, and below the size that malloc gives back to the
# system after each operation. Measured twice as fast as a batch of 4,096 at once, on one core.
CACHED = 1 << 20
SPLITMIX = tuple(odd - (1 << 64) for odd in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))  # as int64


def augment(images: Tensor, policy: Policy, parameters: Parameters, size: int) -> Tensor:
    """One view (n, 3, size, size) float32 in [0, 1] of uint8 ``images`` (n, 3, H, W), on their device.

    ``parameters`` are those of these n images, drawn for their height and width.
    """
    if len(parameters) != len(images):
        raise ValueError(f"{len(images)} images, but parameters for {len(parameters)}")

    def augment_chunk(start: int, stop: int) -> Tensor:
        return _augment(images[start:stop], policy, parameters.slice(start, stop), size)

    return map_chunks(images, 3 * size * size, augment_chunk)


def map_chunks(images: Tensor, values: int, make: Callable[[int, int], Tensor]) -> Tensor:
    """``make(start, stop)`` of all uint8 ``images``, each of which becomes ``values`` numbers: on a CPU, of some images
    at a time."""
    count, chunk = len(images), max(1, CACHED // values)
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, not {images.dtype}")
    with torch.autocast(images.device.type, enabled=False):
        if images.device.type != "cpu" or count <= chunk:
            return make(0, count)
        first = make(0, chunk)
        views = first.new_empty(count, *first.shape[1:])
        views[:chunk] = first
        for start in range(chunk, count, chunk):
            stop = min(start + chunk, count)
            views[start:stop] = make(start, stop)
        return views


def resize(images: Tensor, size: int) -> Tensor:
    """The un-augmented view (n, 3, size, size) float32 in [0, 1]: shorter side resized, then the centre cropped."""
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8, not {images.dtype}")
    height, width = images.shape[-2:]
    if height == width == size:
        return images.float().div_(255)

    def along(side: int) -> Tensor:
        # torchvision's Resize cuts the longer side to an integer, its CenterCrop rounds the offset half to even
        grid = int(size * side / min(height, width))
        span = torch.tensor([[0.0, side]])
        offset = round((grid - size) / 2)
        return interpolation(span.to(images.device, non_blocking=True), side, grid, offset, size)

    with torch.autocast(images.device.type, enabled=False):
        return interpolate(images, along(height), along(width))


def _augment(images: Tensor, policy: Policy, parameters: Parameters, size: int) -> Tensor:
    if policy.crop_scale is None:
        x = resize(images, size)
        _apply(x, parameters.flip, lambda some: some.flip(-1))
    else:
        x = _crop_and_flip(images, parameters, size)
    return apply_after_flip(x, policy, parameters)


def apply_after_flip(x: Tensor, policy: Policy, parameters: Parameters) -> Tensor:
    """What follows crop and flip: all other operations, of ``x`` (n, 3, S, S), which may be written over."""
    if policy.rotate:
        for turns in (1, 2, 3):
            _apply(x, parameters.rotate == turns, partial(torch.rot90, k=turns, dims=(2, 3)))
    x = colour(x, policy, parameters)
    _apply(x, parameters.sobel, _sobel)
    _apply(x, parameters.noise, lambda some: _add_noise(some, parameters))
    _apply(x, parameters.cutout, lambda some: _cut_out(some, policy, parameters))
    return x


def colour(x: Tensor, policy: Policy, parameters: Parameters) -> Tensor:
    """Jitter and grey, blur, solarise, of ``x`` (n, 3, S, S), which may be written over."""
    if policy.grey_first:
        _apply(x, parameters.grey, _grey)
    if policy.jitter:
        x = _jitter(x, policy, parameters)
    if not policy.grey_first:
        _apply(x, parameters.grey, _grey)
    _apply(x, parameters.blur, lambda some: _blur(some, blur_kernel_size(policy, x.shape[-1]), parameters))
    _apply(x, parameters.solarise, lambda some: torch.where(some >= policy.solarise_threshold, 1 - some, some))
    return x


def _apply(x: Tensor, hit: Tensor, operation: Callable[[Tensor], Tensor]) -> None:
    """Write ``operation`` of the images that are ``hit`` (n,), a CPU mask, back into ``x`` (n, 3, H, W)."""
    index = hit.nonzero().squeeze(1)
    if len(index):
        index = index.to(x.device, non_blocking=True)
        x.index_copy_(0, index, operation(x.index_select(0, index)))


# Geometry


def _crop_and_flip(images: Tensor, parameters: Parameters, size: int) -> Tensor:
    """resized_crop(antialias=True) and horizontal_flip: the flip is the reversed order of a matrix's rows."""
    height, width = images.shape[-2:]
    box = parameters.box.float().to(images.device, non_blocking=True)
    flip = parameters.flip.to(images.device, non_blocking=True)
    rows = interpolation(box[:, 0::2], height, size, 0, size)
    columns = interpolation(box[:, 1::2], width, size, 0, size, flip)
    return interpolate(images, rows, columns)


def interpolation(
    span: Tensor, source: int, grid: int, offset: int | Tensor, size: int, flip: Tensor | None = None
) -> Tensor:
    """Matrices (n, size, source) of antialiased linear interpolation along one side, each row's sum 1.

    ``span`` (n, 2) is the start and length of the piece of the ``source`` pixels that is resized to ``grid`` pixels;
    of those, ``size`` from ``offset`` on, one number or (n, 1), are made. The triangle filter is as wide as an output
    pixel, at least one source pixel, and what it covers outside the piece is left out:
    torch.nn.functional.interpolate(mode="bilinear", antialias=True, align_corners=False).
    """
    start, length = span[:, :1], span[:, 1:]
    scale = length / grid
    reach = scale.clamp(min=1)
    # both in units of the reach: exact half numbers for the centres where shrinking, for the pixels where enlarging
    centre = (torch.arange(size, device=span.device) + (offset + 0.5)) * (scale / reach)
    if flip is not None:
        centre = torch.where(flip[:, None], centre.flip(1), centre)
    pixel = torch.arange(source, device=span.device) + 0.5 - start
    # an infinite distance is a weight of 0: cheaper than a mask over the whole matrix
    pixel = torch.where((pixel > 0) & (pixel < length), pixel / reach, torch.inf)
    weight = centre[:, :, None] - pixel[:, None, :]
    weight = weight.abs_().clamp_(max=1).neg_().add_(1)
    return weight.div_(weight.sum(2, keepdim=True))


def interpolate(images: Tensor, rows: Tensor, columns: Tensor, pieces: int = 1) -> Tensor:
    """``rows`` (n * pieces, size, H) times uint8 ``images`` (n, 3, H, W) times ``columns`` (n * pieces, size, W)
    transposed: (n * pieces, 3, size, size), the pieces of one image together.

    Instead of n matrices, one serves all images alike.
    """
    count, channels, height, width = images.shape
    size = columns.shape[1]
    x = images.float().reshape(count, channels * height, width)
    x = torch.matmul(x, columns.reshape(len(columns) // pieces, pieces * size, width).transpose(1, 2))
    x = x.view(count, channels, height, pieces, size).permute(0, 3, 1, 2, 4)
    # weights that sum to 1 only up to rounding can leave the range by some 1e-7
    return torch.matmul(rows.div(255).view(len(rows) // pieces, pieces, 1, size, height), x).clamp_(0, 1).flatten(0, 1)


# Colour


def _grey(x: Tensor) -> Tensor:
    red, green, blue = x.unbind(1)
    return red.mul(GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2]).unsqueeze(1).expand_as(x)


def _jitter(x: Tensor, policy: Policy, parameters: Parameters) -> Tensor:
    """Four rounds, in each of which every image gets the operation that its own order has there.

    adjust_brightness, adjust_saturation and adjust_contrast are a blend with black, with the image's grey and with its
    mean grey: one 3 x 3 matrix of the channels per image, plus a constant, then the clamp. Where an image's turn is
    hue, or it is not jittered, the matrix is the identity.
    """
    shape, order, device = x.shape, parameters.order, x.device
    factor = torch.where(parameters.jitter[:, None] & (order != HUE), parameters.factor.gather(1, order), 1)
    to_grey = torch.where(order == SATURATION, 1 - factor, 0)
    to_mean = torch.where(order == CONTRAST, 1 - factor, 0)
    matrix = factor[..., None, None] * torch.eye(3) + to_grey[..., None, None] * torch.tensor(GREY)
    matrices = matrix.transpose(0, 1).contiguous().to(device, non_blocking=True)
    means = (to_mean[..., None] * torch.tensor(GREY)).to(device, non_blocking=True)
    turn = parameters.factor[:, HUE]
    for k in range(4):
        flat = x.flatten(2)
        x = torch.bmm(matrices[k], flat)
        if policy.contrast:
            x.add_((flat.mean(2) * means[:, k]).sum(1)[:, None, None])
        x = x.clamp_(0, 1).view(shape)
        if policy.hue:
            hit = parameters.jitter & (order[:, k] == HUE)
            turns = turn[hit].to(device, non_blocking=True)
            _apply(x, hit, partial(_turn_hue, turns=turns))
    return x


def _turn_hue(x: Tensor, turns: Tensor) -> Tensor:
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
    own = torch.tensor([0.0, 2.0, 4.0]).view(3, 1, 1).to(x.device, non_blocking=True)
    share = (hue[:, None] - own).abs_().sub_(3).abs_().sub_(1).clamp_(0, 1)
    return torch.addcmul(low[:, None], share, chroma[:, None])


# Blur


def _blur(x: Tensor, taps: int, parameters: Parameters) -> Tensor:
    """gaussian_blur of ``x`` (m, 3, S, S), the images that ``parameters.blur`` hits, reflecting at the border."""
    size, device = x.shape[-1], x.device
    sigma = parameters.sigma[parameters.blur].to(device, non_blocking=True)
    offset = torch.arange(taps, device=device) - taps // 2
    kernel = (-0.5 * (offset / sigma[:, None]) ** 2).softmax(1)
    pixel = torch.arange(size, device=device)
    source = size - 1 - (size - 1 - (pixel + offset[:, None]).abs()).abs()  # (taps, S), reflected
    place = (source[:, :, None] == pixel).float().view(taps, size * size)
    band = (kernel @ place).view(-1, size, size)
    x = torch.bmm(x.view(len(x), 3 * size, size), band.transpose(1, 2)).view_as(x)
    return torch.matmul(band[:, None], x).clamp_(0, 1)


# Edges, noise, holes


def _sobel(x: Tensor) -> Tensor:
    """Magnitude of the gradient of grey ``x`` (m, 3, S, S), thrice: sqrt((dy^2 + dx^2) / 2) of derivatives in [-1, 1].

    Kernels (1, 2, 1) / 4 and (1, 0, -1); at the border, pixels are repeated.
    """
    grey = functional.pad(_grey(x)[:, :1], (1, 1, 1, 1), mode="replicate")
    down = grey[:, :, 2:] - grey[:, :, :-2]
    across = grey[..., 2:] - grey[..., :-2]
    down = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 4
    across = (across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]) / 4
    return torch.hypot(down, across).div_(math.sqrt(2)).clamp_(max=1).expand_as(x)


def _add_noise(x: Tensor, parameters: Parameters) -> Tensor:
    """``x`` (m, 3, S, S), the images that ``parameters.noise`` hits, plus Gaussian noise, clamped: gaussian_noise."""
    hit, device = parameters.noise, x.device
    sigma = parameters.noise_sigma[hit].to(device, non_blocking=True)
    noise = normals(parameters.noise_seed[hit].to(device, non_blocking=True), x[0].numel())
    return torch.addcmul(x, noise.view_as(x), sigma[:, None, None, None]).clamp_(0, 1)


def normals(seed: Tensor, count: int) -> Tensor:
    """(m, count) float32 standard normal numbers of each ``seed`` (m,) int64, on its device.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): its k-th number needs none before it, so that an image's noise is
    the same on every device and whatever images stand beside it. The upper 23 bits, through the inverse of the normal
    distribution; int64 wraps around, and its right shift, which repeats the sign, is masked.
    """
    z = seed[:, None] + SPLITMIX[0] * torch.arange(1, count + 1, device=seed.device)
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * SPLITMIX[1]
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * SPLITMIX[2]
    return (z >> 41).float().add_(0.5).div_(1 << 22).erfinv_().mul_(math.sqrt(2))


def _cut_out(x: Tensor, policy: Policy, parameters: Parameters) -> Tensor:
    """``x`` (m, 3, S, S), the images that ``parameters.cutout`` hits, with a square filled in around a pixel of each,
    of which what lies outside the image is lost (arXiv:1708.04552, section 3.1; uoguelph-mlrg/Cutout)."""
    size, side = x.shape[-1], max(1, round(policy.cutout_side * x.shape[-1]))
    start = (parameters.cutout_centre[parameters.cutout] * size).long() - side // 2
    place = torch.arange(size, device=x.device) - start.to(x.device, non_blocking=True)[..., None]  # (m, 2, S)
    down, across = ((place >= 0) & (place < side)).unbind(1)
    return x.masked_fill((down[:, :, None] & across[:, None, :])[:, None], policy.cutout_fill)
