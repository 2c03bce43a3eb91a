"""Images in tar files (shards), as the package webdataset writes them, read where they lie in the shard.

A sample is KEY.jpg beside KEY.cls, the label as text, or KEY.json, an object that has it as `label`, `cls` or `class`;
a key ends at the first point behind the last slash. The path of an image is SHARD/OFFSET+SIZE/NAME, which `open_image`
opens. What is in a shard is looked up once and kept in the user's cache folder. Imports no torch.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import math
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from benchmark.data.layout import (
    SYSTEM,
    TEST,
    TRAIN,
    VALIDATION,
    ClassFolder,
    LeftOut,
    Stat,
    find_split,
    is_utf8,
    pick_stat,
)
from benchmark.errors import UsageError
from results import files
from results.quantity import quantify
from results.record import write_json

VERSION = 2  # of what is kept
IMAGES = {"jpg", "jpeg", "png", "webp", "ppm", "bmp", "tif", "tiff", "gif"}
LABELS = ("label", "cls", "class")  # in a json
MEMBER = re.compile(r"(.+?\.tar)/(\d+)\+(\d+)/")
RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
MOST_SHARDS = 100_000  # that a pattern with ranges may name


def user_cache() -> Path:
    """The folder for what only saves time, or can be fetched again."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(cache):  # as of a user without a home
        cache = os.path.join(tempfile.gettempdir(), f"cache-{os.geteuid()}")
    return Path(cache, "contrastive-benchmark")


def is_own(file: IO[bytes]) -> bool:
    """Whether what was kept is this user's: whoever can write it decides which images are read."""
    return os.fstat(file.fileno()).st_uid == os.geteuid()


def open_image(path: str) -> IO[bytes]:
    """The file, or the part of a shard, that the path of an image names. OSError as of `open`."""
    try:
        return open(path, "rb", opener=_open_at_once)
    except NotADirectoryError:
        member = MEMBER.match(path)
        if member is None:
            raise
        with open(member[1], "rb") as shard:
            shard.seek(int(member[2]))
            return io.BytesIO(shard.read(int(member[3])))


def _open_at_once(path: str, flags: int) -> int:
    """A pipe in the place of a file would be waited for; so it is one that holds nothing."""
    return os.open(path, flags | os.O_NONBLOCK)


def base_folder(pattern: Path) -> Path:
    """The folder above all shards of the pattern."""
    return next((path for path in (pattern, *pattern.parents) if path.is_dir()), pattern)


def list_shards(pattern: Path, left_out: LeftOut) -> list[ClassFolder]:
    """The images of all shards, by split and class, train first. A shard's split is that of the first word in its name,
    or in those of its folders, that names one; it is of train where none does.

    UsageError where there are no shards, or one cannot be read.
    """
    base = base_folder(pattern)
    shards = _find_shards(pattern, base, left_out)
    members: dict[tuple[str, str], dict[str, Stat]] = {}
    words: dict[str, str] = {}
    unseen = sum(not os.path.exists(_index_file(shard)) for shard in shards)
    if unseen:
        print(f"{base.name}: looking at {quantify(unseen, 'shard')}, once", file=sys.stderr, flush=True)
    for shard in shards:
        split, word = _split(shard, base)
        words.setdefault(split, word)
        stat = shard.stat()
        for name, offset, size, label in _index(shard):
            if label is None:
                left_out.add("samples without a label", f"{shard.name}/{name}")
            else:
                of_class = members.setdefault((split, label), {})
                of_class[f"{shard}/{offset}+{size}/{name}"] = _stat_member(stat, offset, size)
    order = (TRAIN, VALIDATION, TEST)
    labels = sorted({label for _, label in members}, key=lambda label: (not label.isdecimal(), label.zfill(9), label))
    return [
        ClassFolder(split, label, str(base), list(files), list(files.values()), f"{words[split]} shards")
        for split in order
        for label in labels
        if (files := members.get((split, label)))
    ]


