"""Whether a place can be written to, asked before anything is read or measured for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmark.errors import UsageError

IN_THE_WAY = "a file is in the way; a folder is needed"


def require(out: Path, folder: Path | None = None) -> None:
    """Raise `UsageError` where no file can be written to the folder `out=`, or to this `folder` of it."""
    _refuse(out, find_obstacle(folder or out))


def require_beside(out: Path) -> None:
    """The same where `out=` itself is what is to be written."""
    _refuse(out, find_obstacle(out.absolute().parent))
    try:
        out.exists()
    except OSError as error:
        _refuse(out, _explain(error))


def find_obstacle(folder: Path) -> str:
    """Why no file can be written to `folder`, which may not be there yet; "" where one can.

    A file is made where the folder would be, and is gone at once: permissions alone say nothing of a disk that can only
    be read, or of what root may do.
    """
    try:
        folder.exists()  # an error for a name that is too long
        nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        if nearest.is_file():
            return IN_THE_WAY
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        return _explain(error)
    return ""


def _explain(error: OSError) -> str:
    return f"it cannot be written to ({error.strerror})"


def _refuse(out: Path, obstacle: str) -> None:
    if obstacle:
        raise UsageError(f"out={out}: {obstacle}")
