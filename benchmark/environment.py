"""What the environment says: which of a run's processes this one is, and the cores that it may use.

Standard library only: it is asked before anything else is imported.
"""

from __future__ import annotations

import os

from benchmark.errors import UsageError

GROUP = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a launcher of processes sets, all of them
LOCAL = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")


def is_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_group() -> bool:
    """Whether this process is one of several that were started together, by torchrun or by hand."""
    rank, size, port = (_number(name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    return None not in (rank, size, port) and int(rank or 0) < int(size or 0) and bool(os.environ.get("MASTER_ADDR"))


def is_main() -> bool:
    """Whether this process is the one of its group that prints; one without a group is."""
    return not is_group() or _number("RANK") == 0


def require_group() -> str:
    """A note on a group's variables that mean nothing, or "". Raises `UsageError` for half a group, or a wrong one.

    Where `RANK` or `WORLD_SIZE` is set, to go on as one process would be a guess: a launcher may have failed.
    """
    values = {name: os.environ[name] for name in (*GROUP, *LOCAL) if name in os.environ}
    text = ", ".join(f"{name}={value}" for name, value in values.items())
    if is_group() or not values:
        return ""
    if "RANK" not in values and "WORLD_SIZE" not in values:
        return f"{text} of the environment, without RANK and WORLD_SIZE: this is one process"
    missing = [name for name in GROUP if name not in values]
    raise UsageError(
        f"the environment has {text}{', and no ' if missing else ''}{', '.join(missing)}: torchrun sets RANK, below "
        f"WORLD_SIZE, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; for one process: unset {' '.join(values)}"
    )


def leave_group() -> str:
    """Drop the variables of a group: for commands that are one process's work. A note on what was dropped, or ""."""
    values = {name: os.environ.pop(name) for name in (*GROUP, *LOCAL) if name in os.environ}
    text = ", ".join(f"{name}={value}" for name, value in values.items())
    return f"{text} of the environment: not used, as one process does this" if values else ""


def local_rank() -> int:
    """This process's number on its machine."""
    return (_number("LOCAL_RANK") or 0) if is_group() else 0


def cores() -> int:
    """How many this process may use; of all that there are where the system does not tell, as on macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shared_cores() -> int:
    """Of those the share of one of the processes on this machine."""
    return max(1, cores() // max(1, _number("LOCAL_WORLD_SIZE") or 1))


def _number(name: str) -> int | None:
    """A variable as a whole number; None where it is not set or is none."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else None
