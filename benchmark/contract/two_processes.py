"""Whether a method does the same over two processes as in one: of all checks the one that starts others."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import multiprocessing

from benchmark.contract.comparison import Violation, require_close
from benchmark.contract.short_training import (
    CPU,
    EXACT,
    FEWER,
    SYNC,
    ShortTraining,
    settings,
    train_briefly,
    train_undisturbed,
)
from benchmark.errors import explain
from benchmark.training import distributed

# The micro-batches are the same images on two processes, each with its own batch-norm statistics.
VARIANTS = {"whole batches": (*EXACT, *FEWER), "micro-batches": (*SYNC, *FEWER, "microbatch=8")}


def check_two_processes(name: str) -> None:
    """2 x 16 images give what 1 x 32 give, in losses, weights and memories; with micro-batches too."""
    problem = compare_processes([name])[name]
    if problem:
        raise Violation(problem)


def compare_processes(
    names: list[str], variants: Sequence[str] = tuple(VARIANTS), timeout: float = 600.0
) -> dict[str, str | None]:
    """For each method: None, or how 2 x 16 images differ from 1 x 32 in losses, weights and memories.

    `variants`: which of `VARIANTS` are trained.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if not _train_in_two_processes(names, variants, Path(scratch), timeout):
            return dict.fromkeys(names, f"the two processes did not end within {timeout:.0f} s")
        return {name: _describe_difference(name, variants, Path(scratch)) for name in names}


def _describe_difference(name: str, variants: Sequence[str], scratch: Path) -> str | None:
    for parts in variants:
        single = train_undisturbed(name, VARIANTS[parts], norm=True)
        results = [_read_result(name, parts, rank, scratch) for rank in (0, 1)]
        ranks = [result for result in results if isinstance(result, ShortTraining)]
        if len(ranks) < 2:
            return next(text for text in results if isinstance(text, str))
        variant = f"two processes with {parts}"
        try:
            require_close(single, ranks[0], variant)
        except Violation as violation:
            return str(violation)
        differ = [n for n, value in ranks[0].state.items() if not torch.equal(value, ranks[1].state[n])]
        if differ:
            return f"{variant} hold different bytes of {', '.join(differ[:3])}"
    return None


def _train_in_two_processes(names: list[str], variants: Sequence[str], folder: Path, timeout: float) -> bool:
    """Train each method's small task over two gloo processes, once a variant, and leave what came out in `folder`.

    Returns whether both processes ended in time; otherwise they are killed. One pair serves all the names, because
    starting one costs more than a training.
    """
    context = multiprocessing.spawn(_worker, (_free_port(), names, variants, folder), nprocs=2, join=False)
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if context.join(timeout=1.0):
            return True
    for process in context.processes:
        process.kill()
    return False


def _read_result(name: str, parts: str, rank: int, folder: Path) -> ShortTraining | str:
    """What `_train_in_two_processes` left of a method on one rank: its losses and state, or what went wrong."""
    path = folder / f"{name}-{parts}-{rank}.pt"
    if not path.exists():
        return "not run, because the method before it failed"
    result = torch.load(path, weights_only=True)
    return result if isinstance(result, str) else ShortTraining(**result)


def _worker(rank: int, port: int, names: list[str], variants: Sequence[str], folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    world = distributed.start(CPU)
    for name, parts in [(name, parts) for name in names for parts in variants]:
        path = folder / f"{name}-{parts}-{rank}.pt"
        try:
            result = train_briefly(settings(name, *VARIANTS[parts]), world)
        except Exception as error:  # noqa: BLE001 - told to the parent
            torch.save(explain(error), path)
            return  # the other process, if it waits for this one, then fails too
        torch.save({"losses": result.losses, "state": result.state}, path)
    distributed.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
