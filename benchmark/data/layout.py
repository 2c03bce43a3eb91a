"""Which folders below a root are its splits and its classes, and which files lie in them; no file is opened.

A split folder has one folder a class. Its name, in any case, is one of `SPLITS`, alone or with `_set`, `_data` or
`_images` behind it. Without split folders the root's own folders are the classes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import UsageError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), TEST),
}
SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"}
LAYOUTS = "give dataset.root=DIR, laid out as DIR/train/CLASS/*.jpg (beside DIR/val or DIR/test) or DIR/CLASS/*.jpg"
SHOWN = 5  # names in a message


@dataclass
class LeftOut:
    """What lies in a folder and is not used: how much of it, by the reason, and the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, name: str, count: int = 1) -> None:
        self.counts[reason] += count
        self.first.setdefault(reason, name)

    def sentences(self) -> list[str]:
        return [f"left out: {count} {reason} ({self.first[reason]})" for reason, count in self.counts.items()]


@dataclass(frozen=True)
class ClassFolder:
    """A folder of a class: `files`, in order, with the size, times and inode that tell whether one has changed."""

    split: str
    name: str
    path: str
    files: list[str]
    stats: list[os.stat_result]
    source: str = ""  # what the split is read from, where it is not the folder above


def list_classes(root: Path, left_out: LeftOut) -> list[ClassFolder]:
    """The class folders of all splits below `root`, those of `train` first; without split folders all are of `train`.

    UsageError for a layout that can be meant in two ways, or in none.
    """
    if not root.is_dir():
        raise UsageError(f"dataset folder: there is no folder {str(root)!r}; {LAYOUTS}")
    parts, classes = _split_folders(root, left_out), []
    for folder in dict.fromkeys((root, *(folder for _, folder in parts))):
        loose = [entry.path for entry in _visible(folder, left_out, root) if not entry.is_dir()]
        if loose:
            left_out.add("files outside of the class folders", os.path.relpath(min(loose), root), len(loose))
    for split, folder in parts:
        for name in _folders(folder):
            files = list(walk(folder / name, root, left_out))
            paths, stats = [path for path, _ in files], [stat for _, stat in files]
            classes.append(ClassFolder(split, name, str(folder / name), paths, stats))
    return classes


def walk(folder: Path, root: Path, left_out: LeftOut) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below `folder`, by folder and name, with its stat; links are followed, but not to a folder above."""
    start = os.stat(folder)
    pending: list[tuple[str, tuple[tuple[int, int], ...]]] = [(str(folder), ((start.st_dev, start.st_ino),))]
    files: list[tuple[str, str, os.stat_result]] = []
    while pending:
        path, ancestors = pending.pop()
        for entry in _visible(Path(path), left_out, root):
            try:
                stat = entry.stat()
            except OSError:
                left_out.add("links that lead nowhere", os.path.relpath(entry.path, root))
                continue
            if not entry.is_dir():
                files.append((path, entry.name, stat))
            elif (stat.st_dev, stat.st_ino) in ancestors:
                left_out.add("links to a folder above", os.path.relpath(entry.path, root))
            else:
                pending.append((entry.path, (*ancestors, (stat.st_dev, stat.st_ino))))
    files.sort(key=lambda file: file[:2])
    yield from ((os.path.join(path, name), stat) for path, name, stat in files)


def split_of(name: str) -> str | None:
    """The split that a folder of this name is, or None."""
    return SPLITS.get(re.sub(r"[ _-]?(set|data|images)$", "", name.lower()))


def shorten(names: Iterable[str]) -> str:
    """The first few names."""
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _split_folders(root: Path, left_out: LeftOut) -> list[tuple[str, Path]]:
    """(split, folder) in the order train, validation, test; the root alone where it holds no split folder."""
    folders = _folders(root)
    if not folders:
        raise UsageError(f"dataset folder: {str(root)!r} holds no class folders; {LAYOUTS}")
    named = [name for name in folders if split_of(name)]
    deep = [name for name in named if _folders(root / name)]
    if not deep:
        _refuse_flat_splits(root, folders, named)
        _refuse_other_levels(root, folders)
        return [(TRAIN, root)]
    by_split = {split: [name for name in deep if split_of(name) == split] for split in (TRAIN, VALIDATION, TEST)}
    for split, names in by_split.items():
        if len(names) > 1:
            raise UsageError(
                f"dataset folder: {' and '.join(map(repr, names))} of {str(root)!r} are both the {split} folder; "
                "one is needed"
            )
    if not by_split[TRAIN]:
        raise UsageError(
            f"dataset folder: {str(root)!r} has the split folder {deep[0]!r} but no folder train or training; "
            "a class of that name has to be renamed"
        )
    for name in folders:
        if name not in deep:
            left_out.add("folders beside the split folders", name)
    return [(split, root / names[0]) for split, names in by_split.items() if names]


def _refuse_flat_splits(root: Path, folders: list[str], named: list[str]) -> None:
    """Folders called as splits are, without class folders, are neither for certain."""
    if named and len(named) == len(folders):
        raise UsageError(
            f"dataset folder: {shorten(named)} of {str(root)!r} are named as split folders but hold no class folders; "
            f"{LAYOUTS}"
        )
    if named:
        raise UsageError(
            f"dataset folder: {named[0]!r} in {str(root)!r} is named as a split folder but holds no class folders, "
            f"beside {shorten(name for name in folders if name not in named)}: if it is a class, rename it; if it is a "
            "split, it needs one folder a class"
        )


def _refuse_other_levels(root: Path, folders: list[str]) -> None:
    """A root one level too high: above a dataset, or above several."""
    datasets = [name for name in folders if any(split_of(part) for part in _folders(root / name))]
    if datasets:
        raise UsageError(
            f"dataset folder: {shorten(datasets)} in {str(root)!r} hold split folders, so they are datasets, not "
            f"classes; give dataset.root={root / datasets[0]}"
        )
    if len(folders) == 1:
        inner = len(_folders(root / folders[0]))
        remedy = f"its {inner} folders are classes with dataset.root={root / folders[0]}" if inner > 1 else LAYOUTS
        raise UsageError(f"dataset folder: {str(root)!r} holds only the class {folders[0]!r}; {remedy}")


def _folders(folder: Path) -> list[str]:
    """Names of the folders directly inside that are not hidden, in order."""
    return sorted(entry.name for entry in _visible(folder, LeftOut(), folder) if entry.is_dir())


def _visible(folder: Path, left_out: LeftOut, root: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder but for hidden and system files. UsageError where it, or a name in it, cannot be read."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
                    left_out.add("hidden or system files and folders", os.path.relpath(entry.path, root))
                elif not _is_utf8(entry.name):
                    raise UsageError(
                        f"dataset folder: the name {os.fsencode(entry.path)!r} is not UTF-8 text: rename it "
                        "(convmv does so for a whole folder)"
                    )
                else:
                    yield entry
    except OSError as error:
        raise UsageError(f"dataset folder: {str(folder)!r} cannot be read ({error.strerror})") from error


def _is_utf8(name: str) -> bool:
    """Python keeps bytes of a name that are no text as lone surrogates, which nothing can print."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
