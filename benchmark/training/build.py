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
from benchmark.training.batches import Batches, backbone_inputs
from benchmark.training.distributed import World
from benchmark.training.engine import Engine
from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy

DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


def load_class(name: str) -> type[Any]:
    """The method's class. Raises `UsageError` for a plugin that cannot be imported."""
    try:
        return methods.load(name)
    except methods.BrokenMethod as error:
        raise UsageError(str(error)) from error


def build_method(settings: Settings, data: Data, device: torch.device) -> tuple[Method, str]:
    """The method on its backbone, on the device, and the stem it got. Weights are a function of the seed alone."""
    method_class = load_class(settings.method)
    return build_method_for(settings, len(_training_split(method_class, data)), len(data.class_names), device)


def build_method_for(settings: Settings, images: int, classes: int, device: torch.device) -> tuple[Method, str]:
    """The same without the dataset, for so many training images and classes."""
    method_class = load_class(settings.method)
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
    method_class = load_class(settings.method)
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
    refusals.require_images(settings)
    refusals.require_shares(settings, world.size)
    world.broadcast(lambda: len(load_data(settings).train))  # one process downloads
    data = load_data(settings)
    method_class = load_class(settings.method)
    if settings.trial and not data.class_names:
        raise UsageError("tune chooses by accuracy, and there are no labels: dataset.root=DIR names labelled images")
    images, classes = len(_training_split(method_class, data)), len(data.class_names)
    refusals.require_images(settings, images)
    _check_method(settings, _build_backbone(settings), images, classes)


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


def method_on_meta(settings: Settings) -> Method | None:
    """The cell's method without numbers, of no weights, for who asks what it has; None where it cannot be made so."""
    name, stem, size, others, _, pool = _build_backbone(settings)
    return _try_method(settings, (name, stem, size, others, "", pool), refusals.MANY, 2)


def check_networks(settings: Settings) -> None:
    """Raise `UsageError` for a backbone that is unknown, or not to be had with this size, stem, pool or file of
    weights, or that the method refuses. Needs no data but for what is known of it, and fetches nothing."""
    name, stem, size, others, pretrained, pool = _build_backbone(settings)
    backbone = name, stem, size, others, "" if pretrained == weights.TIMM else pretrained, pool
    facts = identity.measure(settings.dataset, schema.describe(settings.method).supervised)
    images, classes = (facts.images, facts.classes) if facts else (refusals.MANY, 2)
    _check_method(settings, backbone, images, classes)


# Name, stem, view size, other inputs, weights, pool.
Backbone = tuple[str | None, str, int, tuple[tuple[str, int], ...], str, str]
Items = tuple[tuple[str, Any], ...]  # of a dictionary: what a cache can hold


def _build_backbone(settings: Settings) -> Backbone:
    others = list_other_inputs(settings)
    where = settings.view_size, others, settings.weights or ""
    return settings.backbone, settings.stem or "auto", *where, settings.pool or "auto"


def _check_method(settings: Settings, backbone: Backbone, images: int, classes: int) -> None:
    """Let the method refuse its backbone. Raises `UsageError` also where batch norm would have single values to
    normalise, of one image that has a pass of its own."""
    method = _try_method(settings, backbone, images, classes)
    if method is None or settings.batch_size is None or refusals.count_normed_together(settings) > 1:
        return
    small = augmentation.parse(settings.augmentation or "none").small_sides
    with torch.device("meta"):
        parts = backbone_inputs(method.views, small, settings.view_size)
        shapes = [(1, *([part.images] if part.images > 1 else []), 3, part.side, part.side) for part in parts]
        index = torch.zeros(1, dtype=torch.int64)
        batch = Batch([torch.zeros(shape) for shape in shapes], index, index if method.supervised else None)
        try:
            method.train()(batch, Progress(0, settings.epochs or 1, 0, settings.epochs or 1))
        except Exception as error:  # as for the construction
            if "more than 1 value per channel" in str(error):  # as torch says it
                raise UsageError(refusals.describe_lone_images(settings)) from error


def _try_method(settings: Settings, backbone: Backbone, images: int, classes: int) -> Method | None:
    arguments = _choose_arguments(load_class(settings.method), classes, settings.view_size)
    options = tuple(settings.options.items())
    return _try_construction(settings.method, options, backbone, images, tuple(arguments.items()))


@lru_cache
def _try_construction(method: str, options: Items, backbone: Backbone, images: int, arguments: Items) -> Method | None:
    """The method, which may refuse what its `__init__` can tell, such as a backbone without patches.

    On torch's meta device, which holds no numbers. What else goes wrong there need not go wrong on a real one: None.
    """
    encoder, width, _ = _build_on_meta(*backbone)
    method_class = load_class(method)
    try:
        with torch.device("meta"):
            config = method_class.Config(**dict(options))
            instance: Method = method_class(config, copy.deepcopy(encoder), width, images, **dict(arguments))
            momentum_encoder(instance)
            return instance
    except ValueError as error:
        raise UsageError(f"{method}: {error}") from error
    except Exception:  # noqa: BLE001 - whatever a plugin's __init__ raises: the real one will say so
        return None


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
