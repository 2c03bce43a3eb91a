"""Trials that end early for being below the median of those before them; cells are curves here but for one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from commandline import run_in_process
from optuna.trial import FrozenTrial, TrialState

from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import parse_thresholds
from benchmark.tuning import journal, study
from benchmark.words import tune_words
from results import record

EPOCHS, FIRST = 10, 3  # of a training; the first at whose end a trial may be pruned
WORDS = ["methods=simclr", f"epochs={EPOCHS}", "pruner=median"]


def ask(out: Path, *words: str) -> tune_words.Request:
    return tune_words.read([*WORDS, *words, f"out={out}"])


def draw(cell: Settings) -> list[float]:
    """The accuracies of a cell by epoch, of 50 images: equal ones are common, and some fall. A function of its rate
    alone, which is searched, so that another preset leaves them as they are."""
    generator = np.random.default_rng(int(address.digest({"rate": cell.learning_rate}), 16))
    return [float(round(50 * share)) / 50 for share in generator.uniform(0.3, 0.9) + generator.normal(0, 0.1, EPOCHS)]


def judge(curve: list[float], cell: Settings) -> list[float]:
    """What of the curve there is when its cell has decided where to end."""
    for threshold in parse_thresholds(cell.prune_below):
        if max(curve[: threshold.epochs]) < threshold.accuracy:
            return curve[: threshold.epochs]
    return curve


def write(out: Path, cell: Settings, curve: list[float] | None = None) -> None:
    """The log and the record of a cell that has ended."""
    whole = curve or draw(cell)
    curve, folder = judge(whole, cell), out / address.name_folder(cell)
    folder.mkdir(parents=True)
    lines = [{"step": 5 * e, "epoch": e, record.VALIDATION: value} for e, value in enumerate(curve, 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pruned = len(curve) < len(whole)
    entry: dict[str, Any] = {"schema": 1, "key": address.hash_cell(cell), "protocol": "c0ffee", "purpose": record.TRIAL}
    entry |= {"status": "pruned" if pruned else "finished", "reason": "too low" if pruned else None}
    entry |= {"settings": address.identify(cell), "metrics": {} if pruned else {study.OBJECTIVE: curve[-1]}}
    entry |= {"cost": {}, "versions": {}, "commit": None, "dirty": None}
    record.write(folder, entry | {"started": record.now(), "finished": record.now()})


def train(out: Path, most: int = 99) -> study.Callable[[list[Settings]], int]:
    """Cells get their curves; killed behind so many."""

    def run(cells: list[Settings]) -> int:
        nonlocal most
        for cell in cells:
            if not most:
                raise KeyboardInterrupt
            most -= 1
            write(out, cell)
        return 0

    return run


def read_trials(out: Path, request: tune_words.Request) -> list[FrozenTrial]:
    with journal.transaction(out / "tuned") as storage:
        return journal.open_study(storage, request.searches[0].study).get_trials()


def list_facts(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    return [(t.params, t.state, t.values, t.intermediate_values, t.user_attrs) for t in trials]


def test_trials_end_where_optunas_median_pruner_ends_them(tmp_path: Path) -> None:
    request = ask(tmp_path, "trials=24")
    code, (best,) = study.run(request, train(tmp_path), lambda line: None)
    trials = read_trials(tmp_path, request)
    assert (code, len(trials)) == (0, 24)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=FIRST)

    def replay(trial: FrozenTrial) -> Iterator[int]:
        """The epochs that the trial has under Optuna's pruner, fed as a live study would feed it."""
        before, live = optuna.create_study(direction="maximize"), optuna.trial.create_trial(state=TrialState.RUNNING)
        before.add_trials(trials[: trial.number])
        cell = request.searches[0].trial(trial.number, study.proposals.write_values(trial.params))
        for epoch, accuracy in enumerate(draw(cell), 1):
            live.intermediate_values[epoch] = accuracy
            yield epoch
            if epoch < EPOCHS and pruner.prune(before, live):
                return

    for trial in trials:
        epochs = list(replay(trial))
        assert list(trial.intermediate_values) == epochs
        assert trial.state == (TrialState.COMPLETE if len(epochs) == EPOCHS else TrialState.PRUNED)
    states = [trial.state for trial in trials]
    assert 3 < states.count(TrialState.PRUNED) < 20
    assert best is not None
    assert best.accuracy == max(trial.value or 0 for trial in trials if trial.state == TrialState.COMPLETE)


