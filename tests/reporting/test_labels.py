"""How a configuration is written: one name in all that a report holds, and figures shorten that name and no other."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from test_report import load_summary, put

from results import record
from results.frames import labels
from results.frames.frame import load
from results.report import report
from results.tables import evaluations


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4096.0, "4096"),
        (4096, "4096"),
        (np.float64(0.1 + 0.2), "0.3"),
        (1e-7, "1e-07"),
        (2.0**60, "1.15292e+18"),
        (True, "true"),
        (np.bool_(False), "false"),
        ("crop\n+flip", "crop +flip"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_value_is_written_as_the_command_line_takes_it(value: object, text: str) -> None:
    assert labels.format_value(value) == text


def test_a_name_tells_what_differs_within_the_method(tmp_path: Path) -> None:
    put(tmp_path, "moco", options={"queue": 4096.0}, rate=0.1, flip=True)
    put(tmp_path, "moco", options={"queue": None}, rate=0.1, flip=True)
    put(tmp_path, "simclr", rate=0.3, batch_size=256, microbatch=0)
    put(tmp_path, "simclr", rate=0.3, batch_size=512, microbatch=128)
    put(tmp_path, "swav", rate=0.3, batch_size=512, microbatch=128)
    put(tmp_path, "swav", rate=0.3, batch_size=512, microbatch=256)
    assert labels.name_configurations(load_summary(tmp_path)) == [
        "moco queue=4096",
        "moco queue=–",
        "simclr batch_size=256",
        "simclr batch_size=512",
        "swav microbatch=128",
        "swav microbatch=256",
    ]


def test_names_differ_within_a_dataset_and_protocol(tmp_path: Path) -> None:
    for protocol in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        for rate in (0.1, 0.1 + 1e-12):
            put(tmp_path, rate=rate, protocol=protocol)
    for size, part in ((256, 0), (256, 64), (512, 0)):
        put(tmp_path, "simclr", batch_size=size, microbatch=part)
    assert labels.name_configurations(load_summary(tmp_path)) == [
        "moco",
        "moco #2",
        "moco",
        "moco #2",
        "simclr batch_size=256 microbatch=0",
        "simclr batch_size=256 microbatch=64",
        "simclr batch_size=512 microbatch=0",
    ]


def test_an_option_named_like_a_setting_keeps_its_prefix() -> None:
    assert labels.format_label("moco", {"epochs": "5", "options.epochs": "7", "options.queue": "64"}) == (
        "moco epochs=5 options.epochs=7 queue=64"
    )


def test_figures_shorten_the_same_names_and_say_how(tmp_path: Path) -> None:
    usual = {"temperature": 0.2, "queue": 4096, "momentum": 0.99, "augmentation": "crop+colour+grey+blur+solarise+flip"}
    for changed in ({}, {"queue": 64}, {"momentum": 0.9}, {"temperature": 0.5}):
        put(tmp_path, options=usual | changed)
    summary = load_summary(tmp_path)
    short, explanation = labels.abbreviate(summary)
    assert short == ["moco", "moco queue=64", "moco momentum=0.9", "moco temperature=0.5"]
    assert explanation == " Labels name what differs from the usual (moco: temperature=0.2 queue=4096 momentum=0.99)."
    for whole, part in zip(labels.name_configurations(summary), short, strict=True):
        assert set(part.split()) <= set(whole.split())


@pytest.mark.usefixtures("no_figure_files")
def test_a_configuration_has_one_name_in_a_report(tmp_path: Path) -> None:
    """In the comparison, the other evaluations, results.csv, the page's table, words and figures."""
    for method, options in (("moco", {"queue": 64}), ("moco", {"queue": 4096}), ("simclr", {})):
        for temperature in (0.05, 0.1, 0.5, 1.0):
            for seed in range(2):
                own = options | {"temperature": temperature}
                rate = 0.1 if method == "moco" else 0.2
                folder = put(tmp_path, method, seed, 0.9 - temperature / 10 + seed / 100, options=own, rate=rate)
                content = record.read(folder)
                assert content is not None
                knn = {"protocol": "k", "metrics": {"knn_cosine_tuned_top1": 0.5}}
                record.write_evaluations(folder, content["key"], {"knn": knn})
    frame, problems = load(tmp_path)
    folder, _ = report.write(tmp_path, frame, problems, extras=[("Others", evaluations.tabulate(frame))])
    names = {f"moco queue={queue} temperature={t}" for t in ("0.05", "0.1", "0.5", "1") for queue in (64, 4096)}
    names |= {f"simclr temperature={t}" for t in ("0.05", "0.1", "0.5", "1")}
    with (folder / "results.csv").open() as file:
        assert {row["configuration"] for row in csv.DictReader(file)} == names
    comparison, others = (folder / "table.md").read_text().split("## Others")
    for text in (comparison.split("## Ranks and differences")[1], others):
        assert {line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if "=" in line} == names
    page = (folder / "report.html").read_text()
    data = {
        name: json.loads(re.findall(rf'id="{name}">(.*?)</script>', page, flags=re.DOTALL)[0])
        for name in ("cells", "figures")
    }
    assert {one["label"] for one in data["cells"]["configurations"]} == names
    accuracy, *_ = data["figures"]
    assert {label for trace in accuracy[0]["data"] for label in trace["y"]} == names, "short enough for a figure"
