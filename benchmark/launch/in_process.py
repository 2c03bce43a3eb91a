"""launcher=here: the cells in this process, or in all those that torchrun started, one after the other."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmark import environment
from benchmark.cells import past_costs, plan, run
from benchmark.cells.plan import State
from benchmark.display.progress import ProgressDisplay
from benchmark.launch.shares import spare_threads
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training import build, distributed
from benchmark.training.distributed import World
from benchmark.training.engine import claim_device
from benchmark.training.stop import Stop, Stopped


def claim_spare(runtime: Runtime) -> torch.device:
    """The device of this process, with the CPU threads that other work leaves it; a note says where these are fewer."""
    threads, note = spare_threads(runtime)
    device = claim_device(replace(runtime, threads=threads), environment.local_rank())
    if note and device.type == "cpu":
        print(f"note: {note}", file=sys.stderr)
    return device


@contextlib.contextmanager
def join_processes(runtime: Runtime) -> Iterator[tuple[World, torch.device]]:
    """This process among those of the run, on its device."""
    device = claim_spare(runtime)
    if environment.is_group() and not environment.is_torchrun():  # left in a shell, they would be waited for in silence
        group = "RANK={RANK} of WORLD_SIZE={WORLD_SIZE} at {MASTER_ADDR}:{MASTER_PORT}".format_map(os.environ)
        print(f"note: {group}, says the environment: joining the others", file=sys.stderr, flush=True)
    try:
        yield distributed.start(device), device
    finally:
        distributed.stop()


def train(cells: list[Settings], states: list[State], runtime: Runtime) -> int:
    """Run the cells whose state says so. Exit code: 0, 1 where a cell failed, 128 + N stopped by signal N.

    Every cell is checked before the first one trains; raises `UsageError` for one that cannot run.
    """
    failed = 0
    display = ProgressDisplay(0)
    try:
        with contextlib.ExitStack() as stack:
            world, device = stack.enter_context(join_processes(runtime))
            # The main process says which, for all: a cell may have been finished since. What failed before goes last.
            runs = world.broadcast(
                lambda: [i for i, state in enumerate(states) if state.runs and state.word != "failed"]
            )
            runs += world.broadcast(lambda: [i for i, state in enumerate(states) if state.word == "failed"])
            todo = [cells[i] for i in runs]
            for cell in todo:
                build.check(cell, world, device)
            display = stack.enter_context(ProgressDisplay(len(todo), shown=world.is_main))
            for note in dict.fromkeys(filter(None, map(build.describe_weights, todo))):
                display.say(f"note: {note}")
            stop = stack.enter_context(Stop().listen())
            context = run.RunContext(runtime, world, device, stop, display)
            titles, short = plan.write_titles(cells), plan.write_titles(cells, short=True)
            shapes = [past_costs.find_shape(address.identify(cell)) for cell in todo]
            past_runs = past_costs.read(Path(runtime.out)) if world.is_main else []
            for number, cell in enumerate(todo, 1):
                folder = address.name_folder(cell)
                display.cell(titles[folder])
                began = time.monotonic()
                result = run.run(cell, context, short[folder])
                if result is not None:
                    if result["status"] == "finished":
                        past_runs.append(past_costs.PastRun(shapes[number - 1], time.monotonic() - began))
                    display.end(_describe_outcome(result), past_costs.estimate_alike(shapes[number:], past_runs))
                failed += result is not None and result["status"] == "failed"
    except Stopped as stopped:
        display.say(f"stopped by {stopped}; nothing is lost: the same command goes on from here")
        return stopped.exit_code
    return 1 if failed else 0


def _describe_outcome(result: dict[str, Any]) -> str:
    """A record in a few words. Accuracy on validation: nobody should change a sweep for what test images say."""
    accuracy = result["metrics"].get("linear_validation_top1")
    reason = f": {result['reason']}" if result["reason"] else ""
    return result["status"] + reason + (f", linear {accuracy:.1%} on validation" if accuracy is not None else "")
