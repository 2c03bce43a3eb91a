"""Which images a dataset is, for the words: only where they lie as files are they looked at, which imports numpy."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmark.data.catalogue import Dataset, entry
from benchmark.errors import UsageError


def look_anew() -> None:
    """Forget what was seen of image files: each command looks at them once."""
    if "benchmark.data.survey" in sys.modules:
        from benchmark.data.survey import survey_once

        survey_once.cache_clear()


def identify(dataset: Dataset) -> Dataset:
    """The dataset with the fingerprint of its images, where they lie as files."""
    if not entry(dataset.name).image_files:
        return dataset
    from benchmark.data.survey import survey_dataset

    return replace(dataset, fingerprint=survey_dataset(dataset).fingerprint)


def holds(dataset: Dataset, root: str) -> bool:
    """Whether its images lie below this root."""
    try:
        return identify(replace(dataset, root=root)).fingerprint == dataset.fingerprint
    except UsageError:
        return False


@dataclass(frozen=True)
class Facts:
    """What settings can be fitted to: images to train on, classes, and the median of the shorter sides in pixels."""

    images: int
    classes: int
    side: int


def measure(dataset: Dataset) -> Facts | None:
    """The facts of image files, or of a dataset whose numbers are published; None where only its files could tell."""
    if entry(dataset.name).image_files:
        from benchmark.data.survey import survey_dataset

        found = survey_dataset(dataset)
        return Facts(found.count(dataset)[0], len(found.classes), found.shorter_side)
    published = entry(dataset.name)
    if published.images is None or published.classes is None:
        return None
    images = min(dataset.limit or published.images, published.images)
    if dataset.name != "stl10":  # whose unlabelled images are all trained on
        images -= round(images * dataset.validation)
    return Facts(images, published.classes, published.side)


def describe(datasets: Iterable[Dataset]) -> list[str]:
    """What was found among image files, and what has to be known of it, a line each."""
    lines: dict[str, None] = {}
    for dataset in datasets:
        item = entry(dataset.name)
        if item.image_files:
            from benchmark.data.survey import survey_dataset

            found = survey_dataset(dataset)
            lines |= dict.fromkeys([found.describe(dataset), *(f"note: {note}" for note in found.notes)])
            if item.images not in (None, len(found.training)):
                there = len(found.training)
                lines[f"note: {item.name} has {item.images} training images as published, this copy {there}"] = None
    return list(lines)
