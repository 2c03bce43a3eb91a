"""What is known of every cell of a folder, as the page has it. What has not changed on disk is not read again, and
nothing is written."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

from benchmark.cells import lease, past_costs, plan
from benchmark.errors import UsageError
from benchmark.serve.jobs import Jobs
from benchmark.serve.logs import Curves, LatestLines, count_epochs, parse_number, read_stamp
from benchmark.settings import address
from benchmark.settings.cell import Settings, restore
from results import record

FRESH = 1.0  # seconds for which one look does for all who ask
WAITING = ("new", "interrupted")
ENDED = ("finished", "collapsed", "stopped", "pruned")  # what stands until its record is another one


class Cell:
    """One cell's folder, and what was last read of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.latest = folder, LatestLines(folder)
        self.settings: Settings | None = None
        self.values: dict[str, Any] = {}  # the settings as a record has them
        self.shape: past_costs.Shape | None = None
        self.label, self.word, self.reason = "", "", ""
        self._record = folder / record.FILE_NAME
        self._stamp: tuple[int, int, int] | None = None
        self._ending: dict[str, Any] | ValueError | None = None

    def refresh(self) -> None:
        """Read what has changed."""
        if self.word in ENDED and self._stamp == read_stamp(self._record):
            return
        if self.settings is None:
            with contextlib.suppress(UsageError):
                self._set_settings(plan.read_cell(self.folder))
        self.word, self.reason, _ = plan.classify(
            self.folder, lambda _: self._read_record(), lambda folder: lease.is_at_work(folder, writes=False)
        )
        self.latest.read()

    @property
    def ending(self) -> dict[str, Any]:
        """Of its record, where it has one that can be read: status, reason, accuracy and seconds."""
        return self._ending if isinstance(self._ending, dict) and self.word != "running" else {}

    @property
    def epochs(self) -> int:
        """That it trains for; 0 where it trains for none."""
        epochs = parse_number(self.values.get("epochs"))
        return int(epochs) if epochs is not None else 0

    def seconds_trained(self) -> float | None:
        """At the last line of its log, by its speed there."""
        step, speed = (parse_number(self.latest.loss.get(name)) for name in ("step", "images_per_second"))
        batch = parse_number(self.values.get("batch_size"))
        return None if step is None or batch is None or not speed else step * batch / speed

    def seconds_left(self) -> float | None:
        """Until its last step, by its speed at the last line of its log."""
        step, steps = (parse_number(self.latest.loss.get(name)) for name in ("step", "steps"))
        seconds = self.seconds_trained()
        if seconds is None or not step or steps is None:
            return None
        return max(0.0, (steps - step) * seconds / step - max(0.0, time.time() - self.latest.file.changed))

    def row(self, job: str) -> dict[str, Any]:
        """A row of the table. Accuracies are fractions, `left` and `took` seconds; None is not known."""
        running, loss = self.word == "running", self.latest.loss
        left, where = self.seconds_left() if running else None, job if self.word in (*WAITING, "failed") else ""
        if running:
            holder = lease.read_holder(self.folder)
            job_of_holder = f"job {holder['job']}" if holder.get("job") else ""
            where = ", ".join(str(part) for part in (holder.get("host"), job_of_holder) if part)
        evaluates = running and "steps" in loss and loss["steps"] == loss.get("step")
        return {
            "name": self.folder.name,
            "method": str(self.values.get("method") or self.folder.name),
            "label": self.label,
            "state": self.word,
            "reason": self.reason,
            "epoch": round(at, 2) if loss and (at := count_epochs(loss, self.epochs)) is not None else None,
            "epochs": self.epochs or None,
            "loss": parse_number(loss.get("loss")),
            "knn": parse_number(self.latest.accuracy.get(record.VALIDATION)),
            "linear": self.ending.get("linear"),
            "left": None if left is None or evaluates else round(left),
            "evaluates": evaluates,
            "took": round(self.ending["seconds"]) if self.ending.get("seconds") else None,
            "where": where,
        }

    def _read_record(self) -> dict[str, Any] | None:
        now = read_stamp(self._record)
        if now != self._stamp:
            self._stamp = now
            try:
                content = record.read(self.folder)
            except ValueError as error:
                self._ending = error
            else:
                self._ending = content and self._summarise_record(content)
        if isinstance(self._ending, ValueError):
            raise self._ending
        return self._ending

    def _summarise_record(self, content: dict[str, Any]) -> dict[str, Any]:
        """What is shown of a record: nothing of test images, for which nobody should change a sweep."""
        if self.settings is None:  # as of a study that is kept, which has records alone
            with contextlib.suppress(TypeError, ValueError, LookupError):
                self._set_settings(restore(content["settings"]))
        seconds = 0.0
        with contextlib.suppress(TypeError):  # whatever a record's costs may be
            seconds = parse_number(past_costs.count_seconds(content)) or 0.0
        accuracy = content["metrics"].get("linear_validation_top1")
        ending = {"status": content["status"], "reason": content["reason"]}
        return ending | {"linear": parse_number(accuracy), "seconds": seconds}

    def _set_settings(self, settings: Settings) -> None:
        with contextlib.suppress(Exception):  # whatever lies there: it costs the row its name, and no other row
            self.settings, self.values = settings, address.identify(settings)
        with contextlib.suppress(Exception):  # of a method that is gone
            self.shape = past_costs.find_shape(self.values)


