"""What a cell is made of: its data, the method on its backbone, the batches, the engine; and what these refuse."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

import methods
from benchmark import seeds
from benchmark.augment import augmentation
from benchmark.backbones import encoders, weights
from benchmark.data import identity
from benchmark.data.catalogue import Dataset
from benchmark.data.datasets import Data, load
from benchmark.data.source import Split
from benchmark.errors import UsageError
from benchmark.settings import refusals, schema
from benchmark.settings.cell import Settings, depends_on_processes, seeded_dataset
from benchmark.settings.values import count_microbatches
from benchmark.training import batchnorm
from benchmark.training.batches import VIEWS, Batches, backbone_inputs
from benchmark.training.distributed import World
from benchmark.training.engine import Engine
from methods.method import Method
from methods.parts.heads import MomentumCopy

MANY = 10**9  # images of a dataset of which nothing is known
DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


def build_method(settings: Settings, data: Data, device: torch.device) -> tuple[Method, str]:
    """The method on its backbone, on the device, and the stem it got. Weights are a function of the seed alone."""
    method_class = methods.load(settings.method)
    return build_method_for(settings, len(_training_split(method_class, data)), len(data.class_names), device)


def build_method_for(settings: Settings, images: int, classes: int, device: torch.device) -> tuple[Method, str]:
    """The same without the dataset, for so many training images and classes."""
    method_class = methods.load(settings.method)
    options = method_class.Config(**settings.options)
    torch.manual_seed(seeds.mix(settings.seed or 0, "weights"))
    encoder: torch.nn.Module = torch.nn.Identity()
    width, stem = 0, "none"
    if settings.backbone is not None:
        stem, pool = settings.stem or "auto", settings.pool or "auto"
        encoder, width, stem = encoders.make(
            settings.backbone, stem, settings.view_size, list_other_inputs(settings), settings.weights or "", pool=pool
        )
    arguments = _choose_arguments(method_class, classes, settings.view_size)
    method = method_class(options, encoder, width, images, **arguments).to(
        DTYPES.get(settings.precision or "auto", torch.float32)
    )
    return method.to(device, memory_format=torch.channels_last), stem


def momentum_encoder(method: Method) -> torch.nn.Module | None:
    """The method's momentum copy of its encoder, where it declares one. ValueError where that is none."""
    if not method.momentum_encoder:
        return None
    copied = getattr(method, method.momentum_encoder, None)
    if not isinstance(copied, MomentumCopy):
        raise ValueError(f"momentum_encoder = {method.momentum_encoder!r} names no MomentumCopy of the method's own")
    return copied.network


def _training_split(method_class: type[Method], data: Data) -> Split:
    return data.train if method_class.supervised else data.pretrain


def _choose_arguments(method_class: type[Method], classes: int, size: int) -> dict[str, int]:
    """What a method's `__init__` is told beside the length of its training set."""
    return ({"size": size} if method_class.sized else {}) | ({"classes": classes} if method_class.supervised else {})


def list_other_inputs(settings: Settings) -> tuple[tuple[str, int], ...]:
    """What the backbone gets in training that is not of the view's size: (what, pixels), each once."""
    method_class = methods.load(settings.method)
    if not method_class.trains:
        return ()
    small = augmentation.parse(settings.augmentation or "none").small_sides
    parts = [(part.what, part.side) for part in backbone_inputs(method_class.views, small, settings.view_size)]
    return tuple(dict.fromkeys(part for part in parts if part[1] != settings.view_size))


def build_engine(settings: Settings, method: Method, world: World, device: torch.device, precision: str) -> Engine:
    """What takes a step, with the method's batch norm as `batch_norm=` says."""
    assert settings.batch_size is not None
    seed = settings.seed or 0
    grouping = None
    if count_microbatches(settings.batch_size, settings.microbatch or 0) == 1:  # else each has its own statistics
        mode = settings.batch_norm or "sync"
        grouping = batchnorm.convert(method, mode, seed, world, settings.batch_size, device.type)
    return Engine(method, world, device, precision, seed, settings.microbatch or 0, grouping)


