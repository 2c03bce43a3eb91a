"""`plan`: the cells of the same words, which exist, which would run, and what they will cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmark.cells import plan
from benchmark.cli import budget, checks
from benchmark.display import columns
from benchmark.errors import UsageError
from benchmark.forecast import forecast, forecast_table
from benchmark.launch import cluster
from benchmark.settings import address
from benchmark.tracking import tracker
from benchmark.words import cell_words, runtime_words, tuned_words
from benchmark.words.cell_words import Request
from results.quantity import quantify


def _choose_settings(request: Request, words: list[str]) -> dict[str, list[str]]:
    """Method -> the settings that its rows show: what tells the cells of a method from each other, and what the file of
    `settings=` or a word for this method alone says."""
    varying, assigned = plan.find_varying(request.cells), runtime_words.split(words)
    names: dict[str, list[str]] = {}
    for method, dataset in dict.fromkeys((cell.method, cell.dataset) for cell in request.cells):
        chosen = {key: [text] for key, text in tuned_words.read_words(request.runtime, dataset).items()}
        prefixes = method, method.rpartition(".")[2]
        chosen |= {key: texts for key, texts in assigned.items() if key.rpartition(".")[0] in prefixes}
        varied = [*names.get(method, varying), *cell_words.read_axes(method, chosen)]
        names[method] = list(dict.fromkeys(varied))
    return names


def print_plan(words: list[str], quick: bool) -> int:
    """The table of all cells, the forecast unless `quick` or the data is missing, and with launcher=slurm the script
    for sbatch."""
    checks.require_writable(words)
    request = cell_words.read(words)
    tracker.require(request.runtime)
    checks.settle_group(request.runtime)
    missing = checks.find_missing(request)
    assumed = [
        f"{problem}; planned as it is published, without a forecast of what the cells will cost" for problem in missing
    ]
    request = checks.check_request(replace(request, notes=[*request.notes, *assumed]), needs_data=False)
    request = checks.leave_out_impossible(request)
    out = Path(request.runtime.out)
    states = plan.read_states(request.cells, out)
    names, todo = (
        _choose_settings(request, words),
        [cell for cell, state in zip(request.cells, states, strict=True) if state.runs],
    )
    checks.require_possible(todo, request.runtime)
    header, rows = ["key", "method", "settings", "state", ""], []
    for cell, state in zip(request.cells, states, strict=True):
        label = plan.write_label(address.identify(cell), names[cell.method])
        rows.append([address.hash_cell(cell), cell.method, label, state.word, state.detail])
    forecasts = None if quick or missing or not todo else forecast.forecast(todo, request.runtime)
    if forecasts:
        budget.keep(forecasts, todo, states, out)
        costs = {address.hash_cell(cell): cost for cell, cost in zip(todo, forecasts.costs, strict=True)}
        header += forecast_table.HEADER
        rows = [[*row, *forecast_table.format_row(costs.get(row[0]))] for row in rows]
    columns.show(header, rows)
    print(f"{quantify(len(states), 'cell')}: {len(states) - len(todo)} exist, {len(todo)} would run")
    for line in forecast_table.format_lines(forecasts, request.runtime) if forecasts else []:
        print(line)
    if request.runtime.launcher == "slurm" and todo:
        print(f"\nThe script for sbatch:\n\n{cluster.script(todo, request.runtime)}".rstrip())
    checks.refuse_broken(states)
    if request.runtime.budget and missing and not quick:
        raise UsageError(f"budget={request.runtime.budget:g}: nothing is forecast without the data: {missing[0]}")
    if forecasts:
        budget.require(forecasts, request.runtime)
    return 0