class Sweep:
    """The cells of the folder `out`; may be asked from several threads."""

    def __init__(self, out: Path) -> None:
        self.out, self._jobs = out, Jobs(out)
        self._cells: dict[str, Cell] = {}
        self._curves: dict[str, Curves] = {}
        self._state: dict[str, Any] = {}
        self._refreshed = -FRESH
        self._lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """`cells`, each as `Cell.row`; `left`, the seconds until the last one ends, roughly, or None; and `news` of
        what could not be asked. Raises OSError for a folder that cannot be read."""
        with self._lock:
            if time.monotonic() - self._refreshed >= FRESH:
                self._state = self._refresh()
                self._refreshed = time.monotonic()
            return self._state

    def curves(self, names: list[str]) -> dict[str, dict[str, list[tuple[float, float]]]]:
        """Name -> `Curves.read`, of those of the names that are cells."""
        self.state()
        with self._lock:
            for name in names:
                if name in self._cells and name not in self._curves:
                    self._curves[name] = Curves(self._cells[name].folder, self._cells[name].epochs)
            return {name: self._curves[name].read() for name in dict.fromkeys(names) if name in self._curves}

    def folder(self, name: str) -> Path | None:
        """That of the cell of this name."""
        self.state()
        cell = self._cells.get(name)
        return cell.folder if cell else None

    def _refresh(self) -> dict[str, Any]:
        folders = list(plan.list_folders(self.out))
        changed = [folder.name for folder in folders] != list(self._cells)
        if changed:
            self._cells = {folder.name: self._cells.get(folder.name) or Cell(folder) for folder in folders}
        for cell in self._cells.values():
            cell.refresh()
        if changed:
            self._label()
        jobs, news = self._jobs.read()
        rows = [cell.row(jobs.get(name, "")) for name, cell in self._cells.items()]
        return {"cells": rows, "left": self._seconds_left(), "news": news}

    def _label(self) -> None:
        """Name each cell by what tells it from the others."""
        names = plan.find_varying([cell.settings for cell in self._cells.values() if cell.settings])
        for cell in self._cells.values():
            trial = str(cell.values.get("trial") or "").rpartition("/")[2]
            cell.label = plan.write_label(cell.values | ({"trial": trial} if trial else {}), names)

    def _seconds_left(self) -> float | None:
        shapes = [(cell, cell.shape) for cell in self._cells.values() if cell.shape is not None]
        ran = [
            past_costs.PastRun(shape, cell.ending["seconds"])
            for cell, shape in shapes
            if cell.word == "finished" and shape.work
        ]
        running = [
            (shape, cell.seconds_trained() or 0.0, cell.seconds_left())
            for cell, shape in shapes
            if cell.word == "running"
        ]
        waiting = [shape for cell, shape in shapes if cell.word in WAITING]
        left = None
        with contextlib.suppress(ArithmeticError):  # of settings that no cell can have
            left = past_costs.estimate_time_left(running, waiting, ran, len(running)) if running else None
        return None if left is None else round(left)
