"""A cell's run in TensorBoard: event files below `out`/tensorboard, a folder a run.

torch and TensorBoard are imported only where they are used.
"""

from __future__ import annotations

import numbers
from pathlib import Path
from typing import Any

from benchmark.tracking.tracked_cell import TrackedCell, decode_neighbours
from results import files, record

LOST = 2  # seconds of a run that a SIGKILL may take with it


class TensorBoardRun:
    """Its writer begins with the first line: of an attempt that was cut off, what is repeated is no longer shown."""

    def __init__(self, cell: TrackedCell) -> None:
        import torch.utils.tensorboard  # noqa: F401 - here, where an error has not lost a line yet

        self._cell = cell
        self._folder = Path(cell.runtime.out) / "tensorboard" / cell.label
        files.make_folder(self._folder)
        self._writer: Any = None
        self._step = 0  # of the last line

    def log(self, line: dict[str, Any]) -> None:
        self._step = line["step"]
        self._open(self._step)
        for name, value in line.items():
            if name != "step":
                self._writer.add_scalar(name, value, self._step)

    def end(self, cell_record: dict[str, Any]) -> None:
        """Numbers and settings as a row of HParams, the status as text, and the images with their neighbours."""
        self._open(None)
        outcome, path = record.describe_outcome(cell_record), self._cell.folder / record.LOOKS_NAME
        reason = f": {outcome['reason']}" if outcome["reason"] else ""
        self._writer.add_text("status", outcome["status"] + reason, self._step)
        if cell_record["metrics"] and path.exists():
            import numpy as np

            grid = np.asarray(decode_neighbours(files.read_json(path)))
            self._writer.add_image("neighbours", grid, self._step, dataformats="HWC")
        self._writer.flush()
        results = {name: value for name, value in outcome.items() if isinstance(value, numbers.Real)}
        settings = dict(_flatten(self._cell.config))
        self._writer.add_hparams(settings, results, run_name=".", global_step=self._step)

    def close(self, exit_code: int) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open(self, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=purge_step, flush_secs=LOST)


def _flatten(values: dict[str, Any], above: str = "") -> Any:
    """(dotted name, number or text) of each setting; HParams takes no others."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{above}{name}.")
        elif value is not None:
            yield f"{above}{name}", value if isinstance(value, bool | int | float) else str(value)