def build_batches(
    settings: Settings, method: Method, data: Data, world: World, device: torch.device, precision: str
) -> Batches:
    """The batches that `method` trains on; images that are in memory are on the GPU in a GPU run."""
    split = _training_split(type(method), data)
    images, dtype = split.images, DTYPES[precision]
    statistics = weights.pixel_statistics(settings.backbone or "", settings.weights or "") or (data.mean, data.std)
    mean, std = (torch.tensor(m, dtype=dtype, device=device).view(3, 1, 1) for m in statistics)
    return Batches(
        split=Split(images.to(device) if isinstance(images, Tensor) else images, split.labels.to(device)),
        views=method.views,
        augmentation=augmentation.parse(settings.augmentation or "none"),
        size=settings.view_size,
        batch_size=settings.batch_size or 0,
        seed=settings.seed or 0,
        mean=mean,
        std=std.where(std > 0, torch.ones_like(std)),
        world=world,
        device=device,
        dtype=dtype,
        labelled=method.supervised,
    )


@lru_cache(maxsize=4)
def load_dataset(settings: Dataset, test: bool = True) -> Data:
    """The dataset, with or without its test set, loaded once for the cells that share it."""
    return load(settings, test)


def load_data(settings: Settings) -> Data:
    """The dataset of a cell. A trial's has no test set: what chooses settings is never given one."""
    split = seeded_dataset(settings)
    return load_dataset(split, False) if settings.trial else load_dataset(split)


def check(settings: Settings, world: World, device: torch.device) -> None:
    """Raise `UsageError` for what only the data, the backbone or the number of processes can refuse.

    Called for every cell before the first one trains.
    """
    require_code_and_processes(settings, world)
    refusals.require_possible(settings)
    world.broadcast(lambda: len(load_data(settings).train))  # one process downloads
    data = load_data(settings)
    method_class = methods.load(settings.method)
    unknown_views = [view for view in method_class.views if view not in VIEWS]
    if unknown_views:
        raise UsageError(f"{settings.method} wants views {unknown_views}; known views are {', '.join(VIEWS)}")
    if settings.trial and not data.class_names:
        raise UsageError("tune chooses by accuracy, and there are no labels: dataset.root=DIR names labelled images")
    if method_class.supervised and not data.class_names:
        raise UsageError(
            f"{settings.method} learns from labels, and there are none: dataset.root=DIR names such images"
        )
    images, classes = len(_training_split(method_class, data)), len(data.class_names)
    arguments = _choose_arguments(method_class, classes, settings.view_size)
    options = tuple(settings.options.items())
    _try_construction(settings.method, options, _build_backbone(settings), images, tuple(arguments.items()))
    if settings.batch_size is None:
        return
    if settings.batch_size > images:
        raise UsageError(f"batch_size={settings.batch_size}: {settings.dataset.name} has {images} images to train on")
    require_shares(settings, settings.batch_size, world, device)


def require_shares(settings: Settings, batch_size: int, world: World, device: torch.device) -> None:
    """Raise `UsageError` for a batch that the processes, its micro-batches or its batch norm cannot be had with."""
    if batch_size % world.size:
        raise UsageError(f"batch_size={batch_size} is not a multiple of the {world.size} processes")
    count, microbatch = count_microbatches(batch_size, settings.microbatch or 0), settings.microbatch or 0
    if count > 1 and count % world.size:
        near = next(m for m in range(microbatch, 0, -1) if count_microbatches(batch_size, m) % world.size == 0)
        raise UsageError(
            f"microbatch={microbatch} cuts batch_size={batch_size} into {count} parts, which {world.size} "
            f"processes cannot share; microbatch={near} can be, and each process encodes so many images at once"
        )
    if count > 1:
        return
    mode = settings.batch_norm or "sync"
    batchnorm.convert(torch.nn.Identity(), mode, 0, world, batch_size, device.type)


