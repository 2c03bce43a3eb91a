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
from benchmark.training.engine import claim_device
from benchmark.words import evaluate_words
from benchmark.words.evaluate_words import Request
from results import record
from results.quantity import quantify

Say = Callable[[str], None]


class NoCheckpoint(Exception):
    """The cell's weights are not there any more."""


def measure(request: Request, folders: Sequence[Path], say: Say) -> int:
    """Evaluate the finished cells in `folders` as the request asks. Exit code: 1 where an evaluation failed, 3 where
    another process has a cell.

    Raises `UsageError` for a named cell that is not finished. `say` is told what goes on, a line at a time.
    """
    device = claim_device(request.runtime)
    asked, failed, left, gone = matrix.evaluations(request.evaluations, request.transfer), 0, 0, list[str]()
    states = [plan.read_state(folder) for folder in folders]
    trials = [state for state in states if state.record is not None and record.is_trial(state.record)]
    if trials and request.names:
        raise UsageError(f"cells={trials[0].folder.name}: a trial of tune never sees the test set")
    states = [state for state in states if state not in trials]
    others = [state for state in states if state.word != "finished"]
    if others and request.names:
        name = others[0].folder.name
        raise UsageError(f"cells={name}: the cell is {others[0].word}, only finished ones are evaluated")
    if others:
        say(f"not finished, not evaluated: {', '.join(state.folder.name for state in others)}")
    cells = [state for state in states if state.word == "finished" and state.record is not None]
    missing: dict[Path, list[Evaluation]] = {}
    for state in cells:
        try:
            missing[state.folder] = _select_missing(state, request, asked)
        except UsageError as error:  # its settings
            failed += 1
            say(f"{state.folder.name}: failed: {error}")
    for dataset in dict.fromkeys(
        evaluate_words.locate(plan.read_cell(f), request.files).dataset for f, m in missing.items() if m
    ):
        catalogue.require(dataset)
    obstacles = [writable.find_obstacle(folder) for folder, some in missing.items() if some]
    if obstacles and all(obstacles):
        raise UsageError(f"out={request.runtime.out}: its cells' folders: {obstacles[0]}")
    count = sum(map(len, missing.values()))
    say(f"{quantify(len(cells), 'finished cell')}; missing: {quantify(count, 'evaluation') if count else 'nothing'}")
    for state in cells:
        assert state.record is not None
        if not missing.get(state.folder):
            continue
        try:
            failed += _cell(state.folder, state.record["key"], request, asked, device, say)
        except lease.Lost as lost:
            left += 1
            say(f"{lost}; left as it is")
        except NoCheckpoint:
            gone.append(state.folder.name)
        except Exception as error:  # noqa: BLE001 - one cell's bad luck is not the others'
            failed += 1
            say(f"{state.folder.name}: failed: {explain(error)}")
    if gone:
        say(f"no {checkpoint.FILE_NAME}, not evaluated: {', '.join(gone)}")
    return 1 if failed else 3 if left else 0


def _cell(folder: Path, key: str, request: Request, asked: list[Evaluation], device: torch.device, say: Say) -> int:
    """Do what is missing of the cell `key` in `folder`. Returns how many evaluations failed."""
    cell = evaluate_words.locate(plan.read_cell(folder), request.files)
    if schema.method_version(cell.method) != cell.method_version:
        say(f"{folder.name}: the code of {cell.method} has changed since it was trained")
    asked = _select_applicable(cell, asked)
    with lease.hold(folder) as held:
        if held is None:
            raise lease.Lost(f"{folder.name}: another process is at work on it")
        done = record.read_evaluations(folder, key)  # another may have been at it meanwhile
        frozen, failed = _freeze(folder, cell, key, device), 0
        for one in _missing(asked, done):
            began = time.perf_counter()
            held.guard()
            try:
                metrics = {name: float(value) for name, value in one.numbers(frozen, folder)}
            except Exception as error:  # noqa: BLE001 - nor is one evaluation's that of the next
                failed += 1
                say(f"{folder.name} {one.name}: failed: {explain(error)}")
                continue
            seconds = round(time.perf_counter() - began, 3)
            done[one.name] = {
                "protocol": one.protocol,
                "settings": one.settings,
                "metrics": metrics,
                "seconds": seconds,
                "finished": record.now(),
            }
            held.guard()
            record.write_evaluations(folder, key, done)
            say(f"{folder.name} {one.name}: {seconds:.1f} s")
    return failed


def _select_missing(state: plan.State, request: Request, asked: list[Evaluation]) -> list[Evaluation]:
    """The evaluations that a finished cell is asked for and does not have; a file that cannot be read has none."""
    assert state.record is not None
    cell = evaluate_words.locate(plan.read_cell(state.folder), request.files)
    try:
        done = record.read_evaluations(state.folder, state.record["key"])
    except ValueError:  # it is said when the cell is due
        done = {}
    return _missing(_select_applicable(cell, asked), done)


def _select_applicable(cell: Settings, asked: list[Evaluation]) -> list[Evaluation]:
    """Without what would be no transfer (from one folder of images to another is one), and of a cell without labels
    without what needs them."""
    own = f"transfer_{cell.dataset.name}"
    asked = [one for one in asked if one.name != own or catalogue.entry(cell.dataset.name).is_named_by_root]
    if catalogue.entry(cell.dataset.name).is_named_by_root and not cell.dataset.root:
        return [one for one in asked if one.name == "looks" or one.name.startswith("transfer_")]
    return asked


def _missing(asked: list[Evaluation], done: dict[str, Any]) -> list[Evaluation]:
    return [one for one in asked if done.get(one.name, {}).get("protocol") != one.protocol]


def _freeze(folder: Path, cell: Settings, key: str, device: torch.device) -> FrozenCell:
    """The cell as its training left it. Raises `NoCheckpoint`."""
    data = build.data_of(cell)
    method, _ = build.method(cell, data, device)
    if method.trains:
        try:
            state = checkpoint.load(folder, key, device)
        except ValueError as error:
            raise ValueError(f"{error}: without its weights nothing more can be measured; its record stands") from error
        if state is None:
            raise NoCheckpoint
        method.load_state_dict(state["method"])
    return freeze(method, data, build.batches(cell, method, data, World(), device, "fp32"), device)
