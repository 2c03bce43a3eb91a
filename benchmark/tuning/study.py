"""The studies of one command, run to their end: trials asked for, trained as cells, told, and the best of each chosen.

The truth about a trial is its cell. The journal says which trials there are and what they try, and is told what became
of them by whoever sees it first. Trials that nobody is at work on are taken up again, with what they try, before new
ones are asked for; so one launcher that was killed and goes on ends with the trials that it would have had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmark.cells import plan
from benchmark.display.duration import format_duration
from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.tuning import journal, proposals, pruning
from benchmark.words.tune_words import Options, Request, Search
from benchmark.words.tuned_words import FOLDER
from results import record
from results.quantity import quantify

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
    unclaimed: dict[int, tuple[Settings, plan.State]] = field(default_factory=dict)  # that nobody is at work on
    waits: bool = False  # for trials that others are at work on
    left: int = 0  # trials that have not ended
    failed: int = 0  # trials that will be tried again by the next command
    lost: set[int] | None = None  # trials that were told and have no record any more; None: not looked for yet

    def advance(self, storage: JournalStorage, of_others: set[str]) -> list[Settings]:
        """Tell what has ended, and return the cells to train next: what nobody is at work on, else a round of new ones.

        `of_others` are the names of the cells of other launchers. Raises `UsageError` for a record that cannot be read.
        """
        study, round_size = journal.open_study(storage, self.search.study), self.options.at_once
        self.unclaimed, self.waits, self.failed = {}, False, 0
        if self.lost is None:
            self.lost = set(self._find_lost(study))
        for trial in study.get_trials(deepcopy=False):
            if trial.state == TrialState.RUNNING or trial.number in self.lost:
                self._sort(storage, study, trial, of_others)
        total = len(study.get_trials(deepcopy=False))
        # A kill may have cut a round short.
        while total < self.options.trials and (not self.unclaimed or total % round_size):
            end = min(self.options.trials, total - total % round_size + round_size)
            for _ in range(total, end):
                self._ask(study)
            # Behind the asking, which is to be the same where the records are there, of a journal that was lost.
            for trial in study.get_trials(deepcopy=False)[total:end]:
                self._sort(storage, study, trial, of_others)
            total = end
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self.left = max(0, self.options.trials - total) + len({trial.number for trial in running} | self.lost)
        chosen = dict(list(self.unclaimed.items())[:round_size])
        self.begun |= {number: state.word == "failed" for number, (_, state) in chosen.items()}
        return [cell for cell, _ in chosen.values()]

    def _find_lost(self, study: optuna.Study) -> Iterator[int]:
        """The numbers of the trials that were told and whose folders somebody has removed; says which."""
        ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        for trial in study.get_trials(deepcopy=False, states=ended):
            values = proposals.write_values(trial.params)
            state = self._look(trial.number, values)
            if state.runs and (state.word != "failed" or trial.state != TrialState.FAIL):
                self.say(f"{self._title(trial.number)}: it has no record any more and runs again ({_words(values)})")
                yield trial.number

    def _look(self, number: int, values: dict[str, str]) -> plan.State:
        return plan.read_state(self.out / address.name_folder(self.search.trial(number, values)))

    def _title(self, number: int) -> str:
        return f"{self.search.method} trial {number + 1} of {self.options.trials}"

    def _sort(self, storage: JournalStorage, study: optuna.Study, trial: FrozenTrial, of_others: set[str]) -> None:
        """Tell the trial if it has ended; else it is left for us, or somebody is at work on it."""
        number, values = trial.number, proposals.write_values(trial.params)
        state = self._look(number, values)
        if state.word == "broken":
            raise UsageError(f"{state.detail}; mend or remove it, or choose another out=")
        if state.word in ("finished", "collapsed", "stopped", record.PRUNED):
            self._tell(storage, study, number, values, state)
        elif state.word == "failed" and number in self.begun:
            if self.begun[number] and number not in (self.lost or ()):
                study.tell(number, state=TrialState.FAIL)
            self.failed += not self.begun[number]
        elif state.word == "running" or state.folder.name in of_others:
            self.waits = self.waits or state.word != "failed"
        else:
            prune_below = trial.user_attrs.get(pruning.THRESHOLDS, "")
            self.unclaimed[number] = self.search.trial(number, values, prune_below), state

    def choose(self, storage: JournalStorage) -> Choice | None:
        """The best finished trial by the records, the first of equal ones; None where none has finished."""
        choices = []
        for trial in journal.open_study(storage, self.search.study).get_trials(deepcopy=False):
            values = proposals.write_values(trial.params)
            state = self._look(trial.number, values)
            if state.word == "finished" and state.record is not None:
                choices.append(Choice(self.search, trial.number, state.record["metrics"][OBJECTIVE], values))
        return max(choices, key=lambda choice: (choice.accuracy, -choice.number), default=None)

    def _ask(self, study: optuna.Study) -> None:
        """Let the journal know of one more trial: what it tries, and what it must reach."""
        before, attributes = study.get_trials(deepcopy=False), {}
        params = proposals.propose(self.search, self.options, before)
        space = proposals.build_distributions(self.search.space)
        if self.options.pruner == "median":
            attributes[pruning.THRESHOLDS] = pruning.compute_thresholds(self.search.base.epochs or 0, before)
        study.add_trial(
            create_trial(state=TrialState.RUNNING, params=params, distributions=space, user_attrs=attributes)
        )

    def _tell(
        self, storage: JournalStorage, study: optuna.Study, number: int, values: dict[str, str], state: plan.State
    ) -> None:
        """What a trial came to: one that collapsed or was stopped to 0, so that no other is looked for beside it, one
        that was pruned to its curve."""
        assert state.record is not None
        finished = state.word == "finished"
        accuracy = state.record["metrics"][OBJECTIVE] if finished else 0.0
        if self.lost and number in self.lost:
            self.lost.discard(number)
        else:
            if self.options.pruner != "none":
                pruning.tell_curve(storage, self.search.study, number, state.folder)
            if state.word == record.PRUNED:
                study.tell(number, state=TrialState.PRUNED)
            else:
                study.tell(number, accuracy)
        outcome = f"{100 * accuracy:.1f} % on validation" if finished else f"{state.word}: {state.detail}"
        self.say(f"{self._title(number)}: {outcome} ({_words(values)})")


def _words(values: dict[str, str]) -> str:
    return " ".join(f"{name}={text}" for name, text in values.items())


def run(request: Request, train: Callable[[list[Settings]], int], say: Say) -> tuple[int, list[Choice | None]]:
    """Every trial that the request asks for. Returns the exit code, and the best of each search in their order.

    `train` trains cells to their end and returns 128 + N where signal N stopped it, as this then does. The code is 3
    where none could be had, as of another user's, and 1 where trials failed: the next command tries those once more,
    and counts what fails again as tried.
    """
    out = Path(request.runtime.out)
    folder = out / FOLDER
    searches = [Trials(search, request.options, out, say) for search in request.searches]
    seconds, trained = 0.0, 0  # of this command
    with journal.launch(folder) as launcher:
        while True:
            with journal.transaction(folder) as storage:
                of_others = launcher.list_cells_of_others()
                cells = [cell for trials in searches for cell in trials.advance(storage, of_others)]
                launcher.note([address.name_folder(cell) for cell in cells])
            if not cells and not any(trials.waits for trials in searches):
                break
            if not cells:
                time.sleep(WAIT)
                continue
            if trained:
                left = sum(trials.left for trials in searches)
                say(f"{quantify(left, 'trial')} to go, about {format_duration(left * seconds / trained)}")
            began = time.monotonic()
            code = train(cells)
            seconds, trained = seconds + time.monotonic() - began, trained + len(cells)
            states = plan.read_states(cells, out)
            if code >= 128 or all(state.record is None and (code or state.word != "running") for state in states):
                return code or 3, []  # stopped, or none of them could be trained here
        with journal.transaction(folder) as storage:
            best = [trials.choose(storage) for trials in searches]
    failed = sum(trials.failed for trials in searches)
    if failed:
        say(f"failed: {quantify(failed, 'trial')}; the same command tries again once, and then goes on without")
    return (1 if failed else 0), best