def require_code_and_processes(settings: Settings, world: World) -> None:
    """Raise `UsageError` where what the cell was asked for with is not here: the method's code, or so many processes
    where numbers depend on them."""
    if depends_on_processes(settings) and settings.processes != world.size:
        raise UsageError(
            f"batch_norm={settings.batch_norm} depends on the number of processes: the cell was asked for with "
            f"{settings.processes}, and here are {world.size}; split:N and shuffle:N are the same on any number"
        )
    present = schema.method_version(settings.method)
    if present != settings.method_version:
        raise UsageError(
            f"{settings.method} is of version {present or 1} here, and the cell was asked for with version "
            f"{settings.method_version or 1} of its code: ask for it by its words, which makes a new cell"
        )


def describe_weights(settings: Settings) -> str | None:
    """What the cell takes from its file of weights and what it leaves; None where it has none. Raises as `check`."""
    if settings.weights in (None, "", weights.TIMM):
        return None
    return _build_on_meta(*_build_backbone(settings))[2]


def encoder_on_meta(settings: Settings) -> torch.nn.Module:
    """The cell's backbone without numbers, of no weights: what it is, for who asks what it can. Raises as `check`."""
    name, stem, size, others, _, pool = _build_backbone(settings)
    return _build_on_meta(name, stem, size, others, "", pool)[0]


def check_networks(settings: Settings) -> None:
    """Raise `UsageError` for a backbone that is unknown, or not to be had with this size, stem, pool or file of
    weights, or that the method refuses. Needs no data but for what is known of it, and fetches nothing."""
    name, stem, size, others, pretrained, pool = _build_backbone(settings)
    backbone = name, stem, size, others, "" if pretrained == weights.TIMM else pretrained, pool
    facts = identity.measure(settings.dataset, schema.describe(settings.method).supervised)
    images, classes = (facts.images + facts.classes, facts.classes) if facts else (MANY, 2)
    arguments = _choose_arguments(methods.load(settings.method), classes, size)
    _try_construction(settings.method, tuple(settings.options.items()), backbone, images, tuple(arguments.items()))


# Name, stem, view size, other inputs, weights, pool.
Backbone = tuple[str | None, str, int, tuple[tuple[str, int], ...], str, str]
Items = tuple[tuple[str, Any], ...]  # of a dictionary: what a cache can hold


def _build_backbone(settings: Settings) -> Backbone:
    others = list_other_inputs(settings)
    where = settings.view_size, others, settings.weights or ""
    return settings.backbone, settings.stem or "auto", *where, settings.pool or "auto"


@lru_cache
def _try_construction(method: str, options: Items, backbone: Backbone, images: int, arguments: Items) -> None:
    """Let a method refuse what its `__init__` can tell: more clusters than images, a backbone without patches.

    On torch's meta device, which holds no numbers. What else goes wrong there need not go wrong on a real one.
    """
    encoder, width, _ = _build_on_meta(*backbone)
    method_class = methods.load(method)
    try:
        with torch.device("meta"):
            config = method_class.Config(**dict(options))
            momentum_encoder(method_class(config, copy.deepcopy(encoder), width, images, **dict(arguments)))
    except ValueError as error:
        raise UsageError(f"{method}: {error}") from error
    except Exception:  # noqa: BLE001 - whatever a plugin's __init__ raises: the real one will say so
        return


@lru_cache
def _build_on_meta(
    name: str | None, stem: str, size: int, others: tuple[tuple[str, int], ...], weights: str, pool: str
) -> tuple[torch.nn.Module, int, str | None]:
    """(encoder without numbers, feature width, what was taken from a file of weights). Raises `UsageError` where a size
    is not taken or weights do not fit."""
    if name is None:
        return torch.nn.Identity(), 0, None
    notes = list[str]()
    encoder, width, _ = encoders.make(name, stem, size, others, weights, notes.append, pool)
    return encoder.to("meta"), width, notes[0] if notes else None
