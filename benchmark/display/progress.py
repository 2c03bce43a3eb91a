"""What a person sees while cells run: a progress bar on a terminal, plain lines elsewhere. Standard error only."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from benchmark.display.duration import format_duration
from results import files

LINE = 60.0  # seconds between the lines of a cell where there is no terminal


class ProgressDisplay:
    """Progress over `cells` cells. Silent on all but the main process."""

    def __init__(self, cells: int, shown: bool = True) -> None:
        self.cells, self.shown, self.number = cells, shown, 0
        self.title = ""
        self.began = self.last_line = 0.0  # when the cell began, and when its last line was written
        self.first: tuple[float, int] | None = None  # when it was first heard of, and the steps that were done then
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
        self.began = self.last_line = time.monotonic()
        self.first = None
        if self.bar is not None:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(self.title, total=None, loss="-")
        else:
            self.say(self.title)

    def end(self, outcome: str, expected: Sequence[float] = ()) -> None:
        """The cell has ended: what came of it, and the seconds that others may take, of each of which that is known."""
        left = self.cells - self.number
        rest = f"; {left} to go" if left else ""
        some = "" if len(expected) == left else f"{len(expected)} of them "
        rest += f", {some}about {format_duration(sum(expected))}" if expected else ""
        self.say(f"{self.title}: {outcome}, {format_duration(time.monotonic() - self.began)}{rest}")

    def step(self, done: int, steps: int, loss: float) -> None:
        """The cell has done so many of its steps; a line at most every `LINE` seconds where there is no terminal."""
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=steps, loss=f"{loss:.4f}")
            return
        now = time.monotonic()
        first_heard, first_done = self.first = self.first or (now, done)
        if self.shown and now - self.last_line >= LINE and done > first_done:
            self.last_line = now
            left = format_duration((now - first_heard) / (done - first_done) * (steps - done))
            self.say(f"{self.title}: step {done:,} of {steps:,}, loss {loss:.4f}, {left} left")

    def say_once(self, line: str) -> None:
        """A line that many cells would repeat."""
        if line not in self.repeated:
            self.repeated.add(line)
            self.say(line)

    def say(self, line: str) -> None:
        """A line that stays. Where it cannot be written, to a terminal that closed or a full disk, no cell fails."""
        line = files.make_printable(line)
        with contextlib.suppress(OSError):
            if self.bar is not None:
                self.bar.console.print(line, markup=False, highlight=False)
            elif self.shown:
                print(line, file=sys.stderr, flush=True)
