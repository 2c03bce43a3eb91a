"""Cells as a cluster's jobs: which job has which cell, what a job does with them, and how one ended without a record.

The truth about a cell is its folder. The notes (`OUT/.slurm/jobs.jsonl`, a line a job) only say where to ask about it.
The one file of this package that knows `slurm`, which in turn knows nothing of cells.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmark import config, evaluate, lease, plan
from benchmark.board import Board
from benchmark.config import Runtime, Settings
from benchmark.errors import UsageError
from results import record
from slurm import jobs

FOLDER = ".slurm"  # below out=: notes, and a folder of logs for each job
POLL = 10.0  # seconds between two questions to the controller
TAIL = 30  # lines of a job's log in the record of a cell that it left unfinished


class Note(NamedTuple):
    """A job that was submitted, and the names of its cells' folders."""

    job: str
    cells: list[str]
    submitted: str


def notes(out: Path) -> list[Note]:
    """Of every job, in the order in which they were submitted."""
    path = out / FOLDER / "jobs.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [Note(**json.loads(line)) for line in lines]


def latest(out: Path) -> dict[str, str]:
    """Cell -> the last job that was given it."""
    return {cell: note.job for note in notes(out) for cell in note.cells}


@contextlib.contextmanager
def _submitting(out: Path) -> Iterator[None]:
    """One process at a time decides what is missing and submits it."""
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    with (out / FOLDER / "lock").open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def packed(cells: Sequence[Settings], runtime: Runtime) -> list[dict[str, Any]]:
    """What each job is told: its cells, `cells_per_job` of them, and how to run. Writes their settings."""
    out = Path(runtime.out).absolute()
    for cell in cells:
        folder = out / config.folder_name(cell)
        folder.mkdir(parents=True, exist_ok=True)
        record.write_json(folder / "settings.json", asdict(cell))
    names = [config.folder_name(cell) for cell in cells]
    told = asdict(replace(runtime, out=str(out), launcher="here"))
    each = runtime.slurm.cells_per_job
    return [{"cells": names[i : i + each], "runtime": told} for i in range(0, len(names), each)]


def submit(cells: Sequence[Settings], runtime: Runtime) -> int:
    """Submit jobs for the cells that have no record and no job that waits or runs. Returns how many cells that were.

    Raises `UsageError` where SLURM is not there or does not take them; what it took before stays noted.
    """
    out, resources = Path(runtime.out).absolute(), asdict(runtime.slurm)
    with _submitting(out), _said():
        bury_ended(out)
        taken = {cell for cell, job in jobs_of(out).items() if not job.over}
        names = [config.folder_name(cell) for cell in cells]
        states = plan.states(list(cells), out)
        missing = [
            cell
            for cell, name, state in zip(cells, names, states, strict=True)
            if state.word in ("new", "interrupted", "failed") and name not in taken
        ]
        told, longest = packed(missing, runtime), jobs.longest_array() if missing else 1
        for start in range(0, len(told), longest):
            some = told[start : start + longest]
            _note(out, jobs.submit(work, some, out / FOLDER, "benchmark", resources), some)
    return len(missing)


def jobs_of(out: Path) -> dict[str, jobs.Job]:
    """Cell -> the last job that was given it, as SLURM has it now. Raises `jobs.Unavailable`."""
    last = latest(out)
    known = jobs.states(sorted(set(last.values()))) if last else {}
    return {cell: known[job] for cell, job in last.items()}


def bury_ended(out: Path) -> None:
    """Write the record of each cell whose job is over and has left none. Raises `jobs.Unavailable`."""

    def dead() -> dict[str, jobs.Job]:
        over = {cell: job for cell, job in jobs_of(out).items() if job.over and (out / cell / "settings.json").exists()}
        return {cell: job for cell, job in over.items() if plan.state(out / cell).word in ("new", "interrupted")}

    first = dead()
    if not first:
        return
    time.sleep(2)  # a node's failure shows as an end for a moment, before the job waits again
    for cell, job in dead().items():
        if cell in first:
            log = jobs.log(out / FOLDER, job.id)
            bury(out / cell, f"job {job.id} ended: {jobs.ending(job, log)}", log)


