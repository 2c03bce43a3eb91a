"""The trials of a study, whatever happens to its launchers; cells are records here, without a training."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.tuning import journal, study
from benchmark.words import tune_words
from results import record

WORDS = ["methods=simclr,moco", "moco.queue=64,128"]
Train = Callable[[list[Settings]], int]


def ask(out: Path, *words: str) -> tune_words.Request:
    return tune_words.read([*WORDS, *words, f"out={out}"])


def compute_accuracy(cell: Settings) -> float:
    """The best rate is 0.1."""
    assert cell.learning_rate is not None
    return round(1 / (1 + abs(cell.learning_rate - 0.1)), 6)


def write(out: Path, cell: Settings, status: str = "finished") -> None:
    metrics = {"linear_validation_top1": compute_accuracy(cell)} if status == "finished" else {}
    record.write(
        out / address.name_folder(cell),
        {
            "schema": 1,
            "key": address.hash_cell(cell),
            "protocol": "c0ffee",
            "status": status,
            "reason": None if status == "finished" else "no such luck",
            "settings": address.identify(cell),
            "metrics": metrics,
            "cost": {},
            "versions": {},
            "commit": None,
            "dirty": None,
            "started": record.now(),
            "finished": record.now(),
            "purpose": record.TRIAL,
        },
    )


def train(out: Path, failures: tuple[str, ...] = (), status: str = "failed") -> Train:
    """Each cell gets its record; those whose names begin with one of `failures` that `status`."""

    def run(cells: list[Settings]) -> int:
        for cell in cells:
            write(out, cell, status if address.name_folder(cell).startswith(failures) else "finished")
        return 0

    return run


def list_trials(out: Path) -> list[tuple[str, float | None]]:
    """(study/number, rate) of every record, sorted."""
    settings = [json.loads(path.read_text())["settings"] for path in out.glob("*/record.json")]
    return sorted((values["trial"], values["learning_rate"]) for values in settings)


def test_every_method_gets_the_same_number_of_trials_and_the_best_is_chosen(tmp_path: Path) -> None:
    code, best = study.run(ask(tmp_path, "trials=12"), train(tmp_path), lambda line: None)
    assert code == 0
    assert [choice.search.method for choice in best if choice] == ["simclr", "moco"]
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/record.json")]
    for choice in filter(None, best):
        own = [entry for entry in records if entry["settings"]["method"] == choice.search.method]
        assert len(own) == 12
        assert choice.accuracy == max(entry["metrics"]["linear_validation_top1"] for entry in own)
        assert compute_accuracy(choice.cell) == choice.accuracy
        assert (choice.cell.trial, choice.cell.seed) == ("", 0)
        rates = [entry["settings"]["learning_rate"] for entry in own]
        assert len(set(rates)) == 12
        assert all(0.01 <= rate <= 1 for rate in rates)


def test_more_trials_go_on_from_those_that_there_are(tmp_path: Path) -> None:
    study.run(ask(tmp_path, "trials=3"), train(tmp_path), lambda line: None)
    before = list_trials(tmp_path)
    study.run(ask(tmp_path, "trials=5"), train(tmp_path), lambda line: None)
    assert set(before) < set(list_trials(tmp_path))
    assert len(list_trials(tmp_path)) == 10


@pytest.mark.parametrize("words", [("sampler=tpe",), ("sampler=random",), ("at_once=3",)])
def test_killed_anywhere_and_resumed_it_ends_with_the_trials_of_an_undisturbed_study(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Killed behind the asking, and between two cells of a round; past the random start of TPE."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    study.run(ask(whole, "trials=13", *words), train(whole), lambda line: None)
    for count in (0, 3, 4, 1, 0, 2):

        def die(cells: list[Settings], count: int = count) -> int:
            for cell in cells[:count]:
                write(killed, cell)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            study.run(ask(killed, "trials=13", *words), die, lambda line: None)
    with (killed / "tuned/journal.log").open("a") as file:
        file.write('{"op_code": 6, "trial_id": ')  # a disk was full
    code, best = study.run(ask(killed, "trials=13", *words), train(killed), lambda line: None)
    assert code == 0
    assert list_trials(killed) == list_trials(whole)
    assert [choice.number for choice in best if choice] == [
        choice.number for choice in study.run(ask(whole, "trials=13", *words), train(whole), print)[1] if choice
    ]


@pytest.mark.parametrize("words", [("trials=12",), ("trials=12", "at_once=3")])
def test_without_its_journal_a_study_finds_its_trials_again(tmp_path: Path, words: tuple[str, ...]) -> None:
    study.run(ask(tmp_path, *words), train(tmp_path), lambda line: None)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/record.json")}
    (tmp_path / "tuned/journal.log").unlink()

    def refuse(cells: list[Settings]) -> int:
        raise AssertionError(f"trained again: {cells}")

    assert study.run(ask(tmp_path, *words), refuse, lambda line: None)[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/record.json")}


def test_launchers_beside_each_other_share_the_trials_and_lose_none(tmp_path: Path) -> None:
    names: list[str] = []
    lock, both = threading.Lock(), threading.Barrier(2)

    def train_slowly(cells: list[Settings]) -> int:
        with lock:
            first = len(names) < 4
            names.extend(address.name_folder(cell) for cell in cells)
        if first:
            both.wait(timeout=60)  # neither goes on before the other has some
        return train(tmp_path)(cells)

    codes: list[int] = []

    def launch() -> None:
        codes.append(study.run(ask(tmp_path, "trials=8"), train_slowly, lambda line: None)[0])

    threads = [threading.Thread(target=launch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert codes == [0, 0]
    assert len(names) == len(set(names)) == 16, "no cell is trained twice"
    numbers = [trial.rpartition("/")[2] for trial, _ in list_trials(tmp_path)]
    assert sorted(numbers, key=int) == [str(number) for number in range(1, 9) for _ in range(2)]
    assert list((tmp_path / "tuned" / journal.LAUNCHERS).iterdir()) == []


def test_a_trial_that_fails_is_tried_once_more_by_the_next_command_and_then_counted(tmp_path: Path) -> None:
    lines: list[str] = []
    failures = ("moco-digits-trial2-",)
    request = ask(tmp_path, "trials=3")
    assert study.run(request, train(tmp_path, failures), lines.append)[0] == 1
    assert len(list_trials(tmp_path)) == 6, "the others are not held up"
    assert lines[-1].startswith("failed: 1 trial; the same command tries again once")
    second: list[str] = []

    def train_again(cells: list[Settings]) -> int:
        second.extend(address.name_folder(cell) for cell in cells)
        return train(tmp_path, failures)(cells)

    code, best = study.run(request, train_again, lines.append)
    assert code == 0, "two commands have tried it"
    assert [name.startswith(failures) for name in second] == [True]
    assert all(best)
    assert study.run(request, train_again, lines.append)[0] == 0
    assert len(second) == 1


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_a_trial_whose_folder_was_removed_is_said_and_runs_again(tmp_path: Path, status: str) -> None:
    """It was told, by which later trials went: nothing else changes, and it is chosen as before."""
    words = ("trials=5", "sampler=tpe")
    _, before = study.run(ask(tmp_path, *words), train(tmp_path), lambda line: None)
    whole, best = list_trials(tmp_path), before[0]
    assert best is not None
    (gone,) = (path for path in tmp_path.glob(f"simclr-*trial{best.number + 1}-*") if path.is_dir())
    shutil.rmtree(gone)
    cells_again: list[Settings] = []

    def train_again(cells: list[Settings], status: str = status) -> int:
        cells_again.extend(cells)
        return train(tmp_path, (gone.name,) if status == "failed" else ())(cells)

    lines: list[str] = []
    code, after = study.run(ask(tmp_path, *words), train_again, lines.append)
    assert [address.name_folder(cell) for cell in cells_again] == [gone.name]
    assert f"simclr trial {best.number + 1} of 5: it has no record any more and runs again (learning_rate=" in lines[0]
    if status == "failed":  # the next command tries once more
        assert code == 1
        code, after = study.run(ask(tmp_path, *words), train(tmp_path), lines.append)
    assert (code, after, list_trials(tmp_path)) == (0, before, whole)
    code, _ = study.run(ask(tmp_path, *words), lambda cells: pytest.fail("nothing is left to train"), lines.append)
    assert code == 0


def test_a_collapsed_trial_is_never_chosen(tmp_path: Path) -> None:
    collapses = tuple(f"simclr-digits-trial{number}-" for number in (1, 2, 3))
    code, best = study.run(ask(tmp_path, "trials=3"), train(tmp_path, collapses, "collapsed"), lambda line: None)
    assert (code, best[0]) == (0, None)
    assert best[1] is not None


def test_a_launcher_that_trains_nothing_ends(tmp_path: Path) -> None:
    """As where no worker is left."""
    assert study.run(ask(tmp_path, "trials=2"), lambda cells: 1, lambda line: None) == (1, [])
    assert study.run(ask(tmp_path, "trials=2"), lambda cells: 143, lambda line: None) == (143, [])
    assert study.run(ask(tmp_path, "trials=2"), train(tmp_path), lambda line: None)[0] == 0


@pytest.mark.parametrize(
    ("metrics", "changes", "message"),
    [
        ({"linear_validation_top1": 0.5, "linear_top1": 0.5}, {}, "it has linear_top1"),
        ({"linear_validation_top1": 0.5, "knn20_top1": 0.5}, {"purpose": None}, "has purpose 'tune'"),
    ],
)
def test_no_record_of_a_trial_can_hold_a_test_number(
    tmp_path: Path, metrics: dict[str, float], changes: dict[str, Any], message: str
) -> None:
    request = ask(tmp_path)
    cell = request.searches[0].trial(0, {})
    write(tmp_path, cell)
    folder = tmp_path / address.name_folder(cell)
    entry = record.read(folder)
    assert entry is not None
    with pytest.raises(ValueError, match=message):
        record.write(folder, entry | {"metrics": metrics} | changes)


def test_words_that_change_what_is_searched_are_another_study(tmp_path: Path) -> None:
    names = {
        ask(tmp_path, *words).searches[0].study
        for words in ((), ("epochs=3",), ("temperature=0.1,0.2",), ("sampler=random",), ("search_seed=1", "seeds=3"))
    }
    assert len(names) == 5
    assert ask(tmp_path, "trials=3", "seeds=7,8").searches[0].study == ask(tmp_path).searches[0].study


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    study.run(ask(tmp_path, "trials=2"), train(tmp_path), lambda line: None)
    path = next(tmp_path.glob("simclr-*/record.json"))
    path.write_text("{")
    (tmp_path / "tuned/journal.log").unlink()
    with pytest.raises(UsageError, match=path.parent.name):
        study.run(ask(tmp_path, "trials=2"), train(tmp_path), lambda line: None)


@pytest.mark.parametrize("kind", ["garbage", "half", "link"])
def test_a_journal_that_cannot_be_read_is_named_and_not_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tuned/journal.log"
    path.parent.mkdir()
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("garbage\n\n" if kind == "garbage" else '{"op_code": 0}\n')
    message = "a link, which is not followed" if kind == "link" else "cannot be read .* finds the trials' cells again"
    with pytest.raises(OSError if kind == "link" else UsageError, match=message):
        study.run(ask(tmp_path), train(tmp_path), lambda line: None)
    assert not (tmp_path / "elsewhere").exists()
    path.unlink()
    assert study.run(ask(tmp_path, "trials=1"), train(tmp_path), lambda line: None)[0] == 0
