"""docs/methods.md says what the methods say."""

from __future__ import annotations

from pathlib import Path

import pytest

import methods
from benchmark.cli import methods_page


def test_the_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr("sys.argv", ["methods_page", "--check"])
    assert methods_page.main() == 0, "python -m benchmark.cli.methods_page"


def test_an_old_page_is_found_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "methods.md"
    page.write_text("# Methods\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["methods_page", "--check"])
    monkeypatch.setattr(methods_page, "page", lambda: "# Methods\n\nsimclr\n")
    assert methods_page.main() == 1
    assert "+simclr" in capsys.readouterr().err
    assert page.read_text() == "# Methods\n"


def test_every_method_has_a_family() -> None:
    for name in methods.names():
        found = methods.describe(name)
        assert found.family in methods.FAMILIES, name


def test_cost_is_in_proportion_to_what_is_encoded() -> None:
    """One view is half of two; keys without a gradient are a third of a view with one."""
    one, two, momentum = (methods_page._work(name) for name in ("supervised", "simclr", "moco"))
    assert one / two == pytest.approx(0.5, rel=0.01)
    assert momentum / two == pytest.approx((3 + 1) / 6, rel=0.02)
