"""`like=NAME`: the words of a published protocol, which records follow it, and what the report says of both numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from commandline import run_in_process

from benchmark.cells import run
from benchmark.settings import address, like
from benchmark.settings.cell import Settings
from benchmark.settings.presets.published import PROTOCOLS
from benchmark.words import cell_words
from results import record
from results.frames import frame
from results.published import like as published
from results.published import numbers
from results.statistics.summaries import summarise

DKOBAK = "like=simclr-dkobak-100"


def read_cells(words: str) -> list[Settings]:
    return cell_words.read(words.split()).cells


def put(out: Path, words: str, metrics: Mapping[str, float], drop: tuple[str, ...] = (), **other: Any) -> None:
    """The record that a run of the one cell of these words would leave, but for its training."""
    (cell,) = read_cells(words)
    content = run.start_record(cell) | {"metrics": dict(metrics), "finished": record.now()} | other
    content["cost"] = {"device": "NVIDIA A", "processes": 1}
    content["resolved"] = {name: value for name, value in content["resolved"].items() if name not in drop}
    content["resolved"] |= {"test": {"images": 10_000, "classes": 10, "largest_class": 0.1, "references": 50_000}}
    record.write(out / address.name_folder(cell), content)


def compare(out: Path) -> list[dict[str, str]]:
    records, problems = frame.load(out)
    assert problems == []
    return [dict(zip(published.HEADER, row, strict=True)) for row in published.tabulate(records)[1:]]


def test_a_protocol_can_be_planned_where_its_dataset_is_not(tmp_path: Path, environment: dict[str, str]) -> None:
    plan = run_in_process(["plan", DKOBAK, "seeds=0,1"], environment, tmp_path)
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.endswith("2 cells: 0 exist, 2 would run\n")
    (note,) = [line for line in plan.stderr.splitlines() if "not found" in line]
    assert note.startswith("note: dataset cifar10 not found in 'data'")
    assert note.endswith("; planned as it is published, without a forecast of what the cells will cost")
    refusal = run_in_process(["run", DKOBAK], environment, tmp_path)
    assert (refusal.returncode, "cifar10 not found in 'data'" in refusal.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_s_cells_are_found_by_what_they_are_and_have_what_its_numbers_state(name: str) -> None:
    by_method = {cell.method: cell for cell in read_cells(f"like={name}")}
    assert tuple(by_method) == PROTOCOLS[name].methods
    assert {like.find(cell) for cell in by_method.values()} == {name}
    assert all("like" not in address.identify(cell) for cell in by_method.values())
    rows = numbers.load()
    rows = rows[rows["like"] == name]
    assert set(rows["method"]) == set(by_method)
    for row in rows.to_dict("records"):
        cell = by_method[row["method"]]
        stated = [row[key] for key in ("dataset", "backbone", "epochs", "batch_size")]
        assert stated == [cell.dataset.name, cell.backbone, cell.epochs, cell.batch_size]
        for key, value in (word.removeprefix("options.").split("=") for word in row["settings"].split()):
            assert numbers.simplify(cell.options[key]) == numbers.simplify(value), key


def test_the_same_words_typed_are_the_same_cell() -> None:
    words = [f"{key}={text}" for key, text in PROTOCOLS["simclr-dkobak-100"].words.items()]
    (by_hand,) = read_cells(" ".join(["methods=simclr preset=none", *words]))
    (by_name,) = read_cells(DKOBAK)
    assert address.hash_cell(by_hand) == address.hash_cell(by_name)
    assert run.start_record(by_hand)["resolved"]["like"] == "simclr-dkobak-100"
    assert "like" not in run.start_record(read_cells("methods=simclr dataset=cifar10")[0])["resolved"]


@pytest.mark.parametrize(
    ("words", "difference"),
    [
        ("seeds=3 precision=fp32 dataset.validation=0.02 dataset.root=elsewhere", None),
        ("epochs=10", "epochs=10 (100)"),
        ("temperature=0.2", "temperature=0.2 (0.5)"),
        ("dataset.limit=1000", "dataset.limit=1000 (0)"),
        ("microbatch=64", "microbatch=64 (0)"),
        ("learning_rate=x2", "learning_rate=0.12 (0.06)"),
    ],
)
def test_a_word_of_the_user_wins_and_the_cell_is_then_not_alike(words: str, difference: str | None) -> None:
    request = cell_words.read([DKOBAK, *words.split()])
    (cell,) = request.cells
    notes = [note for note in request.notes if "is not like=simclr-dkobak-100" in note]
    assert like.find(cell) == ("" if difference else "simclr-dkobak-100")
    assert [note.endswith(f": {difference}") for note in notes] == ([True] if difference else [])


def test_other_methods_take_what_all_share() -> None:
    request = cell_words.read(f"{DKOBAK} methods=simclr,random,byol".split())
    assert [(cell.method, cell.dataset.name, cell.epochs) for cell in request.cells] == [
        ("simclr", "cifar10", 100),
        ("random", "cifar10", None),
        ("byol", "cifar10", 100),
    ]
    (note,) = [note for note in request.notes if "is not like" in note]
    assert note.startswith("byol is not like=simclr-dkobak-100")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("like=simclr-dkobk", "did you mean 'simclr-dkobak-100'? (allowed: lightly-cifar10-200, moco-notebook-200"),
        (f"{DKOBAK} preset=cifar", "preset=cifar and like=simclr-dkobak-100: give one of them"),
        (f"{DKOBAK} settings=tuned", "settings=tuned and like=simclr-dkobak-100: give one of them"),
        (f"{DKOBAK},moco-notebook-200", "one value is needed"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    words: str, message: str, environment: dict[str, str], tmp_path: Path
) -> None:
    result = run_in_process(["run", *words.split()], environment, tmp_path)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert message in result.stderr


def test_both_numbers_are_compared_by_equivalence(tmp_path: Path) -> None:
    """Theirs: 85.6 linear and 83.2 by ten neighbours, of three runs each."""
    for seed, spread in enumerate((-0.001, 0.0, 0.001, 0.0)):
        metrics = {"linear_top1": 0.857 + spread, "knn20_top1": 0.83}
        put(tmp_path, f"{DKOBAK} seeds={seed}", metrics, drop=("like",) if seed == 3 else ())
        put(tmp_path, f"{DKOBAK} seeds={seed} epochs=10", {"linear_top1": 0.7, "knn20_top1": 0.7})
    knn, linear = compare(tmp_path)
    assert (linear["ours %"], linear["theirs %"], linear["verdict"]) == (
        "85.7 ± 0.1 (4 seeds)",
        "85.6 (3 runs)",
        "agrees",
    )
    assert linear["configuration"] == "simclr epochs=100", "as in the other tables"
    assert (knn["ours %"], knn["verdict"]) == ("–", "not measured; `evaluate evaluations=knn` adds it")
    assert "grey probability 0.1" in knn["source"]
    for cell in read_cells(f"{DKOBAK} seeds=0,1,2,3"):
        metrics = {"knn10_cosine_top1": 0.80 + cell.seed / 1000 if cell.seed is not None else 0.0}
        evaluation = {"protocol": "p", "settings": {}, "metrics": metrics, "seconds": 1.0, "finished": record.now()}
        record.write_evaluations(tmp_path / address.name_folder(cell), address.hash_cell(cell), {"knn": evaluation})
    knn, linear = compare(tmp_path)
    assert (knn["ours %"][:4], knn["theirs %"], knn["verdict"]) == ("80.2", "83.2 (3 runs)", "differs")
    records, _ = frame.load(tmp_path)
    assert summarise(records)["seeds"].tolist() == [4, 4], "a record of before stands with those that say it"


@pytest.mark.parametrize(
    ("values", "number", "verdict"),
    [
        ((0.856,), "85.6 (1 seed)", "cannot be told"),
        ((0.84, 0.88), "86.0", "cannot be told"),
        ((0.99, 0.999), "99.4 (93.7 to 100.0) (2 seeds)", "differs"),
        ((), "–", "no cell finished"),
    ],
)
def test_what_seeds_cannot_show_is_said(tmp_path: Path, values: tuple[float, ...], number: str, verdict: str) -> None:
    for seed, value in enumerate(values):
        put(tmp_path, f"{DKOBAK} seeds={seed}", {"linear_top1": value})
    if not values:
        put(tmp_path, DKOBAK, {}, status="collapsed", reason="loss stuck at ln 511")
    _, linear = compare(tmp_path)
    assert linear["ours %"].startswith(number)
    assert linear["verdict"] == verdict


@pytest.mark.usefixtures("no_figure_files")
def test_the_report_has_both_and_what_is_not_alike(environment: dict[str, str], tmp_path: Path) -> None:
    for seed in (0, 1):
        put(tmp_path, f"like=simsiam-cifar10-800 methods=simsiam seeds={seed}", {"linear_top1": 0.9 + seed / 1000})
        put(tmp_path, f"methods=simclr dataset=cifar10 seeds={seed}", {"linear_top1": 0.9})
    result = run_in_process(["report", f"out={tmp_path}"], environment)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "report/report.html").read_text(encoding="utf-8")
    for text in (result.stdout, (tmp_path / "report/table.md").read_text(encoding="utf-8"), page):
        assert "Like published protocols" in text
        assert "91.8 (runs not said)" in text
        for difference in PROTOCOLS["simsiam-cifar10-800"].differences:
            assert difference in text.replace("&#39;", "'")
        assert "91.1" not in text, "of SimCLR, which does not follow it"
    listing = run_in_process(["published"], environment)
    assert all(f"like={name}: {protocol.source}" in listing.stdout for name, protocol in PROTOCOLS.items())
    assert "published: simsiam 91.8 (linear_top1" in listing.stdout
    one = run_in_process(["published", "moco-notebook-200"], environment)
    assert one.stdout.count("like=") == 1
    assert "did you mean 'moco-notebook-200'" in run_in_process(["published", "moco-notebook"], environment).stderr
