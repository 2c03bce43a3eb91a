"""Which job has which cells: `OUT/.slurm/jobs.jsonl`, a line a job, beside a folder of logs for each.

The folder is its user's alone, because jobs run what lies there and `cancel` ends what is noted there. Of several
people who share OUT, each but the first has a folder of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from results import files, record

FOLDER = ".slurm"
_NAME = re.compile(r"\w[\w.@-]*")
_JOB = re.compile(r"\d+(_\d+)?")


class Note(NamedTuple):
    """A job that was submitted, and the names of its cells' folders."""

    job: str
    cells: list[str]
    submitted: str
    user: str


def locate(out: Path) -> Path:
    """Where one's own notes and logs lie: `.slurm`, or where that is another user's, `.slurm-USER`."""
    first = out / FOLDER
    return first if not os.path.lexists(first) or _is_own(first) else out / f"{FOLDER}-{getpass.getuser()}"


def read_latest(out: Path) -> dict[str, Note]:
    """Cell -> the last of one's own jobs that was given it."""
    notes: dict[str, Note] = {}
    if _is_own(locate(out)):
        for line in files.read_lines(locate(out) / "jobs.jsonl"):
            if _is_sound(line):
                notes |= dict.fromkeys(line["cells"], Note(**line))
    return notes


def append(out: Path, ids: Sequence[str], arguments: Sequence[dict[str, Any]]) -> None:
    """Note which job has which cells."""
    with files.open_log(locate(out) / "jobs.jsonl") as file:
        for id, argument in zip(ids, arguments, strict=True):
            note = Note(id, argument["cells"], record.now(), getpass.getuser())
            file.write((json.dumps(note._asdict()) + "\n").encode())


@contextlib.contextmanager
def lock(out: Path) -> Iterator[None]:
    """One process at a time decides what is missing and submits it."""
    files.make_folder(locate(out), private=True)
    with files.open_lock(locate(out) / "lock") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_own(path: Path) -> bool:
    """Whether it is a folder of this user's."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _is_sound(line: dict[str, Any]) -> bool:
    """Whether a line can be a note of ours: a job's number, and names of cells that lead nowhere else."""
    if line.keys() != set(Note._fields) or not isinstance(line["cells"], list):
        return False
    texts = [line["job"], line["user"], line["submitted"], *line["cells"]]
    if not all(isinstance(text, str) for text in texts):
        return False
    return bool(_JOB.fullmatch(line["job"])) and all(map(_NAME.fullmatch, [line["user"], *line["cells"]]))
