"""What is in each file of a folder: whether it is an image, its sides, a digest of its bytes. Imports no torch.

A file is opened once: what was seen is kept in the user's cache folder, and holds as long as size, times and inode of
the file stay what they were. The kept facts only save time; without them, or where they cannot be written, all files
are opened again.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import time
import warnings
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark import environment
from benchmark.data.layout import LeftOut, Stat, quote
from benchmark.data.layouts.shards import is_own, open_image, user_cache
from benchmark.display.counting import show_progress
from benchmark.errors import UsageError
from results import files
from results.quantity import quantify

if TYPE_CHECKING:
    from PIL import Image

WHOLE = 8 * 2**30  # bytes of all files together, up to which each is hashed whole
END = 4096  # of larger ones these many bytes at either end, and the size
LISTED = 100  # bad files in one message
READ = 64 * 2**20  # bytes of a file in memory at once
RECENT = 2 * 10**9  # nanoseconds in which a file may change twice and its times only once
SLOW = 20_000  # files above which it is said that they are being looked at
CHUNK = 256
VERSION = 1  # of what is kept
MOST_PIXELS = 89_478_485  # of an image, as Pillow warns of: a few kilobytes may become 256 MiB
# Image formats that Pillow opens but only draws with another program, or not at all.
UNDRAWN = {"EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR", "PDF"}
FIRST = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # looked for first

STAT = [(name, "u8") for name in ("size", "modified", "changed", "inode", "device")]  # `layout.Stat`
Facts = np.dtype([*STAT, ("digest", "u8", (2,)), ("height", "i4"), ("width", "i4"), ("format", "U8"), ("flags", "i4")])
UNKNOWN, UNREADABLE, DEEP, PAGES, ROTATED = 1, 2, 4, 8, 16  # flags


def inspect(root: Path, paths: Sequence[str], stats: Sequence[Stat]) -> NDArray[Any]:
    """One row of `Facts` for each of `paths`, which lie below `root`.

    UNKNOWN: no image format that Pillow can draw; UNREADABLE: what it is cannot be told, for it is damaged, or cannot
    be read, or is called as an image is and holds something else, or it has more than `MOST_PIXELS`; DEEP: more than 8
    bits a channel in one channel; PAGES: several pages or frames; ROTATED: its EXIF data say that it has to be turned.
    """
    start = time.time_ns()
    facts = np.zeros(len(paths), Facts)
    columns = np.fromiter(chain.from_iterable(stats), np.uint64).reshape(-1, len(STAT)).T
    for (name, _), column in zip(STAT, columns, strict=True):
        facts[name] = column
    whole = is_small(stats)
    facts_path = _locate_facts(root, whole)
    missing = _load_facts(facts, paths, facts_path)
    if len(missing):
        _inspect_missing(facts, paths, missing, whole, root)
        _save_facts(facts, paths, facts_path, start)
    facts["flags"][facts["height"].astype(np.int64) * facts["width"] > MOST_PIXELS] |= UNREADABLE
    return facts


def is_small(stats: Sequence[Stat]) -> bool:
    """Whether there is so little of these files that each is hashed whole."""
    return sum(size for size, *_ in stats) <= WHOLE


def inspect_images(
    root: Path, paths: list[str], stats: Sequence[Stat], left_out: LeftOut
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Which of `paths` are images, (n,), and their facts; the others are noted in `left_out`.

    UsageError names all that are damaged.
    """
    facts = inspect(root, paths, stats)
    _refuse_bad(root, paths, facts)
    images = drop_others(root, paths, facts, left_out)
    return images, facts[images]


def drop_others(root: Path, paths: list[str], facts: NDArray[Any], left_out: LeftOut) -> NDArray[np.int64]:
    """Which of `paths` are images, damaged or not, (n,); the others are noted in `left_out`."""
    for row in np.flatnonzero(facts["flags"] & UNKNOWN):
        ending = os.path.splitext(paths[row])[1].lower()
        kind = f"{quote(ending)} files" if ending else "files without an ending"
        left_out.add(f"{kind} that are not read as images", os.path.relpath(paths[row], root))
    return np.flatnonzero((facts["flags"] & UNKNOWN) == 0)


def digest_ends(paths: Sequence[str]) -> NDArray[np.uint64]:
    """(n,): what `inspect` has first in a digest of files of which the ends alone are hashed. OSError as of `open`."""
    digests = np.empty(len(paths), np.uint64)
    for row, path in enumerate(paths):
        with open_image(path) as file:
            digests[row] = struct.unpack("<QQ", hashlib.blake2b(_ends(file), digest_size=16).digest())[0]
    return digests


def explain(path: str) -> str:
    """Why a file that `inspect` called UNREADABLE or DEEP cannot be used."""
    from PIL import Image

    try:
        with open_image(path) as file, Image.open(file) as image:
            require_few_pixels(image)
            deep = _flags(image) & DEEP
            return f"pixels of mode {image.mode}, not 8 bits a channel" if deep else f"{image.format}, not drawn here"
    except Image.UnidentifiedImageError:
        with open_image(path) as file:
            return "not an image" if file.read(1) else "empty"
    except Exception as error:  # noqa: BLE001 - whatever a damaged file makes of the readers
        return " ".join(str(error).split()) or type(error).__name__


def require_few_pixels(image: Image.Image) -> None:
    """ValueError for an image of more than `MOST_PIXELS`."""
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels, more than {MOST_PIXELS} in all")


def is_decoded(fingerprint: str) -> bool:
    """Whether these images are known to decode without a fault."""
    with suppress(OSError), files.open_file(_locate_facts_folder() / f"{fingerprint}.decoded") as file:
        return is_own(file)
    return False


