"""Two views of a batch: our batched augmentation against torchvision.transforms.v2, one image at a time.

The same distribution on both sides: uint8 images in, a float32 batch in [0, 1] of each view out, on one core unless
`--threads` says otherwise. torchvision is wired in both ways that its documentation offers, uint8 to the end or float32
after the crop, and no DataLoader stands in its way. The images are noise: no operation's cost depends on the pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
import torchvision.transforms.v2 as reference
from torch import Tensor

from benchmark.augment import Policy, parse
from benchmark.augment.parameters import draw
from benchmark.augment.policies import blur_kernel_size
from benchmark.augment.transforms import augment
from benchmark.profiling.timing import alternate, ratio, show, spread

# policy, side of the images, side of the views, images of a batch for us, for torchvision
CASES = [("simclr_cifar", 32, 32, 1024, 128), ("simclr", 96, 96, 256, 48), ("simclr", 256, 224, 64, 12)]
VIEWS = 2


def main(words: list[str] | None = None) -> list[list[str]]:
    """Print the table and return it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.profiling.augmentation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the images: less for a quick look")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    rows = [["policy", "source px", "view px", "ours", "torchvision uint8", "float32", "ours over the faster"]]
    for name, source, size, *counts in CASES:
        batch_count, single_count = (max(2, round(count * options.share)) for count in counts)
        rows.append(
            [name, str(source), str(size), *measure(name, source, size, batch_count, single_count, options.rounds)]
        )
    show(rows, f"images/s, {VIEWS} views each; medians of {options.rounds} rounds, the ratio's quartiles in brackets")
    return rows


def measure(name: str, source: int, size: int, batch_count: int, single_count: int, rounds: int) -> list[str]:
    """Images/s of each contestant, and how much faster ours is than the faster wiring of torchvision."""
    policy, generator = parse(name).policies[0], torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (max(batch_count, single_count), 3, source, source), generator=generator, dtype=torch.uint8
    )
    contestants: dict[str, Callable[[], object]] = {
        "ours": partial(augment_batch, images[:batch_count], policy, size, generator),
        "uint8": partial(augment_one_by_one, images[:single_count], build_transform(policy, size, float_early=False)),
        "float32": partial(augment_one_by_one, images[:single_count], build_transform(policy, size, float_early=True)),
    }
    times = alternate(contestants, rounds)
    speed = {
        name: (batch_count if name == "ours" else single_count) / spread(seconds)[0] for name, seconds in times.items()
    }
    faster = max("uint8", "float32", key=speed.__getitem__)
    return [
        *(f"{value:,.0f}" for value in speed.values()),
        ratio(times[faster], times["ours"], batch_count / single_count),
    ]


def augment_batch(images: Tensor, policy: Policy, size: int, generator: torch.Generator) -> list[Tensor]:
    """Ours: what is drawn, then applied to the whole batch."""
    count, _, height, width = images.shape
    return [augment(images, policy, draw(policy, count, height, width, generator), size) for _ in range(VIEWS)]


def augment_one_by_one(images: Tensor, view: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """torchvision's: each image on its own, then stacked."""
    pairs = [[view(image) for _ in range(VIEWS)] for image in images]
    return [torch.stack(views) for views in zip(*pairs, strict=True)]


def build_transform(policy: Policy, size: int, float_early: bool) -> reference.Transform:
    """The same policy of torchvision's classes."""
    to_float = reference.ToDtype(torch.float32, scale=True)
    assert policy.crop_scale is not None
    steps: list[reference.Transform] = [
        reference.RandomResizedCrop(size, policy.crop_scale, policy.crop_ratio, antialias=True),
        reference.RandomHorizontalFlip(policy.flip),
    ]
    if float_early:
        steps.append(to_float)
    jitter = reference.ColorJitter(policy.brightness, policy.contrast, policy.saturation, policy.hue)
    steps += [reference.RandomApply([jitter], policy.jitter), reference.RandomGrayscale(policy.grey)]
    if policy.blur:
        blur = reference.GaussianBlur(blur_kernel_size(policy, size), policy.blur_sigma)
        steps.append(reference.RandomApply([blur], policy.blur))
    if not float_early:
        steps.append(to_float)
    return reference.Compose(steps)


if __name__ == "__main__":
    main()
