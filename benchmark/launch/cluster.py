"""Cells as a cluster's jobs: which job has which cell, what a job does with them, and how one ended without a record.

The truth about a cell is its folder. The notes (`job_notes`) only say where to ask about it.
The one file of this package that knows `slurm`, which in turn knows nothing of cells.
"""

from __future__ import annotations

import contextlib
import getpass
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmark.cells import lease, plan
from benchmark.display.progress import ProgressDisplay
from benchmark.errors import UsageError
from benchmark.launch import job_notes
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime, restore_runtime
from benchmark.training.stop import Stop, Stopped
from results import files, record
from slurm import jobs

NAME = "benchmark"  # of our jobs
POLL = 10.0  # seconds between two questions to the controller
MORE_TIME = 128 + signal.SIGUSR2  # exit code of what was stopped because the time limit, or a preemption, was near
EARLY = jobs.NOTICE + 180  # seconds before the limit: SLURM may ask a minute too soon, and a job takes time to start
TAIL = 30  # lines of a job's log in the record of a cell that it left unfinished


@contextlib.contextmanager
def _defer_signals() -> Iterator[None]:
    """Signals wait: jobs that no note names would be submitted again. sbatch hears a terminal's Ctrl-C, and ends."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def pack(cells: Mapping[str, Settings], titles: Mapping[str, str], runtime: Runtime) -> list[dict[str, Any]]:
    """The argument of each job's `work`: its cells, `cells_per_job` of them, what trackers call them, and how to run.
    Writes their settings."""
    out, names, size = Path(runtime.out).absolute(), list(cells), runtime.slurm.cells_per_job
    for name, cell in cells.items():
        files.make_folder(out / name)
        record.write_json(out / name / "settings.json", asdict(cell))
    common = {"runtime": asdict(replace(runtime, out=str(out), launcher="here")), "submitted": record.now()}
    parts = [names[i : i + size] for i in range(0, len(names), size)]
    return [{"cells": part, "titles": {name: titles[name] for name in part}, **common} for part in parts]


def _unpack(out: Path, names: Sequence[str]) -> None:
    """Remove the folders of cells that no job has: of those in which nobody has begun meanwhile."""
    for name in names:
        if [path.name for path in (out / name).iterdir()] == ["settings.json"]:
            (out / name / "settings.json").unlink()
            (out / name).rmdir()


def submit(cells: Sequence[Settings], runtime: Runtime) -> int:
    """Submit jobs for the cells that have no record and no job that waits or runs. Returns how many cells that were.

    Raises `UsageError` where SLURM is not installed or does not take them, `ConnectionError` where it does not answer;
    what it took before stays noted, and of the others no folder stays that was not there.
    """
    out, resources = Path(runtime.out).absolute(), asdict(runtime.slurm)
    with job_notes.lock(out), _report_slurm_errors():
        under_way = {cell for cell, job in record_dead_jobs(out).items() if not job.over}
        missing = {
            name: cell
            for name, cell in {address.name_folder(cell): cell for cell in cells}.items()
            if name not in under_way and plan.read_state(out / name).word in ("new", "interrupted", "failed")
        }
        longest = jobs.longest_array() if missing else 1  # asks SLURM, before cells are written that it would not get
        new_folders = {name for name in missing if not (out / name).exists()}
        arguments = pack(missing, plan.write_titles(cells, short=True), runtime)
        for start in range(0, len(arguments), longest):
            batch = arguments[start : start + longest]
            with _defer_signals():
                try:
                    ids = jobs.submit(work, batch, job_notes.locate(out), NAME, resources)
                except Exception:
                    refused = (name for argument in arguments[start:] for name in argument["cells"])
                    _unpack(out, [name for name in refused if name in new_folders])
                    raise
                job_notes.append(out, ids, batch)
    return len(missing)


def find_jobs(out: Path) -> dict[str, jobs.Job]:
    """Cell -> the last job that was given it, as SLURM has it now. Raises `jobs.Unavailable`."""
    last = job_notes.read_latest(out)
    notes = last.values()
    states = jobs.read_states({note.job for note in notes}, {note.user for note in notes}) if notes else {}
    return {cell: states[note.job] for cell, note in last.items()}


def describe_jobs(out: Path, writes: bool = True) -> tuple[dict[str, tuple[str, str, str]], str]:
    """Cell -> its job, that one's state and why it waits; and why only the notes could be asked, or not even they, if
    so. With `writes` the cells whose jobs left no record have one behind it."""
    try:
        jobs_of_cells = record_dead_jobs(out) if writes else find_jobs(out)
        return {cell: (job.id, job.state.lower(), job.reason) for cell, job in jobs_of_cells.items()}, ""
    except jobs.Unavailable as error:
        return {
            cell: (note.job, "", "") for cell, note in job_notes.read_latest(out).items()
        }, f"SLURM does not answer ({error})"
    except OSError as error:
        return {}, f"which jobs there are cannot be read ({error.strerror}: {error.filename})"


def record_dead_jobs(out: Path) -> dict[str, jobs.Job]:
    """Write the record of each cell whose job is over and has left none. Returns and raises as `find_jobs` does."""

    def find_dead() -> tuple[dict[str, jobs.Job], set[str]]:
        jobs_now, last = find_jobs(out), job_notes.read_latest(out)
        over = (cell for cell, job in jobs_now.items() if job.over and (out / cell / "settings.json").exists())
        return jobs_now, {cell for cell in over if _lacks_end(out / cell, last[cell].submitted)}

    jobs_now, dead = find_dead()
    if dead:
        time.sleep(2)  # a node's failure shows as an end for a moment, before the job waits again
        jobs_now, still_dead = find_dead()
        for cell in dead & still_dead:
            job, log = jobs_now[cell], jobs.log(job_notes.locate(out), jobs_now[cell].id)
            record_failure(out / cell, f"job {job.id} ended: {jobs.describe_ending(job, log)}", log)
    return jobs_now


def _lacks_end(folder: Path, submitted: str) -> bool:
    """Whether a job that was submitted then has left no record, or only a failed one from before."""
    state = plan.read_state(folder)
    return state.word in ("new", "interrupted", "failed") and not _is_end(state.record, submitted)


def _is_end(end: dict[str, Any] | None, submitted: str) -> bool:
    """Whether this record says how a cell ended in a job that was submitted then, or that it was done before."""
    return end is not None and (end["status"] != "failed" or end["finished"] >= submitted)


def follow(cells: Sequence[Settings], out: Path, display: ProgressDisplay) -> None:
    """Wait until no job of these cells waits or runs; says what becomes of each."""
    names, reported = dict.fromkeys(address.name_folder(cell) for cell in cells), dict[str, str]()
    while True:
        try:
            active = {cell for cell, job in record_dead_jobs(out).items() if not job.over and cell in names}
        except jobs.Unavailable as error:  # no news: the jobs go on without the controller
            display.say(f"SLURM does not answer ({error}); asking again")
            time.sleep(POLL)
            continue
        for name in names:
            state = plan.read_state(out / name)
            if name not in active and not state.word.startswith(("new", "inter")) and reported.get(name) != state.word:
                reported[name] = state.word
                display.say(f"{name}: {state.word} {state.detail}".rstrip())
        if not active:
            return
        time.sleep(POLL)


def was_killed(folder: Path) -> bool:
    """Whether the cell failed because its job ended, by no fault that it would have again and by nobody's wish."""
    reason = plan.read_state(folder).detail
    return reason.startswith("job ") and not reason.endswith(("out of memory", "cancelled", "the time limit"))


