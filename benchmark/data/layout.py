"""Which folders below a root are its splits and its classes, and which files lie in them; no file is opened.

A split folder has one folder a class. Its name, in any case, is one of `SPLITS`, alone or with `_set`, `_data`,
`_images` or a number behind it (`train2017`). Without split folders the root's own folders are the classes.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.errors import UsageError, nearest

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "tst"), TEST),
}
SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"}
LAYOUTS = "give dataset.root=DIR, laid out as DIR/train/CLASS/*.jpg (beside DIR/val or DIR/test) or DIR/CLASS/*.jpg"
UNLABELLED = "give dataset.unlabelled=DIR, which holds images in folders or not"
NO_LABELS = "images without labels are dataset.unlabelled=DIR"
SHOWN = 5  # names in a message

Stat = tuple[int, int, int, int, int]  # of a file: size, both times, inode and device, which tell whether it changed


@dataclass
class LeftOut:
    """What lies in a folder and is not used: how much of it, by the reason, and the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Note `count` more for the reason, of which `name` is one."""
        self.counts[reason] += count
        self.first[reason] = min(name, self.first.get(reason, name))  # a folder is listed in no order

    def sentences(self) -> list[str]:
        """A line for each reason: how many, and the first of them."""
        return [f"left out: {reason}: {n} ({quote(self.first[reason])})" for reason, n in self.counts.items()]


@dataclass(frozen=True)
class ClassFolder:
    """A folder of a class: its `files`, in order, each with its stat."""

    split: str
    name: str
    path: str
    files: list[str]
    stats: list[Stat]
    source: str = ""  # what the split is read from, where it is not the folder above


def require_root(root: Path, remedy: str = LAYOUTS) -> None:
    """UsageError where there is no such folder."""
    try:
        is_folder, is_there = root.is_dir(), root.exists()
    except OSError as error:  # a name that is too long, a folder above that may not be entered
        raise UsageError(f"dataset folder: {str(root)!r} cannot be read ({error.strerror}); {remedy}") from error
    if not is_folder:
        beside = [path.name for path in root.parent.glob("*/")]
        missing = f"there is no folder {str(root)!r}{nearest(root.name, beside)}"
        problem = f"{str(root)!r} is a file" if is_there else missing
        raise UsageError(f"dataset folder: {problem}; {remedy}")


def list_classes(root: Path, left_out: LeftOut) -> list[ClassFolder]:
    """The class folders of all splits below `root`, those of `train` first; without split folders all are of `train`.

    UsageError for a layout that can be meant in two ways, or in none.
    """
    require_root(root)
    parts, classes = _split_folders(root, left_out), []
    for folder in dict.fromkeys((root, *(folder for _, folder in parts))):
        loose = [entry.path for entry in _list(folder, left_out, root) if not _is_folder(entry)]
        if loose:
            left_out.add("files outside of the class folders", os.path.relpath(min(loose), root), len(loose))
    for split, folder in parts:
        for name in list_folders(folder):
            files = walk(folder / name, root, left_out)
            classes.append(ClassFolder(split, name, str(folder / name), list(files), list(files.values())))
    return classes


def list_unlabelled(root: Path, left_out: LeftOut) -> list[ClassFolder]:
    """Every file below `root`, in folders or not, as one folder without a class."""
    require_root(root, UNLABELLED)
    files = walk(root, root, left_out)
    return [ClassFolder(TRAIN, "", str(root), list(files), list(files.values()))]


def walk(folder: Path, root: Path, left_out: LeftOut) -> dict[str, Stat]:
    """Every file below `folder`, by folder and name, with its stat; links are followed, but not to a folder above."""
    absolute = folder.absolute()
    above = tuple((status.st_ino, status.st_dev) for status in map(os.stat, (absolute, *absolute.parents)))
    pending = [(str(folder), above)]
    by_folder: dict[str, dict[str, Stat]] = {}
    while pending:
        path, ancestors = pending.pop()
        files = by_folder.setdefault(path, {})
        for entry in _list(path, left_out, root):
            try:
                status = entry.stat()
            except OSError as error:
                _require_nowhere(entry.path, error)
                left_out.add("links that lead nowhere", os.path.relpath(entry.path, root))
                continue
            if stat.S_ISREG(status.st_mode):
                files[entry.name] = pick_stat(status)
            elif not stat.S_ISDIR(status.st_mode):
                left_out.add("pipes, sockets and devices", os.path.relpath(entry.path, root))
            elif (status.st_ino, status.st_dev) in ancestors:
                left_out.add("links to a folder above", os.path.relpath(entry.path, root))
            else:
                pending.append((entry.path, (*ancestors, (status.st_ino, status.st_dev))))
    return {f"{path}/{name}": by_folder[path][name] for path in sorted(by_folder) for name in sorted(by_folder[path])}


def pick_stat(status: os.stat_result) -> Stat:
    """What tells whether the file changed."""
    modified = status.st_mtime_ns & (2**64 - 1)  # before 1970 it is negative
    return status.st_size, modified, status.st_ctime_ns, status.st_ino, status.st_dev


def find_split(name: str) -> str | None:
    """The split that a folder of this name is, or None."""
    return SPLITS.get(re.sub(r"[ _-]?(set|data|images)?[ _-]?\d*$", "", name.lower()))


def is_utf8(text: str) -> bool:
    """Python keeps bytes of a name that are no text as lone surrogates, which can be neither printed nor hashed."""
    return re.search(r"[\ud800-\udfff]", text) is None


def quote(name: str) -> str:
    """The name as it is, or, where it would break a line or be seen as nothing, as Python writes it."""
    return name if name.isprintable() and name.strip() == name else repr(name)


def shorten(names: Iterable[str]) -> str:
    """The first few names."""
    listed = [quote(name) for name in names]
    return ", ".join(listed[:SHOWN]) + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


def _split_folders(root: Path, left_out: LeftOut) -> list[tuple[str, Path]]:
    """(split, folder) in the order train, validation, test; the root alone where it holds no split folder."""
    folders = list_folders(root)
    if not folders:
        raise UsageError(f"dataset folder: {str(root)!r} holds no class folders; {LAYOUTS}; {NO_LABELS}")
    named = [name for name in folders if find_split(name)]
    deep = [name for name in named if list_folders(root / name)]
    if not deep:
        _refuse_flat_splits(root, folders, named)
        _refuse_split_words(root, folders)
        _refuse_other_levels(root, folders)
        return [(TRAIN, root)]
    by_split = {split: [name for name in deep if find_split(name) == split] for split in (TRAIN, VALIDATION, TEST)}
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
    _refuse_nested_splits(root, deep)
    for name in folders:
        if name in named and name not in deep:
            left_out.add("split folders without class folders", name)
        elif name not in named:
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


def _refuse_split_words(root: Path, folders: list[str]) -> None:
    """Names that differ in the word of a split alone, as `seg_train` and `seg_test`, are hardly those of classes."""
    alike: dict[str, dict[str, str]] = {}
    for name in folders:
        for word in re.finditer(r"[A-Z]?[a-z]+|[A-Z]+", name):
            if split := SPLITS.get(word[0].lower()):
                rest = f"{name[: word.start()]}\0{name[word.end() :]}".lower()
                alike.setdefault(rest, {}).setdefault(split, name)
    for of_split in alike.values():
        if TRAIN in of_split and len(of_split) > 1:
            raise UsageError(
                f"dataset folder: {shorten(of_split.values())} of {str(root)!r} are called as splits are, but not by "
                "names that are read as such: if they are splits, call them train and test, with one folder a class in "
                "each; if they are classes, rename one"
            )


def _refuse_nested_splits(root: Path, splits: list[str]) -> None:
    """Split folders that hold nothing but split folders."""
    for name in splits:
        inner = list_folders(root / name)
        if all(map(find_split, inner)):
            raise UsageError(
                f"dataset folder: {shorten(f'{name}/{split}' for split in inner)} of {str(root)!r} are named as split "
                f"folders but lie inside of one: classes lie directly below {name!r}, so move them up; if these are "
                f"splits of it, give dataset.root={root / name}"
            )


def _refuse_other_levels(root: Path, folders: list[str]) -> None:
    """A root one level too high: above a dataset, or above several; and splits below the classes."""
    inner = {name: list_folders(root / name) for name in folders}
    splits = {name: next(filter(find_split, inner[name])) for name in folders if any(map(find_split, inner[name]))}
    datasets = [name for name, split in splits.items() if list_folders(root / name / split)]
    if datasets:
        raise UsageError(
            f"dataset folder: {shorten(datasets)} in {str(root)!r} hold split folders, so they are datasets, not "
            f"classes; give dataset.root={root / datasets[0]}"
        )
    if splits:
        names = (f"{name}/{split}" for name, split in splits.items())
        raise UsageError(
            f"dataset folder: {shorten(names)} in {str(root)!r} are named as split folders but lie inside of classes: "
            "if they are splits, their place is above the classes, as DIR/train/CLASS; if not, rename them"
        )
    if len(folders) == 1:
        only, number = folders[0], len(inner[folders[0]])
        remedy = f"its {number} folders are classes with dataset.root={root / only}" if number > 1 else LAYOUTS
        raise UsageError(f"dataset folder: {str(root)!r} holds only the class {only!r}; {remedy}")


def list_folders(folder: Path) -> list[str]:
    """Names of the folders directly inside that are not hidden, in order."""
    return sorted(entry.name for entry in _list(folder, LeftOut(), folder) if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        _require_nowhere(entry.path, error)
        return False


def _require_nowhere(path: str, error: OSError) -> None:
    """UsageError unless it is a link that leads nowhere: what is there, and cannot be read now, is not left out."""
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        raise UsageError(f"dataset folder: {path!r} cannot be read ({error.strerror})") from error


def _list(folder: Path | str, left_out: LeftOut, root: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder but for hidden and system files. UsageError where it, or a name in it, cannot be read."""
    try:
        with os.scandir(folder) as scan:
            entries = list(scan)
    except OSError as error:
        raise UsageError(f"dataset folder: {str(folder)!r} cannot be read ({error.strerror})") from error
    visible = []
    for entry in entries:
        if entry.name[0] == "." or entry.name.lower() in SYSTEM:
            left_out.add("hidden or system files and folders", os.path.relpath(entry.path, root))
        elif not entry.name.isascii() and not is_utf8(entry.name):
            raise UsageError(
                f"dataset folder: the name {os.fsencode(entry.path)!r} is not UTF-8 text: rename it (convmv does so "
                "for a whole folder)"
            )
        elif entry.is_symlink() and _is_folder(entry) and _leads_above(entry.path):
            left_out.add("links to a folder above", os.path.relpath(entry.path, root))
        else:
            visible.append(entry)
    return visible


def _leads_above(link: str) -> bool:
    """Whether the folder of the link lies in the folder that it leads to."""
    return Path(os.path.realpath(os.path.dirname(link))).is_relative_to(os.path.realpath(link))
