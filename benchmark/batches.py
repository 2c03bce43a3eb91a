"""Any step's batch, made from its number alone: order, gather by index, augmentation on the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from benchmark import seeds
from benchmark.augment import jigsaw, parameters, transforms
from benchmark.augment.policies import Augmentation, Policy
from benchmark.data.datasets import Split
from benchmark.distributed import World
from methods.method import Batch


def _crop(images: Tensor, policy: Policy, size: int, count: int, own: slice, generator: torch.Generator) -> Tensor:
    """The view (n, 3, size, size) of `images`, which are the rows `own` of a global batch of `count`."""
    drawn = parameters.draw(policy, count, images.shape[2], images.shape[3], generator)
    return transforms.augment(images, policy, drawn.slice(own.start, own.stop), size)


def _jigsaw(images: Tensor, policy: Policy, size: int, count: int, own: slice, generator: torch.Generator) -> Tensor:
    """The view (n, 9, 3, p, p), the same."""
    drawn = jigsaw.draw(policy, count, images.shape[2], images.shape[3], size, generator)
    return jigsaw.augment(images, policy, drawn.slice(own.start, own.stop), size)


# The views that a method may ask for, by name.
VIEWS: dict[str, Callable[[Tensor, Policy, int, int, slice, torch.Generator], Tensor]] = {
    "crop": _crop,
    "jigsaw": _jigsaw,
}


class Seen(NamedTuple):
    """What a backbone gets of one image in one view."""

    what: str  # in the plural
    side: int  # pixels
    images: int = 1  # the patches of a jigsaw are nine


def seen(views: tuple[str, ...], small: tuple[int, ...], size: int) -> list[Seen]:
    """What a backbone gets of one image: the `views` of a method at `size` pixels, then the small crops."""
    large = [
        Seen("jigsaw patches", jigsaw.geometry(size)[1], jigsaw.PATCHES) if view == "jigsaw" else Seen("views", size)
        for view in views
    ]
    return large + [Seen("small crops", side) for side in small]


@dataclass(frozen=True)
class Batches:
    """The training set, which lies on the device, as batches of views; `dtype` is that of the views."""

    split: Split
    views: tuple[str, ...]
    augmentation: Augmentation
    size: int
    batch_size: int
    seed: int
    mean: Tensor  # (3, 1, 1) of the training images, in [0, 1]
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
        return sum(part.images * part.side**2 for part in seen(self.views, self.augmentation.small, self.size))

    def order(self, epoch: int) -> Tensor:
        """(N,) the order of the images in `epoch`."""
        return torch.randperm(len(self.split), generator=seeds.generator(self.seed, "order", epoch))

    def get(self, step: int, order: Tensor) -> Batch:
        """This rank's share of the global batch of `step`; `order` is that of its epoch.

        Augmentation is drawn for the global batch and then sliced, so that it does not depend on the world.
        """
        position = step % self.per_epoch
        index = order[position * self.batch_size : (position + 1) * self.batch_size]
        own = self.world.share(self.batch_size)
        index = index[own].to(self.device, non_blocking=True)
        images = self.split.images[index]
        generator = seeds.generator(self.seed, "augmentation", step)
        views = []
        large = len(self.views)
        # One after the other from one generator: what a view draws does not depend on those behind it.
        for number, name in enumerate([*self.views, *("crop" for _ in self.augmentation.small)]):
            policy = self.augmentation.policy(number, large)
            size = self.size if number < large else self.augmentation.small[number - large]
            view = VIEWS[name](images, policy, size, self.batch_size, own, generator)
            views.append(self.normalised(view))
        return Batch(views, index, self.split.labels[index] if self.labelled else None)

    def normalised(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) or (n, 9, 3, p, p) in [0, 1] to zero mean and unit variance of the training pixels.

        In the engine's layout, channels last. Patches lie as methods encode them, all images' first patch first.
        """
        scaled = ((images - self.mean) / self.std).to(self.dtype)
        if scaled.dim() == 4:
            return scaled.contiguous(memory_format=torch.channels_last)
        by_patch = scaled.transpose(0, 1).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return by_patch.unflatten(0, (scaled.shape[1], scaled.shape[0])).transpose(0, 1)
