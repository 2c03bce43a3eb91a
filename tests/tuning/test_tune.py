"""`tune` as a user meets it, with trainings of a second: the test set is withheld, and what was chosen is used."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE, fork, run_in_process

from benchmark.data import datasets
from benchmark.data.source import Indices, Rows, Source, Withheld, WithheldRead
from benchmark.training import build
from results import record

SMALL = ["dataset.limit=180", "view_size=16", "backbone=test_resnet", "stem=native", "batch_size=32", "epochs=1"]
SMALL += ["preset=none", "batch_norm=sync", "threads=1"]
WORDS = ["methods=random,simclr,moco", "moco.queue=64", "trials=2", *SMALL]


def read_records(out: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/record.json"))}


@pytest.fixture
def untouchable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The digits, whose test images raise when they are read."""
    source = datasets._digits()

    def refuse(indices: Indices) -> Any:
        raise WithheldRead("somebody reads the test set")

    guarded = Source(source.training, Rows(source.test.labels, refuse), source.class_names)
    monkeypatch.setattr(datasets, "_digits", lambda: guarded)
    build.load_dataset.cache_clear()
    yield
    build.load_dataset.cache_clear()


@pytest.mark.usefixtures("untouchable")
def test_no_trial_reads_the_test_set(tmp_path: Path, environment: dict[str, str]) -> None:
    words = ["tune", "methods=simclr", "trials=2", *SMALL, f"out={tmp_path}"]
    result = run_in_process([*words, "final=no"], environment)
    assert result.returncode == 0, result.stderr
    records = read_records(tmp_path)
    assert len(records) == 2
    for name, entry in records.items():
        assert "-trial" in name
        assert (entry["purpose"], entry["status"]) == ("tune", "finished")
        assert set(entry["metrics"]) <= set(record.TRIAL_METRICS)
        assert entry["resolved"]["test"] == {}
        assert not (tmp_path / name / record.LOOKS_NAME).exists()
    refusal = run_in_process(["evaluate", f"cells={next(iter(records))}", f"out={tmp_path}"], environment)
    assert (refusal.returncode, "never sees the test set" in refusal.stderr) == (2, True)
    refusal = run_in_process(
        ["export", str(tmp_path / next(iter(records))), f"out={tmp_path / 'encoder'}"], environment
    )
    assert (refusal.returncode, "a trial keeps no encoder" in refusal.stderr) == (2, True)
    assert run_in_process(["evaluate", f"out={tmp_path}"], environment).returncode == 0
    assert list(tmp_path.glob("*/evaluation.json")) == []
    with pytest.raises(WithheldRead, match="somebody reads"):  # the guard bites: what was chosen is shown the test set
        run_in_process(words, environment)


def test_whatever_is_asked_of_a_withheld_test_set_raises() -> None:
    withheld = Withheld()
    for read in (lambda: withheld.images, lambda: withheld.labels, lambda: len(withheld)):
        with pytest.raises(WithheldRead):
            read()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A whole study, and what it said."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"}
    out = tmp_path_factory.mktemp("tuned")
    result = run_in_process(["tune", *WORDS, "seeds=3", f"out={out}"], environment)
    assert result.returncode == 0, result.stderr
    return out, result


