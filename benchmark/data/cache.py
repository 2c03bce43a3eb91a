"""A folder's images decoded once, into one file on disk that every run maps into memory and all of them share.

`NAME.images` holds uint8 (N, 3, side, side), the same squares that a folder kept in memory has, in the order of its
survey, all splits; `NAME.sums` int64 (N, 2, 3), of each image and channel the sum of the values and of their squares;
`NAME.json`, written last, how many there are and a checksum of each block of images. While it is being built,
`NAME.blocks` says which blocks are there: what a kill leaves, the next run verifies and goes on from.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.data.files import squares
from benchmark.data.source import Indices
from benchmark.display import counting
from benchmark.errors import UsageError
from results import files
from results.record import write_json

BLOCK = 512  # images between two notes of what is done
LOOKED_AT = 16  # blocks whose checksums are compared whenever a cache is opened; all of them would be all of its bytes


class Cached:
    """Some of a cache's images, (n, 3, side, side); they are read when they are asked for."""

    device = torch.device("cpu")

    def __init__(self, images: Tensor, totals: NDArray[np.int64], chosen: Indices) -> None:
        self.images, self.totals, self.chosen = images, totals, torch.from_numpy(chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return self.images[self.chosen[index]]

    def sums(self) -> tuple[int, list[int], list[int]]:
        first, second = self.totals[self.chosen.numpy()].sum(axis=0).tolist()
        return len(self) * self.images[0, 0].numel(), first, second


def open_cache(paths: list[str], prefix: Path, side: int) -> tuple[Tensor, NDArray[np.int64]]:
    """The images (N, 3, side, side), mapped from disk, and their sums (N, 2, 3).

    Built first if need be, by one process; others that want it at the same time wait. ``prefix`` is the path of its
    files but for their endings, and names the images by their fingerprint, so that others never get it.
    UsageError where it cannot be written, is damaged, or an image cannot be read.
    """
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        if not _locate(prefix, ".json").exists():
            with _lock(prefix):
                if not _locate(prefix, ".json").exists():
                    _build(prefix, paths, side)
    except OSError as error:
        raise UsageError(f"dataset.cache={side}: {error}; dataset.cache_dir=DIR puts it elsewhere") from error
    return _open(prefix, len(paths), side)


def _open(prefix: Path, count: int, side: int) -> tuple[Tensor, NDArray[np.int64]]:
    try:
        blocks = files.read_json(_locate(prefix, ".json"))["checksums"]
        images = _map(prefix, count, side)
        with files.open_file(_locate(prefix, ".sums.npy")) as file:
            totals = np.load(file)
        sampled = np.unique(np.linspace(0, len(blocks) - 1, LOOKED_AT).round().astype(int))
        bad = next((b for b in sampled if _checksum(images[b * BLOCK : (b + 1) * BLOCK]) != blocks[b]), None)
        if bad is not None:
            raise ValueError(f"images {bad * BLOCK} to {min((bad + 1) * BLOCK, count) - 1} are not what was written")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"cache {str(prefix)!r} is damaged ({error}): remove its files; the next run makes it"
        ) from error
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # it is not writable, nor need it be
        return torch.from_numpy(images), totals


def _build(prefix: Path, paths: list[str], side: int) -> None:
    """Written as a file, not through the map: on a full disk a write is an error, a map a signal that ends Python."""
    count, image_bytes = len(paths), 3 * side * side
    totals = np.zeros((count, 2, 3), dtype=np.int64)
    checksums: dict[int, int] = {}
    path = _locate(prefix, ".images")
    progress = counting.show_progress(f"{prefix.name}: decoding", count, "image", ", once")
    images, blocks = files.open_file(path, os.O_RDWR | os.O_CREAT), files.open_log(_locate(prefix, ".blocks"))
    with images as file, blocks as notes, progress as advance:
        _require_room(path, count * image_bytes)
        checksums_before = _read_notes(prefix)
        for block, start in enumerate(range(0, count, BLOCK)):
            part = paths[start : start + BLOCK]
            file.seek(start * image_bytes)
            rows = np.frombuffer(file.read(len(part) * image_bytes) if block in checksums_before else b"", np.uint8)
            if _checksum(rows) != checksums_before.get(block):  # not there, or lost in a crash of the machine
                rows = np.empty((len(part), 3, side, side), np.uint8)
                for row, square in zip(rows, squares(part, side), strict=True):
                    row[:] = square
                file.seek(start * image_bytes)
                file.write(rows.data)
                file.flush()
                os.fsync(file.fileno())
                notes.write((json.dumps([block, _checksum(rows)]) + "\n").encode())
                notes.flush()
            checksums[block] = _checksum(rows)
            totals[start : start + BLOCK] = _read_totals(rows.reshape(len(part), 3, -1))
            advance(len(part))
    with files.replace(_locate(prefix, ".sums.npy")) as file:
        np.save(file, totals)
    in_order = [checksums[block] for block in sorted(checksums)]
    write_json(_locate(prefix, ".json"), {"images": count, "side": side, "block": BLOCK, "checksums": in_order})
    _locate(prefix, ".blocks").unlink()


def _map(prefix: Path, count: int, side: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    """The array on disk; ValueError where the file is of another size."""
    path, shape = _locate(prefix, ".images"), (count, 3, side, side)
    if path.stat().st_size != np.prod(shape):
        raise ValueError(f"{path.stat().st_size} bytes instead of {np.prod(shape)}")
    with files.open_file(path) as file:
        return np.memmap(file, np.uint8, "r", shape=shape)


def _require_room(path: Path, size: int) -> None:
    """OSError where the disk has no room for what `path` lacks of `size` bytes."""
    free = shutil.disk_usage(path.parent).free
    if size - path.stat().st_size > free:
        raise OSError(f"{size / 2**30:.1f} GiB are needed in {str(path.parent)!r}, {free / 2**30:.1f} are free")


def _locate(prefix: Path, kind: str) -> Path:
    return prefix.with_name(prefix.name + kind)


def _read_notes(prefix: Path) -> dict[int, int]:
    """Block -> checksum of what an attempt before has written; a kill may have cut the last line."""
    checksums = {}
    for line in files.read_text(_locate(prefix, ".blocks")).splitlines():
        with suppress(ValueError, TypeError):
            block, checksum = json.loads(line)
            checksums[block] = checksum
    return checksums


def _checksum(images: NDArray[np.uint8]) -> int:
    return zlib.crc32(images.data)


def _read_totals(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, 2, 3) sums of (n, 3, pixels) and of their squares."""
    flat = images.astype(np.int64)
    return np.stack([flat.sum(axis=2), (flat * flat).sum(axis=2)], axis=1)


@contextmanager
def _lock(prefix: Path) -> Iterator[None]:
    """Wait until no other process builds this cache. The kernel lets go when one dies."""
    with files.open_lock(_locate(prefix, ".lock")) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{prefix.name}: another process is making it; waiting", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: two that build it write the same bytes
            pass
        yield
