"""Any step's batch, made from its number alone: order, gather by index, augmentation on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark import seeds
from benchmark.augment.parameters import draw
from benchmark.augment.policies import Policy
from benchmark.augment.transforms import augment
from benchmark.data.datasets import Split
from benchmark.distributed import World
from methods.method import Batch


@dataclass(frozen=True)
class Batches:
    """The training set, which lies on the device, as batches of views; `dtype` is that of the views."""

    split: Split
    views: tuple[str, ...]
    policies: tuple[Policy, ...]  # view i takes policy i, around again
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
        for number in range(len(self.views)):
            policy = self.policies[number % len(self.policies)]
            drawn = draw(policy, self.batch_size, images.shape[2], images.shape[3], generator)
            view = augment(images, policy, drawn.slice(own.start, own.stop), self.size)
            views.append(self.normalised(view))
        return Batch(views, index, self.split.labels[index] if self.labelled else None)

    def normalised(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) in [0, 1] to zero mean and unit variance of the training pixels, in the engine's layout."""
        scaled = ((images - self.mean) / self.std).to(self.dtype)
        return scaled.contiguous(memory_format=torch.channels_last)
