"""What a person sees while cells run: a progress bar on a terminal, plain lines elsewhere. Standard error only."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType
from typing import Any

from benchmark.display.duration import span
from results import files

LINE = 60.0  # seconds between the lines of a cell where there is no terminal


class ProgressDisplay:
    """Progress over `cells` cells. Silent on all but the main process."""

    def __init__(self, cells: int, shown: bool = True) -> None:
        self.cells, self.shown, self.number = cells, shown, 0
        self.title = ""
        self.began = self.told = 0.0  # the cell; its last line
        self.first: tuple[float, int] | None = None  # when it was first heard of, and the steps that were done then
        self.took: list[float] = []  # seconds of the cells that have ended
        self.repeated = set[str]()
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> ProgressDisplay:
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            with contextlib.suppress(OSError):
                self.bar.stop()

    def cell(self, name: str) -> None:
        """A cell starts."""
        self.number += 1
        self.title = f"[{self.number}/{self.cells}] {name}"
        self.began = self.told = time.monotonic()
        self.first = None
        if self.bar is not None:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(self.title, total=None, loss="-")
        else:
            self.say(self.title)

    def end(self, outcome: str) -> None:
        """The cell has ended: what came of it, and how long the others may take if they are like those so far."""
        self.took.append(time.monotonic() - self.began)
        left = self.cells - self.number
        rest = f"; {left} to go, about {span(left * sum(self.took) / len(self.took))}" if left else ""
        self.say(f"{self.title}: {outcome}, {span(self.took[-1])}{rest}")

    def step(self, done: int, steps: int, loss: float) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=steps, loss=f"{loss:.4f}")
            return
        now = time.monotonic()
        first_heard, first_done = self.first = self.first or (now, done)
        if self.shown and now - self.told >= LINE and done > first_done:
            self.told = now
            left = span((now - first_heard) / (done - first_done) * (steps - done))
            self.say(f"{self.title}: step {done:,} of {steps:,}, loss {loss:.4f}, {left} left")

    def say_once(self, line: str) -> None:
        """A line that many cells would repeat."""
        if line not in self.repeated:
            self.repeated.add(line)
            self.say(line)

    def say(self, line: str) -> None:
        """A line that stays. Where it cannot be written, to a terminal that closed or a full disk, no cell fails."""
        line = files.printable(line)
        with contextlib.suppress(OSError):
            if self.bar is not None:
                self.bar.console.print(line, markup=False, highlight=False)
            elif self.shown:
                print(line, file=sys.stderr, flush=True)
