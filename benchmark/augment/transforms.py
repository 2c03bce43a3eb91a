"""Batched views: uint8 images in, float32 in [0, 1] out, on the device the images are on.

Each operation is torchvision's own of the same name on a float image (torchvision.transforms.v2.functional), with
parameters that differ per image; sobel is skimage.filters.sobel of the grey image, cutout is its authors'. Nothing
loops over images and nothing waits for a GPU: which images an operation hits is decided on the CPU, where the
parameters are; or, with `StaticParameters`, every operation is done to all images and kept where it hits. Resizing,
colour and blur are matrix products: with TF32 switched on for those, a GPU rounds pixels to about an eighth of an 8-bit
step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmark.augment import operations
from benchmark.augment.parameters import CONTRAST, HUE, SATURATION, Parameters, StaticParameters
from benchmark.augment.policies import Policy, blur_kernel_size

# Values that a CPU works on at a time: 4 MB a buffer stay in cache, and below the size that malloc gives back to the
# system after each operation. Measured twice as fast as a batch of 4,096 at once, on one core.
CACHED = 1 << 20


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
        span = operations.make_constant((0.0, side), images.device)[None]
        offset = round((grid - size) / 2)
        return weigh_pixels(span, side, grid, offset, size)

    with torch.autocast(images.device.type, enabled=False):
        return interpolate(images, along(height), along(width))


def _augment(images: Tensor, policy: Policy, parameters: Parameters, size: int) -> Tensor:
    if policy.crop_scale is None:
        x = resize(images, size)
        _apply(x, parameters, parameters.flip, lambda some: some.flip(-1))
    else:
        x = _crop_and_flip(images, parameters, size)
    return apply_after_flip(x, policy, parameters)


def apply_after_flip(x: Tensor, policy: Policy, parameters: Parameters) -> Tensor:
    """What follows crop and flip: all other operations, of ``x`` (n, 3, S, S), which may be written over."""
    if policy.rotate:
        for turns in (1, 2, 3):
            _apply(x, parameters, parameters.rotate == turns, partial(torch.rot90, k=turns, dims=(2, 3)))
    x = apply_colour(x, policy, parameters)
    if policy.sobel:
        _apply(x, parameters, parameters.sobel, operations.sobel)
    if policy.noise:
        _apply(x, parameters, parameters.noise, operations.add_noise, parameters.noise_sigma, parameters.noise_seed)
    if policy.cutout:
        _apply(x, parameters, parameters.cutout, partial(operations.cut_out, policy=policy), parameters.cutout_centre)
    return x


def apply_colour(x: Tensor, policy: Policy, parameters: Parameters) -> Tensor:
    """Jitter and grey, blur, solarise, of ``x`` (n, 3, S, S), which may be written over."""
    if policy.grey and policy.grey_first:
        _apply(x, parameters, parameters.grey, operations.to_grey)
    if policy.jitter:
        x = _jitter(x, policy, parameters)
    if policy.grey and not policy.grey_first:
        _apply(x, parameters, parameters.grey, operations.to_grey)
    if policy.blur:
        taps = blur_kernel_size(policy, x.shape[-1])
        _apply(x, parameters, parameters.blur, partial(operations.blur, taps=taps), parameters.sigma)
    if policy.solarise:
        threshold = policy.solarise_threshold
        _apply(x, parameters, parameters.solarise, lambda some: torch.where(some >= threshold, 1 - some, some))
    return x


def _apply(x: Tensor, parameters: Parameters, hit: Tensor, operation: Callable[..., Tensor], *values: Tensor) -> None:
    """Write ``operation`` of the images that are ``hit`` (n,) back into ``x`` (n, 3, H, W).

    It is given those images and their ``values``; these and ``hit`` lie where ``parameters`` do.
    """
    if isinstance(parameters, StaticParameters):
        made = operation(x, *values)
        x.copy_(torch.where(hit[:, None, None, None], made, x))
        return
    index = hit.nonzero().squeeze(1)
    if len(index):
        selected = [value[index].to(x.device, non_blocking=True) for value in values]
        index = index.to(x.device, non_blocking=True)
        x.index_copy_(0, index, operation(x.index_select(0, index), *selected))


# Geometry


def _crop_and_flip(images: Tensor, parameters: Parameters, size: int) -> Tensor:
    """resized_crop(antialias=True) and horizontal_flip: the flip is the reversed order of a matrix's rows."""
    height, width = images.shape[-2:]
    box = parameters.box.float().to(images.device, non_blocking=True)
    flip = parameters.flip.to(images.device, non_blocking=True)
    rows = weigh_pixels(box[:, 0::2], height, size, 0, size)
    columns = weigh_pixels(box[:, 1::2], width, size, 0, size, flip)
    return interpolate(images, rows, columns)


def weigh_pixels(
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
    grey = operations.make_constant(operations.GREY, order.device)
    matrix = factor[..., None, None] * torch.eye(3, device=order.device) + to_grey[..., None, None] * grey
    matrices = matrix.transpose(0, 1).contiguous().to(device, non_blocking=True)
    means = (to_mean[..., None] * grey).to(device, non_blocking=True)
    turn = parameters.factor[:, HUE]
    for k in range(4):
        flat = x.flatten(2)
        x = torch.bmm(matrices[k], flat)
        if policy.contrast:
            x.add_((flat.mean(2) * means[:, k]).sum(1)[:, None, None])
        x = x.clamp_(0, 1).view(shape)
        if policy.hue:
            _apply(x, parameters, parameters.jitter & (order[:, k] == HUE), operations.turn_hue, turn)
    return x
