"""`run` and `resume`: train, evaluate and record the cells that are missing, and print the table."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmark import environment
from benchmark.cells import plan, writable
from benchmark.cells.plan import State
from benchmark.cli import budget, checks
from benchmark.display.progress import ProgressDisplay
from benchmark.errors import UsageError
from benchmark.forecast import forecast, forecast_table
from benchmark.launch import cluster
from benchmark.settings import address, schema
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.tracking import tracker
from benchmark.words.cell_words import Request
from benchmark.words.runtime_words import read_folder
from results.quantity import quantify


def run_words(words: list[str], wait: bool) -> int:
    """`run`: the cells that the words describe."""
    checks.require_writable(words)
    return run_request(checks.read_request(words), wait)


def run_folder(words: list[str], wait: bool) -> int:
    """`resume`: the cells of a folder, from the folder alone."""
    runtime = read_folder(words)
    checks.require_folder(Path(runtime.out))
    cells, problems = plan.read_cells(Path(runtime.out))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    for cell in cells:
        try:
            schema.describe(cell.method)  # before one trains: it may be a plugin that only the folder names
        except UsageError as error:
            raise UsageError(f"{Path(runtime.out) / address.name_folder(cell)}: {error}") from error
    code = run_request(Request(_drop_changed(cells, Path(runtime.out)), runtime, []), wait)
    return code or (2 if problems else 0)


def _drop_changed(cells: list[Settings], out: Path) -> list[Settings]:
    """The cells without those that would go on with another code of their method than they began with; says which."""
    unchanged = []
    for cell, state in zip(cells, plan.read_states(cells, out), strict=True):
        if not state.runs or schema.method_version(cell.method) == cell.method_version:
            unchanged.append(cell)
        elif environment.is_main():
            why = f"the code of {cell.method} has changed since it began; its words make a new cell"
            print(f"note: {state.folder.name}: {why}", file=sys.stderr)
    return unchanged


def run_request(request: Request, wait: bool) -> int:
    """Run what is missing, and print all.

    Exit code: 0 where every cell has its record, 1 where one failed, 2 where one is broken, 3 where one has no record
    yet, because another process is at work on it or this one lost it; 128 + N stopped by signal N.
    """
    launcher = request.runtime.launcher
    tracker.require(request.runtime)
    checks.refuse_launcher(request.runtime, wait)
    request = checks.leave_out_impossible(request)
    out = Path(request.runtime.out)
    states = plan.read_states(request.cells, out)
    checks.refuse_broken(states)
    todo = [cell for cell, state in zip(request.cells, states, strict=True) if state.runs]
    if todo:
        writable.require(out)
        if launcher == "slurm":  # whose jobs would say it one by one
            checks.require_possible(todo, request.runtime)
    if request.runtime.budget and todo:
        forecasts = forecast.forecast(todo, request.runtime)
        budget.require(forecasts, request.runtime)
        budget.keep(forecasts, todo, states, out)
        print(forecast_table.format_lines(forecasts, request.runtime)[0], file=sys.stderr)
    if environment.is_main():
        for cell, state in zip(request.cells, states, strict=True):
            if state.record is not None:
                plan.restore_settings(cell, state.folder)
    if launcher == "slurm":
        return _submit(request, wait)
    # In a group of processes every one joins, whatever it sees on its disk: the first one decides.
    code = _train(request, states) if any(state.runs for state in states) or environment.is_group() else 0
    if code >= 128:  # stopped
        return code
    end = _print_end(request)
    return code or end


def _print_end(request: Request) -> int:
    """Print the table, and what has no record. Returns the exit code of `run_request`."""
    out = Path(request.runtime.out)
    states = plan.read_states(request.cells, out)
    words = {state.word for state in states}
    if environment.is_main():
        from benchmark.cli import reporting  # behind the training: pandas takes its time

        reporting.print_records(out, [state.folder for state in states])
        for state in states:
            if state.runs and state.record is None:
                print(f"no record: {state.folder.name}: {state.word} {state.detail}".rstrip(), file=sys.stderr)
    if "failed" in words:
        return 1
    return 2 if "broken" in words else 3 if words - {"finished", "collapsed", "stopped", "pruned"} else 0


def _submit(request: Request, wait: bool) -> int:
    """Submit the cells as jobs, and if `wait`, follow these to their end."""
    out = Path(request.runtime.out)
    count = cluster.submit(request.cells, request.runtime)
    others = len(request.cells) - count
    status = f"python -m benchmark status out={out}"
    print(f"{quantify(count, 'cell')} submitted, {others} finished or under way; {status} says how they are")
    if not wait:
        return 0
    _follow(request.cells, request.runtime)
    return _print_end(request)


def _follow(cells: list[Settings], runtime: Runtime) -> None:
    """Follow the cells' jobs to their end; once more those that were killed."""
    out = Path(runtime.out)
    with ProgressDisplay(len(cells)) as display:
        cluster.follow(cells, out.absolute(), display)
        killed = [cell for cell in cells if cluster.was_killed(out / address.name_folder(cell))]
        if killed:
            display.say(f"submitted once more, as jobs were killed: {quantify(len(killed), 'cell')}")
            time.sleep(1)  # times are to the second, and tell an end of before from one of the new job
            cluster.submit(killed, runtime)
            cluster.follow(killed, out.absolute(), display)


def train_cells(cells: list[Settings], runtime: Runtime) -> int:
    """Run cells to their end by whichever launcher, and print no table. Exit code: 0, 1 where a cell failed, 128 + N
    stopped by signal N."""
    if runtime.launcher == "slurm":
        cluster.submit(cells, runtime)
        _follow(cells, runtime)
        return 0
    return _train(Request(cells, runtime, []), plan.read_states(cells, Path(runtime.out)))


def _train(request: Request, states: list[State]) -> int:
    """Run the cells that are not done."""
    if request.runtime.launcher == "here":
        from benchmark.launch import in_process  # behind the words: torch takes its time

        return in_process.train(request.cells, states, request.runtime)
    from benchmark.launch import local

    chosen = [(cell, state) for cell, state in zip(request.cells, states, strict=True) if state.runs]
    again = [state.word == "failed" for _, state in chosen]
    titles = plan.write_titles(request.cells, short=True)
    return local.run([cell for cell, _ in chosen], again, titles, request.runtime)
