"""The jigsaw view of PIRL: nine patches of each image in a random order (arXiv:1912.01991, section 3.3).

A random crop is resized to a square of 3 x 3 cells; of each cell a patch at a random place is taken, and each patch is
flipped, jittered, greyed, blurred and so on on its own, so that neither edges nor colours say where it belongs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmark.augment.parameters import Parameters, Side, draw_boxes, draw_uniforms, draw_with
from benchmark.augment.policies import Policy
from benchmark.augment.transforms import apply_after_flip, interpolate, map_chunks, weigh_pixels

PATCHES = 9
CROP_SCALE = (0.6, 1.0)  # area of the crop that is cut into cells (facebookresearch/vissl)
# View size -> pixels of a cell and of a patch. 224 is the authors' (VISSL: 255 pixels for three cells, patches of 64),
# the others are our own; at 16 the cells are larger than a third, so that a small backbone has something to see.
GEOMETRY = {16: (10, 8), 32: (12, 10), 64: (22, 16), 96: (32, 24), 224: (85, 64)}
LEAST_PATCH = 4


@dataclass(frozen=True)
class Jigsaw:
    """What happens to the nine patches of each of ``count`` images; the patches of one image are neighbours."""

    patches: Parameters  # (9 * count): nine times the image's own box, everything else drawn per patch
    corner: Tensor  # (9 * count, 2) int64: top and left of the patch in the crop once that is 3 cells high and wide

    def slice(self, start: int, stop: int) -> Jigsaw:
        """The patches of the images ``start`` to ``stop``."""
        rows = slice(PATCHES * start, PATCHES * stop)
        return Jigsaw(self.patches.slice(rows.start, rows.stop), self.corner[rows])

    def tensors(self) -> list[Tensor]:
        """Those of the patches, then the corners."""
        return [*self.patches.tensors(), self.corner]

    @staticmethod
    def place(tensors: Sequence[Tensor]) -> Jigsaw:
        """The same of tensors that lie on the images' device."""
        return Jigsaw(Parameters.place(tensors[:-1]), tensors[-1])


def choose_geometry(size: int) -> tuple[int, int]:
    """(pixels of a cell, of a patch) for views of ``size`` pixels: scaled from the nearest size of the table."""
    near = min(GEOMETRY, key=lambda side: abs(side - size))
    cell, patch = (round(pixels * size / near) for pixels in GEOMETRY[near])
    cell = max(cell, LEAST_PATCH)
    return cell, min(max(patch, LEAST_PATCH), cell)


def draw(policy: Policy, count: int, height: Side, width: Side, size: int, generator: torch.Generator) -> Jigsaw:
    """Patches of ``count`` images of ``height`` x ``width`` pixels, in any of the 9! orders, image by image.

    A policy without crop takes the whole image. Takes equally many random numbers whatever the policy.
    """
    return _draw(policy, count, height, width, size, generator, shuffled=True)


def draw_in_order(
    policy: Policy, count: int, height: Side, width: Side, size: int, generator: torch.Generator
) -> Jigsaw:
    """The same patches, row by row from the top left."""
    return _draw(policy, count, height, width, size, generator, shuffled=False)


def _draw(
    policy: Policy, count: int, height: Side, width: Side, size: int, generator: torch.Generator, shuffled: bool
) -> Jigsaw:
    cell, patch = choose_geometry(size)
    if policy.crop_scale is not None:
        policy = replace(policy, crop_scale=CROP_SCALE)
    box = draw_boxes(policy, count, height, width, generator)
    order = draw_uniforms((count, PATCHES), generator).argsort(dim=1)
    order = (order if shuffled else torch.arange(PATCHES).expand_as(order)).flatten()
    offset = (draw_uniforms((count * PATCHES, 2), generator) * (cell - patch + 1)).long()
    corner = cell * torch.stack([order // 3, order % 3], dim=1) + offset
    return Jigsaw(draw_with(box.repeat_interleave(PATCHES, dim=0), policy, generator), corner)


def augment(images: Tensor, policy: Policy, parameters: Jigsaw, size: int) -> Tensor:
    """The view (n, 9, 3, p, p) float32 in [0, 1] of uint8 ``images`` (n, 3, H, W), on their device.

    p is the patch's size by :func:`geometry`; no more of the resized crop is made than the patches.
    """
    if len(parameters.corner) != PATCHES * len(images):
        raise ValueError(f"{len(images)} images, but {len(parameters.corner)} patches")
    _, patch = choose_geometry(size)

    def augment_chunk(start: int, stop: int) -> Tensor:
        chunk = parameters.slice(start, stop)
        x = apply_after_flip(_cut(images[start:stop], chunk, size), policy, chunk.patches)
        return x.unflatten(0, (stop - start, PATCHES))

    return map_chunks(images, PATCHES * 3 * patch * patch, augment_chunk)


def _cut(images: Tensor, parameters: Jigsaw, size: int) -> Tensor:
    """(9 n, 3, p, p): the patches, flipped."""
    cell, patch = choose_geometry(size)
    (height, width), device = images.shape[-2:], images.device
    box = parameters.patches.box.float().to(device, non_blocking=True)
    corner = parameters.corner.float().to(device, non_blocking=True)
    flip = parameters.patches.flip.to(device, non_blocking=True)
    rows = weigh_pixels(box[:, 0::2], height, 3 * cell, corner[:, :1], patch)
    columns = weigh_pixels(box[:, 1::2], width, 3 * cell, corner[:, 1:], patch, flip)
    return interpolate(images, rows, columns, PATCHES)
