"""One odd file in a folder of cells hinders no other cell, is believed by nobody, and is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commandline import run_in_process

from benchmark.cells import past_costs
from benchmark.training.log import Log
from results import record

WORDS = ["dataset.limit=60", "view_size=16", "backbone=test_resnet", "stem=native", "batch_size=8", "epochs=1"]
RANDOM = ["run", "methods=random", *WORDS, "seeds=0,1", "device=cpu", "threads=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Two cells that were not trained and one that was."""
    out = tmp_path_factory.mktemp("finished")
    assert run_in_process([*RANDOM, f"out={out}"], environment).returncode == 0
    words = ["run", "methods=simclr", *WORDS, "device=cpu", "threads=1", f"out={out}"]
    assert run_in_process(words, environment).returncode == 0
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def test_settings_that_are_lost(out: Path, environment: dict[str, str]) -> None:
    first, second = sorted(out.glob("random-*"))
    content = (first / "settings.json").read_text()
    (first / "settings.json").write_text("{")
    result = run_in_process(["evaluate", f"out={out}", "device=cpu", "threads=1", "evaluations=looks"], environment)
    assert result.returncode == 1
    assert f"{first.name}: failed: {first / 'settings.json'} cannot be read" in result.stderr
    assert (second / "evaluation.json").exists()
    (first / "settings.json").unlink()
    assert f"{first.name}" in run_in_process(["status", f"out={out}"], environment).stdout
    result = run_in_process(["resume", f"out={out}", "device=cpu"], environment)
    assert result.returncode == 2
    assert f"left out: {first / 'settings.json'} cannot be read" in result.stderr
    assert "remove" not in result.stderr
    assert run_in_process([*RANDOM, f"out={out}"], environment).returncode == 0
    assert json.loads((first / "settings.json").read_text()) == json.loads(content)


ODD_SETTINGS: list[dict[str, Any]] = [
    {"method": 7},
    {"options": []},
    {"seed": "x"},
    {"view_size": True},
    {"stem": {}},
    {"weights": 5},
    {"trial": [1]},
    {"dataset": {"name": 7}},
    {"dataset": {"name": "nosuch"}},
    {"dataset": {"limit": "x"}},
]


def test_settings_that_are_none_hinder_no_other_cell(out: Path, environment: dict[str, str]) -> None:
    first, second = sorted(out.glob("random-*"))
    for folder in (first, second):
        (folder / "record.json").unlink()
        (folder / "log.jsonl").touch()
    settings = json.loads((first / "settings.json").read_text())
    others = [shutil.copytree(first, out / f"{first.name}-{number}") for number, _ in enumerate(ODD_SETTINGS)]
    shutil.rmtree(first)
    for folder, change in zip(others, ODD_SETTINGS, strict=True):
        record.write_json(folder / "settings.json", settings | change)
    assert run_in_process(["status", f"out={out}"], environment).returncode == 0
    result = run_in_process(["resume", f"out={out}", "device=cpu", "threads=1"], environment)
    assert result.returncode == 2
    for folder in others:
        assert f"left out: {folder / 'settings.json'} cannot be read" in result.stderr
        assert not (folder / "record.json").exists()
    assert (second / "record.json").exists()


@pytest.mark.parametrize(
    "change",
    [{"settings": {"view_size": 0}}, {"cost": {"peak_memory_bytes": "x"}}, {"cost": {"evaluation_seconds": []}}],
    ids=str,
)
def test_a_record_that_says_nothing_of_costs_foretells_none(change: dict[str, Any], out: Path) -> None:
    (folder,) = out.glob("simclr-*")
    content = json.loads((folder / "record.json").read_text())
    (name,) = change
    record.write(folder, content | {name: content[name] | change[name]})
    ran = past_costs.read(out)
    assert len(ran) == 2
    assert past_costs.PastCosts(ran).rates


@pytest.mark.usefixtures("no_figure_files")
def test_a_record_of_another_cell_is_not_this_one_s(out: Path, environment: dict[str, str]) -> None:
    first, second = sorted(out.glob("random-*"))
    shutil.copy(second / "record.json", first)
    result = run_in_process([*RANDOM, f"out={out}"], environment)
    assert result.returncode == 2
    assert f"left out: {first / 'record.json'}: the record of another cell" in result.stderr
    result = run_in_process(["report", f"out={out}"], environment)
    assert f"left out: {first / 'record.json'}: the record of another cell" in result.stderr
    assert "1 broken, 2 finished" in run_in_process(["status", f"out={out}"], environment).stdout


ODD_LINES = ["[]", "3", '{"step": 1}', '{"step": 1, "loss": null}', f'{{"step": 1, "loss": {10**400}}}', "\x00"]
ODD_LINES += ["[" * 100_000]


def test_lines_of_a_log_that_are_none(out: Path, environment: dict[str, str]) -> None:
    """Each ends a log by itself, as what lies behind the first is not looked at; the last one's cell goes on."""
    (folder,) = out.glob("simclr-*")
    (folder / "record.json").unlink()
    log, whole = folder / "log.jsonl", (folder / "log.jsonl").read_text()
    for line in ODD_LINES:
        log.write_text(f"{whole}{line}\n")
        assert run_in_process(["status", f"out={out}"], environment).returncode == 0
        Log(log, 6, True, guard=lambda: None, report_line=lambda line: None)
        assert log.read_text() == whole
    log.write_text(f"{whole}{ODD_LINES[-1]}\n")
    result = run_in_process(["resume", f"out={out}", "device=cpu"], environment)
    assert result.returncode == 0, result.stderr
    assert [json.loads(text)["step"] for text in log.read_text().splitlines()] == [6]


def test_a_broken_checkpoint_of_a_finished_cell_is_no_reason_to_begin_anew(
    out: Path, environment: dict[str, str]
) -> None:
    (folder,) = out.glob("simclr-*")
    (folder / "last.pt").write_bytes(b"torn")
    result = run_in_process(["evaluate", f"out={out}", "device=cpu", "threads=1", "evaluations=looks"], environment)
    assert result.returncode == 1
    assert "last.pt is no checkpoint" in result.stderr
    assert "its record stands" in result.stderr
    assert "anew" not in result.stderr
    assert len(list(out.glob("random-*/evaluation.json"))) == 2
