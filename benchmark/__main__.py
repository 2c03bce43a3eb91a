"""The command line: `python -m benchmark COMMAND [key=value ...]`. The composition root; imports as late as it can."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.plan import State
    from benchmark.words import Request


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 a cell or a check failed, 2 bad input, 128 + N stopped by signal N."""
    from benchmark import help
    from benchmark.errors import UsageError

    try:
        parsed = help.parse(arguments if arguments is not None else sys.argv[1:])
        if parsed.command == "profile":
            return command_profile(parsed.words, parsed.json)
        return globals()[f"command_{parsed.command}"](parsed.words)
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


def command_run(words: list[str]) -> int:
    from benchmark import plan

    request = _read(words)
    out = Path(request.runtime.out)
    states = plan.states(request.cells, out)
    _refuse_broken(states)
    # Under torchrun every process joins, whatever it sees on its disk: the first one decides.
    code = _train(request, states) if any(state.runs for state in states) or _launched() else 0
    if _leads() and code < 128:  # not when stopped
        from results import tables

        frame, _ = _frame(out)
        _print_table(tables, frame[frame["folder"].isin([str(state.folder) for state in states])])
        print(f"records: {out}/; the table of all of them: python -m benchmark report out={out}", file=sys.stderr)
    return code


def command_plan(words: list[str]) -> int:
    from benchmark import config, plan

    request = _read(words)
    states = plan.states(request.cells, Path(request.runtime.out))
    names = plan.varying(request.cells)
    rows = [
        [config.key(cell), cell.method, plan.label(config.identity(cell), names), state.word, state.detail]
        for cell, state in zip(request.cells, states, strict=True)
    ]
    _print_rows(["key", "method", "settings", "state", ""], rows)
    runs = sum(state.runs for state in states)
    print(f"{len(states)} cells: {len(states) - runs} exist, {runs} would run")
    _refuse_broken(states)
    return 0


def command_report(words: list[str]) -> int:
    from benchmark.words import read_out

    out = Path(read_out(words).out)
    _require_folder(out)
    from results import statistics, tables  # behind the words: pandas takes its time

    frame, problems = _frame(out)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    _print_table(tables, frame)
    if not frame.empty:
        summary = statistics.summarise(frame)
        (out / "table.md").write_text(tables.to_markdown(summary))
        tables.to_csv(summary, out / "results.csv")
        print(f"wrote {out / 'table.md'} and {out / 'results.csv'}", file=sys.stderr)
    return 0


def command_status(words: list[str]) -> int:
    from benchmark import plan
    from benchmark.words import read_out

    out = Path(read_out(words).out)
    _require_folder(out)
    states = [plan.state(folder) for folder in plan.folders(out)]
    _print_rows(["cell", "state", ""], [[state.folder.name, state.word, state.detail] for state in states])
    counts = {word: sum(state.word == word for state in states) for word in sorted({s.word for s in states})}
    print(", ".join(f"{count} {word}" for word, count in counts.items()) or f"no cells below {out}")
    return 0


def command_methods(words: list[str]) -> int:
    import dataclasses

    import methods
    from benchmark import config
    from benchmark.errors import UsageError

    code = 0
    for name in words or methods.names():
        try:
            found = config.describe(name)
        except UsageError as error:
            if words:
                raise
            print(f"{name}: cannot be read: {error}\n")
            code = 1
            continue
        print(f"{name}: {found.title}")
        for option in dataclasses.fields(found.Config):
            allowed = config.type_text(config.options_of(name)[option.name])
            print(f"    {name}.{option.name}={option.default}  ({allowed}) {found.help.get(option.name, '')}".rstrip())
        print()
    return code


def command_datasets(words: list[str]) -> int:
    from benchmark.data.catalogue import CATALOGUE

    _no_words("datasets", words)
    rows = [
        [e.name, str(e.images or ""), str(e.classes or ""), str(e.side), str(e.view), e.source]
        for e in CATALOGUE.values()
    ]
    _print_rows(["dataset", "images", "classes", "pixels", "view", "source"], rows)
    print("images: to train on, before the validation share; view: pixels of a view, unless view_size= says otherwise")
    return 0


def command_augmentations(words: list[str]) -> int:
    from benchmark.augment import policies

    _no_words("augmentations", words)
    _print_rows(["name", "what it does"], [list(row) for row in [*policies.names(), policies.SMALL_PIECE]])
    print("Join with +, such as augmentation=crop+flip+colour; the right one's operations win.")
    return 0


def command_profile(words: list[str], as_json: bool) -> int:
    request = _read(words)
    if request.runtime.threads:
        import torch

        torch.set_num_threads(request.runtime.threads)
    from benchmark import profile, profile_table
    from benchmark.engine import resolve_device, settle

    device = resolve_device(request.runtime.device)
    settle(device)
    subjects = profile.profile(request.cells, device, request.runtime.compile)
    if as_json:
        print(json.dumps(profile_table.plain(subjects, device), indent=1))
        return 0
    rows = profile_table.table(subjects)
    _print_rows(rows[0], rows[1:])
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


def _train(request: Request, states: list[State]) -> int:
    """Run the cells that are not done. Every cell is checked before the first one trains."""
    import torch

    from benchmark import distributed, plan, run
    from benchmark.board import Board
    from benchmark.engine import resolve_device, settle
    from benchmark.stop import Stop, Stopped

    if request.runtime.threads:
        torch.set_num_threads(request.runtime.threads)
    device = resolve_device(request.runtime.device, distributed.local_rank())
    settle(device)
    failed = 0
    board = Board(0)
    try:
        with contextlib.ExitStack() as held:
            world = distributed.start(device)
            held.callback(distributed.stop)
            # One process says which, for all: a cell may have been finished since. What failed before goes last.
            runs = world.told(lambda: [i for i, state in enumerate(states) if state.runs and state.word != "failed"])
            runs += world.told(lambda: [i for i, state in enumerate(states) if state.word == "failed"])
            todo = [request.cells[i] for i in runs]
            for cell in todo:
                run.check(cell, world, device)
            board = held.enter_context(Board(len(todo), shown=world.leads))
            stop = held.enter_context(Stop().listening())
            place = run.Place(request.runtime, world, device, stop, board)
            for cell in todo:
                board.cell(f"{cell.method} {plan.label({'seed': cell.seed}, ['seed'])}".strip())
                made = run.run(cell, place)
                if made is not None and made["status"] != "finished":
                    board.say(f"{cell.method}: {made['status']}: {made['reason']}")
                failed += made is not None and made["status"] == "failed"
    except Stopped as stopped:
        board.say(f"stopped by {stopped}; nothing is lost: the same command goes on from here")
        return stopped.exit_code
    return 1 if failed else 0


def _read(words: list[str]) -> Request:
    """The words as cells, with the notes printed and every dataset known to be there."""
    from benchmark.data import catalogue
    from benchmark.errors import UsageError
    from benchmark.words import read

    request = read(words)
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


def _frame(out: Path) -> Any:
    from results import frame

    return frame.load(out)


def _print_table(tables: Any, frame: Any) -> None:
    from rich.console import Console

    console = Console()
    console.print(tables.render(frame, console.width)[0])


def _print_rows(header: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as they need to be, the last one free."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
