"""launcher=here: the cells in this process, or in all those that torchrun started, one after the other."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmark.cells import plan, run
from benchmark.cells.plan import State
from benchmark.display.progress import Board
from benchmark.launch.shares import spare_threads
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training import build, distributed
from benchmark.training.distributed import World
from benchmark.training.engine import settled
from benchmark.training.stop import Stop, Stopped


@contextlib.contextmanager
def joined(runtime: Runtime) -> Iterator[tuple[World, torch.device]]:
    """This process among those of the run, on its device."""
    threads, note = spare_threads(runtime)
    device = settled(replace(runtime, threads=threads), distributed.local_rank())
    if note and device.type == "cpu":
        print(f"note: {note}", file=sys.stderr)
    try:
        yield distributed.start(device), device
    finally:
        distributed.stop()


def train(cells: list[Settings], states: list[State], runtime: Runtime) -> int:
    """Run the cells whose state says so. Exit code: 0, 1 where a cell failed, 128 + N stopped by signal N.

    Every cell is checked before the first one trains; raises `UsageError` for one that cannot run.
    """
    failed = 0
    board = Board(0)
    try:
        with contextlib.ExitStack() as held:
            world, device = held.enter_context(joined(runtime))
            # One process says which, for all: a cell may have been finished since. What failed before goes last.
            runs = world.told(lambda: [i for i, state in enumerate(states) if state.runs and state.word != "failed"])
            runs += world.told(lambda: [i for i, state in enumerate(states) if state.word == "failed"])
            todo = [cells[i] for i in runs]
            for cell in todo:
                build.check(cell, world, device)
            board = held.enter_context(Board(len(todo), shown=world.leads))
            stop = held.enter_context(Stop().listening())
            place = run.Place(runtime, world, device, stop, board)
            for cell in todo:
                board.cell(f"{cell.method} {plan.label({'seed': cell.seed}, ['seed'])}".strip())
                made = run.run(cell, place)
                if made is not None and made["status"] != "finished":
                    board.say(f"{cell.method}: {made['status']}: {made['reason']}")
                failed += made is not None and made["status"] == "failed"
    except Stopped as stopped:
        board.say(f"stopped by {stopped}; nothing is lost: the same command goes on from here")
        return stopped.exit_code
    return 1 if failed else 0
