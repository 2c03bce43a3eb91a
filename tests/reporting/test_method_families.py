"""The family of a method: from its class into the record, and from records into groups of rows and marks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
from test_report import put

import methods
from benchmark.cells import run
from benchmark.settings import resolve
from results import record
from results.figures import draw_matplotlib, draw_plotly, summary_charts
from results.figures.chart import Chart
from results.figures.palette import choose_styles
from results.frames import method_families
from results.frames.frame import find_settings, load
from results.report import report
from results.statistics import compare
from results.statistics.comparable import group_comparables
from results.statistics.summaries import find_varying, summarise
from results.tables import evaluations
from results.tables.formats import to_markdown
from results.tables.terminal import to_rich


def add_family(folder: Path, family: Any) -> Path:
    """The record in `folder`, with what its method said of its family."""
    content = record.read(folder)
    assert content is not None
    record.write(folder, content | {"resolved": {"family": family}})
    return folder


def test_results_know_the_families_of_methods() -> None:
    assert method_families.FAMILIES == methods.FAMILIES


def test_a_record_names_its_methods_family_from_the_start() -> None:
    settings = resolve.build({"method": "moco"})
    blank = run.start_record(settings)
    assert blank["resolved"]["family"] == "momentum"
    assert "family" not in blank["settings"]
    assert run.find_family("no_such_method") == ""


def test_an_older_record_takes_the_family_of_its_method(tmp_path: Path) -> None:
    put(tmp_path, "moco", 0)
    put(tmp_path, "moco", 1, status="failed", reason="out of memory")
    add_family(put(tmp_path, "moco", 2), "momentum")
    add_family(put(tmp_path, "plugin", 0), "")
    put(tmp_path, "old", 0)
    add_family(put(tmp_path, "odd", 0), ["no", "text"])
    frame, problems = load(tmp_path)
    assert problems == []
    assert dict(zip(frame["method"], frame["family"], strict=True)) == {
        "moco": "momentum",
        "plugin": "",
        "old": "",
        "odd": "",
    }
    assert "family" not in find_settings(frame) + find_varying(frame)
    summary = summarise(frame)
    moco = summary[summary["method"] == "moco"]
    assert moco[["family", "seeds", "failed"]].to_numpy().tolist() == [["momentum", 2, 1]]


def test_a_method_that_changed_its_family_stays_one_row(tmp_path: Path) -> None:
    for seed, family in enumerate(("pretext", "clustering")):
        folder = add_family(put(tmp_path, "plugin", seed), family)
        content = record.read(folder)
        assert content is not None
        record.write(folder, content | {"finished": f"2025-01-0{seed + 1}T00:00:00"})
    frame = load(tmp_path)[0]
    assert set(frame["family"]) == {"clustering"}
    apart = pd.concat([frame.head(1).assign(family="pretext"), frame.tail(1)])  # as of two folders
    assert summarise(apart)["family"].tolist() == ["clustering"]


STUDY = {
    "random": "reference",
    "simclr": "end_to_end",
    "swav": "clustering",
    "plugin": "",
    "pcl": "clustering",
    "moco": "momentum",
    "byol": "no_negatives",
    "nnclr": "end_to_end",
}
ORDER = ["end to end", "momentum", "clustering", "no negatives", "reference", "other"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("families")
    synthetic.write_families(out, STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "_write_figures", lambda *arguments: None)  # test_page has them of such a study
        report.write(out, *load(out))
    return out


def order_by_family(out: Path) -> list[tuple[str, str]]:
    """(family in words, method) in the order that tables ought to have, from the records alone."""
    frame = load(out)[0]
    means = frame.groupby("method")["metrics.linear_top1"].mean().sort_values(ascending=False)
    pairs = [(STUDY[method].replace("_", " ") or "other", method) for method in means.index]
    return sorted(pairs, key=lambda pair: ORDER.index(pair[0]))


def test_markdown_names_each_family_once_and_the_best_of_it_first(study: Path) -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:3]]
        for line in (study / "report/table.md").open()
        if line.startswith("|")
    ]
    assert rows[0] == ["family", "method"]
    columns = rows[2 : 2 + len(STUDY)]
    assert [family for family, _ in columns if family] == ORDER
    assert [method for _, method in columns] == [method for _, method in order_by_family(study)]
    assert columns[-1] == ["other", "plugin"]
    assert [bool(family) for family, _ in columns] == [True, False, True, True, False, True, True, True]


def test_latex_sets_groups_apart(study: Path) -> None:
    text = (study / "report/table.tex").read_text()
    assert text.count(r"\addlinespace") == len(ORDER) - 1
    assert r"\addlinespace clustering & " in text


def test_csv_has_the_order_and_the_families_as_methods_declare_them(study: Path) -> None:
    table = pd.read_csv(study / "report/results.csv", keep_default_na=False)
    assert table["method"].tolist() == [method for _, method in order_by_family(study)]
    assert table["family"].tolist() == [STUDY[method] for method in table["method"]]


def test_the_page_repeats_the_family_and_sorts_by_its_place(study: Path) -> None:
    page = (study / "report/report.html").read_text()
    rows = re.findall(r'<tr data-row="\d+"><td data-v="(.*?)">(.*?)</td><td><button class="open">(.*?)</button>', page)
    assert [(family, method) for _, family, method in rows] == order_by_family(study)
    keys = [int(key.split()[0]) for key, _, _ in rows]
    assert keys == sorted(keys)
    assert re.search(r'<table class="sorts opens grouped">\s*<thead><tr><th scope="col"><button>family<', page)


def test_the_terminal_gives_the_family_up_last(study: Path) -> None:
    summary = summarise(load(study)[0])
    headers = [str(column.header) for column in to_rich(summary, 200).columns]
    assert headers[:2] == ["family", "method"]
    narrow = to_rich(summary, 45)
    assert str(narrow.columns[0].header) == "method"
    assert str(narrow.caption).endswith("kNN-20 %, family")


def test_few_methods_or_one_known_family_change_nothing(tmp_path: Path) -> None:
    few = dict(list(STUDY.items())[:6])
    synthetic.write_families(tmp_path / "few", few)
    synthetic.write_families(tmp_path / "unknown", dict.fromkeys(STUDY, ""))
    synthetic.write_families(tmp_path / "one", {f"method{i}": "pretext" if i else "own" for i in range(8)})
    for name in ("few", "unknown", "one"):
        frame = load(tmp_path / name)[0]
        text = to_markdown(summarise(frame))
        assert "family" not in text
        assert text == to_markdown(summarise(frame.assign(family="")))


def test_datasets_are_counted_and_ordered_apart(tmp_path: Path) -> None:
    """More than six methods in all, but of no dataset: no groups. With a large dataset, each dataset has its own."""
    for name in ("a", "b"):
        for method in list(STUDY)[:6] if name == "a" else list(STUDY)[2:]:
            add_family(put(tmp_path, method, dataset={"name": name}), STUDY[method])
    assert "family" not in to_markdown(summarise(load(tmp_path)[0]))
    add_family(put(tmp_path, "simclr", dataset={"name": "b"}), "end_to_end")
    rows = [
        [cell.strip() for cell in line.split("|")[1:4]]
        for line in to_markdown(summarise(load(tmp_path)[0])).splitlines()[2:]
        if line.startswith("|")
    ]
    assert [dataset for _, _, dataset in rows] == ["a"] * 6 + ["b"] * 7
    assert rows[6][0] == "end to end", "said again where a dataset begins"
    assert [family for family, _, dataset in rows if family and dataset == "a"] == [
        "end to end",
        "momentum",
        "clustering",
        "reference",
        "other",
    ]


@pytest.fixture(scope="module")
def charts(study: Path) -> dict[str, Chart]:
    frame = load(study)[0]
    drawings = summary_charts.build_charts(
        group_comparables(frame, "linear_top1", compare.rank_configurations(frame)), frame
    )
    return {chart.name: chart for chart in drawings}


def test_the_accuracy_figure_has_a_heading_a_family(study: Path, charts: dict[str, Chart]) -> None:
    chart = charts["accuracy"]
    assert chart.headings == tuple(f"{family}:" for family in ORDER)
    expected = [text for family, method in order_by_family(study) for text in (f"{family}:", method)]
    assert chart.order == tuple(dict.fromkeys(expected))
    axis = draw_plotly.build_figure(chart, choose_styles([chart]))["layout"]["yaxis"]
    assert list(reversed(axis["ticktext"]))[:2] == ["<b>end to end:</b>", order_by_family(study)[0][1]]
    svg = draw_matplotlib.render(chart, choose_styles([chart]))["svg"].decode()
    for heading in chart.headings:
        assert re.search(rf"<text [^>]*(?:bold|700)[^>]*>{heading}</text>", svg), heading


def test_a_colour_is_a_family_and_no_two_methods_look_alike(charts: dict[str, Chart]) -> None:
    styles = choose_styles(charts.values())
    assert len(set(styles.values())) == len(STUDY)
    for one in STUDY:
        for other in STUDY:
            assert (styles[one].colour == styles[other].colour) == (STUDY[one] == STUDY[other])


def test_the_legend_of_costs_is_grouped_by_family(charts: dict[str, Chart]) -> None:
    chart = charts["cost_views"]
    svg = draw_matplotlib.render(chart, choose_styles([chart]))["svg"].decode()
    words = re.findall(r">([^<>\n]+)</text>", svg)
    legend = words[words.index("end to end:") :]
    assert set(legend[1:3]) == {"simclr", "nnclr"}
    assert [text.rstrip(":") for text in legend if text.endswith(":")] == ORDER
    assert legend[-2:] == ["other:", "plugin"]
    traces = draw_plotly.build_figure(chart, choose_styles([chart]))["data"]
    assert list(dict.fromkeys(one["legendgroup"] for one in traces if "legendgrouptitle" in one)) == ORDER


def test_figures_of_few_methods_are_not_grouped(tmp_path: Path) -> None:
    synthetic.write_families(tmp_path, dict(list(STUDY.items())[:6]))
    frame = load(tmp_path)[0]
    plain = frame.assign(family="")
    grouped, without_families = (
        summary_charts.build_charts(group_comparables(f, "linear_top1", compare.rank_configurations(f)), f)
        for f in (frame, plain)
    )
    assert [replace(one, others=()) for one in grouped] == [replace(one, others=()) for one in without_families]
    assert not any(one.headings for one in grouped if one.name != "differences")


def test_other_evaluations_are_in_the_same_order(study: Path) -> None:
    frame = load(study)[0]
    rows = evaluations.tabulate(frame.assign(**{"metrics.sgd_probe_top1": frame["metrics.linear_top1"]}))
    assert rows[0][:2] == ["family", "configuration"]
    assert [tuple(row[:2]) for row in rows[1:]] == order_by_family(study)
