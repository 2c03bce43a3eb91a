"""A worker of launcher=local: `python -m benchmark.launch.worker DESCRIPTOR` runs the cells that it is given, in turn.

It pays for torch's import once. Orders come in on standard input and events go out on the descriptor, as JSON lines;
standard output and error are left to whatever prints there.

    orders: {"do": "start", "runtime", "beside"}, {"do": "check", "cells"}, {"do": "run", "cell", "title"}
    events: ready (gpus), refused (message), checked, began (record), step (done, steps, loss), say (line),
            done (status, reason, seconds), stopped (by)

When standard input ends it is as if SIGTERM came: an idle worker ends, a busy one behind a checkpoint. So workers
outlive their launcher by a step, however that one died.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmark.display.progress import ProgressDisplay
from benchmark.errors import UsageError
from benchmark.settings.cell import Settings, restore
from benchmark.settings.runtime import restore_runtime
from benchmark.training.stop import Stop, Stopped

if TYPE_CHECKING:
    from benchmark.cells.run import RunContext


class Lines:
    """JSON lines out of pieces of bytes."""

    def __init__(self) -> None:
        self._rest = b""

    def complete(self, piece: bytes) -> list[dict[str, Any]]:
        """What `piece` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [json.loads(line) for line in lines]


class EventDisplay(ProgressDisplay):
    """A progress display whose lines are events for the launcher."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(0, shown=False)
        self.descriptor = descriptor

    def tell(self, event: str, **more: Any) -> None:
        """Send an event to the launcher, as a line of JSON."""
        text = (json.dumps({"event": event} | more) + "\n").encode()
        with contextlib.suppress(BrokenPipeError):  # the launcher is gone: standard input says so too
            while text:
                text = text[os.write(self.descriptor, text) :]

    def step(self, done: int, steps: int, loss: float) -> None:
        self.tell("step", done=done, steps=steps, loss=loss)

    def say(self, line: str) -> None:
        self.tell("say", line=line)


def main() -> int:
    """Work until standard input ends or a signal stops it. Exit code: 0, 128 + N stopped by signal N."""
    display = EventDisplay(int(sys.argv[1]))
    print(f"worker, process {os.getpid()}", flush=True)
    try:
        with Stop().listen() as stop:
            _work(display, stop)
    except Stopped as stopped:
        display.tell("stopped", by=str(stopped))
        return stopped.exit_code
    return 0


def _work(display: EventDisplay, stop: Stop) -> None:
    import torch

    from benchmark.backbones.library import library
    from benchmark.training import build

    display.tell("ready", gpus=torch.cuda.device_count() if torch.cuda.is_available() else 0)
    library()  # as slow as torch, and nearly every cell needs it: now, while the first worker checks
    orders = _read_orders()
    try:
        context = _build_context(next(orders), stop, display)
        for order in orders:
            if order["do"] == "check":
                cells = [restore(cell) for cell in order["cells"]]
                for cell in cells:
                    build.check(cell, context.world, context.device)
                for note in dict.fromkeys(filter(None, map(build.describe_weights, cells))):
                    display.say(f"note: {note}")
                display.tell("checked")
            else:
                _run(restore(order["cell"]), order["title"], context, display)
    except UsageError as error:
        display.tell("refused", message=str(error))


def _build_context(order: dict[str, Any], stop: Stop, display: EventDisplay) -> RunContext:
    """Settle on the device and threads that the first order names."""
    from benchmark.cells.run import RunContext
    from benchmark.training.distributed import World
    from benchmark.training.engine import claim_device

    runtime = restore_runtime(order["runtime"])
    os.environ["LOCAL_WORLD_SIZE"] = str(order["beside"])  # whoever reads images shares the cores by it
    return RunContext(runtime, World(), claim_device(runtime), stop, display)


def _run(cell: Settings, title: str, context: RunContext, display: EventDisplay) -> None:
    import torch

    from benchmark.cells import past_costs, run

    display.tell("began", record=run.start_record(cell))
    result = run.run(cell, context, title)
    if result is None:
        display.tell("done", status=None, reason=None, seconds=0.0)
    else:
        display.tell("done", status=result["status"], reason=result["reason"], seconds=past_costs.count_seconds(result))
    if context.device.type == "cuda":  # what the allocator keeps is memory that no other cell on the GPU can have
        gc.collect()
        torch.cuda.empty_cache()


def _read_orders() -> Iterator[dict[str, Any]]:
    """The lines of standard input, as they come. Their end is a SIGTERM."""
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        lines = Lines()
        while piece := os.read(0, 1 << 16):  # not sys.stdin, whose lock a thread would hold when Python ends
            for order in lines.complete(piece):
                waiting.put(order)
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        signal.pthread_kill(main_thread, signal.SIGTERM)

    threading.Thread(target=read, name="orders", daemon=True).start()
    while True:
        yield waiting.get()


if __name__ == "__main__":
    sys.exit(main())
