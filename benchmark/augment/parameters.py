"""Every random number of a batch's views, drawn on the CPU for the whole global batch before it is cut up.

A rank or a micro-batch takes its slice, so that views depend neither on the world size nor on the workers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from benchmark import seeds
from benchmark.augment.policies import Policy

ATTEMPTS = 10  # torchvision.transforms.RandomResizedCrop tries so often before it falls back to a central crop
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


@dataclass(frozen=True)
class Parameters:
    """What happens to each of ``count`` images; CPU tensors with that leading size."""

    box: Tensor  # (count, 4) int64: top, left, height, width of the crop in pixels of the source
    flip: Tensor  # (count,) bool
    jitter: Tensor  # (count,) bool
    factor: Tensor  # (count, 4) float32: of brightness, contrast, saturation; the hue's shift in turns
    order: Tensor  # (count, 4) int64: which of the four comes first, second, third, fourth
    grey: Tensor  # (count,) bool
    blur: Tensor  # (count,) bool
    sigma: Tensor  # (count,) float32, in pixels of the view
    solarise: Tensor  # (count,) bool
    rotate: Tensor  # (count,) int64: quarter turns to the left
    sobel: Tensor  # (count,) bool
    noise: Tensor  # (count,) bool
    noise_sigma: Tensor  # (count,) float32, of the range of pixels
    noise_seed: Tensor  # (count,) int64, of all the image's normal numbers
    cutout: Tensor  # (count,) bool
    cutout_centre: Tensor  # (count, 2) float64 in [0, 1): down and across, as a share of the view's side

    def __len__(self) -> int:
        return len(self.flip)

    def slice(self, start: int, stop: int) -> Parameters:
        """The parameters of the images ``start`` to ``stop``: the share of a rank or of a micro-batch."""
        return type(self)(*(value[start:stop] for value in self.tensors()))

    def tensors(self) -> list[Tensor]:
        """As they stand above."""
        return [getattr(self, field.name) for field in fields(self)]

    @staticmethod
    def place(tensors: Sequence[Tensor]) -> StaticParameters:
        """The same of tensors that lie on the images' device."""
        return StaticParameters(*tensors)


class StaticParameters(Parameters):
    """The same on the images' device. Every operation is then done to all images and kept where it hits: the same
    launches for every batch."""


WORD = 8  # bytes; each tensor of a pack begins at a multiple of them


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of CPU ``tensors`` one after the other as bytes (b,), for one copy to a device."""
    flat = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors]
    return torch.cat([piece for part in flat for piece in (part, part.new_zeros(-len(part) % WORD))])


def unpack(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """What :func:`pack` made of tensors of the types and shapes of ``like``, as views of ``packed``."""
    views, start = list[Tensor](), 0
    for tensor in like:
        stop = start + tensor.nbytes
        views.append(packed[start:stop].view(tensor.dtype).view(tensor.shape))
        start = stop + -tensor.nbytes % WORD
    return views


Side = int | Tensor  # pixels of the sources: of all alike, or (count,) of each


def draw(policy: Policy, count: int, height: Side, width: Side, generator: torch.Generator) -> Parameters:
    """Parameters of one view of ``count`` images of ``height`` x ``width`` pixels, by torchvision's sampling rules.

    Every call takes the same number of random numbers per image, whatever the policy and the values: a later draw from
    the generator is the same, and policies with one operation more or less share all other choices under one seed.
    """
    return draw_with(draw_boxes(policy, count, height, width, generator), policy, generator)


def draw_with(box: Tensor, policy: Policy, generator: torch.Generator) -> Parameters:
    """Parameters of one view that crops to ``box`` (count, 4): everything but the crop is drawn."""
    strength = torch.tensor([policy.brightness, policy.contrast, policy.saturation], dtype=torch.float64)
    low = torch.cat([(1 - strength).clamp(min=0), torch.tensor([-policy.hue], dtype=torch.float64)])
    high = torch.cat([1 + strength, torch.tensor([policy.hue], dtype=torch.float64)])

    def uniform(*shape: int, stream: torch.Generator = generator) -> Tensor:
        return draw_uniforms((len(box), *shape), stream)

    later = _fork(generator)
    return Parameters(
        box=box,
        flip=uniform() < policy.flip,
        jitter=uniform() < policy.jitter,
        factor=_interpolate(low, high, uniform(4)).float(),
        order=uniform(4).argsort(dim=1),
        grey=uniform() < policy.grey,
        blur=uniform() < policy.blur,
        sigma=_interpolate(*policy.blur_sigma, uniform()).float(),
        solarise=uniform() < policy.solarise,
        rotate=(uniform(stream=later) < policy.rotate) * (4 * uniform(stream=later)).long(),
        sobel=uniform(stream=later) < policy.sobel,
        noise=uniform(stream=later) < policy.noise,
        noise_sigma=_interpolate(*policy.noise_sigma, uniform(stream=later)).float(),
        noise_seed=(2**53 * uniform(stream=later)).long(),
        cutout=uniform(stream=later) < policy.cutout,
        cutout_centre=uniform(2, stream=later),
    )


def _fork(generator: torch.Generator) -> torch.Generator:
    """A stream of its own, for the operations that came after the first records: all else is drawn as it was there.

    Seeded by the number that ``generator`` gives next, and still gives.
    """
    copy = torch.Generator().set_state(generator.get_state())
    return seeds.generator("beside", int(torch.randint(2**62, (), generator=copy)))


def draw_uniforms(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1). float64, so that a position scaled to k choices can't round up to k."""
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _interpolate(low: Tensor | float, high: Tensor | float, uniform: Tensor) -> Tensor:
    return low + (high - low) * uniform


def draw_boxes(policy: Policy, count: int, height: Side, width: Side, generator: torch.Generator) -> Tensor:
    """Boxes (count, 4), as torchvision.transforms.RandomResizedCrop.get_params draws them.

    ``shape`` (count, 2, attempts) decides on area and aspect ratio, ``position`` (count, 2) on the place: the first
    attempt that fits counts, and a central crop of the nearest allowed ratio where none does.
    """
    shape, position = draw_uniforms((count, 2, ATTEMPTS), generator), draw_uniforms((count, 2), generator)
    sides = torch.stack([torch.as_tensor(side).expand(count) for side in (height, width)], dim=1).double()
    if policy.crop_scale is None:
        return torch.cat([torch.zeros_like(sides), sides], dim=1).long()
    area = sides.prod(dim=1, keepdim=True) * _interpolate(*policy.crop_scale, shape[:, 0])
    low, high = policy.crop_ratio
    ratio = _interpolate(math.log(low), math.log(high), shape[:, 1]).exp()
    heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (widths > 0) & (widths <= sides[:, 1:]) & (heights > 0) & (heights <= sides[:, :1])
    first = fits.int().argmax(dim=1, keepdim=True)  # the first of equal maxima
    size = torch.cat([heights.gather(1, first), widths.gather(1, first)], dim=1)
    corner = (position * (sides - size + 1)).floor()
    central = _centre_boxes(policy, sides)
    middle = torch.cat([((sides - central) / 2).floor(), central], dim=1)
    return torch.where(fits.any(dim=1, keepdim=True), torch.cat([corner, size], dim=1), middle).long()


def _centre_boxes(policy: Policy, sides: Tensor) -> Tensor:
    """(count, 2) height and width of the largest central crop whose aspect ratio is allowed, as float64."""
    (low, high), (height, width) = policy.crop_ratio, sides.unbind(1)
    flat, tall = torch.minimum(height, (width / low).round()), torch.minimum(width, (height * high).round())
    return torch.stack([flat, tall], dim=1)