def _find_shards(pattern: Path, base: Path, left_out: LeftOut) -> list[Path]:
    """The shards in order, without hidden ones. UsageError where a name that is spelt out is not there, is no file or
    no text."""
    if pattern.is_dir():
        paths = sorted(pattern.rglob("*.tar"))
    else:
        count = math.prod(max(0, int(last) - int(first) + 1) for first, last in RANGE.findall(str(pattern)))
        if count > MOST_SHARDS:
            raise UsageError(f"{str(pattern)!r} names {count:,} shards, more than {MOST_SHARDS:,}")
        names = list(_expand(str(pattern)))
        by_name = {name: sorted(glob.glob(name)) for name in names}
        missing = [name for name, files in by_name.items() if not files]
        if missing:
            raise UsageError(f"there is no file {missing[0]!r} ({len(missing)} of {len(names)} are missing)")
        paths = [Path(file) for files in by_name.values() for file in files]
    if not paths or any(path.suffix != ".tar" for path in paths):
        other = next((path.name for path in paths if path.suffix != ".tar"), "nothing")
        raise UsageError(f"{str(pattern)!r} holds {other}: files called NAME.tar are needed, not compressed")
    shards = []
    for path in dict.fromkeys(paths):
        name = os.path.relpath(path, base)
        if any(part.startswith(".") or part.lower() in SYSTEM for part in Path(name).parts):
            left_out.add("hidden or system files and folders", name)
        elif not is_utf8(name):
            raise UsageError(f"the name of the shard {os.fsencode(path)!r} is not UTF-8 text: rename it")
        elif not path.is_file():
            raise UsageError(f"shard {str(path)!r} is no file, or a link that leads nowhere")
        else:
            shards.append(path)
    return shards


def _expand(pattern: str) -> Iterator[str]:
    """`a-{08..10}` as a-08, a-09, a-10."""
    numbers = RANGE.search(pattern)
    if numbers is None:
        yield pattern
        return
    for number in range(int(numbers[1]), int(numbers[2]) + 1):
        middle = str(number).zfill(len(numbers[1]))
        yield from _expand(f"{pattern[: numbers.start()]}{middle}{pattern[numbers.end() :]}")


def _split(shard: Path, base: Path) -> tuple[str, str]:
    """The split, and the word that names it."""
    for part in reversed(shard.relative_to(base).with_suffix("").parts):
        for word in re.split(r"[^A-Za-z]+", part):
            split = find_split(word)
            if split:
                return split, word
    return TRAIN, "all"


def _index_file(shard: Path) -> Path:
    """The file that keeps what is in the shard, another one where the shard has changed."""
    stat = shard.stat()
    identity = f"{VERSION}\0{shard.absolute()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}"
    return user_cache() / "shards" / f"{hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]}.json"


def _index(shard: Path) -> list[tuple[str, int, int, str | None]]:
    """(name, offset, size, label) of each image in the shard, as kept, or read from it."""
    index_path = _index_file(shard)
    with suppress(OSError, ValueError), files.open_file(index_path) as file:
        if is_own(file):
            return [tuple(row) for row in json.load(file)]
    rows = _read_members(shard)
    with suppress(OSError):
        files.make_folder(index_path.parent, private=True)
        write_json(index_path, rows, compact=True)
    return rows


def _read_members(shard: Path) -> list[tuple[str, int, int, str | None]]:
    images: dict[str, tuple[str, int, int]] = {}
    ranks: dict[str, int] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key, ending = f"{folder}/{stem}", ending.lower()
                if not is_utf8(member.name):
                    raise ValueError(f"the name {os.fsencode(member.name)!r} in it is not UTF-8 text")
                is_label = ending in ("cls", "json")
                rank = 0 if ending in IMAGES else 2 if is_label else 1  # called otherwise, its content will tell
                if rank < ranks.get(key, 3):
                    ranks[key] = rank
                    images.pop(key, None)  # the order is that of the images
                    images[key] = member.name, member.offset_data, member.size
                if is_label:
                    file = tar.extractfile(member)
                    assert file is not None
                    label = _label(file.read().decode(), ending, member.name)
                    labels |= {key: label} if label is not None else {}
            _require_end(shard, tar)
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
        raise UsageError(f"shard {str(shard)!r} cannot be read ({error})") from error
    return [(*image, labels.get(key)) for key, image in images.items()]


def _require_end(shard: Path, tar: tarfile.TarFile) -> None:
    """ValueError where the file does not end as a tar does, for `tarfile` takes what is cut short for the whole."""
    with open(shard, "rb") as file:
        file.seek(tar.offset)  # behind the last member
        end = file.read(2 * tarfile.RECORDSIZE)
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise ValueError("it is cut short, or several tar files in one")


def _label(text: str, ending: str, name: str) -> str | None:
    value: Any = text.strip()
    if ending == "json":
        content = json.loads(text)
        value = next((content[name] for name in LABELS if name in content), "") if isinstance(content, dict) else ""
    if isinstance(value, list | dict):
        raise ValueError(f"the label in {name} is {str(value)[:60]}, not one name or number")
    if not is_utf8(str(value)):
        raise ValueError(f"the label in {name} is {str(value)[:60]!r}, not UTF-8 text")
    return str(value) if str(value) not in ("", "-1", "None") else None


def _stat_member(shard: os.stat_result, offset: int, size: int) -> Stat:
    """That of the shard, with what tells its members apart."""
    _, modified, changed, inode, device = pick_stat(shard)
    return size, modified, changed, (inode * 0x9E3779B97F4A7C15 + offset) % 2**64, device
