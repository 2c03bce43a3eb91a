"""What has to be known of a folder's images beside what they are: what is read otherwise than may be expected, and what
is there more than once. Imports no torch."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.data.inspection import PAGES, ROTATED
from benchmark.data.layout import ClassFolder, quote, shorten

Indices = NDArray[np.int64]


def remark(root: Path, paths: list[str], facts: NDArray[Any]) -> list[str]:
    """What is read otherwise than may be expected."""
    formats = Counter(facts["format"].tolist()).most_common()
    remarks = ["formats: " + ", ".join(f"{n} {name}" for name, n in formats)] if len(formats) > 1 else []
    kinds = (
        (PAGES, "of several pages or frames, of which the first is used"),
        (ROTATED, "with an EXIF rotation, which is not applied"),
    )
    for flag, text in kinds:
        flagged = np.flatnonzero(facts["flags"] & flag)
        if len(flagged):
            remarks.append(f"images {text}: {len(flagged)} ({quote(os.path.relpath(paths[flagged[0]], root))})")
    return remarks


def remark_names(classes: list[str]) -> list[str]:
    """Classes that may be one: their names differ in upper and lower case, or in blanks, alone."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(" ".join(name.casefold().split()), []).append(name)
    pairs = [names for names in alike.values() if len(names) > 1]
    if not pairs:
        return []
    first = " = ".join(map(quote, pairs[0]))
    return [f"classes whose names differ in case or blanks alone: {sum(map(len, pairs))} ({first})"]


def remark_levels(folders: list[ClassFolder]) -> list[str]:
    """Class folders that hold the same folders, and nothing beside them, may be above the classes."""
    common: set[str] = set()
    for folder in folders:
        inner = {path[len(folder.path) + 1 :].rpartition("/")[0].partition("/")[0] for path in folder.files}
        if "" in inner or len(inner) < 2 or common not in (set(), inner):
            return []
        common = inner
    listed = shorten(sorted(common))
    return [f"all classes hold the same folders, {listed}: if these are the classes, dataset.root is a level too high"]


def count_repeats(
    root: Path,
    paths: list[str],
    facts: NDArray[Any],
    labels: Indices,
    training: Indices,
    validation: Indices,
    test: Indices,
) -> list[str]:
    """Files and contents that are there more than once, which moves a number."""
    remarks = []
    row = np.arange(len(paths))
    trained, validated, tested = (np.isin(row, part) for part in (training, validation, test))
    file, content = _number(facts["inode"], facts["device"]), _number(*facts["digest"].T)
    first_label = np.empty(len(labels), np.int64)
    first_label[content] = labels
    conflicting = np.isin(content, content[first_label[content] != labels])
    leaked, chosen_by = (tested & np.isin(content, content[part]) for part in (training, validation))
    worse = conflicting.any() or leaked.any() or chosen_by.any()
    repeated = (np.bincount(content)[content] > 1) & ~worse
    for text, chosen, groups, differing in (
        ("images that are the same file as another, by links", np.bincount(file)[file] > 1, file, row),
        ("images of which the same is in another class, so that a label is wrong", conflicting, content, labels),
        ("test images that are training images too, whose accuracy says nothing", leaked, content, trained),
        ("test images that are validation images too, to which the probe is fitted", chosen_by, content, validated),
        ("images with the content of another", repeated, content, row),
    ):
        if chosen.any():
            first = int(np.argmax(chosen))
            other = np.flatnonzero((groups == groups[first]) & (differing != differing[first]))[0]
            pair = " = ".join(quote(os.path.relpath(paths[i], root)) for i in (first, other))
            remarks.append(f"{text}: {int(chosen.sum())} ({pair})")
    return remarks


def _number(*columns: NDArray[Any]) -> Indices:
    """(n,) numbers, equal where the values of all columns are."""
    order = np.lexsort(columns)
    starts = np.zeros(len(order), np.int64)
    for column in columns:
        starts[1:] |= column[order[1:]] != column[order[:-1]]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(starts)
    return numbers
