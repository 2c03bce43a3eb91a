"""The file in which W&B's client keeps a run as it is logged: LevelDB's log format, of its own records.

Before each part of a record stand its checksum, its length and which part it is; what has no room in a block for more
than that begins with the next one.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EMPTY = 7  # bytes of a file of which nothing was ever flushed; `wandb sync` fails for all over one
BLOCK, HEAD, WHOLE, FIRST, LAST = 32_768, 7, 1, 2, 4  # bytes of a block and before a part; kinds of parts


def has_end(path: Path) -> bool:
    """Whether the run's exit is among the last records of its file, and the last of them is whole.

    The exit need not be the last one: what the client learns of the machine may come behind it.
    """
    size = path.stat().st_size
    records = list(_read_records(path, max(0, size // BLOCK - 1) * BLOCK))
    return any(record.HasField("exit") for _, record in records) and records[-1][0] == size


def last_step(path: Path) -> int:
    """The highest `step` of the lines in the file, as far as it is whole; -1 of none."""
    last = -1
    for _, record in _read_records(path, 0):
        for item in record.history.item:
            if "step" in (item.key, *item.nested_key):
                last = max(last, json.loads(item.value_json))
    return last


def _read_records(path: Path, first: int) -> Iterator[tuple[int, Any]]:
    """Each whole record from the block that begins at byte `first`: where it ends, and the record."""
    kinds: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")  # whose types mypy cannot see
    with path.open("rb") as file:
        file.seek(first)
        data = file.read()
    at, record = 0 if first else EMPTY, None
    while at + HEAD <= len(data):
        room = BLOCK - at % BLOCK
        if room < HEAD:
            at += room
            continue
        length, part = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += HEAD + length
        if part in (WHOLE, FIRST):
            record = data[at - length : at]
        elif record is not None:  # else it begins before what is read here
            record += data[at - length : at]
        if part in (WHOLE, LAST) and record is not None and at <= len(data):
            yield first + at, kinds.Record.FromString(record)
