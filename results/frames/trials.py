"""The trials of `tune` as searches: the records of each search in their order, with what was to be searched.

A trial that failed, collapsed, was stopped or was pruned is one of the budget, and counts as accuracy 0: its last value
is none that a whole training has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from results import files, record
from results.frames import labels
from results.frames.frame import RESOLVED, find_settings, load_trials
from results.quantity import quantify

ACCURACY = "metrics.linear_validation_top1"
_ADDED = ("trial", "number", "accuracy", "hours")


@dataclass(frozen=True)
class Search:
    """The trials of one method's search.

    `trials`: a row each by its number, as `frames.frame.load_trials` has them, with `number`, `accuracy` (a fraction on
    validation images, 0 where it did not finish) and `hours` of training and evaluation, over all processes. `searched`
    are columns. `asked` is how many trials there were to be, `chosen` when the choice was written, "" before.
    """

    name: str
    method: str
    dataset: str
    sampler: str
    asked: int
    searched: tuple[str, ...]
    trials: pd.DataFrame
    chosen: str = ""

    @property
    def epochs(self) -> str:
        return labels.format_value(self.trials["epochs"].iloc[0])

    @property
    def lost(self) -> int:
        """Trials that failed, collapsed or were stopped."""
        return len(self.trials) - int((self.trials["status"] == "finished").sum()) - self.pruned

    @property
    def pruned(self) -> int:
        """Trials that were ended for being below those before them: what they would have come to is not known."""
        return count_pruned(self.trials)

    @property
    def best(self) -> pd.Series | None:
        """The finished trial of the highest accuracy, the first of equal ones."""
        finished = self.trials[self.trials["status"] == "finished"]
        return None if finished.empty else finished.sort_values("accuracy", ascending=False, kind="stable").iloc[0]

    @property
    def budget(self) -> str:
        """Such as `16 trials of 10 epochs`."""
        epochs = quantify(int(self.epochs), "epoch") if self.epochs.isdigit() else f"{self.epochs} epochs"
        return f"{quantify(len(self.trials), 'trial')} of {epochs}"


def load(out: Path) -> list[Search]:
    """The searches whose trials have records below `out`, in the order of their names."""
    frame = load_trials(out)
    if frame.empty:
        return []
    frame = frame.reindex(columns=list(dict.fromkeys([*frame.columns, "dataset.name", "epochs"])))
    notes = {path.stem: _read(path) for path in sorted(Path(out).rglob("tuned/*.json"))}
    names, numbers = frame["trial"].str.rpartition("/")[0], frame["trial"].str.rpartition("/")[2]
    accuracy = frame.reindex(columns=[ACCURACY]).iloc[:, 0].where(frame["status"] == "finished", 0.0).fillna(0.0)
    times = ["cost.seconds", "cost.validation_seconds", "cost.evaluation_seconds"]
    seconds = frame.reindex(columns=times).fillna(0).sum(axis=1)
    hours = seconds * frame["cost.processes"].fillna(1) / 3600
    frame = frame.assign(number=pd.to_numeric(numbers, errors="coerce"), accuracy=accuracy, hours=hours)
    return [_build_search(str(name), part, notes.get(str(name), {})) for name, part in frame.groupby(names)]


def count_pruned(trials: pd.DataFrame) -> int:
    """How many of these rows of a search are of trials that were pruned."""
    return int((trials["status"] == record.PRUNED).sum())


def _build_search(name: str, part: pd.DataFrame, note: dict[str, Any]) -> Search:
    part = part.sort_values("number").reset_index(drop=True)
    space = note.get("space")
    declared = list(space) if isinstance(space, dict) else []
    columns = [
        next((column for column in (option, f"options.{option}") if column in part), option) for option in declared
    ]
    searched = [column for column in columns if column in part]
    searched = searched or [column for column in find_cell_settings(part) if part[column].nunique() > 1]
    asked, sampler, choice = (note.get(name) for name in ("trials", "sampler", "choice"))
    chosen = choice.get("at") if isinstance(choice, dict) else ""
    return Search(
        name=name,
        method=str(part["method"].iloc[0]),
        dataset=str(part["dataset.name"].iloc[0]),
        sampler=sampler if isinstance(sampler, str) else "",
        asked=max(asked, len(part)) if isinstance(asked, int) else len(part),
        searched=tuple(searched),
        trials=part,
        chosen=chosen if isinstance(chosen, str) else "",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = files.read_json(path)
    except (OSError, ValueError):  # the records say nearly all of it
        return {}
    return content if isinstance(content, dict) else {}


def find_cell_settings(frame: pd.DataFrame) -> list[str]:
    """The columns that are settings of a cell, be it a trial or not, and be it trained on this machine or another."""
    return [name for name in find_settings(frame) if name not in (*_ADDED, *RESOLVED, "processes")]


def name_searches(searches: Sequence[Search]) -> list[str]:
    """The method of each search, and what tells it from others of its method."""
    parts = [{"dataset": search.dataset, "search": search.name.rpartition("-")[2]} for search in searches]
    methods = [search.method for search in searches]
    return [labels.format_label(*pair) for pair in zip(methods, labels.find_differences(methods, parts), strict=True)]
