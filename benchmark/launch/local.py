"""launcher=local: the cells over the devices of this machine, each device's share a worker process. Imports no torch.

The truth is on disk, as everywhere: a worker locks its cell, writes its checkpoints and its record. The launcher gives
out cells, one to a worker at a time, and writes only the record of a cell whose worker died.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from benchmark.cells import lease, past_costs, plan
from benchmark.errors import UsageError
from benchmark.launch.local_progress import LocalDisplay, Row
from benchmark.launch.shares import share_devices, share_threads
from benchmark.launch.worker_process import WorkerProcess, open_log_folder
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training.stop import Stop, Stopped
from results import record
from results.quantity import quantify


def run(cells: list[Settings], is_retry: list[bool], titles: dict[str, str], runtime: Runtime) -> int:
    """Run `cells`, each `is_retry` behind the others; trackers call that of a folder as `titles` do. Exit code: 0, 1
    where a cell failed, 128 + N stopped by signal N.

    Every cell is checked before the first one trains; raises `UsageError` for one that cannot run.
    """
    out = Path(runtime.out)
    past_runs = past_costs.read(out)
    shapes = [past_costs.find_shape(address.identify(cell)) for cell in cells]
    order = sorted(past_costs.sort_longest_first(shapes, past_runs), key=lambda i: is_retry[i])
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop().listen())
        stack.enter_context(stop.defer())
        display = stack.enter_context(LocalDisplay())
        log_folder = stack.enter_context(open_log_folder(out))
        sweep = Sweep([cells[i] for i in order], titles, runtime, log_folder, display, past_runs)
        stack.callback(sweep.close)
        try:
            with sweep.listen_to_suspension():
                sweep.run(stop)
        except Stopped:  # a second Ctrl-C
            sweep.close()
        if stop.signal and sweep.done < len(cells):
            stopped = Stopped(stop.signal)
            display.say(f"stopped by {stopped}; nothing is lost: the same command goes on from here")
            return stopped.exit_code
        sweep.summarise(time.monotonic() - began)
    return 1 if sweep.failed or sweep.done < len(cells) else 0


TRIES = 3  # workers that may die before they begin a cell, and have another take their place


@dataclass
class Slot:
    """A device's share, and the worker that has it."""

    number: int
    worker: WorkerProcess
    free: bool = False  # checked, and without a cell
    proven: bool = False  # has begun a cell
    cell: int | None = None
    row: Row | None = None
    started_record: dict[str, Any] | None = None  # the record of its cell, as it was when the cell began
    stopped: bool = False  # said that a signal asked it to stop


