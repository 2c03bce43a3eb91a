"""launcher=local: the cells over the devices of this machine, each device's share a worker process. Imports no torch.

The truth is on disk, as everywhere: a worker locks its cell, writes its checkpoints and its record. The launcher gives
out cells, one to a worker at a time, and writes only the record of a cell whose worker died.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmark.cells import lease, past_costs, plan
from benchmark.errors import UsageError
from benchmark.launch.local_progress import LocalBoard, Row
from benchmark.launch.shares import devices, threads
from benchmark.launch.worker_process import Worker, logs
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training.stop import Stop, Stopped
from results import record


def run(cells: list[Settings], again: list[bool], runtime: Runtime) -> int:
    """Run `cells`, those that are tried `again` last. Exit code: 0, 1 where a cell failed, 128 + N stopped by signal N.

    Every cell is checked before the first one trains; raises `UsageError` for one that cannot run.
    """
    out = Path(runtime.out)
    ran = past_costs.recorded(out)
    shapes = [past_costs.shape(address.identity(cell)) for cell in cells]
    order = sorted(past_costs.longest_first(shapes, ran), key=lambda i: again[i])
    began = time.monotonic()
    with contextlib.ExitStack() as held:
        stop = held.enter_context(Stop().listening())
        held.enter_context(stop.patient())
        board = held.enter_context(LocalBoard())
        sweep = Sweep([cells[i] for i in order], runtime, held.enter_context(logs(out)), board, ran)
        held.callback(sweep.close)
        try:
            sweep.run(stop)
        except Stopped:  # a second Ctrl-C
            sweep.close()
        if stop.asked and sweep.done < len(cells):
            stopped = Stopped(stop.asked)
            board.say(f"stopped by {stopped}; nothing is lost: the same command goes on from here")
            return stopped.exit_code
        sweep.say_how_it_went(time.monotonic() - began)
    return 1 if sweep.failed or sweep.done < len(cells) else 0


@dataclass
class Seat:
    """A device's share, and the worker that has it."""

    number: int
    worker: Worker
    free: bool = False  # checked, and without a cell
    proven: bool = False  # has begun a cell
    cell: int | None = None
    row: Row | None = None
    blank: dict[str, Any] | None = None  # the record of its cell, as it was when the cell began
    stopped: bool = False  # said that a signal asked it to stop


