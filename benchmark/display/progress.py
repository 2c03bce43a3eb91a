"""What a person sees while cells run: a progress bar on a terminal, plain lines elsewhere. Standard error only."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from results import files


class ProgressDisplay:
    """Progress over `cells` cells. Silent on all but the main process."""

    def __init__(self, cells: int, shown: bool = True) -> None:
        self.cells, self.shown, self.number = cells, shown, 0
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
            self.bar.stop()

    def cell(self, name: str) -> None:
        """A cell starts."""
        self.number += 1
        title = f"[{self.number}/{self.cells}] {name}"
        if self.bar is not None:
            if self.task is not None:
                self.bar.remove_task(self.task)
            self.task = self.bar.add_task(title, total=None, loss="-")
        elif self.shown:
            print(title, file=sys.stderr, flush=True)

    def step(self, done: int, steps: int, loss: float) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=steps, loss=f"{loss:.4f}")

    def say_once(self, line: str) -> None:
        """A line that many cells would repeat."""
        if line not in self.repeated:
            self.repeated.add(line)
            self.say(line)

    def say(self, line: str) -> None:
        """A line that stays."""
        line = files.printable(line)
        if self.bar is not None:
            self.bar.console.print(line, markup=False, highlight=False)
        elif self.shown:
            print(line, file=sys.stderr, flush=True)
