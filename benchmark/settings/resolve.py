"""From what is asked for to a whole cell: defaults, what is derived from them, and what no run can have."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from benchmark.augment import augmentation
from benchmark.backbones import weights
from benchmark.data import catalogue, identity
from benchmark.data.catalogue import Dataset
from benchmark.errors import UsageError
from benchmark.settings.cell import Settings
from benchmark.settings.schema import NOT_READ_BY, describe, list_inapplicable, list_options, method_version
from benchmark.settings.values import batch_norm_groups


def build(assigned: dict[str, Any]) -> Settings:
    """Settings from dotted assignments (`options.x` for the method's own); everything else is the default."""
    options = asdict(describe(assigned["method"]).Config())
    for name, kind in list_options(assigned["method"]).items():
        if kind is float:  # a default of 1 and a word that says 1 are the same cell
            options[name] = float(options[name])
    options |= {k.removeprefix("options."): v for k, v in assigned.items() if k.startswith("options.")}
    dataset = read_dataset(assigned)
    fields = {k: v for k, v in assigned.items() if "." not in k}
    version = method_version(assigned["method"])
    settings = Settings(**fields, options=options, dataset=dataset, method_version=version)
    size = settings.view_size or catalogue.entry(dataset.name).view
    settings = replace(settings, view_size=size, dataset=identity.identify(_with_side(dataset, size)))
    validate(settings)
    settings = replace(settings, weights=weights.pin(settings.weights or ""))
    unread = list_inapplicable(settings.method, dataset.split_seed) | NOT_READ_BY.get(settings.optimiser or "", set())
    nothing: dict[str, Any] = dict.fromkeys(unread, None)
    if settings.weight_decay_end == settings.weight_decay:
        settings = replace(settings, weight_decay_end="constant")
    return replace(settings, **nothing)


def read_dataset(assigned: dict[str, Any]) -> Dataset:
    """The dataset of dotted assignments. `UsageError` for images that are not said."""
    dataset = Dataset(**{k.removeprefix("dataset."): v for k, v in assigned.items() if k.startswith("dataset.")})
    name, root = catalogue.split_name(dataset.name)
    if root and "dataset.root" in assigned:
        raise UsageError(f"dataset={dataset.name} and dataset.root={dataset.root}: give one of them")
    item = catalogue.entry(name)
    if item.is_named_by_root and not root and "dataset.root" not in assigned:
        if not dataset.unlabelled:
            raise UsageError(f"dataset={name} needs its images: {item.obtain}")
        return replace(dataset, root="")  # no labels at all
    return replace(dataset, name=name, root=root or dataset.root)


def _with_side(dataset: Dataset, view_size: int) -> Dataset:
    """The pixels at which images are kept: as a cache or a stream says it, and never fewer than a view has."""
    side, name = dataset.cache or dataset.side, "cache"
    if dataset.stream:  # they are kept nowhere: evaluation sees squares of the view's size
        side, name = view_size, "stream"
    if dataset.side not in (0, side):
        raise UsageError(f"dataset.side={dataset.side} and dataset.{name}={getattr(dataset, name)}: give one of them")
    if not catalogue.entry(dataset.name).image_files:
        return replace(dataset, side=side)
    if 0 < side < view_size:
        name = name if dataset.cache else "side"
        raise UsageError(
            f"view_size={view_size} is more than dataset.{name}={side}, at which images are kept: they would be "
            f"enlarged; give dataset.{name}={view_size}, or view_size={side} at most"
        )
    usual = catalogue.entry(dataset.name).side
    return replace(dataset, side=side or (view_size if view_size > usual else 0))


def validate(settings: Settings) -> None:
    """Raise `UsageError` for values that no run can have."""
    config_class = describe(settings.method).Config
    try:
        config_class(**settings.options)
    except Exception as error:  # whatever a plugin's own check raises
        defaults = asdict(config_class())
        changed = ", ".join(f"{name}={value}" for name, value in settings.options.items() if value != defaults[name])
        raise UsageError(f"{settings.method} with {changed}: {error}") from error
    _validate_augmentation(settings.method, settings.augmentation or "none")
    batch_norm_groups(settings.batch_norm or "sync", 1)
    at_least: dict[str, float] = {"epochs": 1, "batch_size": 2, "microbatch": 0, "view_size": 4, "seed": 0}
    at_least |= dict.fromkeys(("learning_rate", "weight_decay", "warmup", "sgd_momentum", "adamw_beta2"), 0)
    if settings.weight_decay_end != "constant":
        at_least["weight_decay_end"] = 0
    for name, smallest in at_least.items():
        value = getattr(settings, name)
        if value is not None and value < smallest:
            raise UsageError(f"{name}={value}: at least {smallest} is needed")
    for name in ("warmup", "sgd_momentum"):
        if (getattr(settings, name) or 0) > 1:
            raise UsageError(f"{name}={getattr(settings, name)}: a share between 0 and 1 is needed")
    if (settings.adamw_beta2 or 0) >= 1:
        raise UsageError(f"adamw_beta2={settings.adamw_beta2}: a share from 0 to below 1 is needed, such as 0.95")
    microbatch, batch = settings.microbatch or 0, settings.batch_size or 0
    if 0 < microbatch < batch and settings.batch_norm not in ("sync", "local"):
        raise UsageError(
            f"batch_norm={settings.batch_norm} needs the whole batch at once; microbatch={microbatch} alone already "
            f"gives each {microbatch} images their own batch-norm statistics (batch_norm=sync)"
        )


def _validate_augmentation(method: str, text: str) -> None:
    if (
        augmentation.parse(text).small
        and "augmentation" not in list_inapplicable(method)
        and not describe(method).multicrop
    ):
        raise UsageError(
            f"{method} takes no small crops: augmentation={text}; give it its own with "
            f"{method}.augmentation={augmentation.without_small(text)}"
        )
