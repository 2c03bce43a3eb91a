"""How far a long step is that goes through many things: a bar on a terminal, one line elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from results.quantity import quantify


@contextmanager
def show_progress(title: str, total: int, noun: str, after: str = "") -> Iterator[Callable[[int], None]]:
    """Yields what is told how many of `total` are done since it was last told; the `noun` is in the singular."""
    if not sys.stderr.isatty():
        print(f"{title} {quantify(total, noun)}{after}", file=sys.stderr, flush=True)
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)