def test_what_was_chosen_runs_with_fresh_seeds_as_ordinary_cells(
    tuned: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, result = tuned
    records = read_records(out)
    ordinary = {e["settings"]["method"]: e for e in records.values() if "purpose" not in e}
    assert {method: entry["settings"]["seed"] for method, entry in ordinary.items()} == dict.fromkeys(
        ("moco", "random", "simclr"), 3
    )
    for method in ("simclr", "moco"):
        trials = [e for e in records.values() if "purpose" in e and e["settings"]["method"] == method]
        assert {entry["settings"]["seed"] for entry in trials} == {0}
        best = max(trials, key=lambda entry: entry["metrics"]["linear_validation_top1"])["settings"]
        assert ordinary[method]["settings"] == {name: best[name] for name in best if name != "trial"} | {"seed": 3}
        assert "linear_top1" in ordinary[method]["metrics"]
    assert "trial 2 of 2" in result.stderr
    assert "\n2 trials to go, about " in result.stderr
    assert "\n0 trials" not in result.stderr
    assert "random does not train: no trials" in result.stderr


def test_the_same_command_again_trains_nothing(
    tuned: tuple[Path, subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    out, _ = tuned
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
    assert run_in_process(["tune", *WORDS, "seeds=3", f"out={out}"], environment).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*-*/*")} == {
        path: stamp for path, stamp in before.items() if "-" in path.parent.name
    }


def test_settings_tuned_are_the_chosen_ones_and_a_word_of_the_user_wins(
    tuned: tuple[Path, subprocess.CompletedProcess[str]], environment: dict[str, str]
) -> None:
    out, _ = tuned
    usual = [word for word in WORDS if not word.startswith("trials")]
    plan = run_in_process(["plan", *usual, "seeds=3", "settings=tuned", f"out={out}", "--quick"], environment)
    assert plan.stdout.endswith("3 cells: 3 exist, 0 would run\n"), plan.stdout + plan.stderr
    rows = {line.split()[1]: line for line in plan.stdout.splitlines()[:-1]}
    choices = [line.split(".", 1) for line in (out / "tuned/digits.txt").read_text().splitlines() if line[:1].isalpha()]
    assert len(choices) > 3
    assert all(word.partition("=")[0] + "=" in rows[method] for method, word in choices), "what was chosen is shown"
    assert "=" not in rows["random"]
    words = ["plan", *usual, "seeds=3", f"settings={out / 'tuned/digits.txt'}", "simclr.temperature=0.3", "--quick"]
    own = run_in_process([*words, f"out={out}"], environment)
    assert own.stdout.endswith("3 cells: 2 exist, 1 would run\n"), own.stdout
    assert "tuned elsewhere" not in plan.stderr + own.stderr
    other = [word for word in usual if not word.startswith("epochs")]
    elsewhere = run_in_process(["plan", *other, "epochs=2,3", "settings=tuned", f"out={out}", "--quick"], environment)
    notes = [line for line in elsewhere.stderr.splitlines() if "tuned elsewhere" in line]
    assert notes == [
        "note: settings=tuned was tuned elsewhere, and may not fit: simclr, moco with epochs=1 (here 2, 3)"
    ]
    silent = run_in_process(
        ["plan", *SMALL, "methods=simclr,swav", "settings=tuned", f"out={out}", "--quick"], environment
    )
    assert "swav: settings=tuned says nothing of it" in silent.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("simclr.temprature=0.1", "simclr has no temprature; did you mean 'temperature'"),
        ("simclr.temperature=0.1,0.2", "one value is needed"),
        ("simclr.temperature=x2", "mine.txt: simclr.temperature=x2: a finite number is needed"),
        ("out=elsewhere", "out= cannot stand there"),
        ("seeds=3", "seeds= cannot stand there"),
        ("learning_rate=warm", "mine.txt: learning_rate=warm: a finite number is needed"),
        ("temperature", "is not key=value"),
    ],
)
def test_a_file_of_settings_that_cannot_be_meant_is_refused(
    tmp_path: Path, environment: dict[str, str], text: str, message: str
) -> None:
    (tmp_path / "mine.txt").write_text(f"# mine\n\n{text}\n")
    result = run_in_process(
        ["plan", "methods=simclr", f"settings={tmp_path / 'mine.txt'}", "--quick"], environment, tmp_path
    )
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["methods=simclr", "trails=3"], "did you mean 'trials'"),
        (["methods=simclr", "sampler=tp"], "did you mean 'tpe'"),
        (["methods=simclr", "pruner=medain"], "did you mean 'median'"),
        (["methods=simclr", "pruner=median", "evaluate_every=0"], "pruner=median needs accuracies while trials train"),
        (["methods=random"], "none of these methods trains"),
        (["methods=deepcluster", "prototypes=10,3000"], "prototypes=3000: at most the 1213 training images"),
        (["methods=simclr", "seeds=0,1"], "seeds=0: every trial has that seed"),
        (
            ["methods=simclr,moco", "moco.epochs=3"],
            "every method gets the same epochs, and these have simclr 10, moco 3",
        ),
        (["methods=simclr", "epochs=1,2"], "one value is needed, which every trial has"),
        (["methods=simclr", "ablation=temperature"], "does not go with tune"),
        (["methods=rotation", "learning_rate=1", "weight_decay=0"], "rotation: there is nothing to search"),
        (["methods=simclr", "temperature=0.1,-1"], "temperature must be above 0"),
        (["methods=simclr", "device=cpu,cuda"], "one value is needed, device is not an axis"),
        (["methods=simclr", "budget=3"], "budget= does not hold for tune"),
        (["methods=simclr", "settings=tuned"], "settings=tuned: no runs/tuned/digits.txt"),
    ],
)
def test_bad_words_are_one_line_and_write_nothing(
    tmp_path: Path, environment: dict[str, str], words: list[str], message: str
) -> None:
    result = run_in_process(["tune", *words], environment, tmp_path)
    assert (result.returncode, len(result.stderr.splitlines()), result.stdout) == (2, 1, ""), result.stderr
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_optuna_one_line_says_what_to_install(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "optuna" else find(name, *more)
    )
    result = run_in_process(["tune", "methods=simclr"], environment, tmp_path)
    assert (result.returncode, result.stderr) == (
        2,
        "error: tune needs Optuna, which is not installed: pip install '.[tune]'\n",
    )
    assert list(tmp_path.iterdir()) == []


PLUGIN = '''"""Mine."""
from dataclasses import dataclass
from methods.method import Method
class Mine(Method):
    search_space = {SPACE}
    @dataclass(frozen=True)
    class Config:
        depth: int = 2  # layers
        mode: str = "soft"  # of the assignment
'''


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ('{"depth": (1, 64), "mode": ("soft", "hard")}', ""),
        ('{"deep": (1, 64)}', "search_space has 'deep', no option of it; did you mean 'depth'"),
        ('{"depth": (64, 1)}', "two numbers, 0 < low < high, or several texts are needed"),
        ('{"mode": (0.1, 1.0)}', "or several texts are needed"),
        ('{"depth": ("two", "4")}', "a whole number is needed"),
    ],
)
def test_a_plugin_declares_its_own_space(write_plugin: Callable[[str], str], space: str, message: str) -> None:
    from benchmark.errors import UsageError
    from benchmark.words import tune_words

    name = write_plugin(PLUGIN.replace("{SPACE}", space))
    if message:
        with pytest.raises(UsageError, match="mine") as error:
            tune_words.read([f"methods={name}"])
        assert message in str(error.value)
        return
    (search,) = tune_words.read([f"methods={name}"]).searches
    assert list(search.space) == ["learning_rate", "weight_decay", "depth", "mode"]
    from benchmark.tuning import proposals

    tried = proposals.write_values(proposals.propose(search, tune_words.Options(), []))
    assert 1 <= search.cell(tried).options["depth"] <= 64


@pytest.mark.slow
def test_two_launchers_one_of_them_killed_and_a_third_lose_no_trial(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    call = ["tune", "methods=simclr,moco", "moco.queue=64", "trials=4", *SMALL, "final=no", f"out={tmp_path}"]
    first, second = (fork(call, environment, tmp_path / f"{name}.txt") for name in ("first", "second"))
    while first.is_alive() and not list(tmp_path.glob("*/log.jsonl")):
        time.sleep(0.01)
    first.kill()
    first.join()
    third = run_in_process(
        [*call, "launcher=local", "workers=1", "at_once=2"], environment
    )  # whose worker is a process
    second.join(PATIENCE)
    assert second.exitcode == 0, (tmp_path / "second.txt").read_text()
    assert third.returncode == 0, third.stderr
    records = read_records(tmp_path)
    trials = sorted(entry["settings"]["trial"].partition("/")[::2] for entry in records.values())
    assert [number for _, number in trials] == ["1", "2", "3", "4"] * 2
    assert {entry["status"] for entry in records.values()} == {"finished"}
    assert list((tmp_path / "tuned/launchers").iterdir()) == []


def test_tune_says_where_methods_had_other_budgets(tmp_path: Path, environment: dict[str, str]) -> None:
    words = [*SMALL, "final=no", f"out={tmp_path}"]
    single = run_in_process(["tune", "methods=simclr", "trials=2", *words], environment)
    assert "budgets" not in single.stderr
    other = run_in_process(["tune", "methods=byol", "trials=1", *words], environment)
    last = other.stderr.splitlines()[-1]
    assert last.startswith("note: digits: budgets of tuning differ, so the ranks are not of methods alone. ")
    assert "2 trials of 1 epoch: simclr" in last
    assert "1 trial of 1 epoch: byol" in last
    more = run_in_process(["tune", "methods=byol", "trials=2", *words], environment)
    assert "budgets" not in more.stderr


def test_a_trial_that_is_stopped_is_told_and_a_plugin_of_a_file_is_left_alone(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ["methods=simclr", *(w for w in SMALL if not w.startswith("epochs")), "epochs=2", f"out={tmp_path}"]
    result = run_in_process(
        ["tune", *words, "trials=2", "evaluate_every=1", "stop_below=99@1", "final=no"], environment
    )
    assert "stopped" in result.stderr
    assert {entry["status"] for entry in read_records(tmp_path).values()} == {"stopped"}
    assert len(read_records(tmp_path)) == 2
    file = tmp_path / "settings.txt"
    file.write_text("my_method.learning_rate=0.1\nsimclr.temperature=0.3\n")
    result = run_in_process(["plan", *words, f"settings={file}", "--quick"], environment)
    assert result.returncode == 0, result.stderr
    file.write_text("simclrr.temperature=0.3\n")
    assert "simclrr" in run_in_process(["plan", *words, f"settings={file}", "--quick"], environment).stderr
