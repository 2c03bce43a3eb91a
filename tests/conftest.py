"""What all tests share."""

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import methods
from benchmark.start import let_threads_sleep

ROOT = Path(__file__).parent.parent
let_threads_sleep()
survey_store = tempfile.TemporaryDirectory(prefix="contrastive-benchmark-tests-")
os.environ["XDG_CACHE_HOME"] = survey_store.name
os.environ["TRACKIO_DIR"] = f"{survey_store.name}/trackio"
os.environ["WANDB_MODE"] = "disabled"  # whoever runs the tests may have a key, and wandb=auto would use it


@pytest.fixture(scope="module", autouse=True)
def leave_imports_uncollected() -> None:
    """Half a million objects of imported modules stay to the end; a full collection goes through what is newer."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a child process that runs `python -m benchmark` from any folder."""
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.fixture
def no_figure_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures as files beside the page, whose drawing is most of a report's time."""
    from results.report import report

    monkeypatch.setattr(report, "_write_figures", lambda *arguments: None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium that keeps its console and what it asks of a network."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = program
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def write_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a method's source as the module `mine` of a package outside of this project; returns its dotted path."""

    def write(source: str) -> str:
        package = tmp_path / f"plugin_{tmp_path.name}"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "mine.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
        methods.trust([f"{package.name}.mine"])
        return f"{package.name}.mine"

    return write


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, and say so, what needs a GPU where there is none."""
    if not any("gpu" in item.keywords for item in items):
        return
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
