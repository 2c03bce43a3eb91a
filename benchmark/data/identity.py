"""Which images a dataset is, for the words: only where they lie as files are they looked at, which imports numpy."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmark.data.catalogue import Dataset, absolute, entry
from benchmark.errors import UsageError
from results.quantity import quantify

if TYPE_CHECKING:
    from benchmark.data.survey import Survey

MEASURED = 3  # images without labels that features are measured on: of two, all lie on a line
UNLABELLED = "+"  # in a fingerprint: before that of the images without labels


def forget_surveys() -> None:
    """Forget what was seen of image files: each command looks at them once."""
    if "benchmark.data.survey" in sys.modules:
        from benchmark.data.survey import survey_once

        survey_once.cache_clear()


def survey_images(dataset: Dataset) -> tuple[Survey | None, Survey | None]:
    """Its labelled images, if they lie as files and there are any, and those of its folder of images without labels."""
    if not entry(dataset.name).image_files:
        return None, None
    from benchmark.data.survey import survey_dataset, survey_once

    labelled = survey_dataset(dataset) if dataset.root else None
    return labelled, survey_once(absolute(dataset.unlabelled), False) if dataset.unlabelled else None


def identify(dataset: Dataset) -> Dataset:
    """The dataset with the fingerprint of its images, where they lie as files."""
    labelled, unlabelled = survey_images(dataset)
    fingerprint = labelled.fingerprint if labelled else ""
    return replace(dataset, fingerprint=fingerprint + (UNLABELLED + unlabelled.fingerprint if unlabelled else ""))


def holds(dataset: Dataset, root: str) -> bool:
    """Whether its labelled images lie below this root."""
    below_root = replace(dataset, root=root, unlabelled="")
    try:
        return identify(below_root).fingerprint == dataset.fingerprint.partition(UNLABELLED)[0]
    except UsageError:
        return False


@dataclass(frozen=True)
class Facts:
    """What settings can be fitted to: images to train on, classes, and the median of the shorter sides in pixels, or
    that at which images are kept, where a word says a smaller one."""

    images: int
    classes: int
    side: int


def measure(dataset: Dataset, supervised: bool = False) -> Facts | None:
    """The facts of image files, or of a dataset whose numbers are published; None where only its files could tell.

    A `supervised` method trains on labelled images alone, though others lie beside them.
    """
    labelled, unlabelled = survey_images(dataset)
    unlabelled = None if labelled and supervised else unlabelled
    files = unlabelled or labelled
    if files:
        kept = 0 if dataset.stream else dataset.cache or dataset.side
        side = min(files.shorter_side, kept or files.shorter_side)
        if labelled and not unlabelled:
            return Facts(labelled.count(dataset)[0], len(labelled.classes), side)
        images = min(dataset.limit or len(files.paths), len(files.paths))
        images -= 0 if labelled else _count_held_back(images, 1, dataset.validation)
        return Facts(images, len(labelled.classes) if labelled else 0, side)
    published = entry(dataset.name)
    if published.images is None or published.classes is None:
        return None
    images = min(dataset.limit or published.images, published.images)
    if dataset.name != "stl10":  # whose unlabelled images are all trained on
        images -= _count_held_back(images, published.classes, dataset.validation)
    return Facts(images, published.classes, published.side)


def has_labels(dataset: Dataset) -> bool:
    """Whether any of its images have labels: all but a folder of images without any beside it."""
    return bool(dataset.root) or not entry(dataset.name).is_named_by_root


def count_training(dataset: Dataset, supervised: bool = False) -> int | None:
    """Images that a method trains on, a `supervised` one those with labels. None where only the dataset's files could
    tell."""
    if supervised and dataset.name == "stl10":  # which has few labels among its images
        return None
    facts = measure(dataset, supervised)
    return facts.images if facts else None


def check_split(dataset: Dataset) -> None:
    """`require_limit` and `require_validation`, as far as is known without the dataset's files."""
    labelled, unlabelled = survey_images(dataset)
    item = entry(dataset.name)
    if labelled or unlabelled:
        whole = len(unlabelled.paths) if unlabelled else len(labelled.training) if labelled else 0
        require_limit(dataset, len(labelled.classes) if labelled else 0, whole)
        if not labelled:
            require_validation(dataset, min(dataset.limit or whole, whole))
    elif item.images is not None and item.classes is not None:
        require_limit(dataset, item.classes, item.images)


def require_limit(dataset: Dataset, classes: int, images: int) -> None:
    """Raise `UsageError` for a `dataset.limit` that so many images of so many classes cannot be cut down to."""
    least = max(3, 2 * classes)
    if dataset.limit and not least <= dataset.limit <= images:
        raise UsageError(
            f"dataset.limit={dataset.limit} is not allowed for dataset {dataset.name}: give from {least} (an image of "
            f"each of {classes} classes to train and one to validate on) to {images}, or 0 for all"
        )


def require_validation(dataset: Dataset, images: int) -> None:
    """Raise `UsageError` where too few of so many images without labels are held back to measure features by."""
    held_back = _count_held_back(images, 1, dataset.validation)
    if held_back < MEASURED:
        share = math.ceil(100 * MEASURED / images) / 100
        word = f"dataset.validation={share:g}, or " if share < 1 else ""
        raise UsageError(
            f"dataset.validation={dataset.validation:g} holds back {quantify(held_back, 'image')} of {images} without "
            f"labels, and features are measured on {MEASURED} at least: {word}more images"
        )


def _count_held_back(images: int, classes: int, share: float) -> int:
    """Images that validation takes, as `splits.stratify` does: one of each class at least, and not the last one."""
    return min(max(round(images * share), classes), images - classes)


def describe(datasets: Iterable[Dataset]) -> list[str]:
    """What was found among image files, and what has to be known of it, a line each."""
    lines: list[str] = []
    for dataset in datasets:
        labelled, unlabelled = survey_images(dataset)
        if labelled:
            lines += [labelled.describe(dataset), *(f"note: {note}" for note in labelled.notes)]
            if labelled.validation is not None and dataset.validation != Dataset.validation:
                lines.append(f"note: dataset.validation={dataset.validation} does not apply: there is a validation set")
            published, images = entry(dataset.name).images, len(labelled.training)
            if published not in (None, images):
                lines.append(f"note: {dataset.name} has {published} training images as published, this copy {images}")
        if unlabelled:
            lines += [unlabelled.describe_unlabelled(), *(f"note: {note}" for note in unlabelled.notes)]
            leaked = labelled.count_in_test(unlabelled) if labelled else 0
            if leaked:
                lines.append(f"note: test images that are among those without labels, and so are trained on: {leaked}")
            if not labelled:
                lines.append(
                    "note: no labels, so no accuracy can be given: there are effective rank, alignment, uniformity and "
                    "nearest neighbours to look at; dataset.root=DIR names labelled images"
                )
    return list(dict.fromkeys(lines))


def count_validation(dataset: Dataset) -> int | None:
    """Images that a validation accuracy is of: those of a folder's own validation split, or the share of the training
    images that is held back. None where only the dataset's files could tell."""
    labelled, unlabelled = survey_images(dataset)
    if labelled:
        return labelled.count(dataset)[1]
    published = entry(dataset.name)
    if unlabelled or published.images is None or dataset.name == "stl10":  # which has few labels among its images
        return None
    images = min(dataset.limit or published.images, published.images)
    return _count_held_back(images, published.classes or 1, dataset.validation)
