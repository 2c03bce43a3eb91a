"""`run` and `resume`: train, evaluate and record the cells that are missing, and print the table."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.cells import plan
from benchmark.cells.plan import State
from benchmark.cli import budget, checks, processes
from benchmark.display.progress import ProgressDisplay
from benchmark.forecast import forecast, forecast_table
from benchmark.launch import cluster
from benchmark.settings import schema
from benchmark.settings.cell import Settings
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
    cells = plan.cells(Path(runtime.out))
    for cell in cells:
        schema.describe(cell.method)  # before one trains: it may be a plugin that only the folder names
    return run_request(Request(_drop_changed(cells, Path(runtime.out)), runtime, []), wait)


def _drop_changed(cells: list[Settings], out: Path) -> list[Settings]:
    """The cells without those that would go on with another code of their method than they began with; says which."""
    kept = []
    for cell, state in zip(cells, plan.states(cells, out), strict=True):
        if not state.runs or schema.method_version(cell.method) == cell.method_version:
            kept.append(cell)
        elif processes.is_main():
            why = f"the code of {cell.method} has changed since it began; its words make a new cell"
            print(f"note: {state.folder.name}: {why}", file=sys.stderr)
    return kept


def run_request(request: Request, wait: bool) -> int:
    """Run what is missing, and print all. Exit code: 0, 1 where a cell failed, 128 + N stopped by signal N."""
    launcher = request.runtime.launcher
    tracker.require(request.runtime)
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
    # Under torchrun every process joins, whatever it sees on its disk: the first one decides.
    code = _train(request, states) if any(state.runs for state in states) or processes.is_torchrun() else 0
    if processes.is_main() and code < 128:  # not when stopped
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