class Sweep:
    """The cells, in the order in which they are given out, and who works on them."""

    def __init__(
        self,
        cells: list[Settings],
        titles: dict[str, str],
        runtime: Runtime,
        logs: Path,
        display: LocalDisplay,
        past_runs: list[past_costs.PastRun],
    ) -> None:
        self.cells, self.titles, self.runtime, self.logs, self.display = cells, titles, runtime, logs, display
        self.past_runs, varied = list(past_runs), plan.find_varying(cells)
        identities = [address.identify(cell) for cell in cells]
        self.labels = [f"{values['method']} {plan.write_label(values, varied)}".strip() for values in identities]
        self.shapes = [past_costs.find_shape(values) for values in identities]
        self.pending = list(range(len(cells)))
        self.slots: list[Slot] = []
        self.devices: list[str] = []  # of each slot, once the first worker has said what there is
        self.checker: Slot | None = None
        self.checked = self.stopping = False
        self.started = self.done = self.failed = self.left_to_others = self.most_workers = self.failed_starts = 0
        self.busy = 0.0  # seconds, over all slots
        self.selector = selectors.DefaultSelector()

    def run(self, stop: Stop) -> None:
        """Until every worker has ended: all cells are done, a signal came, or none could start."""
        runtime = self.runtime
        expected = share_devices(runtime, 0) if runtime.workers or runtime.device == "cpu" else [runtime.device]
        for number in range(min(len(expected), len(self.cells))):
            self._open_slot(number)
        while self.slots:
            for key, _ in self.selector.select(timeout=0.1):
                self._listen(key.data)
            for slot in list(self.slots):
                exit_reason = slot.worker.exit_reason()
                if exit_reason is not None:
                    self._listen(slot)
                    self._close_slot(slot, exit_reason)
            if stop.signal and not self.stopping:
                self.stopping = True
                self.display.say("stopping: each cell at its next step, behind a checkpoint; Ctrl-C again kills them")
                for slot in self.slots:
                    slot.worker.stop()
            self._assign_cells()
            if self.display.due():
                rows = [slot.row for slot in sorted(self.slots, key=lambda slot: slot.number) if slot.row]
                self.display.draw(rows, self.done, len(self.cells), self.failed, self._time_left())

    @contextlib.contextmanager
    def listen_to_suspension(self) -> Iterator[None]:
        """Within, Ctrl-Z suspends the workers too, which are in sessions of their own, until the launcher goes on."""

        def suspend(number: int, frame: FrameType | None) -> None:
            for order in (signal.SIGSTOP, signal.SIGCONT):
                for slot in self.slots:
                    slot.worker.signal(order)
                if order == signal.SIGSTOP:
                    os.kill(os.getpid(), signal.SIGSTOP)

        before = signal.signal(signal.SIGTSTP, suspend)
        try:
            yield
        finally:
            signal.signal(signal.SIGTSTP, before)

    def close(self) -> None:
        """Kill what still runs."""
        for slot in self.slots:
            slot.worker.close()
        self.slots.clear()
        self.selector.close()

    def summarise(self, wall: float) -> None:
        """Say how many cells were run in `wall` seconds, which were not, and how busy the workers were."""
        if self.done < len(self.cells):
            self.display.say(
                f"{quantify(len(self.cells) - self.done, 'cell')} did not start: no worker is left; see {self.logs}/"
            )
        if self.left_to_others:
            self.display.say(f"left to others: {quantify(self.left_to_others, 'cell')}")
        if self.most_workers:
            share, workers = self.busy / (self.most_workers * wall), quantify(self.most_workers, "worker")
            self.display.say(f"{quantify(self.done, 'cell')} in {wall:.1f} s, {workers} at work {share:.0%}")

    def _open_slot(self, number: int) -> None:
        slot = Slot(number, WorkerProcess(self.logs / f"worker-{number}.log"))
        self.slots.append(slot)
        self.selector.register(slot.worker.events_from, selectors.EVENT_READ, slot)
        self.most_workers = max(self.most_workers, len(self.slots))

    def _listen(self, slot: Slot) -> None:
        for event in slot.worker.events():
            self._handle(slot, event.pop("event"), event)
        if slot.worker.silent and slot.worker.events_from in self.selector.get_map():
            self.selector.unregister(slot.worker.events_from)

    def _handle(self, slot: Slot, event: str, values: dict[str, Any]) -> None:
        if event == "ready":
            self._start(slot, values["gpus"])
        elif event == "refused" and not self.checked:
            raise UsageError(values["message"])
        elif event == "refused":
            self.display.say(f"worker {slot.number}: {values['message']}")
        elif event == "checked":
            self.checked = slot.free = True
        elif event == "began":
            slot.started_record, slot.proven = values["record"], True
        elif event == "step" and slot.row:
            slot.row.step(**values)
        elif event == "say":
            self.display.say(values["line"])
        elif event == "stopped":
            slot.stopped = True
        elif event == "done":
            self._finish_cell(slot, **values)

    def _start(self, slot: Slot, gpus: int) -> None:
        """A worker has imported torch. The first to have done so checks the cells for all."""
        if not self.devices:
            self.devices = share_devices(self.runtime, gpus)
            for number in range(len(self.slots), min(len(self.devices), len(self.cells))):
                self._open_slot(number)
        thread_count = share_threads(self.runtime, len(self.devices))
        runtime = replace(self.runtime, device=self.devices[slot.number], threads=thread_count)
        slot.worker.order("start", runtime=asdict(runtime), beside=len(self.devices))
        slot.free = True
        if self.checker is None:
            self._check(slot)

    def _check(self, slot: Slot) -> None:
        self.checker, slot.free = slot, False
        slot.worker.order("check", cells=[asdict(cell) for cell in self.cells])

    def _assign_cells(self) -> None:
        if not self.checked or self.stopping:
            return
        for slot in self.slots:
            if slot.worker.finishing or not slot.free:
                continue
            if not self.pending:
                slot.worker.finish()
                continue
            cell = self.pending.pop(0)
            self.started += 1
            slot.cell, slot.free, slot.started_record = cell, False, None
            slot.row = Row(f"{self.devices[slot.number]} (worker {slot.number})", self.labels[cell], time.monotonic())
            self.display.announce(self.started, len(self.cells), slot.row, self._time_left())
            title = self.titles[address.name_folder(self.cells[cell])]
            slot.worker.order("run", cell=asdict(self.cells[cell]), title=title)

    def _finish_cell(self, slot: Slot, status: str | None, reason: str | None, seconds: float) -> None:
        assert slot.cell is not None
        assert slot.row is not None
        if status is None:
            self.left_to_others += 1
        elif status != "finished":
            self.display.say(f"{self.labels[slot.cell]}: {status}: {reason}")
        elif seconds:
            self.past_runs.append(past_costs.PastRun(self.shapes[slot.cell], seconds))
        self.failed += status == "failed"
        self.done += 1
        self.busy += time.monotonic() - slot.row.began
        slot.cell, slot.row, slot.free = None, None, True
        if status == "failed" and self.devices[slot.number].startswith("cuda"):
            slot.worker.finish()  # an error on a GPU may last as long as its process: the next cell gets a new one

    def _close_slot(self, slot: Slot, exit_reason: str) -> None:
        """A worker has ended. One that dies takes its own cell with it, and another takes its slot."""
        self.slots.remove(slot)
        if not slot.proven and not slot.stopped and not slot.worker.finishing and not self.stopping:
            line = f"worker {slot.number} {exit_reason} before it began a cell; see {slot.worker.log}"
            self.failed_starts += 1
            if not self.checked and self.failed_starts == TRIES:
                raise ChildProcessError(f"{line}: {(slot.worker.tail().splitlines() or [''])[-1]}")
            self.display.say(line)
        if slot.cell is not None and not self.stopping:
            if slot.started_record is None or slot.stopped:  # the cell had no part in it
                self.pending.insert(0, slot.cell)
                self.started -= 1
            else:
                self._fail(slot, slot.cell, slot.started_record, f"worker {exit_reason}")
        slot.worker.close()
        if self.pending and not self.stopping:
            if slot is self.checker and not self.checked:
                self.checker = None
                if free_slot := next((other for other in self.slots if other.free), None):
                    self._check(free_slot)
            if slot.proven or slot.stopped or self.failed_starts < TRIES:
                self._open_slot(slot.number)

    def _fail(self, slot: Slot, cell: int, started_record: dict[str, Any], reason: str) -> None:
        """Record that the cell's worker died, unless it recorded its end before, or another process has the cell."""
        folder = Path(self.runtime.out) / address.name_folder(self.cells[cell])
        status: str | None = "failed"
        try:
            with lease.hold(folder) as own_lease:
                previous = record.read(folder)
                if previous is not None and previous["started"] >= started_record["started"]:
                    status, reason = previous["status"], previous["reason"]
                elif own_lease is None:
                    status = None
                else:
                    record.write_whole(folder / "error.txt", f"{reason}\n\n{slot.worker.tail()}".encode())
                    end = {"status": status, "reason": reason, "finished": record.now()}
                    record.write(folder, started_record | end)
        except (OSError, ValueError, lease.Lost) as error:  # a full disk; it must not end the others
            reason += f", which could not be recorded: {error}"
        self._finish_cell(slot, status, reason, 0.0)

    def _time_left(self) -> float | None:
        now = time.monotonic()
        running = [
            (self.shapes[slot.cell], now - slot.row.began, slot.row.seconds_left())
            for slot in self.slots
            if slot.cell is not None and slot.row is not None
        ]
        pending = [self.shapes[cell] for cell in self.pending]
        return past_costs.estimate_time_left(running, pending, self.past_runs, len(self.slots))
