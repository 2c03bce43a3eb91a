"""What a cell is: every setting that can change its numbers."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field, fields, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, Union

from benchmark.data.catalogue import RUN, Dataset
from benchmark.settings.values import count_microbatches

Optimiser = Literal["sgd", "adamw", "lars", "lars_fb", "larc"]


@dataclass(frozen=True)
class Settings:
    """One cell, resolved. Settings that cannot change the result of its method are None."""

    method: str = "simclr"  # name, plugin entry point or dotted module path
    options: dict[str, Any] = field(default_factory=dict)  # the method's own Config
    dataset: Dataset = field(default_factory=Dataset)
    seed: int | None = 0  # seed of weights, order and augmentation
    backbone: str | None = "resnet18"  # any timm name without a classifier
    weights: str | None = ""  # where the backbone starts: at random, timm (its pretrained ones) or a file of weights
    stem: Literal["auto", "small", "native"] | None = "auto"  # small: 3x3, stride 1; a ViT's patch: 4; auto: 3x3 to 64
    pool: Literal["auto", "token", "avg"] | None = "auto"  # a ViT's feature: class token, mean of patches; auto: timm's
    view_size: int = 0  # pixels of a view, in training and evaluation; 0 is the dataset's own
    augmentation: str | None = "simclr"  # pieces joined by +, 6x96 for small crops; `python -m benchmark augmentations`
    epochs: int | None = 100  # passes over the training images
    batch_size: int | None = 256  # images of a step, over all devices
    microbatch: int | None = 0  # images encoded at once on a device, gradient still of the whole batch; 0 is all
    optimiser: Optimiser | None = "sgd"  # lars is SimCLR's form of it, lars_fb MoCo v3's and Barlow Twins', larc SwAV's
    learning_rate: float | None = 0.12  # for 256 images; the rule scales it to the batch size
    learning_rate_rule: Literal["linear", "sqrt", "none"] | None = "linear"  # how it grows with the batch size
    schedule: Literal["cosine", "constant", "step"] | None = "cosine"  # after warm-up; step: x 0.1 at 60 % and 80 %
    warmup: float | None = 0.1  # share of the training over which the learning rate grows linearly from 0
    weight_decay: float | None = 5e-4  # L2, or decoupled (adamw)
    weight_decay_end: float | Literal["constant"] | None = "constant"  # which it becomes along half a cosine, by step
    decay_all: bool | None = False  # also decay biases and norms, as MoCo's authors do; larc always does
    sgd_momentum: float | None = 0.9  # of all but adamw
    adamw_beta2: float | None = 0.999  # of adamw: share of the squared gradients that it keeps; 0.95 for MAE
    batch_norm: str | None = "sync"  # sync, local, shuffle, shuffle:N or split:N (N imitated devices)
    precision: Literal["auto", "fp32", "bf16", "fp64"] | None = "auto"  # auto: bf16 where the hardware has it
    method_version: str = ""  # of the method's code, where it is not ours at its first version; no word sets it
    processes: int = 1  # that train it together, where its numbers depend on how many; no word sets it
    trial: str = ""  # STUDY/NUMBER, from 1, of what `tune` tries, which never sees the test set; no word sets it
    prune_below: str = ""  # 30@5,35@10 ends a trial whose best accuracy by then is lower; no word sets it, in no key


# Settings that the first records do not have: at their default, or where they do not apply, they are in no key.
YOUNGER = ("pool", "weight_decay_end", "adamw_beta2")
# What only training reads, from `augmentation` on: it does not apply to a method that is evaluated as it starts.
_NAMES = [f.name for f in fields(Settings)]
TRAINING = tuple(_NAMES[_NAMES.index("augmentation") : _NAMES.index("method_version")])


def depends_on_processes(settings: Settings) -> bool:
    """Whether batch norm's groups are the processes; micro-batches are groups of their own on any number of them."""
    whole = count_microbatches(settings.batch_size or 1, settings.microbatch or 0) == 1
    return settings.batch_norm in ("local", "shuffle") and whole


def seeded_dataset(settings: Settings) -> Dataset:
    """The cell's dataset, whose split is by a number, also where that is the run's seed."""
    dataset = settings.dataset
    return replace(dataset, split_seed=settings.seed or 0) if dataset.split_seed == RUN else dataset


def restore(values: dict[str, Any]) -> Settings:
    """The cell that `dataclasses.asdict`, and JSON after it, made `values` of. Raises TypeError or LookupError for what
    was made of no cell."""
    settings = Settings(**values | {"dataset": Dataset(**values["dataset"])})
    part: Any
    for part in (settings.dataset, settings):
        for name, kind in _types(part.__class__).items():
            if not _fits(getattr(part, name), kind):
                raise TypeError(f"{name} is {str(getattr(part, name))[:40]!r}")
    return settings


@cache
def _types(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the declared type; a float may be a whole number, which is no bool."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return value in arguments
    if origin in (UnionType, Union):
        return any(_fits(value, alternative) for alternative in arguments)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else origin or kind)