def test_a_study_that_was_killed_or_lost_its_journal_has_the_trials_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole, killed = ask(tmp_path / "whole", "trials=14"), ask(tmp_path / "killed", "trials=14")
    assert study.run(whole, train(tmp_path / "whole"), lambda line: None)[0] == 0
    expected = list_facts(read_trials(tmp_path / "whole", whole))
    assert sum(state == TrialState.PRUNED for _, state, *_ in expected) > 2
    for most in (4, 0, 5, 3):
        with pytest.raises(KeyboardInterrupt):
            study.run(killed, train(tmp_path / "killed", most), lambda line: None)
    assert study.run(killed, train(tmp_path / "killed"), lambda line: None)[0] == 0
    assert list_facts(read_trials(tmp_path / "killed", killed)) == expected
    (tmp_path / "killed/tuned/journal.log").unlink()
    assert study.run(killed, train(tmp_path / "killed", 0), lambda line: None)[0] == 0, "nothing trains again"
    assert list_facts(read_trials(tmp_path / "killed", killed)) == expected
    number = next(number for number, (_, state, *_) in enumerate(expected, 1) if state == TrialState.PRUNED)
    (folder,) = (tmp_path / "killed").glob(f"*-trial{number}-*")
    log = (folder / "log.jsonl").read_text()
    shutil.rmtree(folder)
    assert study.run(killed, train(tmp_path / "killed", 1), lambda line: None)[0] == 0
    assert (folder / "log.jsonl").read_text() == log, "it runs again, and must reach what it had to"


def test_a_pruned_trial_is_a_cell_that_says_so_and_the_study_goes_on(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """The sixth is real, though of a training so short that no accuracy would be measured in it by itself."""
    words = ["methods=simclr", "dataset.limit=180", "view_size=16", "backbone=test_resnet", "stem=native", "epochs=2"]
    words += ["batch_size=32", "preset=none", "batch_norm=sync", "threads=1", "pruner=median", f"out={tmp_path}"]

    def finish(cells: list[Settings]) -> int:
        for cell in cells:
            write(tmp_path, cell, [1.0, 1.0])
        return 0

    assert study.run(tune_words.read([*words, "trials=5"]), finish, lambda line: None)[0] == 0
    result = run_in_process(["tune", *words, "trials=6", "final=no"], environment)
    assert result.returncode == 0, result.stderr
    (folder,) = tmp_path.glob("simclr-digits-trial6-*")
    entry = record.read(folder)
    assert entry is not None
    assert (entry["status"], entry["metrics"], entry["cost"]["views"]) == ("pruned", {}, 5 * 32 * 2)
    assert entry["reason"].endswith("% by epoch 1: the median of earlier trials at epoch 1 is 100 %")
    assert f"simclr trial 6 of 6: pruned: {entry['reason']}" in result.stderr
    assert entry["resolved"]["validation_curve"]["prune_below"] == [[1.0, 1]]
    assert not (folder / "last.pt").exists()
    with pytest.raises(ValueError, match="a trial's alone"):
        record.write(tmp_path / "cell", entry | {"purpose": None, "settings": {"method": "simclr"}})


def test_what_cannot_prune_anything_is_said_and_a_study_without_pruner_is_the_same_as_ever(tmp_path: Path) -> None:
    assert any("5 run to their end first" in note for note in ask(tmp_path, "trials=5").notes)
    assert any("epochs=1" in note for note in tune_words.read(["methods=simclr", "epochs=1", "pruner=median"]).notes)
    names = [
        tune_words.read(["methods=simclr", *words]).searches[0].study for words in ([], ["pruner=none"], WORDS[2:])
    ]
    assert names[0] == names[1] != names[2]
