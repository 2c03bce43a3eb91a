"""Which images a dataset is, for the words: only where it is a folder is it looked at, and numpy imported for that."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmark.data.catalogue import Dataset, entry, location
from benchmark.errors import UsageError


def look_anew() -> None:
    """Forget what was seen of folders: each command looks at each of them once."""
    if "benchmark.data.survey" in sys.modules:
        from benchmark.data.survey import survey_once

        survey_once.cache_clear()


def identify(dataset: Dataset) -> Dataset:
    """The dataset with the fingerprint of its images, where it is a folder."""
    if dataset.name != "folder":
        return dataset
    from benchmark.data.survey import survey_once

    return replace(dataset, fingerprint=survey_once(location(dataset)).fingerprint)


def holds(root: str, fingerprint: str) -> bool:
    """Whether the folder holds the images of this fingerprint."""
    try:
        return identify(Dataset("folder", root)).fingerprint == fingerprint
    except UsageError:
        return False


@dataclass(frozen=True)
class Facts:
    """What settings can be fitted to: images to train on, classes, and the median of the shorter sides in pixels."""

    images: int
    classes: int
    side: int


def measure(dataset: Dataset) -> Facts | None:
    """The facts of a folder, or of a dataset whose numbers are published; None where only its files could tell."""
    if dataset.name == "folder":
        from benchmark.data.survey import survey_once

        found = survey_once(location(dataset))
        return Facts(found.count(dataset)[0], len(found.classes), found.shorter_side)
    published = entry(dataset.name)
    if published.images is None or published.classes is None:
        return None
    images = min(dataset.limit or published.images, published.images)
    if dataset.name != "stl10":  # whose unlabelled images are all trained on
        images -= round(images * dataset.validation)
    return Facts(images, published.classes, published.side)


def describe(datasets: Iterable[Dataset]) -> list[str]:
    """What was found in each folder of images, and what has to be known of it, a line each."""
    lines: dict[str, None] = {}
    for dataset in datasets:
        if dataset.name == "folder":
            from benchmark.data.survey import survey_once

            found = survey_once(location(dataset))
            lines |= dict.fromkeys([found.describe(dataset), *(f"note: {note}" for note in found.notes)])
    return list(lines)
