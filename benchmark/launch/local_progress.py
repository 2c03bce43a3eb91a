"""What a person sees of launcher=local: a live table on a terminal, a line a cell elsewhere. Standard error only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from benchmark.display.duration import format_duration
from results import files
from results.quantity import quantify

REDRAWN = 0.25  # seconds between two pictures


@dataclass
class Row:
    """One cell at work, as far as its worker told."""

    device: str
    cell: str
    began: float  # by time.monotonic
    done: int = 0
    steps: int = 0
    loss: float = float("nan")
    first: tuple[int, float] | None = None  # a step, and when it was done

    def step(self, done: int, steps: int, loss: float) -> None:
        """Its worker told of a step."""
        self.done, self.steps, self.loss = done, steps, loss
        self.first = self.first or (done, time.monotonic())

    def seconds_left(self) -> float | None:
        """Seconds until its last step, at its pace so far."""
        if self.first is None or self.done == self.first[0]:
            return None
        done, when = self.first
        return (self.steps - self.done) * (time.monotonic() - when) / (self.done - done)


class LocalDisplay:
    """Devices, cells, progress, time left."""

    def __init__(self) -> None:
        self._live: Any = None
        self._drawn = 0.0

    def __enter__(self) -> LocalDisplay:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def announce(self, number: int, cells: int, row: Row, left: float | None) -> None:
        """A cell starts, the `number`-th of `cells`."""
        if self._live is None:
            rest = "" if left is None else f", about {format_duration(left)} left in all"
            self.say(f"[{number}/{cells}] {row.cell} on {row.device}{rest}")

    def due(self) -> bool:
        """Whether the table is to be drawn again."""
        return self._live is not None and time.monotonic() - self._drawn >= REDRAWN

    def draw(self, rows: Iterable[Row], done: int, cells: int, failed: int, left: float | None) -> None:
        """The table as it is now, and how far all is."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None)
        for name in ("device", "cell", "step", "loss", "left"):
            table.add_column(name, justify="right" if name in ("step", "loss", "left") else "left")
        for row in rows:
            seconds_left, is_trained = row.seconds_left(), row.steps > 0 and row.done == row.steps
            left_text = "evaluation" if is_trained else "-" if seconds_left is None else format_duration(seconds_left)
            step, loss = (f"{row.done}/{row.steps}", f"{row.loss:.4f}") if row.steps else ("-", "-")
            table.add_row(row.device, row.cell, step, loss, left_text)
        summary = f" {done} of {quantify(cells, 'cell')} done" + (f", {failed} failed" if failed else "")
        if left is not None and done < cells:
            summary += f", about {format_duration(left)} left"
        if not table.row_count and not done:
            summary = f" {quantify(cells, 'cell')}: workers start, and the cells are checked"
        self._live.update(Group(*([table] if table.row_count else []), Text(summary)), refresh=True)
        self._drawn = time.monotonic()

    def say(self, line: str) -> None:
        """A line that stays."""
        line = files.make_printable(line)
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)
