"""Cells that nothing can train, as their words alone tell: no data, no network and no torch are needed."""

from __future__ import annotations

import inspect

from benchmark.augment import VIEW_NAMES
from benchmark.data.identity import check_split, count_training, has_labels
from benchmark.errors import UsageError, unknown
from benchmark.settings import schema
from benchmark.settings.cell import Settings
from benchmark.settings.values import batch_norm_groups, count_microbatches

MANY = 10**9  # images of a dataset of which nothing is known


def require_possible(settings: Settings) -> None:
    """Raise `UsageError` for settings that contradict each other."""
    for view in schema.describe(settings.method).views:
        if view not in VIEW_NAMES:
            raise unknown("view", view, VIEW_NAMES, f"; {settings.method} asks for it")
    if {"jigsaw", "grid"} & set(schema.describe(settings.method).views) and settings.dataset.stream:
        raise UsageError(f"{settings.method} cuts its patches from kept images: dataset.cache=SIZE, not dataset.stream")
    if schema.is_pretrained(settings.method) and not settings.weights:
        raise UsageError(f"{settings.method} is what its weights are: weights=timm or weights=FILE is needed")
    if schema.describe(settings.method).supervised and not has_labels(settings.dataset):
        raise UsageError(
            f"{settings.method} learns from labels, and there are none: dataset.root=DIR names such images"
        )
    if settings.weights == "timm" and settings.stem == "small":
        raise UsageError("stem=small: weights=timm are those of timm's own stem; use stem=native or auto")
    require_shares(settings, settings.processes)


def require_images(settings: Settings, images: int | None = None) -> None:
    """Raise `UsageError` for a training that so many training images do not allow: by the batch, and by what the
    method's own options say. Where they are not given, they are what is known of the dataset without its files."""
    if images is None:
        check_split(settings.dataset)
        images = count_training(settings.dataset, schema.describe(settings.method).supervised)
    batch, epochs = settings.batch_size, settings.epochs
    if batch is None or epochs is None:
        return
    if images is not None and batch > images:
        raise UsageError(f"batch_size={batch}: {settings.dataset.name} has {images} images to train on")
    require = getattr(schema.describe(settings.method).Config(**settings.options), "require", None)
    if require is None:
        return
    known = {"batch_size": batch, "epochs": epochs, "images": MANY if images is None else images}
    names = inspect.signature(require).parameters
    for name in names:
        if name not in known:
            raise UsageError(f"{settings.method}: require asks for {name!r}; allowed are {', '.join(known)}")
    try:
        require(**{name: known[name] for name in names})
    except Exception as error:  # whatever a plugin's own check raises
        raise UsageError(f"{settings.method}: {error}") from error


def require_shares(settings: Settings, processes: int) -> None:
    """Raise `UsageError` for a batch that so many processes, its micro-batches or its batch norm cannot be had with."""
    batch, microbatch = settings.batch_size, settings.microbatch or 0
    if batch is None:
        return
    if batch % processes:
        raise UsageError(f"batch_size={batch} is not a multiple of the {processes} processes")
    count = count_microbatches(batch, microbatch)
    if count > 1 and count % processes:
        near = next(m for m in range(microbatch, 0, -1) if count_microbatches(batch, m) % processes == 0)
        raise UsageError(
            f"microbatch={microbatch} cuts batch_size={batch} into {count} parts, which {processes} processes cannot "
            f"share; microbatch={near} can be, and each process encodes so many images at once"
        )
    if count == 1:
        require_groups(settings.batch_norm or "sync", processes, batch)


def require_groups(mode: str, processes: int, batch_size: int) -> None:
    """Raise `UsageError` where the groups of `batch_norm=` cannot be had with this batch and number of processes."""
    groups, shuffled = batch_norm_groups(mode, processes)
    if shuffled and groups == 1:
        raise UsageError(f"batch_norm={mode} with one group shuffles nothing; batch_norm=shuffle:8 imitates 8 devices")
    if batch_size % groups:
        raise UsageError(
            f"batch_norm={mode}: batch_size={batch_size} is not a multiple of {groups}; batch_norm=sync takes any batch"
        )


def count_normed_together(settings: Settings) -> int:
    """The fewest images that share batch-norm statistics in a step of the cell."""
    batch = settings.batch_size or 0
    parts = count_microbatches(batch, settings.microbatch or 0)
    return batch // (parts if parts > 1 else batch_norm_groups(settings.batch_norm or "sync", settings.processes)[0])


def describe_lone_images(settings: Settings) -> str:
    """What is wrong where `count_normed_together` is one image, and the network normalises it alone."""
    batch, microbatch = settings.batch_size or 0, settings.microbatch or 0
    start = f"{settings.method}: batch_norm={settings.batch_norm} makes groups"
    remedy = "fewer groups"
    if count_microbatches(batch, microbatch) > 1:
        enough = (size for size in range(microbatch + 1, batch + 1) if batch // count_microbatches(batch, size) > 1)
        start, remedy = f"{settings.method}: microbatch={microbatch} makes parts", f"microbatch={next(enough)}"
    return (
        f"{start} of one image of batch_size={batch}, whose batch norm would have one value a channel; {remedy} will do"
    )