def follow(cells: Sequence[Settings], out: Path, board: Board) -> None:
    """Wait until no job of these cells waits or runs; says what becomes of each."""
    names, told = [config.folder_name(cell) for cell in cells], dict[str, str]()
    while True:
        try:
            bury_ended(out)
            active = {cell for cell, job in jobs_of(out).items() if not job.over and cell in names}
        except jobs.Unavailable as error:  # no news: the jobs go on without the controller
            board.say(f"SLURM does not answer ({error}); asking again")
            time.sleep(POLL)
            continue
        for name in names:
            state = plan.state(out / name)
            if name not in active and not state.word.startswith(("new", "inter")) and told.get(name) != state.word:
                told[name] = state.word
                board.say(f"{name}: {state.word} {state.detail}".rstrip())
        if not active:
            return
        time.sleep(POLL)


def cancel(out: Path) -> int:
    """Cancel the jobs that wait or run; returns how many."""
    with _said():
        found = sorted({job.id for job in jobs_of(out).values() if not job.over})
        jobs.cancel(found)
    return len(found)


def log(out: Path, cell: str) -> str:
    """What the last job of a cell wrote; empty where it had none, or has not begun."""
    job = latest(out).get(cell)
    return jobs.log(out / FOLDER, job) if job else ""


def script(cells: Sequence[Settings], runtime: Runtime) -> str:
    """What sbatch would be given for these cells."""
    count = -(-len(cells) // runtime.slurm.cells_per_job)
    with _said():
        return jobs.script(count, Path(runtime.out).absolute() / FOLDER, "benchmark", asdict(runtime.slurm))


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """SLURM's errors in one line."""
    try:
        yield
    except jobs.Unavailable as error:
        raise UsageError(str(error)) from error
    except jobs.Refused as error:
        raise UsageError(f"SLURM does not take the jobs: {error}") from error


def _note(out: Path, ids: Sequence[str], told: Sequence[dict[str, Any]]) -> None:
    """Write down which job has which cells."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with (out / FOLDER / "jobs.jsonl").open("a") as file:
        for id, one in zip(ids, told, strict=True):
            file.write(json.dumps({"job": id, "cells": one["cells"], "submitted": now}) + "\n")


def work(told: dict[str, Any]) -> bool:
    """In the job: train and evaluate its cells that have no record. Returns whether there is more to do."""
    import torch

    from benchmark import distributed, run
    from benchmark.engine import resolve_device, settle
    from benchmark.stop import Stop, Stopped

    values = dict(told["runtime"])
    runtime = Runtime(**values | {"slurm": config.Slurm(**values["slurm"])})
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    device = resolve_device(runtime.device, distributed.local_rank())
    settle(device)
    try:
        with contextlib.ExitStack() as held:
            world = distributed.start(device)
            held.callback(distributed.stop)
            board = held.enter_context(Board(len(told["cells"]), shown=world.leads))
            stop = held.enter_context(Stop().listening((signal.SIGTERM, signal.SIGUSR2)))
            place = run.Place(runtime, world, device, stop, board)
            for name in told["cells"]:
                cell = config.restore(json.loads((Path(runtime.out) / name / "settings.json").read_text()))
                board.cell(name)
                try:
                    if not _run(cell, place):
                        board.say(f"{name}: another process is at work on it; left to that one")
                except UsageError as error:  # what only the data, the backbone or the processes can refuse
                    board.say(f"{name}: {error}")
                    if world.leads:
                        bury(Path(runtime.out) / name, " ".join(str(error).split()))
    except Stopped as stopped:
        if stopped.exit_code == 128 + signal.SIGUSR2:  # more time is needed, and to be had
            return True
        raise SystemExit(stopped.exit_code) from None  # SIGTERM: preempted or cancelled, which SLURM knows
    return False


def _run(cell: Settings, place: Any) -> bool:
    """Run a cell. An earlier copy on a node that is thought dead may hold it still: waits until its lease is void."""
    from benchmark import run

    until = time.monotonic() + 1.5 * lease.EXPIRES
    while True:
        run.check(cell, place.world, place.device)
        if run.run(cell, place) is not None:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(5)


def bury(folder: Path, reason: str, log: str = "") -> None:
    """Write the record of a cell that was left without one: failed, with the reason and the tail of the job's log."""
    cell = config.restore(json.loads((folder / "settings.json").read_text()))
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    made = {
        "schema": record.SCHEMA,
        "key": config.key(cell),
        "protocol": evaluate.protocol_hash(cell),
        "status": "failed",
        "reason": reason,
        "settings": config.identity(cell),
        "metrics": {},
        "cost": {},
        "versions": {},
        "commit": None,
        "dirty": None,
        "started": now,
        "finished": now,
        "log": log.splitlines()[-TAIL:],
    }
    with lease.held(folder) as mine:
        if mine is not None and plan.state(folder).word in ("new", "interrupted", "running"):
            record.write(folder, made)
