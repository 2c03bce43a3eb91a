"""Cells that nothing can train, as their words alone tell: no data, no network and no torch are needed."""

from __future__ import annotations

from benchmark.data.catalogue import entry
from benchmark.data.identity import measure
from benchmark.errors import UsageError
from benchmark.settings import schema
from benchmark.settings.cell import Settings
from benchmark.settings.values import batch_norm_groups, count_microbatches


def require_possible(settings: Settings) -> None:
    """Raise `UsageError` for settings that contradict each other."""
    if {"jigsaw", "grid"} & set(schema.describe(settings.method).views) and settings.dataset.stream:
        raise UsageError(f"{settings.method} cuts its patches from kept images: dataset.cache=SIZE, not dataset.stream")
    if schema.is_pretrained(settings.method) and not settings.weights:
        raise UsageError(f"{settings.method} is what its weights are: weights=timm or weights=FILE is needed")
    if settings.weights == "timm" and settings.stem == "small":
        raise UsageError("stem=small: weights=timm are those of timm's own stem; use stem=native or auto")
    _require_training(settings)
    batch = settings.batch_size
    if batch is not None and count_microbatches(batch, settings.microbatch or 0) == 1:
        require_groups(settings.batch_norm or "sync", settings.processes, batch)


def _require_training(settings: Settings) -> None:
    """What a method's own options say of the batch and the epochs."""
    require = getattr(schema.describe(settings.method).Config(**settings.options), "require", None)
    if require is None or settings.batch_size is None or settings.epochs is None:
        return
    try:
        require(settings.batch_size, settings.epochs)
    except ValueError as error:
        raise UsageError(f"{settings.method}: {error}") from error


def require_images(settings: Settings) -> None:
    """Raise `UsageError` for a batch of more images than the dataset has, by what is known of it without its files."""
    facts = measure(settings.dataset, schema.describe(settings.method).supervised)
    batch, is_counted = settings.batch_size or 0, entry(settings.dataset.name).image_files
    if facts and batch > facts.images + (0 if is_counted else facts.classes):  # a split rounds in each class
        raise UsageError(f"batch_size={batch}: {settings.dataset.name} has about {facts.images} images to train on")


def require_groups(mode: str, processes: int, batch_size: int) -> None:
    """Raise `UsageError` where the groups of `batch_norm=` cannot be had with this batch and number of processes."""
    groups, shuffled = batch_norm_groups(mode, processes)
    if shuffled and groups == 1:
        raise UsageError(f"batch_norm={mode} with one group shuffles nothing; batch_norm=shuffle:8 imitates 8 devices")
    if batch_size % groups:
        raise UsageError(f"batch_norm={mode}: batch_size={batch_size} is not a multiple of {groups}")
