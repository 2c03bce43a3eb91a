"""`run` and `resume`: train, evaluate and record the cells that are missing, and print the table."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark import environment
from benchmark.cells import plan
from benchmark.cells.plan import State
from benchmark.cli import budget, checks
from benchmark.display.progress import ProgressDisplay
from benchmark.forecast import forecast, forecast_table
from benchmark.launch import cluster
from benchmark.tracking import tracker
from benchmark.words.cell_words import Request
from benchmark.words.runtime_words import read_folder


def run_words(words: list[str], wait: bool) -> int:
    """`run`: the cells that the words describe."""
    return run_request(checks.read_request(words), wait)


def run_folder(words: list[str], wait: bool) -> int:
    """`resume`: the cells of a folder, from the folder alone."""
    runtime = read_folder(words)
    checks.require_folder(Path(runtime.out))
    return run_request(Request(plan.cells(Path(runtime.out)), runtime, []), wait)


def run_request(request: Request, wait: bool) -> int:
    """Run what is missing, and print all. Exit code: 0, 1 where a cell failed, 128 + N stopped by signal N."""
    launcher = request.runtime.launcher
    note = tracker.require(request.runtime)
    checks.print_note(note if environment.is_main() else "")
    checks.refuse_launcher(request.runtime, wait)
    out = Path(request.runtime.out)
    states = plan.states(request.cells, out)
    checks.refuse_broken(states)
    todo = [cell for cell, state in zip(request.cells, states, strict=True) if state.runs]
    if request.runtime.budget and todo:
        forecasts = forecast.forecast(todo, request.runtime)
        budget.require(forecasts, request.runtime)
        budget.keep(forecasts, todo, states, out)
        print(forecast_table.lines(forecasts, request.runtime)[0], file=sys.stderr)
    if launcher == "slurm":
        return _submit(request, wait)
    # In a group of processes every one joins, whatever it sees on its disk: the first one decides.
    code = _train(request, states) if any(state.runs for state in states) or environment.is_group() else 0
    if environment.is_main() and code < 128:  # not when stopped
        from benchmark.cli import reporting  # behind the training: pandas takes its time

        reporting.print_records(out, [state.folder for state in states])
    return code


def _submit(request: Request, wait: bool) -> int:
    """Submit the cells as jobs, and if `wait`, follow these to their end."""
    out = Path(request.runtime.out)
    count = cluster.submit(request.cells, request.runtime)
    rest = len(request.cells) - count
    status = f"python -m benchmark status out={out}"
    print(f"{count} cells submitted, {rest} finished or under way; {status} says how they are")
    if not wait:
        return 0
    with ProgressDisplay(len(request.cells)) as display:
        cluster.follow(request.cells, out.absolute(), display)
    from benchmark.cli import reporting

    states = plan.states(request.cells, out)
    reporting.print_records(out, [state.folder for state in states])
    return 1 if any(state.word not in ("finished", "collapsed") for state in states) else 0


def _train(request: Request, states: list[State]) -> int:
    """Run the cells that are not done."""
    if request.runtime.launcher == "here":
        from benchmark.launch import in_process  # behind the words: torch takes its time

        return in_process.train(request.cells, states, request.runtime)
    from benchmark.launch import local

    chosen = [(cell, state) for cell, state in zip(request.cells, states, strict=True) if state.runs]
    again = [state.word == "failed" for _, state in chosen]
    return local.run([cell for cell, _ in chosen], again, request.runtime)