class Sweep:
    """The cells, in the order in which they are given out, and who works on them."""

    def __init__(
        self, cells: list[Settings], runtime: Runtime, logs: Path, board: LocalBoard,
        ran: list[past_costs.Ran],
    ) -> None:  # fmt: skip
        self.cells, self.runtime, self.logs, self.board, self.ran = cells, runtime, logs, board, list(ran)
        names = plan.varying(cells)
        identities = [address.identity(cell) for cell in cells]
        self.labels = [f"{values['method']} {plan.label(values, names)}".strip() for values in identities]
        self.shapes = [past_costs.shape(values) for values in identities]
        self.pending = list(range(len(cells)))
        self.seats: list[Seat] = []
        self.devices: list[str] = []  # of each seat, once the first worker has told what there is
        self.checked = self.stopping = False
        self.given = self.done = self.failed = self.left = self.most = 0
        self.busy = 0.0  # seconds, over all seats
        self.ears = selectors.DefaultSelector()

    def run(self, stop: Stop) -> None:
        """Until every worker has ended: all cells are done, a signal came, or none could start."""
        runtime = self.runtime
        known = devices(runtime, 0) if runtime.workers or runtime.device == "cpu" else [runtime.device]
        for number in range(min(len(known), len(self.cells))):
            self._seat(number)
        while self.seats:
            for key, _ in self.ears.select(timeout=0.1):
                self._listen(key.data)
            for seat in list(self.seats):
                how = seat.worker.ended()
                if how is not None:
                    self._listen(seat)
                    self._empty(seat, how)
            if stop.asked and not self.stopping:
                self.stopping = True
                self.board.say("stopping: each cell at its next step, behind a checkpoint; Ctrl-C again kills them")
                for seat in self.seats:
                    seat.worker.stop()
            self._give_out()
            if self.board.due():
                rows = [seat.row for seat in sorted(self.seats, key=lambda seat: seat.number) if seat.row]
                self.board.draw(rows, self.done, len(self.cells), self.failed, self._left())

    def close(self) -> None:
        """Kill what still runs."""
        for seat in self.seats:
            seat.worker.close()
        self.seats.clear()
        self.ears.close()

    def say_how_it_went(self, wall: float) -> None:
        if self.done < len(self.cells):
            self.board.say(f"{len(self.cells) - self.done} cells did not start: no worker lives; see {self.logs}/")
        if self.left:
            self.board.say(f"{self.left} of the cells left to other processes, which are at work on them")
        if self.most:
            share = self.busy / (self.most * wall)
            self.board.say(f"{self.done} cells in {wall:.1f} s, {self.most} workers at work on them {share:.0%} of it")

    def _seat(self, number: int) -> None:
        seat = Seat(number, Worker(self.logs / f"worker-{number}.log"))
        self.seats.append(seat)
        self.ears.register(seat.worker.events_from, selectors.EVENT_READ, seat)
        self.most = max(self.most, len(self.seats))

    def _listen(self, seat: Seat) -> None:
        for event in seat.worker.events():
            self._hear(seat, event.pop("event"), event)
        if seat.worker.silent and seat.worker.events_from in self.ears.get_map():
            self.ears.unregister(seat.worker.events_from)

    def _hear(self, seat: Seat, event: str, told: dict[str, Any]) -> None:
        if event == "ready":
            self._start(seat, told["gpus"])
        elif event == "refused" and not self.checked:
            raise UsageError(told["message"])
        elif event == "refused":
            self.board.say(f"worker {seat.number}: {told['message']}")
        elif event == "checked":
            self.checked = seat.free = True
        elif event == "began":
            seat.blank, seat.proven = told["record"], True
        elif event == "step" and seat.row:
            seat.row.step(**told)
        elif event == "say":
            self.board.say(told["line"])
        elif event == "stopped":
            seat.stopped = True
        elif event == "done":
            self._done(seat, **told)

    def _start(self, seat: Seat, gpus: int) -> None:
        """A worker has imported torch. The first to have done so checks the cells for all."""
        if not self.devices:
            self.devices = devices(self.runtime, gpus)
            order: dict[str, Any] = {"do": "check", "cells": [asdict(cell) for cell in self.cells]}
            for number in range(len(self.seats), min(len(self.devices), len(self.cells))):
                self._seat(number)
        else:
            order = {}
        each = threads(self.runtime, len(self.devices))
        runtime = replace(self.runtime, device=self.devices[seat.number], threads=each)
        seat.worker.order("start", runtime=asdict(runtime), beside=len(self.devices))
        if order:
            seat.worker.order(**order)
        else:
            seat.free = True

    def _give_out(self) -> None:
        if not self.checked or self.stopping:
            return
        for seat in self.seats:
            if seat.worker.finishing or not seat.free:
                continue
            if not self.pending:
                seat.worker.finish()
                continue
            cell = self.pending.pop(0)
            self.given += 1
            seat.cell, seat.free, seat.blank = cell, False, None
            seat.row = Row(f"{self.devices[seat.number]} (worker {seat.number})", self.labels[cell], time.monotonic())
            self.board.starts(self.given, len(self.cells), seat.row, self._left())
            seat.worker.order("run", cell=asdict(self.cells[cell]))

    def _done(self, seat: Seat, status: str | None, reason: str | None, seconds: float) -> None:
        assert seat.cell is not None
        assert seat.row is not None
        if status is None:
            self.left += 1
        elif status != "finished":
            self.board.say(f"{self.labels[seat.cell]}: {status}: {reason}")
        elif seconds:
            self.ran.append(past_costs.Ran(self.shapes[seat.cell], seconds))
        self.failed += status == "failed"
        self.done += 1
        self.busy += time.monotonic() - seat.row.began
        seat.cell, seat.row, seat.free = None, None, True
        if status == "failed" and self.devices[seat.number].startswith("cuda"):
            seat.worker.finish()  # an error on a GPU may last as long as its process: the next cell gets a new one

    def _empty(self, seat: Seat, how: str) -> None:
        """A worker has ended. One that dies takes its own cell with it, and another takes its seat."""
        if not self.checked and not self.stopping:
            said = (seat.worker.tail().splitlines() or [""])[-1]
            raise ChildProcessError(f"worker {seat.number} {how} before the first cell: {said}; see {seat.worker.log}")
        self.seats.remove(seat)
        if seat.cell is not None and not self.stopping:
            if seat.blank is None or seat.stopped:  # the cell had no part in it
                self.pending.insert(0, seat.cell)
                self.given -= 1
            else:
                self._fail(seat, seat.cell, seat.blank, f"worker {how}")
        seat.worker.close()
        if self.pending and not self.stopping:
            if seat.proven or seat.stopped:
                self._seat(seat.number)
            else:
                self.board.say(f"worker {seat.number} {how} before it began a cell; see {seat.worker.log}")

    def _fail(self, seat: Seat, cell: int, blank: dict[str, Any], reason: str) -> None:
        """Record that the cell's worker died, unless it recorded its end before, or another process has the cell."""
        folder = Path(self.runtime.out) / address.folder_name(self.cells[cell])
        status: str | None = "failed"
        try:
            with lease.held(folder) as mine:
                found = record.read(folder)
                if found is not None and found["started"] >= blank["started"]:
                    status, reason = found["status"], found["reason"]
                elif mine is None:
                    status = None
                else:
                    (folder / "error.txt").write_text(f"{reason}\n\n{seat.worker.tail()}")
                    record.write(folder, blank | {"status": status, "reason": reason, "finished": record.now()})
        except (OSError, ValueError) as error:  # a full disk; it must not end the others
            reason += f", which could not be recorded: {error}"
        self._done(seat, status, reason, 0.0)

    def _left(self) -> float | None:
        now = time.monotonic()
        running = [
            (self.shapes[seat.cell], now - seat.row.began, seat.row.left())
            for seat in self.seats
            if seat.cell is not None and seat.row is not None
        ]
        return past_costs.time_left(running, [self.shapes[cell] for cell in self.pending], self.ran, len(self.seats))
