"""A cell's run in Trackio, on this machine's disk alone: `trackio show` draws it, and `trackio sync` would send it.

It is imported only where it is used.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import Any
from unittest import mock

from benchmark.tracking.tracked_cell import NEIGHBOURS, TrackedCell, decode_neighbours
from results import files, record

REMOTE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")  # variables that would have it send


class TrackioRun:
    """Trackio knows runs by name, and has no way to take a line back: what an attempt repeats is not told again."""

    def __init__(self, cell: TrackedCell) -> None:
        with _locally():
            import trackio

            self._cell = cell
            last = self._last_kept()
            self._run = trackio.init(
                project=cell.runtime.wandb_project,
                name=cell.label,
                group=cell.group,
                config=cell.config,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            trackio.context_vars.current_run.set(None)  # else its end would be told on standard output
        self._earlier = -1 if last is None else last  # the last step of the attempts before
        self._told = False  # whether a line was
        self._step = max(self._earlier, 0)  # of the last line

    def log(self, line: dict[str, Any]) -> None:
        if line["step"] > self._earlier:
            self._step = line["step"]
            self._run.log({name: value for name, value in line.items() if name != "step"}, step=self._step)
            self._told = True

    def end(self, cell_record: dict[str, Any]) -> None:
        from trackio import Image

        outcome: dict[str, Any] = record.describe_outcome(cell_record)
        path = self._cell.folder / record.LOOKS_NAME
        if cell_record["metrics"] and path.exists():
            outcome["neighbours"] = Image(decode_neighbours(files.read_json(path)), caption=NEIGHBOURS)
        values = {name: value for name, value in outcome.items() if value is not None}
        self._run.log(values, step=self._step)
        self._told = True

    def close(self, exit_code: int) -> None:
        from trackio import utils

        with _locally():
            self._run.finish()
        # Of a disk that is full or cannot be written it only warns, and on a network's disk it keeps lines elsewhere.
        if self._told and utils.get_storage_mode() == "sqlite" and self._last_kept() != self._step:
            raise OSError(f"{utils.TRACKIO_DIR} did not take all of a run")

    def _last_kept(self) -> int | None:
        """The last step of the run that is on the disk."""
        from trackio.sqlite_storage import SQLiteStorage

        return SQLiteStorage.get_max_step_for_run(self._cell.runtime.wandb_project, self._cell.label)


@contextlib.contextmanager
def _locally() -> Iterator[None]:
    """Within, Trackio asks no site, prints nothing, and what it would only warn of is raised."""
    import huggingface_hub.constants as hub

    for name in REMOTE:
        os.environ.pop(name, None)
    with (
        mock.patch.object(hub, "HF_HUB_OFFLINE", True),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module="trackio")
        yield
    if caught:
        raise OSError(str(caught[0].message))
