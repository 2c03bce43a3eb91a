"""A folder that is there only when all of it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def build_folder(place: Path) -> Iterator[Path]:
    """Yields an empty folder; what is then called in it as `place` is becomes `place`. OSError of any step.

    Where two processes build the same, the first one's stays.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".unfinished-") as scratch:
        yield Path(scratch)
        try:
            Path(scratch, place.name).rename(place)
        except OSError:
            if not place.is_dir():
                raise