def note_decoded(fingerprint: str) -> None:
    """Keep that these images decode without a fault, as `is_decoded` asks."""
    with suppress(OSError):
        files.make_folder(_locate_facts_folder(), private=True)
        files.open_log(_locate_facts_folder() / f"{fingerprint}.decoded").close()


def _refuse_bad(root: Path, paths: list[str], facts: NDArray[Any]) -> None:
    bad = np.flatnonzero(facts["flags"] & (UNREADABLE | DEEP))
    if len(bad):
        listed = [f"{quote(os.path.relpath(paths[i], root))} ({explain(paths[i])})" for i in bad[:LISTED]]
        more = f" and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        raise UsageError(
            f"dataset folder: {len(bad)} of {quantify(len(paths), 'file')} in {str(root)!r} cannot be used: "
            f"{', '.join(listed)}{more}: replace or remove {'it' if len(bad) == 1 else 'them'}"
        )


def _inspect_missing(
    facts: NDArray[Any], paths: Sequence[str], missing: NDArray[np.int64], whole: bool, root: Path
) -> None:
    """Open the files in `missing`, in threads: they wait for the disk, and hashing lets go of Python's lock."""
    from PIL import Image

    Image.init()
    formats = [*FIRST, *(name for name in Image.ID if name not in FIRST and name not in UNDRAWN)]
    endings = {ending for ending, name in Image.registered_extensions().items() if name in formats}
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]

    def look(chunk: NDArray[np.int64]) -> int:
        for row in chunk:
            facts[row] = (*facts[row].tolist()[: len(STAT)], *_inspect_file(paths[row], whole, formats, endings))
        return len(chunk)

    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(environment.cores()) as pool:
        if len(missing) < SLOW:
            list(pool.map(look, chunks))
            return
        with show_progress(f"{root.name}: looking at", len(missing), "file", ", once") as advance:
            for done in pool.map(look, chunks):
                advance(done)


def _inspect_file(path: str, whole: bool, formats: list[str], endings: set[str]) -> tuple[Any, ...]:
    """(digest, height, width, format, flags) of one file."""
    from PIL import Image

    digest = (0, 0)
    try:
        with open_image(path) as file:
            data = more = file.read(READ) if whole else _ends(file)
            hashed = hashlib.blake2b(data, digest_size=16)
            while whole and len(more) == READ:
                more = file.read(READ)
                hashed.update(more)
            digest = struct.unpack("<QQ", hashed.digest())
            source: IO[bytes] = io.BytesIO(data) if whole and len(data) < READ else file
            source.seek(0)
            with Image.open(source, formats=formats) as image:
                return digest, image.height, image.width, str(image.format)[:8], _flags(image)
    except (Image.UnidentifiedImageError, ValueError):  # ValueError: a text that begins as images do
        called_image = os.path.splitext(path)[1].lower() in endings
        return digest, 0, 0, "", UNREADABLE if called_image else UNKNOWN
    except Exception:  # noqa: BLE001 - whatever a damaged file makes of the readers; `explain` says it
        return digest, 0, 0, "", UNREADABLE


def _flags(image: Any) -> int:
    deep = DEEP if image.mode.startswith(("I", "F")) else 0
    pages = PAGES if getattr(image, "is_animated", False) else 0
    turned = "exif" in image.info and image.getexif().get(0x0112, 1) != 1
    return deep | pages | (ROTATED if turned else 0)


def _ends(file: IO[bytes]) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    first = file.read(END)
    file.seek(max(size - END, 0))
    return size.to_bytes(8, "little") + first + file.read(END)


def _locate_facts(root: Path, whole: bool) -> Path:
    """The file that keeps what was seen below `root`."""
    name = hashlib.sha256(os.fsencode(f"{VERSION}\0{whole}\0{root.absolute()}")).hexdigest()[:16]
    return _locate_facts_folder() / f"{name}.npz"


def _locate_facts_folder() -> Path:
    return user_cache() / "folders"


def _load_facts(facts: NDArray[Any], paths: Sequence[str], facts_path: Path) -> NDArray[np.int64]:
    """Fill in the rows of files that have not changed since they were last seen; the indices of the others."""
    try:
        with files.open_file(facts_path) as file, np.load(file, allow_pickle=False) as archive:
            if not is_own(file):
                raise ValueError
            earlier, names, start = (
                archive["facts"],
                os.fsdecode(bytes(archive["paths"])).split("\0"),
                int(archive["begun"]),
            )
        if earlier.dtype != Facts or len(earlier) != len(names):
            raise ValueError
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile):
        return np.arange(len(facts))
    if names != list(paths):
        rows = {name: row for row, name in enumerate(names)}
        order = np.array([rows.get(path, -1) for path in paths], dtype=np.int64)
        earlier = np.where(order >= 0, earlier[order], np.zeros(1, Facts))
    same = np.logical_and.reduce([earlier[name] == facts[name] for name, _ in STAT])
    same &= (earlier["flags"] & UNREADABLE) == 0  # it may have been the disk's fault
    same &= (earlier["format"] != "") | (earlier["flags"] != 0)
    same &= earlier["changed"] < max(start - RECENT, 0)
    facts[same] = earlier[same]
    return np.flatnonzero(~same)


def _save_facts(facts: NDArray[Any], paths: Sequence[str], facts_path: Path, start: int) -> None:
    with suppress(OSError):
        files.make_folder(facts_path.parent, private=True)
        names = np.frombuffer(os.fsencode("\0".join(paths)), np.uint8)
        with files.replace(facts_path) as file:
            np.savez(file, facts=facts, paths=names, begun=np.int64(start))
