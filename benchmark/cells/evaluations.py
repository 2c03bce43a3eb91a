"""Finished cells measured by more than their record holds: `evaluation.json` beside `record.json`, which stays.

An evaluation that a cell has under the present protocol is not done again. The encoder comes from the cell's
checkpoint; of a method that does not train, from its seed or its weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmark.cells import lease, plan, writable
from benchmark.data import catalogue
from benchmark.errors import UsageError, explain
from benchmark.evaluate import matrix
from benchmark.evaluate.frozen_cell import FrozenCell, freeze
from benchmark.evaluate.matrix import Evaluation
from benchmark.settings import schema
from benchmark.settings.cell import Settings
from benchmark.training import build, checkpoint
from benchmark.training.distributed import World
from benchmark.words import evaluate_words
from benchmark.words.evaluate_words import Request
from results import record
from results.quantity import quantify

Say = Callable[[str], None]


class NoCheckpoint(Exception):
    """The cell's weights are not there any more."""


def measure(request: Request, folders: Sequence[Path], device: torch.device, say: Say) -> int:
    """Evaluate the finished cells in `folders` as the request asks, on the device. Exit code: 1 where an evaluation
    failed, 3 where another process has a cell.

    Raises `UsageError` for a named cell that is not finished. `say` is told what goes on, a line at a time.
    """
    evaluations = matrix.choose_evaluations(request.evaluations, request.transfer)
    cells = _select_finished(folders, bool(request.names), say)
    failed, left_to_others, without_checkpoint = 0, 0, list[str]()
    missing: dict[Path, list[Evaluation]] = {}
    for state in cells:
        try:
            missing[state.folder] = _select_missing(state, request, evaluations)
        except UsageError as error:  # its settings
            failed += 1
            say(f"{state.folder.name}: failed: {error}")
    _report_use(list(missing), request, say)
    _require_places([folder for folder, lacking in missing.items() if lacking], request)
    count = sum(map(len, missing.values()))
    say(f"{quantify(len(cells), 'finished cell')}; missing: {quantify(count, 'evaluation') if count else 'nothing'}")
    for state in cells:
        assert state.record is not None
        if not missing.get(state.folder):
            continue
        try:
            failed += _evaluate_cell(state.folder, state.record["key"], request, evaluations, device, say)
        except lease.Lost as lost:
            left_to_others += 1
            say(f"{lost}; left as it is")
        except NoCheckpoint:
            without_checkpoint.append(state.folder.name)
        except Exception as error:  # noqa: BLE001 - one cell's bad luck is not the others'
            failed += 1
            say(f"{state.folder.name}: failed: {explain(error)}")
    if without_checkpoint:
        say(f"no {checkpoint.FILE_NAME}, not evaluated: {', '.join(without_checkpoint)}")
    return 1 if failed else 3 if left_to_others else 0


def _select_finished(folders: Sequence[Path], are_named: bool, say: Say) -> list[plan.State]:
    """The cells that are finished, trials of `tune` apart. Where the folders `are_named` by the user, raises
    `UsageError` for any other; else says which are not."""
    states = [plan.read_state(folder) for folder in folders]
    trials = [state for state in states if state.record is not None and record.is_trial(state.record)]
    if trials and are_named:
        raise UsageError(f"cells={trials[0].folder.name}: a trial of tune never sees the test set")
    states = [state for state in states if state not in trials]
    unfinished = [state for state in states if state.word != "finished"]
    if unfinished and are_named:
        name = unfinished[0].folder.name
        raise UsageError(f"cells={name}: the cell is {unfinished[0].word}, only finished ones are evaluated")
    if unfinished:
        say(f"not finished, not evaluated: {', '.join(state.folder.name for state in unfinished)}")
    return [state for state in states if state.word == "finished" and state.record is not None]


def require_use(request: Request, cells: Sequence[Settings]) -> None:
    """Raise `UsageError` for an evaluation that was asked for by name and says nothing of any of the cells."""
    for name in _list_named(request):
        obstacles = [matrix.find_obstacle(name, cell) for cell in cells]
        if cells and all(obstacles):
            raise UsageError(obstacles[0])


def _list_named(request: Request) -> list[str]:
    """Names of the evaluations that were asked for by name, such as `transfer_cifar10`."""
    return [evaluation.name for evaluation in matrix.choose_evaluations(request.named, request.transfer)]