def cancel(out: Path) -> int:
    """Cancel the jobs that wait or run; returns how many. What a note calls a job and we did not submit goes on."""
    with _report_slurm_errors():
        ids = sorted({job.id for job in find_jobs(out).values() if not job.over})
        jobs.cancel(ids, NAME, getpass.getuser())
    return len(ids)


def log(out: Path, cell: str) -> str:
    """What the last job of a cell wrote; empty where it had none, or has not begun."""
    note = job_notes.read_latest(out).get(cell)
    return jobs.log(job_notes.locate(out), note.job) if note else ""


def script(cells: Sequence[Settings], runtime: Runtime) -> str:
    """What sbatch would be given for these cells."""
    count = -(-len(cells) // runtime.slurm.cells_per_job)
    with _report_slurm_errors():
        return jobs.script(count, job_notes.locate(Path(runtime.out).absolute()), NAME, asdict(runtime.slurm))


@contextlib.contextmanager
def _report_slurm_errors() -> Iterator[None]:
    """SLURM's errors in one line."""
    try:
        yield
    except jobs.Missing as error:
        raise UsageError(str(error)) from error
    except jobs.Unavailable as error:  # no fault of the words
        raise ConnectionError(f"SLURM does not answer: {error}") from error
    except jobs.Refused as error:
        raise UsageError(f"SLURM does not take the jobs: {error}") from error


def work(argument: dict[str, Any]) -> bool:
    """In the job: train and evaluate its cells that have no record. Returns whether there is more to do."""
    from benchmark.cells import run
    from benchmark.launch import in_process

    runtime = restore_runtime(argument["runtime"])
    out, minutes = Path(runtime.out), runtime.slurm.timeout_min

    def has_ended(name: str) -> bool:
        return _is_end(record.read(out / name), argument["submitted"])

    try:
        with contextlib.ExitStack() as stack:
            world, device = stack.enter_context(in_process.join_processes(runtime))
            display = stack.enter_context(ProgressDisplay(len(argument["cells"]), shown=world.is_main))
            stop = stack.enter_context(Stop().listen((signal.SIGTERM, signal.SIGUSR2)))
            context = run.RunContext(runtime, world, device, stop, display)
            # What has ended goes last: if it failed, it is tried again in the time that the others leave.
            for name in world.broadcast(lambda: sorted(argument["cells"], key=has_ended)):
                cell = plan.read_cell(out / name)
                display.cell(name)
                start, checkpoint = time.monotonic(), _checkpoint_time(out / name)
                try:
                    if not _run(cell, context, argument.get("titles", {}).get(name, "")):  # none in a job queued before
                        display.say(f"{name}: another process is at work on it; left to that one")
                except UsageError as error:  # what only the data, the backbone or the processes can refuse
                    display.say(f"{name}: {error}")
                    if world.is_main:
                        record_failure(out / name, " ".join(str(error).split()))
                except Stopped as stopped:
                    # The next start has as much time again: where all of it brought no step, it never will.
                    used_all_time = time.monotonic() - start > 60 * minutes - EARLY
                    no_step = _checkpoint_time(out / name) == checkpoint
                    in_vain = used_all_time and no_step and lease.make_attempt().restart > 0
                    if stopped.exit_code != MORE_TIME or not in_vain:
                        raise
                    if world.is_main:
                        record_failure(out / name, f"no step within slurm.timeout_min={minutes}: give more time")
                    return not all(map(has_ended, argument["cells"]))
    except Stopped as stopped:
        if stopped.exit_code == MORE_TIME:
            return True
        raise SystemExit(stopped.exit_code) from None  # SIGTERM: preempted or cancelled, which SLURM knows
    return False


def _checkpoint_time(folder: Path) -> int:
    """Tells the cell's checkpoints from each other: 0 while there is none."""
    path = folder / "last.pt"
    return path.stat().st_mtime_ns if path.exists() else 0


def _run(cell: Settings, context: Any, title: str) -> bool:
    """Run a cell. An earlier copy on a node that is thought dead may hold it still: waits until its lease is void."""
    from benchmark.cells import run
    from benchmark.training import build

    until = time.monotonic() + 1.5 * lease.EXPIRES
    if note := build.describe_weights(cell):
        context.display.say(f"note: {note}")
    while True:
        build.check(cell, context.world, context.device)
        if run.run(cell, context, title) is not None:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(5)


def record_failure(folder: Path, reason: str, log: str = "") -> None:
    """Write the record of a cell that was left without one: failed, with the reason and the tail of the job's log."""
    from benchmark.cells import run

    end = {"status": "failed", "reason": reason, "finished": record.now(), "log": log.splitlines()[-TAIL:]}
    # What has no lease or settings that can be read has no such end, and hinders no other cell's.
    with contextlib.suppress(lease.Lost, UsageError), lease.hold(folder) as own_lease:
        previous = record.read(folder)
        if own_lease is not None and (previous is None or previous["status"] == "failed"):
            record.write(folder, run.start_record(plan.read_cell(folder)) | end)
