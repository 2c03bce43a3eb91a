"""The digits' preset has what validation chose."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.settings.presets import digits
from benchmark.settings.presets.sourced import BY_VALIDATION

STUDIES = Path(__file__).parents[2] / "results/studies"
CHOICES = sorted((STUDIES / "digits_tuned/tuned").glob("*.json"))


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.name.partition("-")[0])
def test_a_tuned_method_of_the_digits_has_what_its_trials_chose(path: Path) -> None:
    study = json.loads(path.read_text())
    chosen = dict(word.split("=") for word in study["choice"]["words"])
    assert chosen.keys() == {f"{study['method']}.{name}" for name in study["space"]}
    for word, text in chosen.items():
        value, source = digits()[word]
        exact = float(text)
        assert float(value) == (exact if text.isdigit() else float(f"{exact:.2g}")), word
        assert float(value) == pytest.approx(exact, rel=0.04), "the rounding that the preset speaks of"
        assert source == f"{BY_VALIDATION} (docs/results/digits_tuned.md)"
