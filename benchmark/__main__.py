"""The command line: `python -m benchmark COMMAND [key=value ...]`. The composition root; imports as late as it can."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import columns

if TYPE_CHECKING:
    from benchmark.config import Runtime, Settings
    from benchmark.forecast import Forecasts
    from benchmark.plan import State
    from benchmark.words import Request


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 a cell or a check failed, 2 bad input, 128 + N stopped by signal N."""
    from benchmark import help, start
    from benchmark.errors import UsageError

    start.let_threads_sleep()
    try:
        start.refuse_namesakes()
        parsed = help.parse(arguments if arguments is not None else sys.argv[1:])
        flags = {name: value for name, value in vars(parsed).items() if name not in ("command", "words")}
        return globals()[f"command_{parsed.command}"](parsed.words, **flags)
    except UsageError as error:
        if _leads():
            print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` closed the pipe
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that may not be written
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 1


def command_run(words: list[str], wait: bool) -> int:
    return _run(_read(words), wait)


def command_resume(words: list[str], wait: bool) -> int:
    from benchmark import plan
    from benchmark.runtime_words import read_folder
    from benchmark.words import Request

    runtime = read_folder(words)
    _require_folder(Path(runtime.out))
    return _run(Request(plan.cells(Path(runtime.out)), runtime, []), wait)


def _run(request: Request, wait: bool) -> int:
    from benchmark import forecast, forecast_table, plan, tracking

    launcher = request.runtime.launcher
    tracking.require(request.runtime)
    _refuse_launcher(request.runtime, wait)
    out = Path(request.runtime.out)
    states = plan.states(request.cells, out)
    _refuse_broken(states)
    todo = [cell for cell, state in zip(request.cells, states, strict=True) if state.runs]
    if request.runtime.budget and todo:
        made = forecast.forecast(todo, request.runtime)
        _require_budget(made, request.runtime)
        _keep(made, todo, states, out)
        print(forecast_table.lines(made, request.runtime)[0], file=sys.stderr)
    if launcher == "slurm":
        return _submit(request, wait)
    # Under torchrun every process joins, whatever it sees on its disk: the first one decides.
    code = _train(request, states) if any(state.runs for state in states) or _launched() else 0
    if _leads() and code < 128:  # not when stopped
        from benchmark import reporting

        reporting.print_records(out, [state.folder for state in states])
    return code


def command_plan(words: list[str], quick: bool) -> int:
    from benchmark import config, forecast, forecast_table, plan

    request = _read(words)
    out = Path(request.runtime.out)
    states = plan.states(request.cells, out)
    names, todo = plan.varying(request.cells), []
    header, rows = ["key", "method", "settings", "state", ""], []
    for cell, state in zip(request.cells, states, strict=True):
        rows.append([config.key(cell), cell.method, plan.label(config.identity(cell), names), state.word, state.detail])
        todo += [cell] if state.runs else []
    made = None if quick or not todo else forecast.forecast(todo, request.runtime)
    if made:
        _keep(made, todo, states, out)
        costs = {config.key(cell): one for cell, one in zip(todo, made.each, strict=True)}
        header += forecast_table.HEADER
        rows = [[*row, *forecast_table.row(costs.get(row[0]))] for row in rows]
    columns.show(header, rows)
    print(f"{len(states)} cells: {len(states) - len(todo)} exist, {len(todo)} would run")
    for line in forecast_table.lines(made, request.runtime) if made else []:
        print(line)
    if request.runtime.launcher == "slurm" and todo:
        from benchmark import cluster

        print(f"\nThe script for sbatch:\n\n{cluster.script(todo, request.runtime)}".rstrip())
    _refuse_broken(states)
    if made:
        _require_budget(made, request.runtime)
    return 0


def _keep(made: Forecasts, cells: list[Settings], states: list[State], out: Path) -> None:
    """Keep a forecast for `report`, but of what has begun."""
    from benchmark import forecast_table
    from results import forecasts

    begun = {state.folder.name.rpartition("-")[2] for state in states if state.word == "running"}
    kept = {key: one for key, one in forecast_table.kept(cells, made).items() if key not in begun}
    try:
        forecasts.keep(out, kept)
    except OSError as error:  # another's folder
        print(f"note: the forecast is not kept: {error}", file=sys.stderr)


def _require_budget(made: Forecasts, runtime: Runtime) -> None:
    """Raise `UsageError` for what costs more than budget=, or nobody knows what."""
    from benchmark import forecast_table
    from benchmark.errors import UsageError

    given = f"budget={runtime.budget:g}"
    if runtime.budget and made.unknown:
        raise UsageError(f"{given}: the cost of {made.unknown} of {len(made.each)} cells is not known here")
    if runtime.budget and any(one.microbatch for one in made.each):
        raise UsageError(f"{given}: some cells do not fit as they are; `plan` says which microbatch= does")
    if runtime.budget and made.hours > runtime.budget:
        raise UsageError(f"{given} hours would be exceeded; {forecast_table.lines(made, runtime)[0]}")


def command_evaluate(words: list[str]) -> int:
    """The cells that words name are run first, like any others; those of a folder are there."""
    from benchmark import matrix_words
    from benchmark.errors import UsageError
    from benchmark.words import Request

    if _launched():
        raise UsageError("evaluate is one process's work: run it without torchrun")
    request = matrix_words.read(words)
    code = _run(_checked(Request(request.cells, request.runtime, request.notes)), False) if request.cells else 0
    if code >= 128:
        return code
    out = Path(request.runtime.out)
    _require_folder(out)
    folders = matrix_words.chosen(request)
    from benchmark import matrix, reporting  # behind the words: torch takes its time

    code = max(code, matrix.measure(request, lambda line: print(line, file=sys.stderr, flush=True)))
    reporting.print_evaluations(out, folders)
    return code


def command_report(words: list[str]) -> int:
    from benchmark.runtime_words import read_report

    out, reference, project = read_report(words)
    _require_folder(out)
    from benchmark import reporting  # behind the words: pandas takes its time

    reporting.write(out, reference, project)
    return 0


def command_status(words: list[str]) -> int:
    from benchmark import cluster, plan
    from benchmark.runtime_words import read_out

    out = Path(read_out(words).out)
    _require_folder(out)
    jobs, news = cluster.rows(out)
    if news:
        print(f"{news}; what follows is from the folder alone", file=sys.stderr)
    states = [plan.state(folder) for folder in plan.folders(out)]
    header, rows = ["cell", "state", ""], [[state.folder.name, state.word, state.detail] for state in states]
    if jobs:
        header = [*header[:2], "job", "", "", header[2]]
        rows = [[*row[:2], *jobs.get(row[0], ("", "", "")), row[2]] for row in rows]
    columns.show(header, rows)
    counts = {word: sum(state.word == word for state in states) for word in sorted({s.word for s in states})}
    print(", ".join(f"{count} {word}" for word, count in counts.items()) or f"no cells below {out}")
    return 0


def command_cancel(words: list[str]) -> int:
    from benchmark import cluster
    from benchmark.runtime_words import read_out

    out = Path(read_out(words).out)
    _require_folder(out)
    print(f"{cluster.cancel(out)} jobs cancelled; what their cells have done is kept, and the same command goes on")
    return 0


def command_logs(words: list[str]) -> int:
    from benchmark import cluster, plan
    from benchmark.errors import UsageError, unknown
    from benchmark.runtime_words import read_out

    names = [word for word in words if "=" not in word]
    out = Path(read_out([word for word in words if "=" in word]).out)
    _require_folder(out)
    if len(names) != 1:
        raise UsageError("logs needs the name of one cell; `python -m benchmark status` lists them")
    known = [folder.name for folder in plan.folders(out)]
    found = [name for name in known if name == names[0] or name.endswith(f"-{names[0]}")]
    if not found:
        raise unknown("cell", names[0], known)
    error = out / found[0] / "error.txt"
    text = cluster.log(out, found[0]) or (error.read_text() if error.exists() else "")
    print(text or f"{found[0]}: no job of it has written anything, and it has not failed")
    return 0


def command_methods(words: list[str]) -> int:
    from benchmark import listing

    return listing.print_methods(words)


def command_ablations(words: list[str]) -> int:
    from benchmark import listing

    _no_words("ablations", words)
    listing.print_ablations()
    return 0


def command_datasets(words: list[str]) -> int:
    from benchmark import listing

    _no_words("datasets", words)
    listing.print_datasets()
    return 0


def command_augmentations(words: list[str]) -> int:
    from benchmark import listing

    _no_words("augmentations", words)
    listing.print_augmentations()
    return 0


def command_profile(words: list[str], json: bool) -> int:
    request = _read(words)
    from benchmark import profile, profile_table  # behind the words: torch takes its time
    from benchmark.engine import settled

    device = settled(request.runtime)
    subjects = profile.profile(request.cells, device, request.runtime.compile)
    if json:
        print(profile_table.as_json(subjects, device))
        return 0
    rows = profile_table.table(subjects)
    columns.show(rows[0], rows[1:])
    print(profile_table.legend(device))
    return 0


def command_check(words: list[str]) -> int:
    from benchmark import config
    from benchmark.errors import UsageError

    if not words:
        raise UsageError("check needs the name of a method, such as: check simclr")
    for name in words:
        config.describe(name)
    from benchmark import check  # behind the words: torch takes its time

    results = [check.check(name) for name in words]
    return 0 if all(results) else 1


def _submit(request: Request, wait: bool) -> int:
    from benchmark import cluster, plan
    from benchmark.board import Board

    out = Path(request.runtime.out)
    count = cluster.submit(request.cells, request.runtime)
    print(f"{count} cells submitted, {len(request.cells) - count} finished or under way; python -m benchmark status "
          f"out={out} says how they are")  # fmt: skip
    if not wait:
        return 0
    with Board(len(request.cells)) as board:
        cluster.follow(request.cells, out.absolute(), board)
    from benchmark import reporting

    states = plan.states(request.cells, out)
    reporting.print_records(out, [state.folder for state in states])
    return 1 if any(state.word not in ("finished", "collapsed") for state in states) else 0


def _train(request: Request, states: list[State]) -> int:
    """Run the cells that are not done."""
    if request.runtime.launcher == "here":
        from benchmark import here

        return here.train(request.cells, states, request.runtime)
    from benchmark import local

    chosen = [(cell, state) for cell, state in zip(request.cells, states, strict=True) if state.runs]
    again = [state.word == "failed" for _, state in chosen]
    return local.run([cell for cell, _ in chosen], again, request.runtime)


def _read(words: list[str]) -> Request:
    """The words as cells, with the notes printed and every dataset known to be there."""
    from benchmark.words import read

    return _checked(read(words))


def _checked(request: Request) -> Request:
    from benchmark.data import catalogue
    from benchmark.errors import UsageError

    out = Path(request.runtime.out)
    if not next(path for path in (out, *out.parents) if path.exists()).is_dir():
        raise UsageError(f"out={out}: a file is in the way; a folder is needed")
    for cell in request.cells:
        catalogue.require(cell.dataset)
    if _leads():
        for note in request.notes:
            print(f"note: {note}", file=sys.stderr)
    return request


def _refuse_broken(states: list[State]) -> None:
    """A record that cannot be read is neither believed nor overwritten."""
    from benchmark.errors import UsageError

    broken = [state for state in states if state.word == "broken"]
    if broken:
        raise UsageError(f"{broken[0].detail}; mend or remove it, or choose another out=")


def _refuse_launcher(runtime: Runtime, wait: bool) -> None:
    from benchmark.errors import UsageError

    launcher = runtime.launcher
    if wait and launcher != "slurm":
        raise UsageError(f"--wait follows the jobs of launcher=slurm; launcher={launcher} waits for its cells anyway")
    if runtime.budget and _launched():
        raise UsageError("budget= cannot be held by processes that torchrun has started; `plan` forecasts without it")
    if launcher != "here" and _launched():
        raise UsageError(f"launcher={launcher} starts its own processes: run it without torchrun")


def _leads() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _launched() -> bool:
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def _require_folder(out: Path) -> None:
    from benchmark.errors import UsageError

    if not out.is_dir():
        raise UsageError(f"out={out}: no such folder; `python -m benchmark run methods=simclr,moco` makes runs/")


def _no_words(command: str, words: list[str]) -> None:
    from benchmark.errors import UsageError

    if words:
        raise UsageError(f"{command} takes no words, got {' '.join(words)!r}")


if __name__ == "__main__":
    sys.exit(main())
