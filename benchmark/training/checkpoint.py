"""`last.pt`: the state of a run between two steps, replaced whole.

Method, optimiser and step are all that it goes on from. The statistics of the pixels are for who starts from its
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from results import files

FILE_NAME = "last.pt"


def save(folder: Path, state: dict[str, Any], guard: Callable[[], None] = lambda: None) -> None:
    """Atomic: a kill leaves the old checkpoint or the new one. `guard` raises where another process has the folder,
    which may have become so while the file was written."""
    path = folder / FILE_NAME
    try:
        with files.replace(path, guard) as file:
            torch.save(state, file)
    except RuntimeError as error:  # torch's words for a write that failed name no file and no reason
        raise OSError(f"{path} cannot be written; is the disk full?") from error


def load(folder: Path, key: str, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint of the cell `key`, or None. Raises ValueError for another cell's, and for what is none."""
    path = folder / FILE_NAME
    try:
        with files.open_file(path) as file:
            state = torch.load(file, map_location=device, weights_only=True)
        owner = state["key"]
    except FileNotFoundError:
        return None
    except Exception as error:  # torch has many words for a file that is none of its own, and few name it
        raise ValueError(f"{path} is no checkpoint ({type(error).__name__})") from error
    if owner != key:
        raise ValueError(f"{path} belongs to cell {owner}, not to {key}")
    return state
