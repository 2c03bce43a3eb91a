"""What lies in a folder of images: classes, splits, what is left out, and a fingerprint that names the images.

Imports no torch: words are read, and a plan is made, with it.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.data.catalogue import Dataset
from benchmark.data.inspection import digest_ends, inspect_images, is_small
from benchmark.data.layout import (
    LAYOUTS,
    TEST,
    TRAIN,
    VALIDATION,
    ClassFolder,
    LeftOut,
    list_unlabelled,
    quote,
    shorten,
)
from benchmark.data.layouts.archives import list_images
from benchmark.data.layouts.fetch import locate
from benchmark.data.layouts.shards import base_folder
from benchmark.data.remarks import count_repeats, remark, remark_levels, remark_names
from benchmark.data.splits import TEST_SEED, TEST_SHARE, stratify, subsample
from benchmark.errors import UsageError
from results.quantity import quantify

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Survey:
    """``paths`` and ``labels`` (n,) of all images, class by class, and the indices into them of each split.

    ``validation`` is None where the folder has none of its own. ``sides`` (n, 2): height and width in pixels.
    ``fingerprint`` names the images by split, class, name below it, size and content, wherever the folder lies.
    """

    root: Path
    classes: list[str]
    paths: list[str]
    labels: Indices
    sides: NDArray[np.int32]
    training: Indices
    validation: Indices | None
    test: Indices
    test_from: str
    fingerprint: str
    content: NDArray[np.uint64]  # (n,): equal where the bytes of two images are
    is_whole: bool  # whether `content` is of all bytes, not of those at either end
    notes: list[str]

    def count(self, dataset: Dataset) -> tuple[int, int, int]:
        """Images to train on, to validate on and to test on, with the limit and the validation share of `dataset`; no
        seed changes how many."""
        labels = self.labels[self.training]
        if 0 < dataset.limit < len(labels):
            labels = labels[subsample(labels, dataset.limit, 0, least=2)]
        if self.validation is not None:
            return len(labels), len(self.validation), len(self.test)
        to_train, to_validate = stratify(labels, dataset.validation, 0)
        return len(to_train), len(to_validate), len(self.test)

    @property
    def shorter_side(self) -> int:
        """The median, in pixels, of each image's shorter side."""
        return int(np.median(self.sides.min(axis=1)))

    def count_in_test(self, other: Survey) -> int:
        """How many test images lie in `other` too; where one of the two is hashed by its ends alone, by those."""
        whole = self.is_whole and other.is_whole
        here, there = (one.content if whole or not one.is_whole else one.ends for one in (self, other))
        return int(np.isin(here[self.test], there).sum())

    @cached_property
    def ends(self) -> NDArray[np.uint64]:
        """(n,): as `content`, of the bytes at either end."""
        return digest_ends(self.paths)

    def describe_unlabelled(self) -> str:
        """Such as 'photos: 9000 images without labels; ...'."""
        return f"{quote(self.root.name)}: {len(self.paths)} images without labels; {self._describe_sides()}"

    def describe(self, dataset: Dataset) -> str:
        """Such as '10 classes (church, tench and 8 more), 720 train / 80 validation / 200 test images (...)'."""
        train, validation, test = self.count(dataset)
        origin = "validation drawn from train" if self.validation is None else "a validation folder of its own"
        return (
            f"{quote(self.root.name)}: {len(self.classes)} classes ({shorten(self.classes)}), {train} train / "
            f"{validation} validation / {test} test images (test {self.test_from}, {origin}); {self._describe_sides()}"
        )

    def _describe_sides(self) -> str:
        shorter = self.sides.min(axis=1)
        return (
            f"shorter side {shorter.min()} to {shorter.max()} pixels, median {self.shorter_side}; "
            f"fingerprint {self.fingerprint}"
        )


def survey(root: Path, labelled: bool = True, name: str = "folder") -> Survey:
    """The images below `root`, laid out as those of the dataset called `name`. Without labels, these are -1, and all
    images are for training.

    UsageError for a layout that cannot be read (see `layout`), a class without images, and files that are damaged:
    all of them at once.
    """
    left_out = LeftOut()
    folders = list_images(name, root, left_out) if labelled else list_unlabelled(root, left_out)
    root = base_folder(root)
    paths = [path for folder in folders for path in folder.files]
    stats = [stat for folder in folders for stat in folder.stats]
    images, facts = inspect_images(root, paths, stats, left_out)
    owner = np.repeat(np.arange(len(folders)), [len(folder.files) for folder in folders])[images]
    paths = [paths[i] for i in images]
    sides, fingerprint = np.stack([facts["height"], facts["width"]], axis=1), _fingerprint(folders, owner, paths, facts)
    content, notes = facts["digest"][:, 0].copy(), [*left_out.sentences(), *remark(root, paths, facts)]
    if not labelled:
        return _survey_unlabelled(root, paths, sides, fingerprint, content, is_small(stats), notes)
    classes = _name_classes(root, folders, np.bincount(owner, minlength=len(folders)), left_out)
    notes += [*remark_names(classes), *(remark_levels(folders) if name == "folder" else [])]
    number_of = {name: number for number, name in enumerate(classes)}
    labels = np.array([number_of[folder.name] for folder in folders], dtype=np.int64)[owner]
    of_split = np.array([folder.split for folder in folders])[owner]
    parts = {split: np.flatnonzero(of_split == split) for split in (TRAIN, VALIDATION, TEST)}
    training, validation, test = parts[TRAIN], parts[VALIDATION], parts[TEST]
    test_from = f"from {_split_folder(root, folders, TEST)}"
    if not len(test) and len(validation):
        test, validation, test_from = validation, test, f"from {_split_folder(root, folders, VALIDATION)}"
    if not len(validation):
        _require_images(labels[training], classes, 2 if len(test) else 3)
    if not len(test):
        to_train, to_test = stratify(labels[training], TEST_SHARE, TEST_SEED)
        training, test, test_from = training[to_train], training[to_test], f"drawn from all, {TEST_SHARE:.0%}"
    return Survey(
        root=root,
        classes=classes,
        paths=paths,
        labels=labels,
        sides=sides,
        training=training,
        validation=validation if len(validation) else None,
        test=test,
        test_from=test_from,
        fingerprint=fingerprint,
        content=content,
        is_whole=is_small(stats),
        notes=[*notes, *count_repeats(root, paths, facts, labels, training, validation, test)],
    )


