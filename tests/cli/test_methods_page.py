"""docs/methods.md and docs/presets.md say what the code says; that they are current `make lint` looks at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import methods
from benchmark.cli import methods_page
from benchmark.settings import presets
from benchmark.settings.presets import transformers
from benchmark.settings.presets.sourced import BY_TRIALS, BY_VALIDATION, NOT_TUNED

# What a source names: a paper or a part of it, its code, or a library's configuration.
CITED = re.compile(
    r"\b(paper|section|appendix|table|arXiv|codes?|scripts?|commands|README|MINIMAL\.md|notebook)\b"
    r"|configuration|benchmark|eb_jepa's"
)


def test_an_old_page_is_found_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "methods.md"
    page.write_text("# Methods\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["methods_page", "--check"])
    monkeypatch.setattr(methods_page, "build_page", lambda: "# Methods\n\nsimclr\n")
    monkeypatch.setattr(methods_page.presets_page, "page", lambda: "")
    assert methods_page.main() == 1
    assert "+simclr" in capsys.readouterr().err
    assert page.read_text() == "# Methods\n"


def test_every_method_has_a_family() -> None:
    for name in methods.names():
        description = methods.describe(name)
        assert description.family in methods.FAMILIES, name


def test_cost_is_in_proportion_to_what_is_encoded() -> None:
    """One view is half of two; keys without a gradient are a third of a view with one."""
    one, two, momentum = (methods_page._describe_work(name) for name in ("supervised", "simclr", "moco"))
    assert one / two == pytest.approx(0.5, rel=0.01)
    assert momentum / two == pytest.approx((3 + 1) / 6, rel=0.02)


def test_every_value_of_a_preset_says_where_it_is_from() -> None:
    tables = [preset() for preset in presets.PRESETS.values()]
    tables += [transformers.for_all(), transformers.on_small_views(), transformers.on_large_views()]
    sources = {
        (word, source) for table in [*tables, transformers.on_few_steps()] for word, (_, source) in table.items()
    }
    own = (NOT_TUNED, BY_TRIALS, BY_VALIDATION)
    assert [pair for pair in sources if not pair[1].startswith(own) and not CITED.search(pair[1])] == []


@pytest.mark.parametrize("preset", ["cifar", "imagenet"])
def test_no_method_has_another_s_rate_unsaid(preset: str) -> None:
    trainable = {name for name in methods.names() if methods.describe(name).trains}
    assert {name for name in trainable if f"{name}.learning_rate" not in presets.PRESETS[preset]()} == set()