def _report_use(folders: Sequence[Path], request: Request, say: Say) -> None:
    """Raise `UsageError` for an evaluation that was asked for by name and says nothing of any cell; else say of which
    it says nothing."""
    cells = {folder.name: plan.read_cell(folder) for folder in folders}
    require_use(request, list(cells.values()))
    for name in _list_named(request):
        without = [cell_name for cell_name, cell in cells.items() if matrix.find_obstacle(name, cell)]
        if without:
            say(f"{matrix.write_word(name)} says nothing of {', '.join(without)}")


def _require_places(folders: Sequence[Path], request: Request) -> None:
    """Raise `UsageError` where a dataset of the cells in `folders` is not there, or none of these can be written to."""
    cells = [evaluate_words.locate(plan.read_cell(folder), request.files) for folder in folders]
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        catalogue.require(dataset)
    obstacles = [writable.find_obstacle(folder) for folder in folders]
    if obstacles and all(obstacles):
        raise UsageError(f"out={request.runtime.out}: its cells' folders: {obstacles[0]}")


def _evaluate_cell(
    folder: Path, key: str, request: Request, evaluations: list[Evaluation], device: torch.device, say: Say
) -> int:
    """Do what is missing of the cell `key` in `folder`. Returns how many evaluations failed."""
    cell = evaluate_words.locate(plan.read_cell(folder), request.files)
    if schema.method_version(cell.method) != cell.method_version:
        say(f"{folder.name}: the code of {cell.method} has changed since it was trained")
    evaluations = _select_applicable(cell, evaluations)
    with lease.hold(folder) as own_lease:
        if own_lease is None:
            raise lease.Lost(f"{folder.name}: another process is at work on it")
        done = record.read_evaluations(folder, key)  # another may have been at it meanwhile
        frozen, failed = _freeze(folder, cell, key, device), 0
        for evaluation in _drop_done(evaluations, done):
            began = time.perf_counter()
            own_lease.guard()
            try:
                for note in evaluation.explain(frozen):
                    say(f"{folder.name} {evaluation.name}: {note}")
                metrics = {name: float(value) for name, value in evaluation.numbers(frozen, folder)}
            except Exception as error:  # noqa: BLE001 - nor is one evaluation's that of the next
                failed += 1
                say(f"{folder.name} {evaluation.name}: failed: {explain(error)}")
                continue
            seconds = round(time.perf_counter() - began, 3)
            done[evaluation.name] = {
                "protocol": evaluation.protocol,
                "settings": evaluation.settings,
                "metrics": metrics,
                "seconds": seconds,
                "finished": record.now(),
            }
            own_lease.guard()
            record.write_evaluations(folder, key, done)
            say(f"{folder.name} {evaluation.name}: {seconds:.1f} s")
    return failed


def _select_missing(state: plan.State, request: Request, evaluations: list[Evaluation]) -> list[Evaluation]:
    """The evaluations that a finished cell is asked for and does not have; a file that cannot be read has none."""
    assert state.record is not None
    cell = evaluate_words.locate(plan.read_cell(state.folder), request.files)
    try:
        done = record.read_evaluations(state.folder, state.record["key"])
    except ValueError:  # it is said when the cell is due
        done = {}
    return _drop_done(_select_applicable(cell, evaluations), done)


def _select_applicable(cell: Settings, evaluations: list[Evaluation]) -> list[Evaluation]:
    """Without those that say nothing of the cell."""
    return [evaluation for evaluation in evaluations if not matrix.find_obstacle(evaluation.name, cell)]


def _drop_done(evaluations: list[Evaluation], done: dict[str, Any]) -> list[Evaluation]:
    """Those that are not done under their present protocol."""
    return [
        evaluation for evaluation in evaluations if done.get(evaluation.name, {}).get("protocol") != evaluation.protocol
    ]


def _freeze(folder: Path, cell: Settings, key: str, device: torch.device) -> FrozenCell:
    """The cell as its training left it. Raises `NoCheckpoint`."""
    data = build.load_data(cell)
    method, _ = build.build_method(cell, data, device)
    if method.trains:
        try:
            state = checkpoint.load(folder, key, device)
        except ValueError as error:
            raise ValueError(f"{error}: without its weights nothing more can be measured; its record stands") from error
        if state is None:
            raise NoCheckpoint
        method.load_state_dict(state["method"])
    return freeze(method, data, build.build_batches(cell, method, data, World(), device, "fp32"), device)
