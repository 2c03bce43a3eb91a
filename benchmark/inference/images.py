"""Images that a user names: a folder, a dataset, or a list of files; each with a name, and a label if it has one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.data.catalogue import CATALOGUE, Dataset, absolute, entry, require, split_name
from benchmark.data.datasets import read_arrays
from benchmark.data.files import Files, Squares, require_decoding
from benchmark.data.inspection import drop_others, inspect
from benchmark.data.layout import LeftOut, find_split, pick_stat, walk
from benchmark.data.remarks import remark
from benchmark.data.source import Images, Rows
from benchmark.data.survey import survey_dataset
from benchmark.errors import UsageError, nearest


@dataclass(frozen=True)
class Listing:
    """What will be read: names and labels (n,), in the order in which `parts` give the images, uint8 (n_i, 3, H, W)."""

    title: str
    names: list[str]
    labels: list[str | None]
    parts: list[Callable[[], Images]]
    notes: list[str]


def list_images(text: str, source: Dataset, side: int, stream: bool) -> Listing:
    """The images of `text`: a dataset's name, which is looked for, and fetched, as `source` says; else a folder; else a
    text file with a path a line. Files are read as centre squares of `side` pixels, as streaming cuts them or not.

    UsageError where there are none, or where files cannot be read, all of them at once; each is decoded for that.
    """
    open_files = partial(_open_files, side=side, stream=stream)
    name = text.partition(":")[0]
    if name in CATALOGUE and (":" not in text or entry(name).is_named_by_root):
        return _list_dataset(text, source, open_files)
    path = absolute(text)
    if path.is_dir():
        return _list_folder(path, open_files)
    if path.is_file():
        return _list_lines(path, open_files)
    near = nearest(path.name, [other.name for other in path.parent.glob("*")]) or nearest(text, CATALOGUE)
    raise UsageError(f"there is no folder, list of files or dataset {text!r}{near} (datasets: {', '.join(CATALOGUE)})")


def _open_files(paths: list[str], side: int, stream: bool) -> Images:
    array = np.array(paths, dtype=object)  # not of strings as long as the longest
    return Files(array, side) if stream else Squares(array, side)


def _list_dataset(text: str, options: Dataset, open_files: Callable[[list[str]], Images]) -> Listing:
    name, root = split_name(text)
    dataset = replace(options, name=name, root=root or options.root)
    require(dataset)
    if entry(name).image_files:
        survey = survey_dataset(dataset)
        names = [os.path.relpath(path, survey.root) for path in survey.paths]
        labels: list[str | None] = [survey.classes[label] for label in survey.labels]
        require_decoding(survey.paths, survey.fingerprint)
        return Listing(text, names, labels, [partial(open_files, survey.paths)], survey.notes)
    source = read_arrays(dataset)
    listing = Listing(text, [], [], [], [])
    for part, rows in (("train", source.training), ("test", source.test), ("unlabelled", source.unlabelled)):
        if rows is not None:
            listing.names.extend(f"{part}/{number}" for number in range(len(rows.labels)))
            listing.labels.extend(source.class_names[label] if label >= 0 else None for label in rows.labels)
            listing.parts.append(partial(_read_whole, rows))
    return listing


def _read_whole(rows: Rows) -> Images:
    return rows.split().images


def _list_folder(root: Path, open_files: Callable[[list[str]], Images]) -> Listing:
    """All images below `root`; each one's label is the first folder that it is in, below a folder of a split."""
    left_out = LeftOut()
    stats = walk(root, root, left_out)
    files = list(stats)
    facts = inspect(root, files, list(stats.values()))
    images = drop_others(root, files, facts, left_out)
    paths, facts = [files[i] for i in images], facts[images]
    if not paths:
        raise UsageError(f"{str(root)!r} holds no image; {'; '.join(left_out.sentences()) or 'it is empty'}")
    require_decoding(paths, _digest(facts))
    names, notes = [os.path.relpath(path, root) for path in paths], [*left_out.sentences(), *remark(root, paths, facts)]
    return Listing(root.name, names, list(map(_find_label, names)), [partial(open_files, paths)], notes)


def _find_label(name: str) -> str | None:
    folders = Path(name).parts[:-1]
    if folders and find_split(folders[0]):
        folders = folders[1:]
    return folders[0] if folders else None


def _list_lines(file: Path, open_files: Callable[[list[str]], Images]) -> Listing:
    """The files that a text names, from the current folder. All of them are images, or none is read."""
    try:
        names = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except ValueError as error:
        raise UsageError(
            f"{str(file)!r} is neither a folder nor a text in UTF-8 that lists files, one path a line"
        ) from error
    paths = [os.path.expanduser(name) for name in names]
    if not names:
        raise UsageError(f"{str(file)!r}: it names no file")
    present = [path for path in paths if os.path.isfile(path)]
    facts = inspect(Path.cwd(), present, [pick_stat(os.stat(path)) for path in present])
    try:  # those that are not there, or no images, are named too, whatever is known of the others
        require_decoding(paths, f"{_digest(facts)}-{len(paths)}")
    except UsageError as error:
        raise UsageError(f"{str(file)!r}: {error}") from error
    return Listing(
        file.name, names, [None] * len(names), [partial(open_files, paths)], remark(Path.cwd(), paths, facts)
    )


def _digest(facts: NDArray[Any]) -> str:
    """Sixteen hexadecimal digits of what these files hold."""
    return hashlib.sha256(facts[["size", "digest"]].tobytes()).hexdigest()[:16]
