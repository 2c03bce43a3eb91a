"""One cell: train, evaluate, record. Doing it again does nothing; doing it after a stop goes on."""

from __future__ import annotations

import contextlib
import copy
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import methods
from benchmark import batchnorm, config, encoders, evaluate, lease, machine, seeds, train, weights
from benchmark.augment import policies
from benchmark.batches import VIEWS, Batches, seen
from benchmark.board import Board
from benchmark.config import Dataset, Runtime, Settings
from benchmark.data.datasets import Data, load
from benchmark.data.source import Split
from benchmark.distributed import World
from benchmark.engine import Engine, resolve_precision
from benchmark.errors import UsageError
from benchmark.evaluate import looks
from benchmark.evaluate.subject import Subject
from benchmark.stop import Stop
from benchmark.tracking import Tracker
from benchmark.watch import COLLAPSED_RANK
from methods.method import Method
from results import record

DTYPES = {"fp32": torch.float32, "bf16": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class Place:
    """Where cells run: this process, its device, and who watches."""

    runtime: Runtime
    world: World
    device: torch.device
    stop: Stop
    board: Board
    tracker: Tracker = field(default_factory=Tracker)


def run(settings: Settings, place: Place) -> dict[str, Any] | None:
    """The cell's record: the one there is, or a new one. None where another process is at work on the cell.

    A failed record is tried again; a finished or collapsed one stands. Raises `Stopped` behind a checkpoint.
    """
    folder = Path(place.runtime.out) / config.folder_name(settings)
    with contextlib.ExitStack() as held:
        leases: list[lease.Lease] = []

        def take() -> bool:
            leases.extend(filter(None, [held.enter_context(lease.held(folder))]))
            return bool(leases)

        if not place.world.told(take):
            place.board.say(f"{folder.name}: another process is at work on it; left to that one")
            return None
        found = place.world.told(lambda: record.read(folder))
        if found is not None and found["status"] != "failed":
            return found
        try:
            guard, leads, say = leases[0].guard if leases else _unguarded, place.world.leads, place.board.say
            with place.tracker.cell(blank(settings), folder, place.runtime, leads, say) as tracked:
                made = _make(settings, place, folder, guard, tracked.log)
                tracked.end(made)
            return made
        except lease.TakenOver as taken:
            if place.world.size > 1:  # the others wait in a collective: torchrun ends them
                raise
            place.board.say(f"{taken}; left to that one")
            return None


def _make(
    settings: Settings, place: Place, folder: Path, guard: Callable[[], None], tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Train, evaluate and write the record. `guard` is called before each write, and may raise `TakenOver`."""
    if place.world.leads:
        record.write_json(folder / "settings.json", asdict(settings))
    made = blank(settings)
    try:
        made["reason"], made["metrics"] = _train_and_evaluate(
            settings, place, folder, guard, tell, made["cost"], made["resolved"]
        )
        made["status"] = "collapsed" if made["reason"] else "finished"
    except lease.TakenOver:
        raise
    except Exception as error:
        guard()
        made |= {"status": "failed", "reason": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
        with contextlib.suppress(OSError):  # a full disk may be the error
            (folder / "error.txt").write_text(traceback.format_exc())
        if place.world.size > 1:  # the others may wait in a collective: tell the folder, and let torchrun end them
            record.write(folder, made | {"finished": record.now()})
            raise
    guard()
    if made["status"] != "failed" and place.world.leads:
        (folder / "error.txt").unlink(missing_ok=True)  # of an attempt before
    made["finished"] = record.now()
    place.world.told(lambda: record.write(folder, made))
    return made


def blank(settings: Settings) -> dict[str, Any]:
    """The record of a cell that starts now, as it is before anything is known of its end."""
    return {
        "schema": record.SCHEMA,
        "key": config.key(settings),
        "protocol": evaluate.protocol_hash(settings),
        "status": "finished",
        "reason": None,
        "settings": config.identity(settings),
        "metrics": {},
        "cost": {},
        "versions": machine.versions(),
        **machine.commit(),
        "started": record.now(),
        "resolved": {"family": family(settings.method)},
    }


def family(method: str) -> str:
    """The method's family, for tables that group by it; "" where it says none or cannot be read."""
    try:
        return methods.describe(method).family
    except (methods.BrokenMethod, LookupError):
        return ""


def _train_and_evaluate(
    settings: Settings,
    place: Place,
    folder: Path,
    guard: Callable[[], None],
    tell: Callable[[dict[str, Any]], None],
    cost: dict[str, Any],
    resolved: dict[str, Any],
) -> tuple[str | None, dict[str, float]]:
    world, device = place.world, place.device
    machine.reset_peak_memory(device)
    cost |= {"views": 0, "pixels_per_image": 0, "seconds": 0.0}
    cost |= {"device": machine.device_name(device), "processes": world.size}
    data = dataset(settings.dataset)
    method, stem = build(settings, data, device)
    precision = resolve_precision(settings.precision or "fp32", device)
    batches = make_batches(settings, method, data, place.world, place.device, precision)
    used = batches.augmentation
    resolved |= {"stem": stem, "precision": precision, "policies": [policies.describe(p) for p in used.policies]}
    if used.small:
        resolved |= {"small_crops": list(used.small), "small_crop_scale": list(policies.SMALL_SCALE)}
    resolved |= {"protocol": evaluate.protocol(settings)}
    reason, whole = None, True
    if method.trains:
        engine = make_engine(settings, method, world, device, precision)
        resolved |= {"images": len(batches.split), "steps_per_epoch": batches.per_epoch}
        if place.runtime.compile:
            method.encoder.compile()
        key, stop = config.key(settings), place.stop
        outcome = train.train(engine, batches, settings, place.runtime, key, folder, stop, place.board, guard, tell)
        reason, whole = outcome.reason, outcome.whole
        cost |= {"views": outcome.views, "pixels_per_image": batches.pixels, "seconds": round(outcome.seconds, 3)}
        cost |= {"images_per_second": round(outcome.images_per_second, 2)}
    cost["peak_memory_bytes"] = machine.peak_memory(device)
    metrics: dict[str, float] = {}
    if whole:  # one process looks at the test set; the others wait
        began = time.perf_counter()
        judged = subject(method, data, batches, device)
        numbers, contrastive = evaluate.evaluate(judged), method.trains and not method.supervised
        metrics, found = world.told(lambda: _judged(numbers, contrastive))
        reason = reason or found  # the training's own sign names a remedy
        cost["evaluation_seconds"] = round(time.perf_counter() - began, 3)
        if metrics and world.leads:
            _show(judged, folder, guard, place.board)
    return reason, metrics


def _show(judged: Subject, folder: Path, guard: Callable[[], None], board: Board) -> None:
    """Write what people look at beside the numbers; without it the cell is as good."""
    try:
        guard()
        looks.write(judged, folder, "pca")
    except lease.TakenOver:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the cell's numbers stand
        board.say(f"{folder.name}: no {record.LOOKS_NAME}: {type(error).__name__}: {error}")


def _judged(numbers: Iterator[tuple[str, float]], contrastive: bool) -> tuple[dict[str, float], str | None]:
    """The metrics, and why they mean a collapse, if they do; two classes rightly leave a supervised method one line."""
    try:
        metrics = dict(numbers)
    except evaluate.NotFinite as error:
        return {}, str(error)
    rank = metrics["effective_rank"]
    if contrastive and rank < COLLAPSED_RANK:
        return metrics, f"effective rank {rank:.2f} of the features: all images lie on one line or point"
    return metrics, None


def build(settings: Settings, data: Data, device: torch.device) -> tuple[Method, str]:
    """The method on its backbone, on the device, and the stem it got. Weights are a function of the seed alone."""
    kind = methods.load(settings.method)
    options = kind.Config(**settings.options)
    torch.manual_seed(seeds.mix(settings.seed or 0, "weights"))
    encoder: torch.nn.Module = torch.nn.Identity()
    width, stem = 0, "none"
    if settings.backbone is not None:
        stem = settings.stem or "auto"
        encoder, width, stem = encoders.make(
            settings.backbone, stem, settings.view_size, _others(settings, kind), settings.weights or ""
        )
    images, told = _told(kind, data, settings.view_size)
    method = kind(options, encoder, width, images, **told)
    method = method.to(DTYPES.get(settings.precision or "auto", torch.float32))
    return method.to(device, memory_format=torch.channels_last), stem


def _told(kind: type[Method], data: Data, size: int) -> tuple[int, dict[str, int]]:
    """The length of the training set, and what else a method's `__init__` is told."""
    told = {"size": size} if kind.sized else {}
    if kind.supervised:
        return len(data.train), told | {"classes": len(data.class_names)}
    return len(data.pretrain), told


def _others(settings: Settings, kind: type[Method]) -> tuple[tuple[str, int], ...]:
    """What the backbone gets in training that is not of the view's size: (what, pixels), each once."""
    if not kind.trains:
        return ()
    small = policies.parse(settings.augmentation or "none").small
    parts = [(part.what, part.side) for part in seen(kind.views, small, settings.view_size)]
    return tuple(dict.fromkeys(part for part in parts if part[1] != settings.view_size))


def make_engine(settings: Settings, method: Method, world: World, device: torch.device, precision: str) -> Engine:
    assert settings.batch_size is not None
    seed = settings.seed or 0
    grouping = batchnorm.convert(method, settings.batch_norm or "sync", seed, world, settings.batch_size, device.type)
    return Engine(method, world, device, precision, seed, settings.microbatch or 0, grouping)


def make_batches(
    settings: Settings, method: Method, data: Data, world: World, device: torch.device, precision: str
) -> Batches:
    """The batches that `method` trains on; images that are in memory are on the GPU in a GPU run."""
    split = data.train if method.supervised else data.pretrain
    images, dtype = split.images, DTYPES[precision]
    statistics = weights.pixels(settings.backbone or "", settings.weights or "") or (data.mean, data.std)
    mean, std = (torch.tensor(m, dtype=dtype, device=device).view(3, 1, 1) for m in statistics)
    return Batches(
        split=Split(images.to(device) if isinstance(images, Tensor) else images, split.labels.to(device)),
        views=method.views,
        augmentation=policies.parse(settings.augmentation or "none"),
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


def subject(method: Method, data: Data, batches: Batches, device: torch.device) -> Subject:
    """What the evaluators get: the method's encoder, in float32, whose pixels are as `batches` made them."""
    single = replace(batches, dtype=torch.float32, mean=batches.mean.float(), std=batches.std.float())
    head = getattr(method, "head", None)
    return Subject(method.encoder.float(), None if head is None else head.float(), data, single, device)


def evaluation(method: Method, data: Data, batches: Batches, device: torch.device) -> Iterator[tuple[str, float]]:
    """The headline numbers of the method's encoder."""
    return evaluate.evaluate(subject(method, data, batches, device))


@lru_cache(maxsize=4)
def dataset(settings: Dataset) -> Data:
    """The dataset, loaded once for the cells that share it."""
    return load(settings)


def check(settings: Settings, world: World, device: torch.device) -> None:
    """Raise `UsageError` for what only the data, the backbone or the number of processes can refuse.

    Called for every cell before the first one trains.
    """
    world.told(lambda: len(dataset(settings.dataset).train))  # one process downloads
    data = dataset(settings.dataset)
    kind = methods.load(settings.method)
    unknown_views = [view for view in kind.views if view not in VIEWS]
    if unknown_views:
        raise UsageError(f"{settings.method} wants views {unknown_views}; known views are {', '.join(VIEWS)}")
    if {"jigsaw", "grid"} & set(kind.views) and settings.dataset.stream:
        raise UsageError(f"{settings.method} cuts its patches from kept images: dataset.cache=SIZE, not dataset.stream")
    if config.pretrained(settings.method) and not settings.weights:
        raise UsageError(f"{settings.method} is what its weights are: weights=timm or weights=FILE is needed")
    others, start = _others(settings, kind), settings.weights or ""
    backbone = (settings.backbone, settings.stem or "auto", settings.view_size, others, start)
    images, told = _told(kind, data, settings.view_size)
    _constructs(settings.method, tuple(settings.options.items()), backbone, images, tuple(told.items()))
    if settings.batch_size is None:
        return
    if settings.batch_size > images:
        raise UsageError(f"batch_size={settings.batch_size}: {settings.dataset.name} has {images} images to train on")
    if settings.batch_size % world.size:
        raise UsageError(f"batch_size={settings.batch_size} is not a multiple of the {world.size} processes")
    batchnorm.convert(torch.nn.Identity(), settings.batch_norm or "sync", 0, world, settings.batch_size, device.type)


Backbone = tuple[str | None, str, int, tuple[tuple[str, int], ...], str]  # name, stem, view size, `_others`, weights
Items = tuple[tuple[str, Any], ...]  # of a dictionary: what a cache can hold


@lru_cache
def _constructs(method: str, options: Items, backbone: Backbone, images: int, told: Items) -> None:
    """Let a method refuse what its `__init__` can tell: more clusters than images, a backbone without patches.

    On torch's meta device, which holds no numbers. What else goes wrong there need not go wrong on a real one.
    """
    encoder, width = _on_meta(*backbone)
    kind = methods.load(method)
    try:
        with torch.device("meta"):
            kind(kind.Config(**dict(options)), copy.deepcopy(encoder), width, images, **dict(told))
    except ValueError as error:
        raise UsageError(f"{method}: {error}") from error
    except Exception:  # noqa: BLE001 - whatever a plugin's __init__ raises: the real one will say so
        return


@lru_cache
def _on_meta(
    name: str | None, stem: str, size: int, others: tuple[tuple[str, int], ...], weights: str
) -> tuple[torch.nn.Module, int]:
    """(encoder without weights, feature width). Raises `UsageError` where a size is not taken or weights do not fit."""
    if name is None:
        return torch.nn.Identity(), 0
    encoder, width, _ = encoders.make(name, stem, size, others, weights)
    return encoder.to("meta"), width


def _unguarded() -> None:
    """Processes that do not lead write nothing."""