def _survey_unlabelled(
    root: Path,
    paths: list[str],
    sides: NDArray[np.int32],
    fingerprint: str,
    content: NDArray[Any],
    is_whole: bool,
    notes: list[str],
) -> Survey:
    if len(paths) < 3:
        count = quantify(len(paths), "image")
        raise UsageError(f"dataset.unlabelled={str(root)!r} holds {count}: at least 3 are needed")
    return Survey(
        root=root,
        classes=[],
        paths=paths,
        labels=np.full(len(paths), -1),
        sides=sides,
        training=np.arange(len(paths)),
        validation=None,
        test=np.empty(0, np.int64),
        test_from="",
        fingerprint=fingerprint,
        content=content,
        is_whole=is_whole,
        notes=notes,
    )


survey_once = lru_cache(maxsize=8)(survey)  # for the words of one command; its `cache_clear()` looks anew


def survey_dataset(dataset: Dataset) -> Survey:
    """The images of `dataset`, fetched first where it says so. UsageError also where they are not there."""
    root = locate(dataset)
    try:
        return survey_once(root, True, dataset.name)
    except UsageError as error:
        raise UsageError(f"dataset {dataset.name}: {str(error).removeprefix('dataset folder: ')}") from error


def _name_classes(root: Path, folders: list[ClassFolder], counts: NDArray[np.int64], left_out: LeftOut) -> list[str]:
    """The classes, in order, which must be the same in all splits and have an image each."""
    relative_paths = [os.path.relpath(folder.path, root) for folder in folders]
    shown_names = [folder.name if path == "." else path for folder, path in zip(folders, relative_paths, strict=True)]
    empty = [name for name, n in zip(shown_names, counts, strict=True) if not n]
    if empty:
        sentences = "".join(f"; {sentence}" for sentence in left_out.sentences())
        raise UsageError(
            f"dataset folder: no image in the class folder{'s' if len(empty) > 1 else ''} {shorten(empty)} of "
            f"{str(root)!r}: remove {'them' if len(empty) > 1 else 'it'}, or add images{sentences}"
        )
    by_split = {
        split: [folder.name for folder in folders if folder.split == split] for split in (TRAIN, VALIDATION, TEST)
    }
    classes = by_split[TRAIN]
    if not classes:
        raise UsageError(f"dataset folder: {str(root)!r} holds no images with labels to train on")
    _refuse_twins(root, classes)
    if len(classes) < 2:
        raise UsageError(f"dataset folder: {str(root)!r} holds only the class {classes[0]!r}; {LAYOUTS}")
    for split in (VALIDATION, TEST):
        other = by_split[split]
        if other and other != classes:
            differing = {TRAIN: sorted(set(classes) - set(other)), split: sorted(set(other) - set(classes))}
            forms = [{unicodedata.normalize("NFC", name) for name in names} for names in differing.values()]
            spell = ascii if forms[0] & forms[1] else str  # names that look the same
            differences = "; ".join(
                f"only in {_split_folder(root, folders, part)} {shorten(map(spell, names))}"
                for part, names in differing.items()
                if names
            )
            raise UsageError(f"dataset folder: the class folders of {str(root)!r} must be the same ({differences})")
    return classes


def _refuse_twins(root: Path, classes: list[str]) -> None:
    """UsageError for two classes that look the same: one name in two Unicode forms, as of two systems."""
    of_form: dict[str, str] = {}
    for name in classes:
        twin = of_form.setdefault(unicodedata.normalize("NFC", name), name)
        if twin != name:
            raise UsageError(
                f"dataset folder: the classes {twin!a} and {name!a} of {str(root)!r} are one name in two "
                "Unicode forms, which look the same: merge them, or rename one"
            )


def _split_folder(root: Path, folders: list[ClassFolder], split: str) -> str:
    sources = (folder.source or f"{Path(folder.path).parent.name}/" for folder in folders if folder.split == split)
    return next(sources, "")


def _require_images(labels: Indices, classes: list[str], least: int) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    lacking = [f"{classes[i]} ({counts[i]})" for i in np.flatnonzero(counts < least)]
    if lacking:
        uses = "train, validate and test" if least == 3 else "train and validate"
        raise UsageError(
            f"dataset folder: classes of too few training images, at least {least} are needed to {uses}: "
            f"{shorten(lacking)}: add images or remove the class"
        )


def _fingerprint(folders: list[ClassFolder], owner: Indices, paths: list[str], facts: NDArray[Any]) -> str:
    """Sixteen hexadecimal digits that the same images give in any folder, on any machine."""
    starts = [(f"{folder.split}\0{folder.name}\0", len(folder.path) + 1) for folder in folders]
    lines = [
        f"{starts[of][0]}{path[starts[of][1] :]}\0{size}\0{low:016x}{high:016x}"
        for of, path, size, (low, high) in zip(
            owner.tolist(), paths, facts["size"].tolist(), facts["digest"].tolist(), strict=True
        )
    ]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]
