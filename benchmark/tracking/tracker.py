"""What a cell tells trackers, three things of it: that it begins, each line of its log, and how it ended.

Nothing here can fail a cell or hold it up for long; the files are the truth. Imports no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmark.errors import UsageError, explain
from benchmark.settings.runtime import Runtime, parse_trackers
from benchmark.tracking import wandb_run
from benchmark.tracking.site import is_installed
from benchmark.tracking.tensorboard_run import TensorBoardRun
from benchmark.tracking.tracked_cell import TrackedCell, identify
from benchmark.tracking.trackio_run import TrackioRun


class Client(Protocol):
    """One cell's run at one tracker, from its beginning. Each may raise anything."""

    def log(self, line: dict[str, Any]) -> None:
        """A line of log.jsonl, which has its `step`."""

    def end(self, cell_record: dict[str, Any]) -> None:
        """The cell has its record."""

    def close(self, exit_code: int) -> None:
        """No more is told."""


class Destination(Protocol):
    """A tracker, over the cells of a process."""

    title: str

    @property
    def on(self) -> bool:
        """Whether runs are started."""

    def start(self, cell: TrackedCell) -> Client:
        """The run of a cell that begins."""

    def give_up(self) -> str:
        """Behind an error: what becomes of the runs that follow, in a few words."""


@dataclass
class Local:
    """A tracker that writes to this machine's disk: what fails once is tried no more."""

    title: str
    start: Callable[[TrackedCell], Client]
    on: bool = True

    def give_up(self) -> str:
        self.on = False
        return "nothing more is sent to it"


def require(runtime: Runtime) -> None:
    """Raise `UsageError` for a tracker that is asked for by name and not installed, and for a mode that is none."""
    words = {name: f"tracker={name}" for name in parse_trackers(runtime) if name != "auto"}
    if runtime.wandb in ("online", "offline"):
        words["wandb"] = f"wandb={runtime.wandb}"
    for name, word in words.items():
        if not is_installed(name):
            raise UsageError(f"{word}: {name} is not installed; pip install '.[{name}]'")
    wandb_run.require(runtime)


class Run:
    """One cell's run at every destination; one that fails is told no more of it."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._clients: list[tuple[Destination, Client]] = []

    def begin(self, destination: Destination, cell: TrackedCell) -> None:
        """Start the run there; again as long as the destination has another way."""
        clients = len(self._clients)
        while destination.on and len(self._clients) == clients:
            self._safely(destination, lambda: self._clients.append((destination, destination.start(cell))))

    def log(self, line: dict[str, Any]) -> None:
        """A line of log.jsonl; its number of steps in all is no curve."""
        curves = {name: value for name, value in line.items() if name != "steps"}
        self._tell(lambda client: client.log(curves))

    def end(self, cell_record: dict[str, Any]) -> None:
        """The cell has its record."""
        self._tell(lambda client: client.end(cell_record))
        self.close(1 if cell_record["status"] == "failed" else 0)

    def close(self, exit_code: int) -> None:
        self._tell(lambda client: client.close(exit_code))
        self._clients.clear()

    def _tell(self, call: Callable[[Client], object]) -> None:
        for destination, client in list(self._clients):
            self._safely(destination, lambda client=client: call(client))  # type: ignore[misc]

    def _safely(self, destination: Destination, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the cell goes on
            self._clients = [pair for pair in self._clients if pair[0] is not destination]
            self._say(f"{destination.title}: {explain(error)}; {destination.give_up()}")


class Tracker:
    """The runs of one process, cell after cell."""

    def __init__(self) -> None:
        self._destinations: list[Destination] | None = None  # settled with the first cell

    @contextlib.contextmanager
    def cell(
        self,
        content: dict[str, Any],
        folder: Path,
        name: str,
        runtime: Runtime,
        is_main: bool,
        say: Callable[[str], None],
    ) -> Iterator[Run]:
        """The run, of this name, of the cell with this record; closed as failed by whatever is raised within."""
        if self._destinations is None:
            self._destinations = _choose(runtime, say) if is_main else []
        run = Run(say)
        if any(destination.on for destination in self._destinations):
            cell = TrackedCell(content, folder, runtime, *identify(folder, content["key"], name))
            for destination in self._destinations:
                run.begin(destination, cell)
        try:
            yield run
        except BaseException as error:
            run.close(getattr(error, "exit_code", 1))
            raise


def _choose(runtime: Runtime, say: Callable[[str], None]) -> list[Destination]:
    """Whom the cells are told to."""
    local = {"tensorboard": Local("TensorBoard", TensorBoardRun), "trackio": Local("Trackio", TrackioRun)}
    return [wandb_run.Wandb(runtime, say), *(local[name] for name in parse_trackers(runtime) if name in local)]
