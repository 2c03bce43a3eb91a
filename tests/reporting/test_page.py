"""The report's folder, and its page in a real browser: it sorts, opens settings, draws, and asks no network."""

from __future__ import annotations

import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
from commandline import wait_until
from test_report import put

from benchmark.__main__ import main
from benchmark.cli import reporting
from results.frames.frame import load
from results.report import report
from results.statistics.summaries import summarise
from results.tables.formats import to_markdown

EVIL = "<script>alert(1)</script> <img src=http://example.org/x onerror=alert(2)> 100 % of $5_000 & {a|b}~^"


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of records with all that a report can show, and its report."""
    out = tmp_path_factory.mktemp("study")
    synthetic.write(126, out, ("simclr", "moco"))
    put(out / "evil", "moco", status="failed", reason=EVIL, protocol="aaaaaaaaaaaa", note=EVIL)
    put(out / "evil", "moco", accuracy=0.5, protocol="bbbbbbbbbbbb", note="<a href=http://example.org>x</a>")
    frame, problems = load(out)
    folder, notes = report.write(out, frame, [*problems, f"{out}: {EVIL}"], extras=[("Words", [["a"], [EVIL]])])
    assert (folder, notes) == (out / "report", [])
    return out


def read_page(out: Path) -> str:
    return (out / "report/report.html").read_text()


def read_data(page: str, name: str) -> Any:
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', page, flags=re.DOTALL)
    return json.loads(text)


def test_the_folder_holds_every_form_of_the_same_numbers(study: Path) -> None:
    folder, frame = study / "report", load(study)[0]
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.html", "table.md", "table.tex", "results.csv", "results.parquet", "figures"}
    summary = summarise(frame)
    csv = pd.read_csv(folder / "results.csv")
    assert sorted(csv["metrics.linear_top1.mean"].dropna()) == sorted(summary["metrics.linear_top1.mean"].dropna())
    back = pd.read_parquet(folder / "results.parquet")
    assert list(back) == list(frame)
    numbers = [name for name in frame if name.startswith(("metrics.", "cost.")) and name != "cost.device"]
    pd.testing.assert_frame_equal(back[numbers], frame[numbers])
    assert back["key"].tolist() == frame["key"].tolist()
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {name.rpartition(".")[0] + ".svg" for name in figures if not name.startswith("neighbours")} <= figures
    assert {name.rpartition(".")[0] + ".png" for name in figures} <= figures
    assert any(name.startswith("cost_hours") for name in figures)


def test_a_column_of_many_kinds_goes_through_parquet(tmp_path: Path) -> None:
    for value in (4096, "x2", 0.5, None, True):
        put(tmp_path, options={"queue": value})
    back = pd.read_parquet(io.BytesIO(report.to_parquet(load(tmp_path)[0])))
    assert back["options.queue"].tolist()[:3] == ["4096", "x2", "0.5"]
    assert [pd.isna(value) for value in back["options.queue"]] == [False, False, False, True, False]
    assert report.to_parquet(load(tmp_path / "none")[0])


def test_latex_is_escaped_and_balanced(study: Path) -> None:
    text = (study / "report/table.tex").read_text()
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert (body[0][:16], body[-1]) == (r"\begin{tabular}{", r"\end{tabular}")
    assert [line for line in body if line in (r"\toprule", r"\midrule", r"\bottomrule")] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]
    columns = len(body[0].removeprefix(r"\begin{tabular}{").rstrip("}"))
    rows = [line for line in body if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}
    assert not re.search(r"(?<!\\)[%#_]", "".join(rows))
    assert {row.count("{") - row.count("}") for row in rows} == {0}
    assert r"100 \% of \$5\_000 \& \{a\textbar{}b\}\textasciitilde{}\textasciicircum{}" in text
    assert r"$\pm$" in text


def test_the_page_holds_every_configuration_and_its_cells(study: Path) -> None:
    page, frame = read_page(study), load(study)[0]
    summary, data = summarise(frame), read_data(page, "cells")
    rows = re.findall(r'<tr data-row="(\d+)">', page)
    assert sorted(map(int, rows)) == list(range(len(summary)))
    assert len(data["configurations"]) == len(summary)
    key, folder = data["columns"].index("key"), data["columns"].index("folder")
    for number, one in enumerate(data["configurations"]):
        settings = data["common"] | one["settings"]
        assert settings["method"] == summary.loc[number, "method"]
        temperature = summary.loc[number, "options.temperature"]
        assert pd.isna(temperature) or float(settings["options.temperature"]) == temperature
        cells = frame[frame["folder"].isin(summary.loc[number, "folders"].split("; "))]
        assert {cell[key] for cell in one["cells"]} == set(cells["key"])
        for cell in one["cells"]:
            assert (study / "report" / data["base"] / cell[folder] / "record.json").exists()
    words = data["words"]["protocol"]
    assert words == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]


def list_addresses(page: str) -> list[str]:
    texts: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            texts.extend(value or "" for name, value in attributes if name in ("src", "href", "srcset", "action"))

    Parser().feed(page)
    return texts


def test_what_records_say_is_text(study: Path) -> None:
    page = read_page(study)
    assert "<script>alert" not in page
    assert "<img src=http" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert list_addresses(page)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in list_addresses(page))
    assert all(
        "<"
        not in json.dumps(one).replace("<br>", "").replace("<b>", "").replace("</b>", "").replace("<extra></extra>", "")
        for one in read_data(page, "figures")
    )


@pytest.mark.usefixtures("no_figure_files")
def test_an_earlier_report_is_replaced_and_other_files_are_left(tmp_path: Path) -> None:
    put(tmp_path, accuracy=0.9)
    report.write(tmp_path, *load(tmp_path))
    (tmp_path / "report/notes.txt").write_text("mine")
    before = read_page(tmp_path)
    put(tmp_path, "simclr", accuracy=0.8)
    report.write(tmp_path, *load(tmp_path))
    assert before != read_page(tmp_path)
    assert "simclr" in read_page(tmp_path)
    assert (tmp_path / "report/notes.txt").read_text() == "mine"
    assert not list((tmp_path / "report").rglob("*.tmp"))
    assert len(load(tmp_path)[0]) == 2, "a report is no record"


def test_the_command_writes_it_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method, accuracy in (("moco", 0.9), ("simclr", 0.8)):
        for seed in range(2):
            put(tmp_path, method, seed, accuracy + seed / 100)
    assert main(["report", f"out={tmp_path}", "reference=simclr"]) == 0
    printed = capsys.readouterr()
    assert "Ranks and differences" in printed.out
    assert printed.err == f"wrote {tmp_path}/report/report.html and, beside it, tables and figures as files\n"
    page = read_page(tmp_path)
    assert "minus simclr" in page
    links = re.findall(r'<a href="#[^"]+">([^<]+)</a>', page[page.index("<nav") : page.index("</nav>")])
    assert len(links) > 2
    assert len(set(links)) == len(links), "two links of one name lead to a reader's guess"
    assert "minus simclr" in (tmp_path / "report/table.md").read_text()


def test_a_report_where_nothing_finished_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for temperature in (0.1, 0.2):
        put(tmp_path, status="failed", reason="out of memory", options={"temperature": temperature})
    put(tmp_path, "simclr", status="collapsed", reason="effective rank 1.0")
    assert main(["report", f"out={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert "no finished run" in printed
    folder, page = tmp_path / "report", read_page(tmp_path)
    assert "3 cells of 2 methods: 0 finished, 2 failed, 1 collapsed." in page
    assert "None has a linear top-1." in page
    table = (folder / "table.md").read_text()
    assert "| moco | 0.1 | 0 | – | 1 failed: out of memory |" in table
    assert "| simclr | – | 0 | – | 1 collapsed: effective rank 1.0 |" in table
    assert pd.read_csv(folder / "results.csv")["seeds"].tolist() == [0, 0, 0]
    assert len(pd.read_parquet(folder / "results.parquet")) == 3
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "accuracy.png",
        "accuracy.svg",
        "temperature.png",
        "temperature.svg",
    }


def test_a_report_of_a_single_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, accuracy=0.912)
    assert main(["report", f"out={tmp_path}"]) == 0
    assert "1 seed: no interval" in capsys.readouterr().out
    page, folder = read_page(tmp_path), tmp_path / "report"
    assert "1 cell of 1 method: 1 finished, 0 failed, 0 collapsed." in page
    assert "The highest linear top-1 is 91.2 % by moco." in page
    assert "Ranks and differences" not in (folder / "table.md").read_text(), "there is nothing to tell it from"
    assert "#extra-" not in page, "no link leads to a table without rows"
    assert pd.read_csv(folder / "results.csv")["configuration"].tolist() == ["moco"]
    assert {path.name for path in (folder / "figures").iterdir()} == {"accuracy.png", "accuracy.svg"}


def test_the_verdict_is_on_the_terminal_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        put(tmp_path, accuracy=0.80 + seed / 100, seed=seed)
        put(tmp_path, "simclr", accuracy=0.82 - seed / 100, seed=seed)
    assert main(["report", f"out={tmp_path}"]) == 0
    (verdict,) = [line for line in capsys.readouterr().out.splitlines() if "The highest" in line]
    assert verdict.startswith("- digits, protocol ")
    assert "Both may be the best, for nothing is significantly better than them: " in verdict
    assert verdict.removeprefix("- ") in html.unescape(read_page(tmp_path))


def test_the_verdict_says_what_is_better_than_the_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(4):
        for method, accuracy in (("random", 0.60), ("moco", 0.601), ("simclr", 0.80), ("swav", 0.40)):
            put(tmp_path, method, accuracy=accuracy + seed % 2 / 1000, seed=seed)
    assert main(["report", f"out={tmp_path}", "reference=random"]) == 0
    answer = (
        "Compared with random alone, significantly better: simclr; significantly worse: swav; "
        "no significant difference: moco."
    )
    assert answer in capsys.readouterr().out
    assert answer in html.unescape(read_page(tmp_path))


def test_run_gives_the_intervals_that_report_gives_in_whatever_order_cells_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        for number, method in enumerate(("moco", "simclr", "swav", "byol")):
            put(tmp_path, method, accuracy=0.7 + 0.03 * number + 0.02 * seed * (number - 1), seed=seed)
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    tables = []
    for order in (folders, folders[::-1]):
        reporting.print_records(tmp_path, order)
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1]


def test_a_long_table_is_cut_on_the_terminal_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(63):
        put(tmp_path, accuracy=0.9, options={"queue": 1000 + number})
    for number in range(61):
        put(tmp_path, "simclr", status="failed", reason="why", options={"queue": 1000 + number})
    reporting.print_records(tmp_path, [path for path in tmp_path.iterdir() if path.is_dir()])
    printed = " ".join(capsys.readouterr().out.split())
    assert "and 64 more configurations, in the report" in printed
    assert "and 1 more did not finish" in printed
    assert (printed.count("moco"), printed.count(": 1 failed: why")) == (60, 60)
    reporting.print_sections([("Title", [["a"], *[["x"]] * 62])])
    assert capsys.readouterr().out.split("\n")[-2] == "and 2 more, in the report"
    assert to_markdown(summarise(load(tmp_path)[0])).count("\n| moco") == 63


@pytest.mark.usefixtures("no_figure_files")
def test_a_page_grows_by_little_with_each_record(tmp_path: Path) -> None:
    """By less than 2 kB beside 2 MB of scripts: two thousand records make less than 6 MB."""
    synthetic.write(600, tmp_path)
    folder, _ = report.write(tmp_path, *load(tmp_path))
    assert (folder / "report.html").stat().st_size < 3.2e6
    assert len(re.findall("<tr data-row", read_page(tmp_path))) == 200


def test_the_page_in_a_browser(browser: Any, study: Path) -> None:
    browser.get("about:blank")  # what another page said and asked is no part of this
    for name in ("browser", "performance"):
        browser.get_log(name)
    browser.get((study / "report/report.html").as_uri())
    run = browser.execute_script

    def read_column(index: int) -> list[str]:
        return run(f"return [...document.querySelectorAll('.opens tbody tr')].map(r => r.cells[{index}].textContent)")

    headers = run("return [...document.querySelectorAll('.opens th')].map(h => h.textContent)")
    at = headers.index("linear top-1 %")
    for numbers_first in (False, True):
        run(f"document.querySelectorAll('.opens th button')[{at}].click()")
        texts = read_column(at)
        numbers = [float(text.split()[0]) for text in texts if text != "–"]
        assert texts.index("–") == len(numbers), "what has no number comes last"
        assert numbers == sorted(numbers, reverse=not numbers_first)
        assert len(set(numbers)) > 10
    assert run(f"return document.querySelectorAll('.opens th')[{at}].getAttribute('aria-sort')") == "ascending"
    run(f"document.querySelectorAll('.opens th button')[{headers.index('augmentation')}].click()")
    words = [text for text in read_column(headers.index("augmentation")) if text != "–"]
    assert words == sorted(words)

    run(
        "document.querySelector('input[type=search]').value = 'moco 0.05';"
        "document.querySelector('input[type=search]').dispatchEvent(new Event('input'))"
    )
    matches = run(
        "return [...document.querySelectorAll('.opens tbody tr')].filter(r => !r.hidden).map(r => r.textContent)"
    )
    assert matches
    assert all("moco" in text and "0.05" in text for text in matches)

    first = browser.find_element("css selector", ".opens tbody tr:not([hidden]) .open")
    first.click()
    dialog = run("return document.querySelector('dialog[open]').textContent")
    assert all(word in dialog for word in ("moco", "aaaaaaaaaaaa", "options.temperature", "0123456789", "head_dim"))
    run("document.querySelector('dialog').close()")
    run(
        "for (const row of document.querySelectorAll('.opens tbody tr')) {"
        "  row.hidden = false; row.click(); document.querySelector('dialog').close(); }"
    )
    assert run("return document.querySelectorAll('img[src^=http], a[href^=http]').length") == 0

    plots = run("return document.querySelectorAll('.plot').length")
    assert plots > 8
    marks = ".points path, .scatterlayer path, .heatmaplayer image, .errorbars path"
    for number in range(plots):
        run(f"document.querySelectorAll('.plot')[{number}].scrollIntoView()")
        count = f"return document.querySelectorAll('.plot')[{number}].querySelectorAll('{marks}').length"
        wait_until(lambda count=count: run(count), f"figure {number} has no marks")
    button = "[...document.querySelectorAll('[data-choice]')].find(b => b.textContent === 'hours')"
    run(f"{button}.click()")
    title = f"return {button}.closest('figure').querySelector('.xtitle').textContent"
    wait_until(lambda: run(title).startswith("hours"), "the other axis is not drawn")

    errors = [line for line in browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]
    assert errors == []
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    requests = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert requests
    assert {address.split(":")[0] for address in requests} <= {"file", "data", "blob"}


def test_a_telephone_shows_the_best_first_and_cuts_no_figure(browser: Any, study: Path) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get((study / "report/report.html").as_uri())
        run = browser.execute_script
        assert run("return document.documentElement.scrollWidth") == 390, "a wide table scrolls in a box of its own"
        headers = run("return [...document.querySelectorAll('.opens th')].map(h => h.textContent)")
        assert headers[:2] == ["method", "linear top-1 %"]
        texts = run("return [...document.querySelectorAll('.opens tbody tr')].map(r => r.cells[1].textContent)")
        numbers = [float(text.split()[0]) for text in texts if text != "–"]
        assert len(numbers) > 10
        assert numbers == sorted(numbers, reverse=True)
        edges = run(
            "return [...document.querySelector('.opens tbody tr').cells].map(c => c.getBoundingClientRect().right)"
        )
        assert edges[1] <= 390, "the best one's accuracy is on the screen"
        for number in range(run("return document.querySelectorAll('.plot').length")):
            figure = f"document.querySelectorAll('.plot')[{number}]"
            run(f"{figure}.scrollIntoView()")
            wait_until(
                lambda figure=figure: run(f"return {figure}.querySelector('.main-svg')"), f"{figure} is not drawn"
            )
            assert run(f"return {figure}.querySelector('.main-svg').getBoundingClientRect().right") <= 390
        assert run("return document.documentElement.scrollWidth") == 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.usefixtures("no_figure_files")
def test_settings_are_written_as_the_command_line_takes_them(tmp_path: Path) -> None:
    options = {"rate": 1e-7, "on": True, "off": False, "big": 2**40, "none": None}
    put(tmp_path, options=options)
    settings = report_settings(tmp_path)
    assert {name: settings[f"options.{name}"] for name in options} == {
        "rate": "1e-07",
        "on": "true",
        "off": "false",
        "big": "1099511627776",
        "none": "–",
    }
    assert settings["batch_size"] == "256"


def report_settings(out: Path) -> dict[str, Any]:
    report.write(out, *load(out))
    return read_data(read_page(out), "cells")["common"]
