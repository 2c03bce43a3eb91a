"""What a report says of trials: they are in no ranking, their section is right, and unequal budgets are said."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from commandline import run_in_process

from results import record
from results.frames import frame, trials
from results.statistics import tuning
from results.tables import tuning as tables

SPACE = {"learning_rate": [0.01, 1.0], "temperature": [0.05, 1.0]}


def put(out: Path, method: str, number: int, accuracy: float | None, rate: float, **changes: Any) -> None:
    """A trial; None collapsed. Its search is called after its method."""
    entry = synthetic._record(
        method, 0, synthetic.USUAL, f"{method[:4]:0<4}{number:06d}", accuracy or 0.0, accuracy is None
    )
    entry["settings"] |= {"learning_rate": rate, "trial": f"{method}-digits-0123456789/{number}"} | changes
    entry |= {"purpose": "tune", "protocol": "bbbbbbbbbbbb"}
    entry["metrics"] = {} if accuracy is None else {"linear_validation_top1": accuracy}
    record.write(out / f"{method}-digits-trial{number}-{entry['key']}", entry)


def put_final(out: Path, method: str, rate: float, seeds: int = 3) -> None:
    for seed in range(1, seeds + 1):
        entry = synthetic._record(
            method, seed, synthetic.USUAL, f"{method[:4]:0<4}{100 + seed:06d}", 0.8 + seed / 100, False
        )
        entry["settings"] |= {"learning_rate": rate}
        record.write(out / f"{method}-digits-{entry['key']}", entry)


def put_search(out: Path, method: str, accuracies: list[float | None], budget: int) -> None:
    for number, accuracy in enumerate(accuracies, 1):
        put(out, method, number, accuracy, 0.05 * 2 ** (number - 1))
    note = {"space": SPACE, "trials": budget, "sampler": "tpe"}
    record.write_json(out / f"tuned/{method}-digits-0123456789.json", note)


def change_all(out: Path, pattern: str, trials: bool = True, **changes: dict[str, Any]) -> None:
    """Parts of the records in the folders of this pattern."""
    for path in out.glob(f"{pattern}/record.json"):
        entry = json.loads(path.read_text())
        if trials or "purpose" not in entry:
            entry |= {name: entry[name] | change for name, change in changes.items()}
            path.write_text(json.dumps({k: v for k, v in entry.items() if k != "checksum"}))


def test_the_expected_best_is_that_of_all_draws() -> None:
    """By enumeration: the mean of the largest of n draws with replacement."""
    values = [0.3, 0.9, 0.5, 0.5]
    for n, expected in enumerate(tuning.expect_best(values), 1):
        assert expected == pytest.approx(np.mean([max(draw) for draw in itertools.product(values, repeat=n)]))
    assert tuning.expect_best([0.7]).tolist() == [0.7]


def test_the_section_has_budget_peak_and_curve(tmp_path: Path) -> None:
    put_search(tmp_path, "simclr", [0.5, 0.9, 0.8, None], budget=6)
    (search,) = trials.load(tmp_path)
    assert (search.lost, search.asked, search.searched) == (1, 6, ("learning_rate", "options.temperature"))
    near = tuning.measure_sensitivity(search)
    assert near == tuning.Sensitivity(low=0.5, high=0.9, count=3, lost=0), "rates 0.05 to 0.2 about 0.1"
    (_, (header, row)), (_, (counts, curve)) = tables.tabulate([search])
    cells = dict(zip(header, row, strict=True))
    assert {
        "trials": "4 of 6 (tpe)",
        "lost": "1",
        "epochs": "100",
        "searched": "2",
        "best %": "90.0",
    }.items() <= cells.items()
    assert cells["rate x0.5 to x2"] == "50.0 to 90.0 (3 trials)"
    assert cells["chosen"] == "learning_rate=0.1 temperature=0.2"
    assert cells["hours"] == f"{4 * (3600 + 256 + 20) / 3600:.2f}"
    assert (counts, curve) == (["method", "1", "2", "4"], ["simclr", "55.0", "73.8", "84.8"])


def test_a_pruned_trial_is_of_the_budget_and_its_last_value_is_no_result(tmp_path: Path) -> None:
    put_search(tmp_path, "simclr", [0.5, 0.9, None, 0.7], budget=4)
    put_search(tmp_path, "moco", [0.6, 0.8, 0.7, 0.7], budget=4)
    for path in tmp_path.glob("simclr-digits-trial3-*/record.json"):
        entry = json.loads(path.read_text()) | {"status": "pruned"}
        entry["cost"] |= {"seconds": 600.0, "validation_seconds": 36.0, "views": 1_000_000}
        path.write_text(json.dumps({name: value for name, value in entry.items() if name != "checksum"}))
    searches = trials.load(tmp_path)
    simclr = searches[1]
    assert (simclr.lost, simclr.pruned, simclr.budget) == (0, 1, "4 trials of 100 epochs")
    assert tuning.measure_sensitivity(simclr) == tuning.Sensitivity(low=0.5, high=0.9, count=3, lost=0, pruned=1)
    (_, (header, first, _)), (title, (_, curve, _)) = tables.tabulate(searches)
    cells = dict(zip(header, first, strict=True))
    assert (cells["trials"], cells["lost"], cells["pruned"]) == ("4 (tpe)", "0", "1")
    assert cells["rate x0.5 to x2"] == "50.0 to 90.0 (3 trials, 1 pruned)"
    assert cells["hours"] == f"{(3 * (3600 + 256 + 20) + 600 + 36 + 20) / 3600:.2f}"
    assert title.endswith("(a pruned trial counts as 0: a lower bound where there are some)")
    assert curve[1] == "52.5", "of one trial: the mean of 50, 90, 0 and 70"
    for method in ("simclr", "moco"):
        put_final(tmp_path, method, 0.1)
    (sentence,) = tuning.explain_budgets(frame.load(tmp_path)[0], searches)
    assert "with the same budget, 4 trials of 100 epochs (0 to 1 trials pruned, " in sentence


def test_trials_are_in_no_table_of_accuracies(tmp_path: Path, environment: Mapping[str, str]) -> None:
    put_search(tmp_path, "simclr", [0.5, 0.9], budget=2)
    put_search(tmp_path, "moco", [0.6, 0.7], budget=2)
    put_final(tmp_path, "simclr", 0.1)
    put_final(tmp_path, "moco", 0.1)
    records, problems = frame.load(tmp_path)
    assert (len(records), problems) == (6, [])
    assert not records.filter(like="validation").notna().any(axis=None)
    result = run_in_process(["report", f"out={tmp_path}"], environment)
    assert result.returncode == 0, result.stderr
    assert "Tuning: each method's budget" in result.stdout
    assert "digits: every method's settings were chosen with the same budget, 2 trials of 100 epochs (" in result.stdout
    page = (tmp_path / "report/report.html").read_text()
    assert "Accuracy against trials" in page
    assert "chosen with the same budget" in page
    assert (tmp_path / "report/figures/tuning-digits.svg").exists()
    assert "Tuning: expected best" in (tmp_path / "report/table.md").read_text()
    assert "-trial" not in (tmp_path / "report/results.csv").read_text()


@pytest.mark.parametrize("case", ["fewer trials", "other epochs", "untuned"])
def test_unequal_budgets_are_said_beside_the_ranks(tmp_path: Path, case: str) -> None:
    put_search(tmp_path, "simclr", [0.5, 0.9, 0.6], budget=3)
    put_final(tmp_path, "simclr", 0.1)
    put_final(tmp_path, "moco", 0.1)
    if case != "untuned":
        put_search(tmp_path, "moco", [0.6, 0.7, 0.1][: 2 if case == "fewer trials" else 3], budget=3)
    if case == "other epochs":
        change_all(tmp_path, "moco-digits-trial*", settings={"epochs": 50})
    (sentence,) = tuning.explain_budgets(frame.load(tmp_path)[0], trials.load(tmp_path))
    assert sentence.startswith("digits: budgets of tuning differ, so the ranks are not of methods alone.")
    assert "3 trials of 100 epochs: simclr" in sentence
    other = {"fewer trials": "2 trials of 100 epochs", "other epochs": "3 trials of 50 epochs"}
    assert f"{other.get(case, 'none (preset or words)')}: moco" in sentence


def test_a_longer_training_of_what_was_chosen_keeps_its_budget_and_views_are_said(tmp_path: Path) -> None:
    for method in ("simclr", "moco"):
        put_search(tmp_path, method, [0.5, 0.9], budget=2)
        put_final(tmp_path, method, 0.1)
    change_all(tmp_path, "simclr-digits-trial*", cost={"views": 5_000_000})
    change_all(tmp_path, "*-digits-*[0-9]", settings={"epochs": 500}, trials=False)
    (sentence,) = tuning.explain_budgets(frame.load(tmp_path)[0], trials.load(tmp_path))
    assert sentence == (
        "digits: every method's settings were chosen with the same budget, 2 trials of 100 epochs "
        "(10,000,000 to 40,000,000 views a method)."
    )


def test_a_second_search_of_a_method_is_budget_too(tmp_path: Path) -> None:
    for method in ("simclr", "moco"):
        put_search(tmp_path, method, [0.5, 0.9], budget=2)
        put_final(tmp_path, method, 0.1)
    for number, rate in ((3, 0.4), (4, 0.8)):
        second = "simclr-digits-aaaaaaaaaa"
        put(tmp_path, "simclr", number, 0.6 + rate / 10, rate, trial=f"{second}/{number - 2}")
    note = {"space": SPACE, "trials": 2, "sampler": "tpe", "choice": {"at": "2026-01-01"}}
    record.write_json(tmp_path / "tuned/simclr-digits-aaaaaaaaaa.json", note)
    for seed in (1, 2):
        entry = synthetic._record("simclr", seed, synthetic.USUAL, f"simc{200 + seed:06d}", 0.8, False)
        entry["settings"] |= {"learning_rate": 0.8}
        record.write(tmp_path / f"simclr-digits-{entry['key']}", entry)
    (sentence,) = tuning.explain_budgets(frame.load(tmp_path)[0], trials.load(tmp_path))
    assert "2 trials of 100 epochs and 2 trials of 100 epochs: simclr" in sentence
    assert tuning.compare_budgets(trials.load(tmp_path)) == [], "the latest of each"
    put(tmp_path, "simclr", 5, 0.1, 0.1, trial="simclr-digits-aaaaaaaaaa/3")
    (sentence,) = tuning.compare_budgets(trials.load(tmp_path))
    assert "3 trials of 100 epochs: simclr" in sentence


def test_without_trials_nothing_is_said(tmp_path: Path) -> None:
    put_final(tmp_path, "simclr", 0.1)
    assert trials.load(tmp_path) == []
    assert tables.tabulate([]) == []
    assert tuning.explain_budgets(frame.load(tmp_path)[0], []) == []


@pytest.mark.usefixtures("no_figure_files")
def test_trials_alone_make_a_report(tmp_path: Path, environment: Mapping[str, str]) -> None:
    put_search(tmp_path, "simclr", [0.5, None], budget=2)
    result = run_in_process(["report", f"out={tmp_path}"], environment)
    assert result.returncode == 0, result.stderr
    assert "budget, and what it found" in (tmp_path / "report/report.html").read_text()
