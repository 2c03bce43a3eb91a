"""Any step's batch, made from its number alone: order, images by index, augmentation on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark import seeds
from benchmark.augment import jigsaw, transforms
from benchmark.augment.augmentation import Augmentation
from benchmark.augment.jigsaw import Jigsaw
from benchmark.augment.parameters import Parameters, Side, draw
from benchmark.augment.policies import Policy
from benchmark.data.files import Files, prefetch
from benchmark.data.source import Split
from benchmark.training.distributed import World
from methods.method import Batch

Drawn = Parameters | Jigsaw


class View(NamedTuple):
    """How one kind of view is made."""

    draw: Callable[[Policy, int, Side, Side, int, torch.Generator], Drawn]  # for count sources, at size pixels
    augment: Callable[[Tensor, Policy, Any, int], Tensor]  # of uint8 images with what was drawn for them


# The views that a method may ask for, by name: (n, 3, size, size), and nine patches (n, 9, 3, p, p),
# shuffled or in their places.
VIEWS = {
    "crop": View(lambda policy, n, height, width, _, g: draw(policy, n, height, width, g), transforms.augment),
    "jigsaw": View(jigsaw.draw, jigsaw.augment),
    "grid": View(jigsaw.draw_in_order, jigsaw.augment),
}


class Fetched(NamedTuple):
    """What a step needs from the disk, and all that is drawn for it; made on the CPU."""

    rows: Tensor  # (n,) int64, of the dataset
    images: list[Tensor]  # uint8, of each view its own where they are cropped as they are read; none from a memory
    drawn: list[Drawn]  # of each view


class BackboneInput(NamedTuple):
    """What a backbone gets of one image in one view."""

    what: str  # in the plural
    side: int  # pixels
    images: int = 1  # the patches of a jigsaw are nine


def backbone_inputs(views: tuple[str, ...], small: tuple[int, ...], size: int) -> list[BackboneInput]:
    """What a backbone gets of one image: the `views` of a method at `size` pixels, then the small crops."""
    large = [
        BackboneInput("views", size)
        if view == "crop"
        else BackboneInput("jigsaw patches", jigsaw.choose_geometry(size)[1], jigsaw.PATCHES)
        for view in views
    ]
    return large + [BackboneInput("small crops", side) for side in small]


@dataclass(frozen=True)
class Batches:
    """The training set, on the device or on a disk, as batches of views; `dtype` is that of the views."""

    split: Split
    views: tuple[str, ...]
    augmentation: Augmentation
    size: int
    batch_size: int
    seed: int
    mean: Tensor  # (3, 1, 1) that pixels in [0, 1] are normalised by: the training images', or those of the weights
    std: Tensor
    world: World
    device: torch.device
    dtype: torch.dtype
    labelled: bool

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch; the images that do not fill a last batch wait for the next epoch's order."""
        return len(self.split) // self.batch_size

    @property
    def views_per_image(self) -> int:
        """Views of an image in an epoch, small crops among them; a jigsaw is one."""
        return len(self.views) + len(self.augmentation.small)

    @property
    def pixels(self) -> int:
        """Pixels of an image that are encoded in an epoch, over all its views: what it costs."""
        return sum(
            part.images * part.side**2 for part in backbone_inputs(self.views, self.augmentation.small_sides, self.size)
        )

    def statistics(self) -> dict[str, list[float]]:
        """What pixels are normalised by, a number a channel, as records and checkpoints hold it."""
        return {"pixel_mean": self.mean.flatten().tolist(), "pixel_std": self.std.flatten().tolist()}

    def order(self, epoch: int) -> Tensor:
        """(N,) the order of the images in `epoch`."""
        return torch.randperm(len(self.split), generator=seeds.generator(self.seed, "order", epoch))

    def get(self, step: int, order: Tensor) -> Batch:
        """This rank's share of the global batch of `step`; `order` is that of its epoch."""
        return self.augment(self.fetch(step, order))

    def feed(
        self, start: int, stop: int, augment: Callable[[Fetched], Batch] | None = None
    ) -> Generator[Batch, None, None]:
        """The batches of the steps `start` to `stop`, by `augment` or its own. What comes from a disk is fetched ahead,
        while a step computes, and what is drawn for a GPU, which should not wait for it."""

        def steps() -> Iterator[tuple[int, Tensor]]:
            for epoch in range(start // self.per_epoch, math.ceil(stop / self.per_epoch)):
                order, first = self.order(epoch), epoch * self.per_epoch
                yield from ((s, order) for s in range(max(start, first), min(stop, first + self.per_epoch)))

        if isinstance(self.split.images, Tensor) and self.device.type == "cpu":
            yield from (self.get(step, order) for step, order in steps())
        else:
            yield from map(augment or self.augment, prefetch(lambda pair: self.fetch(*pair), steps()))

    def fetch(self, step: int, order: Tensor) -> Fetched:
        """The images of `step`, and how they will be augmented: drawn for the global batch and then sliced, so that
        it does not depend on the world."""
        position = step % self.per_epoch
        share = self.world.share(self.batch_size)
        index = order[position * self.batch_size : (position + 1) * self.batch_size][share]
        source = self.split.images
        if isinstance(source, Tensor):
            return Fetched(index, [], self._draw(step, share, *source.shape[2:]))
        if not isinstance(source, Files):
            images = source[index.to(source.device)]
            return Fetched(index, [images], self._draw(step, share, *images.shape[2:]))
        opened = source.open(index)
        sides = torch.ones(2, self.batch_size, dtype=torch.int64)  # other ranks' images are not opened, nor needed
        sides[:, share] = opened.sides.T
        drawn = self._draw(step, share, *sides)
        boxes = [parameters.box for parameters in drawn if isinstance(parameters, Parameters)]
        return Fetched(index, opened.crops(list(zip(boxes, self._sizes, strict=True))), drawn)

    def augment(self, fetched: Fetched) -> Batch:
        """The views, on the device."""
        index = fetched.rows.to(self.device, non_blocking=True)
        images = [self._send(part) for part in fetched.images]
        if isinstance(self.split.images, Tensor):
            images = [self.split.images[index.to(self.split.images.device)]]
        views = []
        for number, (name, size, drawn) in enumerate(zip(self._names, self._sizes, fetched.drawn, strict=True)):
            policy = self.augmentation.policy(number, len(self.views))
            if isinstance(self.split.images, Files):
                policy = replace(policy, crop_scale=None)  # it was cropped as it was read
            view = VIEWS[name].augment(images[number % len(images)], policy, drawn, size)
            views.append(self.normalise(view))
        return Batch(views, index, self.split.labels[index] if self.labelled else None)

    def _draw(self, step: int, share: slice, height: Side, width: Side) -> list[Drawn]:
        """One after the other from one generator: what a view draws does not depend on those behind it."""
        generator, drawn = seeds.generator(self.seed, "augmentation", step), []
        for number, (name, size) in enumerate(zip(self._names, self._sizes, strict=True)):
            policy = self.augmentation.policy(number, len(self.views))
            for_all_ranks = VIEWS[name].draw(policy, self.batch_size, height, width, size, generator)
            drawn.append(for_all_ranks.slice(share.start, share.stop))
        return drawn

    @property
    def _names(self) -> list[str]:
        """Of all views: the method's own, then the small crops."""
        return [*self.views, *("crop" for _ in self.augmentation.small)]

    @property
    def _sizes(self) -> list[int]:
        """Pixels of each view."""
        return [*(self.size for _ in self.views), *self.augmentation.small_sides]

    def _send(self, images: Tensor) -> Tensor:
        """`images` on the device, without waiting for it."""
        if images.device == self.device:
            return images
        return images.pin_memory().to(self.device, non_blocking=True)

    def normalise(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) or (n, 9, 3, p, p) in [0, 1] to zero mean and unit variance of the training pixels.

        In the engine's layout, channels last. Patches lie as methods encode them, all images' first patch first.
        """
        scaled = ((images - self.mean) / self.std).to(self.dtype)
        if scaled.dim() == 4:
            return scaled.contiguous(memory_format=torch.channels_last)
        by_patch = scaled.transpose(0, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return by_patch.unflatten(0, (scaled.shape[1], scaled.shape[0])).transpose(0, 1)
