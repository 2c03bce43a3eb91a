"""Words that mean something for a method and yet make no difference to a cell, as its other settings are. They are
said, for a sweep over one of them is the same cell, or the same numbers, again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from benchmark.data import catalogue
from benchmark.settings import schema
from benchmark.settings.cell import Settings


def explain(cell: Settings, names: Iterable[str]) -> list[str]:
    """What is said of a cell that was asked for with the settings and options `names`."""
    stated = set(names)
    options = {name.removeprefix("options.") for name in stated if name.startswith("options.")}
    return [*_explain_optimiser(cell, stated), *_explain_options(cell, options), *_explain_dataset(cell, stated)]


def _explain_optimiser(cell: Settings, stated: set[str]) -> Iterator[str]:
    unread = schema.NOT_READ_BY.get(cell.optimiser or "", set())
    for name in sorted(stated & unread):
        yield f"{name} makes no difference to {cell.method}: optimiser={cell.optimiser} does not read it"


def _explain_options(cell: Settings, options: set[str]) -> Iterator[str]:
    for name, (other, *values) in schema.describe(cell.method).read_with.items():
        value = cell.options.get(other)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if name in options and not (text in values if values else value):
            needed = f"{other}={' or '.join(values)}" if values else f"{other} above 0"
            yield f"{name} makes no difference to {cell.method} with {other}={text}: it is read with {needed} alone"


def _explain_dataset(cell: Settings, stated: set[str]) -> Iterator[str]:
    dataset, item = cell.dataset, catalogue.entry(cell.dataset.name)
    if "dataset.root" in stated and not (item.files or item.image_files):
        yield (
            f"dataset.root={dataset.root} is not read: dataset={dataset.name} comes with scikit-learn; images of your "
            f"own are dataset=folder dataset.root={dataset.root}"
        )
    if "dataset.cache_dir" in stated and not dataset.cache:
        yield f"dataset.cache_dir={dataset.cache_dir} is not read: only dataset.cache=SIZE keeps images in a file"
