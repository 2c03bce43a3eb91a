"""The studies of one command, run to their end: trials asked for, trained as cells, told, and the best of each chosen.

The truth about a trial is its cell. The journal says which trials there are and what they try, and is told what became
of them by whoever sees it first. Trials that nobody is at work on are taken up again, with what they try, before new
ones are asked for; so one launcher that was killed and goes on ends with the trials that it would have had.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmark.cells import plan
from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.tuning import journal, proposals
from benchmark.words.tune_words import Options, Request, Search
from benchmark.words.tuned_words import FOLDER

OBJECTIVE = "linear_validation_top1"
WAIT = 2.0  # seconds between two looks at the trials of others
Say = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """The best trial of a search."""

    search: Search
    number: int
    accuracy: float  # on validation images, a fraction
    values: dict[str, str]  # setting or option -> its text

    @property
    def cell(self) -> Settings:
        return self.search.cell(self.values)


@dataclass
class Trials:
    """The trials of one search as this command goes through them."""

    search: Search
    options: Options
    out: Path
    say: Say
    begun: dict[int, bool] = field(default_factory=dict)  # by this command; whether they had failed before
    waits: bool = False  # for trials that others are at work on
    failed: int = 0  # trials that will be tried again by the next command

    def advance(self, storage: JournalStorage, taken: set[str]) -> list[Settings]:
        """Tell what has ended, and return the cells to train next: what nobody is at work on, then new trials.

        `taken` are the names of the cells of other launchers. Raises `UsageError` for a record that cannot be read.
        """
        study = journal.study(storage, self.search.study)
        left, self.waits, self.failed = list[tuple[int, Settings, bool]](), False, 0
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            cell = self.search.trial(trial.number, proposals.texts(trial.params))
            state = plan.state(self.out / address.folder_name(cell))
            if state.word == "broken":
                raise UsageError(f"{state.detail}; mend or remove it, or choose another out=")
            if state.word in ("finished", "collapsed"):
                self._tell(study, trial, state)
            elif state.word == "failed" and trial.number in self.begun:
                if self.begun[trial.number]:
                    study.tell(trial.number, state=TrialState.FAIL)
                self.failed += not self.begun[trial.number]
            elif state.word == "running" or state.folder.name in taken:
                self.waits = self.waits or state.word != "failed"
            else:
                left.append((trial.number, cell, state.word == "failed"))
        chosen = left[: self.options.at_once]
        self.waits = self.waits or len(left) > len(chosen)
        while len(chosen) < self.options.at_once and len(study.trials) < self.options.trials:
            chosen.append(self._ask(study))
        self.begun |= {number: failed for number, _, failed in chosen}
        return [cell for _, cell, _ in chosen]

    def choose(self, storage: JournalStorage) -> Choice | None:
        """The best finished trial, the first of equal ones; None where none has finished."""
        study = journal.study(storage, self.search.study)
        told = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        for trial in sorted(told, key=lambda trial: (-trial.values[0], trial.number)):
            values = proposals.texts(trial.params)
            folder = self.out / address.folder_name(self.search.trial(trial.number, values))
            if plan.state(folder).word == "finished":
                return Choice(self.search, trial.number, trial.values[0], values)
        return None

    def _ask(self, study: optuna.Study) -> tuple[int, Settings, bool]:
        before = study.get_trials(deepcopy=False)
        params = proposals.propose(self.search, self.options, before)
        space = proposals.distributions(self.search.space)
        study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=space))
        return len(before), self.search.trial(len(before), proposals.texts(params)), False

    def _tell(self, study: optuna.Study, trial: FrozenTrial, state: plan.State) -> None:
        """What a trial came to; a collapsed one to 0, so that no other is looked for beside it."""
        accuracy = _accuracy(state.record)
        study.tell(trial.number, accuracy)
        said = f"{100 * accuracy:.1f} % on validation" if state.word == "finished" else f"collapsed: {state.detail}"
        words = " ".join(f"{name}={text}" for name, text in proposals.texts(trial.params).items())
        self.say(f"{self.search.method} trial {trial.number + 1} of {self.options.trials}: {said} ({words})")


def run(request: Request, train: Callable[[list[Settings]], int], say: Say) -> tuple[int, list[Choice | None]]:
    """Every trial that the request asks for. Returns the exit code, and the best of each search in their order.

    `train` trains cells to their end and returns 128 + N where signal N stopped it, as this then does. The code is 1
    where trials failed: the next command tries those once more, and counts what fails again as tried.

    Ending trials early by their curve of validation accuracy would come in at `train`, which sees what was told before.
    """
    out = Path(request.runtime.out)
    folder = out / FOLDER
    each = [Trials(search, request.options, out, say) for search in request.searches]
    with journal.launch(folder) as launcher:
        while True:
            with journal.transaction(folder) as storage:
                taken = launcher.taken()
                cells = [cell for trials in each for cell in trials.advance(storage, taken)]
                launcher.note([address.folder_name(cell) for cell in cells])
            if not cells and not any(trials.waits for trials in each):
                break
            if not cells:
                time.sleep(WAIT)
                continue
            code = train(cells)
            if code >= 128 or (code and all(state.record is None for state in plan.states(cells, out))):
                return code, []
        with journal.transaction(folder) as storage:
            best = [trials.choose(storage) for trials in each]
    failed = sum(trials.failed for trials in each)
    if failed:
        say(f"{failed} trials failed; the same command tries them once more, and then goes on without them")
    return (1 if failed else 0), best


def _accuracy(record: dict[str, Any] | None) -> float:
    """What a trial is judged by: accuracy on validation images; 0 where it collapsed."""
    return record["metrics"][OBJECTIVE] if record is not None and record["status"] == "finished" else 0.0
