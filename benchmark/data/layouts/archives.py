"""Which files of an unpacked archive, as its authors publish it, are which class and split. Imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from benchmark.data.catalogue import entry
from benchmark.data.layout import (
    TEST,
    TRAIN,
    ClassFolder,
    LeftOut,
    Stat,
    list_classes,
    list_folders,
    quote,
    shorten,
    walk,
)
from benchmark.data.layouts.shards import list_shards
from benchmark.data.splits import TEST_SEED, draw_each
from benchmark.errors import UsageError

WORDNET_ID = re.compile(r"n\d{8}")
CALTECH_EACH = 30  # training images a class, as in Kornblith et al. 2019 (arXiv:1805.08974), plus a background class


def list_images(name: str, root: Path, left_out: LeftOut) -> list[ClassFolder]:
    """The class folders of all splits of the dataset called `name` below its own folder `root`, train first.

    UsageError where they are not all there.
    """
    if name in ("hf", "webdataset"):
        return list_shards(root, left_out)
    if name in ("imagenet", "imagenet100"):
        folders = _list_imagenet(root, left_out, read_imagenet100() if name == "imagenet100" else None)
    elif name == "tiny_imagenet":
        folders = _list_tiny_imagenet(root, left_out)
    elif name == "caltech101":
        folders = _list_caltech101(root, left_out)
    else:
        folders = list_classes(root, left_out)
    _require_classes(name, root, folders)
    return folders


def read_imagenet100() -> frozenset[str]:
    """The WordNet ids of its classes."""
    lines = Path(__file__).with_name("imagenet100.txt").read_text().splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def _list_imagenet(root: Path, left_out: LeftOut, chosen: frozenset[str] | None) -> list[ClassFolder]:
    """`train` and `val` with a folder of each WordNet id, of which `chosen` are read, or all."""
    folders = []
    for split, folder in ((TRAIN, "train"), (TEST, "val")):
        ids = [name for name in list_folders(root / folder) if WORDNET_ID.fullmatch(name)]
        if not ids:
            raise UsageError(
                f"{str(root / folder)!r} holds no folder of a WordNet id such as n01440764: torchvision.datasets."
                "ImageNet sorts the published archives into such folders"
            )
        names = [name for name in ids if chosen is None or name in chosen]
        if len(names) < len(ids):
            other = f"{folder}/{min(set(ids) - set(names))}"
            left_out.add("class folders that are not of ImageNet-100", other, len(ids) - len(names))
        folders += [_class_folder(split, name, root / folder / name, root, left_out) for name in names]
    return folders


def _list_tiny_imagenet(root: Path, left_out: LeftOut) -> list[ClassFolder]:
    """`train/CLASS/images`, and `val/images`, whose classes `val_annotations.txt` has, as test set.

    The labels of `test` were never published.
    """
    names = list_folders(root / "train")
    folders = [_class_folder(TRAIN, name, root / "train" / name / "images", root, left_out) for name in names]
    images, annotations = root / "val" / "images", root / "val" / "val_annotations.txt"
    files = _walk(images, root, left_out)
    of_class: dict[str, list[str]] = {}
    for line in filter(str.strip, annotations.read_text(errors="replace").splitlines()):
        file, _, rest = line.partition("\t")
        if not rest:
            raise UsageError(f"{str(annotations)!r} holds the line {quote(line[:60])}, which is no FILE, tab, CLASS")
        of_class.setdefault(rest.partition("\t")[0], []).append(str(images / file))
    missing = [os.path.basename(path) for paths in of_class.values() for path in paths if path not in files]
    if missing:
        raise UsageError(f"{str(images)!r} lacks images that {annotations.name} names: {shorten(missing)}")
    for name, paths in sorted(of_class.items()):
        folders.append(ClassFolder(TEST, name, str(images), sorted(paths), [files[path] for path in sorted(paths)]))
    return folders


def _list_caltech101(root: Path, left_out: LeftOut) -> list[ClassFolder]:
    """`101_ObjectCategories/CLASS`: of each class 30 images, always the same ones, to train and the rest to test.

    BACKGROUND_Google is no class.
    """
    top = root / "101_ObjectCategories"
    names = [name for name in list_folders(top) if name != "BACKGROUND_Google"]
    whole = [_class_folder(TRAIN, name, top / name, root, left_out) for name in names]
    training = set(draw_each(np.repeat(np.arange(len(whole)), [len(f.files) for f in whole]), CALTECH_EACH, TEST_SEED))
    splits: dict[str, list[ClassFolder]] = {TRAIN: [], TEST: []}
    start = 0
    for folder in whole:
        for split, trains in ((TRAIN, True), (TEST, False)):
            rows = [row for row in range(len(folder.files)) if (start + row in training) is trains]
            files, stats = [folder.files[row] for row in rows], [folder.stats[row] for row in rows]
            source = f"all but {CALTECH_EACH} images a class" if split == TEST else ""
            splits[split].append(ClassFolder(split, folder.name, folder.path, files, stats, source))
        start += len(folder.files)
    return splits[TRAIN] + splits[TEST]


def _class_folder(split: str, name: str, folder: Path, root: Path, left_out: LeftOut) -> ClassFolder:
    files = _walk(folder, root, left_out)
    return ClassFolder(split, name, str(folder), list(files), list(files.values()))


def _walk(folder: Path, root: Path, left_out: LeftOut) -> dict[str, Stat]:
    """As `walk`, of a folder that has to be there."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {str(folder)!r}")
    return walk(folder, root, left_out)


def _require_classes(name: str, root: Path, folders: Iterable[ClassFolder]) -> None:
    """UsageError unless each split has the classes that are published."""
    published, by_split = entry(name).classes, {TRAIN: set[str]()}
    for folder in folders:
        by_split.setdefault(folder.split, set()).add(folder.name)
    if len(by_split) < 2:
        by_split[TEST] = set()
    for split, names in by_split.items():
        if published is not None and len(names) != published:
            lacks = f", without {shorten(sorted(read_imagenet100() - names))}" if name == "imagenet100" else ""
            raise UsageError(
                f"{str(root)!r} holds {len(names)} {split} classes{lacks}, not the {published} of {name}: bring in the "
                "others, or read a part of it as dataset=folder"
            )
