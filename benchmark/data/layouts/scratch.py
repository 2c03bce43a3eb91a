"""A folder that is there only when all of it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def build_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder; what is then called in it as `target` is becomes `target`. OSError of any step.

    Where two processes build the same, the first one's stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unfinished-") as scratch:
        yield Path(scratch)
        try:
            Path(scratch, target.name).rename(target)
        except OSError:
            if not target.is_dir():
                raise
