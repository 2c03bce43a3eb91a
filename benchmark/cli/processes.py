"""What torchrun says of this process. Standard library only: it is asked before anything else is imported."""

from __future__ import annotations

import os


def is_main() -> bool:
    """Whether this process is the one, of those that torchrun started, that prints."""
    return os.environ.get("RANK", "0") == "0"


def is_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ
