"""What is checked before a command does anything. Whatever is wrong is a `UsageError`, one line."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from benchmark import environment
from benchmark.backbones.resnets import is_resnet
from benchmark.cells import plan, writable
from benchmark.cells.plan import State
from benchmark.data import catalogue, identity
from benchmark.errors import MissingData, UsageError
from benchmark.settings import address, refusals, schema
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime, count_processes
from benchmark.words import cell_words, runtime_words
from benchmark.words.cell_words import Request


def read_request(words: list[str]) -> Request:
    """The words as cells, with the notes printed and every dataset known to be there."""
    return check_request(cell_words.read(words))


def find_missing(request: Request) -> list[str]:
    """What is said of datasets whose files are not there, each once."""
    missing: dict[str, None] = {}
    for dataset in dict.fromkeys(cell.dataset for cell in request.cells):
        try:
            catalogue.require(dataset)
        except MissingData as error:
            missing[str(error)] = None
    return list(missing)


def check_request(request: Request, needs_data: bool = True) -> Request:
    """The request, if its folder can be made and its datasets, which a plan does without, are there; prints its
    notes."""
    out = Path(request.runtime.out)
    if not next(path for path in (out, *out.parents) if path.exists()).is_dir():
        raise UsageError(f"out={out}: {writable.IN_THE_WAY}")
    if needs_data and (missing := find_missing(request)):
        raise UsageError(missing[0])
    if environment.is_main():
        for line in identity.describe(cell.dataset for cell in request.cells):
            print(line, file=sys.stderr)
        for note in _merge(request.notes, {cell.method for cell in request.cells}):
            print(f"note: {note}", file=sys.stderr)
    return request


def _merge(notes: list[str], names: set[str]) -> list[str]:
    """The notes in their order, those that say the same of several of the methods `names` as one."""
    methods_of: dict[str, list[str]] = {}
    for note in notes:
        method, _, text = note.partition(": ")
        if text and method in names:
            methods_of.setdefault(text, []).append(method)
        else:
            methods_of[note] = []
    return [f"{_list_some(listed)}: {text}" if listed else text for text, listed in methods_of.items()]


def _list_some(names: list[str]) -> str:
    """The names, of more than four the first three."""
    return ", ".join(names if len(names) < 5 else names[:3]) + (f" and {len(names) - 3} more" if len(names) > 4 else "")


def require_possible(cells: list[Settings], runtime: Runtime) -> None:
    """Raise `UsageError` for what `run` would refuse of these cells whatever the data and the machine are. Of a plain
    ResNet that is known without torch, unless the method has something to say of it or of a lone image; else the
    networks are made, which takes seconds."""
    for cell in cells:
        refusals.require_possible(cell)
        refusals.require_images(cell)
        refusals.require_shares(cell, count_processes(runtime))
    for cell in cells:
        unusual = cell.weights or "small" in (cell.stem or "") or cell.pool not in (None, "auto")
        unusual = unusual or (cell.backbone is not None and not is_resnet(cell.backbone))
        lone = cell.batch_size is not None and refusals.count_normed_together(cell) == 1
        if unusual or lone or schema.may_refuse(cell.method):
            from benchmark.training import build

            build.check_networks(cell)


def leave_out_impossible(request: Request) -> Request:
    """The request without the cells still to run that methods which only `all` or a family names cannot have, such as
    views of 128 pixels; they are said. Raises `UsageError` where no other is left that trains: the words are wrong for
    all."""
    if not request.optional:
        return request
    states = plan.read_states(request.cells, Path(request.runtime.out))
    reasons: dict[str, str] = {}
    reason_of: dict[str, str] = {}  # by the cell of the first seed, as making its network takes a moment
    possible: list[Settings] = []
    for cell, state in zip(request.cells, states, strict=True):
        key = address.hash_cell(replace(cell, seed=None if cell.seed is None else 0))
        if cell.method in request.optional and state.runs and key not in reason_of:
            reason_of[key] = _find_refusal(cell, request.runtime)
        if state.runs and (reason := reason_of.get(key)):
            reasons.setdefault(cell.method, reason)
        else:
            possible.append(cell)
    if reasons and not any(cell.epochs for cell in possible):
        method, reason = next(iter(reasons.items()))
        raise UsageError(f"{method}: {reason}")
    notes = [f"{method}: {reason}" for method, reason in reasons.items()]
    for note in _merge(notes, set(reasons)) if environment.is_main() else ():
        print_note(f"left out of methods=: {note}")
    return replace(request, cells=possible)


def _find_refusal(cell: Settings, runtime: Runtime) -> str:
    """Why `run` would refuse the cell, or nothing."""
    try:
        require_possible([cell], runtime)
    except UsageError as error:
        return str(error).removeprefix(f"{cell.method}: ")
    return ""


def require_writable(words: list[str]) -> None:
    """The folder that `words` name can be written to, before any data is read; one that holds cells may be another's,
    who has all that is asked for."""
    out = Path(runtime_words.read_runtime_of(words).out)
    if not (os.path.isdir(out) and any(plan.list_folders(out))):
        writable.require(out)


def refuse_broken(states: list[State]) -> None:
    """A record that cannot be read is neither believed nor overwritten; beside others it is said, and left out."""
    broken = [
        f"{state.detail}; mend or remove it, or choose another out=" for state in states if state.word == "broken"
    ]
    if broken and len(broken) == len(states):
        raise UsageError(broken[0])
    for line in broken if environment.is_main() else ():
        print(f"left out: {line}", file=sys.stderr)


def refuse_launcher(runtime: Runtime, wait: bool) -> None:
    """A launcher that does not go with `--wait`, or with torchrun."""
    launcher = runtime.launcher
    if wait and launcher != "slurm":
        raise UsageError(f"--wait follows the jobs of launcher=slurm; launcher={launcher} waits for its cells anyway")
    if runtime.budget and environment.is_torchrun():
        raise UsageError("budget= cannot be held by processes that torchrun has started; `plan` forecasts without it")
    if launcher != "here" and environment.is_torchrun():
        raise UsageError(f"launcher={launcher} starts its own processes: run it without torchrun")
    settle_group(runtime)


def settle_group(runtime: Runtime) -> None:
    """Processes that somebody started together train as one; to a launcher of its own what the environment says of them
    is nothing. Raises `UsageError` for half a group."""
    print_note(environment.require_group() if runtime.launcher == "here" else environment.leave_group())


def print_note(note: str) -> None:
    """On standard error, if there is one."""
    if note:
        print(f"note: {note}", file=sys.stderr)


def require_folder(out: Path) -> None:
    """`out` is there."""
    if not out.is_dir():
        raise UsageError(f"out={out}: no such folder; `python -m benchmark run methods=simclr,moco` makes runs/")


def refuse_words(command: str, words: list[str]) -> None:
    """A command that takes none."""
    if words:
        raise UsageError(f"{command} takes no words, got {' '.join(words)!r}")
