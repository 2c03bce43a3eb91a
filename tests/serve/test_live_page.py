"""The live page in a real browser, on a desk and on a telephone: it follows the folder, and nothing is cut."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sweep_folder
from commandline import wait_until

from benchmark.serve.server import Server

EVIL = "<img src=http://example.org/x onerror=alert(1)> " + "a_long_word_without_a_gap" * 8
STATES = "return [...document.querySelectorAll('tbody tr[data-cell]')].map(r => [r.dataset.cell, r.dataset.state])"


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Of cells that run, have failed, have finished and wait."""
    folders = [sweep_folder.write_waiting(tmp_path / "runs", "simclr", seed, temperature=0.1) for seed in range(4)]
    for folder, steps in zip(folders, (120, 60, 200), strict=False):
        sweep_folder.log(folder, steps)
    sweep_folder.hold(folders[0], "gpu-07", "4711_3")
    sweep_folder.end(folders[1], "failed", EVIL)
    sweep_folder.end(folders[2])
    return folders


@pytest.fixture
def address(folders: list[Path]) -> Iterator[str]:
    with Server(folders[0].parent, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def read_states(browser: Any) -> dict[str, str]:
    """Cell -> its state, in the order of the rows."""
    return dict(browser.execute_script(STATES))


@pytest.mark.parametrize("width", [1300, 390])
def test_the_page_follows_the_folder_and_cuts_nothing(
    browser: Any, folders: list[Path], address: str, width: int
) -> None:
    browser.get("about:blank")  # what another page said and asked is no part of this
    for name in ("browser", "performance"):
        browser.get_log(name)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    run = browser.execute_script

    def read_text(folder: Path) -> str:
        return run(f"return document.querySelector('[data-cell=\"{folder.name}\"]').innerText")

    try:
        browser.get(address)
        wait_until(lambda: len(read_states(browser)) == 4, "the cells are not shown")
        assert list(read_states(browser).values()) == ["running", "failed", "finished", "new"], (
            "what needs a look comes first"
        )
        assert "1 running" in run("return document.querySelector('.states').innerText").replace("\n", " ")
        assert all(
            part in read_text(folders[0]) for part in ("seed=0", "6 of 10", "2.116", "83.2", "gpu-07, job 4711_3")
        )
        assert EVIL in read_text(folders[1]).replace("\n", " "), "a reason is text"
        sparks = f"return document.querySelectorAll('[data-cell=\"{folders[0].name}\"] .spark polyline').length"
        wait_until(lambda: run(sparks) == 2, "the curves of what runs are not drawn")
        run(f"document.querySelector('[data-cell=\"{folders[2].name}\"] .open').click()")
        wait_until(lambda: run("return document.querySelectorAll('.detail .curve polyline').length") == 2, "no curves")
        assert run("return document.documentElement.scrollWidth") == width
        edges = run(
            "return [...document.querySelectorAll('td, button, .curve')].map(n => n.getBoundingClientRect().right)"
        )
        assert max(edges) <= width

        run("window.mark = 'the same page'")
        points = "return document.querySelector('.spark polyline').getAttribute('points').split(' ').length"
        before = run(points)
        sweep_folder.log(folders[0], 160)
        wait_until(lambda: "8 of 10" in read_text(folders[0]), "the log has grown, and the page has not")
        wait_until(lambda: run(points) > before, "the curve does not grow")
        sweep_folder.end(folders[0])
        wait_until(
            lambda: read_states(browser)[folders[0].name] == "finished",
            "the cell has ended, and the page does not say so",
        )
        later = sweep_folder.write_waiting(folders[0].parent, "moco")
        wait_until(lambda: later.name in read_states(browser), "a new cell is not shown")
        assert run("return document.querySelectorAll('.detail').length") == 1, "what was opened stays open"
        assert run("return window.mark") == "the same page"
        assert run("return document.title").startswith("3/5")
        assert "python -m benchmark report out=" in run("return document.querySelector('.report').innerText")
        report = folders[0].parent / "report/report.html"
        report.parent.mkdir()
        report.write_text("<!doctype html><title>of the records</title>")
        wait_until(
            lambda: run("return document.querySelector('.report a') !== null"), "the report is there, and no link"
        )
        run("document.querySelector('.report a').click()")
        wait_until(lambda: run("return document.title") == "of the records", "the report does not open")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")] == []
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    requests = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert requests
    assert all(url.startswith((address, "data:")) for url in requests), "nothing is asked of a network"


def test_it_says_when_the_server_is_gone_and_goes_on_when_it_is_back(
    browser: Any, folders: list[Path], environment: dict[str, str]
) -> None:
    news = "return document.querySelector('.news').innerText"

    def start(port: str) -> tuple[subprocess.Popen[str], str]:
        call = [sys.executable, "-m", "benchmark", "serve", f"out={folders[0].parent}", f"port={port}"]
        process = subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, re.findall(r"http://[\d.]+:(\d+)/", process.stdout.readline())[0]

    process, port = start("0")
    browser.get(f"http://127.0.0.1:{port}/")
    wait_until(lambda: len(read_states(browser)) == 4, "the cells are not shown")
    process.kill()
    process.wait()
    wait_until(
        lambda: "No answer since" in browser.execute_script(news), "the page does not say that the server is gone"
    )
    assert len(read_states(browser)) == 4
    process, _ = start(port)
    wait_until(lambda: browser.execute_script(news) == "", "the page does not say that the server is back")
    process.kill()
    process.wait()
