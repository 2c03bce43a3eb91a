"""The logs of cells that train, read as they grow: only what is new of a file, and only its whole lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from results import files, record

TAIL = 2**19  # bytes at the end of a log that are looked at first: evaluations may be thousands of lines apart
POINTS = 200  # of a curve, at least, where there are as many
LARGEST = 10**15  # a larger number counts nothing here


class GrowingFile:
    """The lines that a file has gained since they were last asked for, beginning at most `most` bytes before its end,
    or with its first. A file that was written anew, as a resumed cell's is, begins again."""

    def __init__(self, path: Path, most: int | None = None) -> None:
        self.path, self.most = path, most
        self._stamp: tuple[int, int, int] | None = None
        self._offset = 0

    def read(self) -> tuple[bool, list[bytes]]:
        """Whether the file begins again, and its new whole lines; none where it is no file that can be read."""
        before, now = self._stamp, read_stamp(self.path)
        if now == before:
            return False, []
        self._stamp = now
        anew = before is None or now is None or before[0] != now[0] or now[1] < self._offset
        if now is None:
            return anew, []
        if anew:
            self._offset = max(0, now[1] - self.most) if self.most is not None else 0
        try:
            with files.open_file(self.path) as file:
                file.seek(self._offset)
                content = file.read(files.MOST_BYTES)
        except OSError:
            self._stamp = None
            return True, []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return anew, whole.splitlines()

    @property
    def changed(self) -> float:
        """When the file was last written to, in seconds since 1970."""
        return self._stamp[2] / 1e9 if self._stamp else 0.0


class LatestLines:
    """The last line with a loss, and the last with an accuracy on validation, of a cell's log."""

    def __init__(self, folder: Path) -> None:
        self.file = GrowingFile(folder / "log.jsonl", TAIL)
        self.loss: dict[str, Any] = {}
        self.accuracy: dict[str, Any] = {}

    def read(self) -> None:
        """Take in what the log has gained."""
        anew, lines = self.file.read()
        if anew:
            self.loss, self.accuracy = {}, {}
        self.loss = _find_last(lines, "loss") or self.loss
        self.accuracy = _find_last(lines, record.VALIDATION) or self.accuracy


class Curves:
    """The loss and the accuracy on validation of a cell over its epochs, thinned as they grow."""

    def __init__(self, folder: Path, epochs: int) -> None:
        self.file, self.epochs = GrowingFile(folder / "log.jsonl"), epochs
        self._clear()

    def read(self) -> dict[str, list[tuple[float, float]]]:
        """`loss` and `accuracy`, a fraction, as (epochs trained, value)."""
        anew, lines = self.file.read()
        if anew:
            self._clear()
        for line in map(_parse, lines):
            loss, accuracy = parse_number(line.get("loss")), parse_number(line.get(record.VALIDATION))
            if accuracy is not None and (epoch := parse_number(line.get("epoch"))) is not None:
                self._accuracy.append((epoch, accuracy))
            elif loss is not None and (at := count_epochs(line, self.epochs)) is not None:
                self._add_loss((round(at, 3), loss))
        last = [] if self._last is None or self._loss[-1:] == [self._last] else [self._last]
        return {"loss": self._loss + last, "accuracy": self._accuracy}

    def _clear(self) -> None:
        self._loss, self._accuracy = list[tuple[float, float]](), list[tuple[float, float]]()
        self._last: tuple[float, float] | None = None
        self._lines, self._stride = 0, 1

    def _add_loss(self, point: tuple[float, float]) -> None:
        if self._lines % self._stride == 0:
            self._loss.append(point)
        self._lines, self._last = self._lines + 1, point
        if len(self._loss) > 2 * POINTS:
            self._loss, self._stride = self._loss[::2], 2 * self._stride


def read_stamp(path: Path) -> tuple[int, int, int] | None:
    """Tells a file from what it was before: its number on the disk, its size in bytes and its time in nanoseconds."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def count_epochs(line: dict[str, Any], epochs: int) -> float | None:
    """The epochs that are trained at a line with a loss. An older log only counts those that have begun."""
    step, steps = parse_number(line.get("step")), parse_number(line.get("steps"))
    if step is not None and steps is not None and 0 <= step <= steps and steps > 0:
        return epochs * step / steps
    return parse_number(line.get("epoch"))


def parse_number(value: Any) -> float | None:
    """A finite number to six digits; None for anything else that a line may have in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        return None
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _find_last(lines: list[bytes], name: str) -> dict[str, Any]:
    """The last line that has it."""
    mark = f'"{name}"'.encode()
    parsed = (_parse(line) for line in reversed(lines) if mark in line)
    return next((line for line in parsed if name in line), {})


def _parse(line: bytes) -> dict[str, Any]:
    """What a line says; nothing where it is none of ours, such as one that a kill has cut."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
