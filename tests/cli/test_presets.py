"""The digits' preset has what validation chose, and what was trained with other settings can be trained again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import docs_commands
import pytest

from benchmark.settings import address
from benchmark.settings.presets import digits
from benchmark.settings.presets.sourced import BY_VALIDATION
from benchmark.words import cell_words

STUDIES = docs_commands.ROOT / "results/studies"
CHOICES = sorted((STUDIES / "digits_tuned/tuned").glob("*.json"))


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.name.partition("-")[0])
def test_a_tuned_method_of_the_digits_has_what_its_trials_chose(path: Path) -> None:
    study = json.loads(path.read_text())
    choice = dict(word.split("=") for word in study["choice"]["words"])
    assert choice.keys() == {f"{study['method']}.{name}" for name in study["space"]}
    for word, text in choice.items():
        value, source = digits()[word]
        exact = float(text)
        assert float(value) == (exact if text.isdigit() else float(f"{exact:.2g}")), word
        assert float(value) == pytest.approx(exact, rel=0.04), "the rounding that the preset speaks of"
        assert source == f"{BY_VALIDATION} (docs/results/digits_tuned.md)"


@pytest.mark.parametrize("study", ["digits_all", "digits_newer"])
def test_the_words_on_a_page_give_the_cells_that_were_trained_before_the_tuning(study: str) -> None:
    text = (docs_commands.ROOT / f"docs/results/{study}.md").read_text(encoding="utf-8")
    command = docs_commands.find_blocks(text, "bash")[0]  # the page's own, before the records
    cells = cell_words.read(shlex.split(command)[4:]).cells
    keys = {path.name.rpartition("-")[2] for path in (STUDIES / study).glob("*-*")}
    assert len(cells) >= 6
    assert {address.hash_cell(cell) for cell in cells} <= keys
