"""`last.pt`: the state of a run between two steps, replaced whole.

Method, optimiser and step are all that it goes on from. The statistics of the pixels are for who starts from its
weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from results import files

FILE_NAME = "last.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Atomic: a kill leaves the old checkpoint or the new one."""
    path = folder / FILE_NAME
    try:
        with files.replace(path) as file:
            torch.save(state, file)
    except RuntimeError as error:  # torch's words for a write that failed name no file and no reason
        raise OSError(f"{path} cannot be written; is the disk full?") from error


def load(folder: Path, key: str, device: torch.device) -> dict[str, Any] | None:
    """The checkpoint of the cell `key`, or None. Raises ValueError for another cell's."""
    path = folder / FILE_NAME
    try:
        with files.open_file(path) as file:
            state = torch.load(file, map_location=device, weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # torch has many words for a file that is none of its own, and few name it
        raise ValueError(f"{path} is no checkpoint ({type(error).__name__}); remove it to begin anew") from error
    if state["key"] != key:
        raise ValueError(f"{path} belongs to cell {state['key']}, not to {key}; remove it or choose another out=")
    return state
