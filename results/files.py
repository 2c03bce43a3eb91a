"""Files of folders that others may write to: nothing is followed, waited for or believed.

A link in the place of a file is an error, and so is a pipe or a device; nothing is emptied by being opened; a file that
replaces another is written beside it under a name that nobody can guess. JSON is looked at before anyone counts on it.
Standard library only.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

MOST_BYTES = 2**28  # of a text that is read whole
DEEPEST = 32  # objects and lists within each other
LARGEST = 10**100  # numbers beyond it are of no cell, and their squares are not finite
_NOT_FOLLOWED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_file(path: Path, flags: int = os.O_RDONLY) -> BinaryIO:
    """The regular file at `path`. Raises OSError for a link, a folder, a pipe or a device."""
    try:
        descriptor = os.open(path, flags | _NOT_FOLLOWED, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "a link, which is not followed", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "no regular file", str(path))
    kinds = {os.O_RDONLY: "rb", os.O_WRONLY: "ab" if flags & os.O_APPEND else "wb", os.O_RDWR: "r+b"}
    return os.fdopen(descriptor, kinds[flags & os.O_ACCMODE])  # type: ignore[return-value]


def open_lock(path: Path) -> BinaryIO:
    """A file to lock, made if need be; what is in it stays."""
    return open_file(path, os.O_RDWR | os.O_CREAT)


def open_log(path: Path) -> BinaryIO:
    """A file to append to, made if need be."""
    return open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def read_text(path: Path, errors: str = "strict") -> str:
    """A text in UTF-8. Raises OSError as `open_file` does and for one of more than `MOST_BYTES`, and ValueError."""
    with open_file(path) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"more than {MOST_BYTES} bytes", str(path))
    return content.decode(errors=errors)


def read_json(path: Path) -> Any:
    """What a file of JSON says. Raises OSError as `read_text` does, and ValueError for what no file of ours holds: a
    number above `LARGEST`, text that is no Unicode, objects nested deeper than `DEEPEST`."""
    try:
        data = json.loads(read_text(path), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None
    _check(data, 0)
    return data


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, until the first line that is none, such as one that a kill has cut; losses
    may be NaN. Nothing where there is no file. Raises OSError as `read_text` does."""
    try:
        text = read_text(path, errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            data = json.loads(line, parse_int=_parse_int)
        except (ValueError, RecursionError):
            return
        if not isinstance(data, dict):
            return
        yield data


@contextmanager
def replace(path: Path, guard: Callable[[], None] = lambda: None) -> Iterator[IO[bytes]]:
    """A file to write to, which then replaces `path` at once; a reader sees the old file or the new one, never a part.
    `guard` is called just before, and may raise.

    Where the writing fails, what was there stays, and nothing is left beside it.
    """
    # Not `tempfile`: its files are readable by their owner only, and records and reports on a cluster are shared.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        guard()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(path: Path, private: bool = False) -> None:
    """Make the folder, if need be, and those above it. Raises OSError where a link is in its place, or, of a `private`
    one that only its owner may enter, another user's folder."""
    path.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "a link, which is not followed", str(path))
    if private and status.st_uid != os.geteuid():
        raise OSError(errno.EPERM, "another user's folder", str(path))
    if private:
        path.chmod(0o700)


def make_printable(text: str) -> str:
    """The text in one line, without what a terminal obeys, or what would hide or turn a part of it."""
    if text.isprintable():
        return text
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _check(data: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise ValueError("nested too deep")
    if isinstance(data, dict):
        for name, value in data.items():
            name.encode()
            _check(value, depth + 1)
    elif isinstance(data, list):
        for value in data:
            _check(value, depth + 1)
    elif isinstance(data, str):
        data.encode()  # half of a surrogate pair is a ValueError
    elif isinstance(data, int | float) and not abs(data) <= LARGEST:
        raise ValueError("a number too large")


def _parse_int(text: str) -> int:
    """Python's whole numbers have no end, and beyond that of a float its arithmetic is an error."""
    number = int(text)
    if abs(number) > LARGEST:
        raise ValueError("a number too large")
    return number


def _refuse_constant(name: str) -> float:
    """Python's parser accepts NaN and Infinity, which are not JSON."""
    raise ValueError(f"{name} is not JSON")
