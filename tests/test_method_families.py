"""The family of a method: from its class into the record, and from records into groups of rows and marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from test_report import put

import methods
from benchmark import config, run
from results import method_families, record
from results.frame import load, setting_columns
from results.statistics import summarise, varying


def told(folder: Path, family: Any) -> Path:
    """The record in `folder`, with what its method said of its family."""
    made = record.read(folder)
    assert made is not None
    record.write(folder, made | {"resolved": {"family": family}})
    return folder


def test_results_know_the_families_of_methods() -> None:
    assert method_families.FAMILIES == methods.FAMILIES


def test_a_record_names_its_methods_family_from_the_start() -> None:
    settings = config.build({"method": "moco"})
    blank = run.blank(settings)
    assert blank["resolved"] == {"family": "momentum"}
    assert "family" not in blank["settings"]
    assert run.family("no_such_method") == ""


def test_an_older_record_takes_the_family_of_its_method(tmp_path: Path) -> None:
    put(tmp_path, "moco", 0)
    put(tmp_path, "moco", 1, status="failed", reason="out of memory")
    told(put(tmp_path, "moco", 2), "momentum")
    told(put(tmp_path, "plugin", 0), "")
    put(tmp_path, "old", 0)
    told(put(tmp_path, "odd", 0), ["no", "text"])
    frame, problems = load(tmp_path)
    assert problems == []
    assert dict(zip(frame["method"], frame["family"], strict=True)) == {
        "moco": "momentum", "plugin": "", "old": "", "odd": ""
    }  # fmt: skip
    assert "family" not in setting_columns(frame) + varying(frame)
    summary = summarise(frame)
    moco = summary[summary["method"] == "moco"]
    assert moco[["family", "seeds", "failed"]].to_numpy().tolist() == [["momentum", 2, 1]]


def test_a_method_that_changed_its_family_stays_one_row(tmp_path: Path) -> None:
    for seed, family in enumerate(("pretext", "clustering")):
        folder = told(put(tmp_path, "plugin", seed), family)
        made = record.read(folder)
        assert made is not None
        record.write(folder, made | {"finished": f"2025-01-0{seed + 1}T00:00:00"})
    frame = load(tmp_path)[0]
    assert set(frame["family"]) == {"clustering"}
    apart = pd.concat([frame.head(1).assign(family="pretext"), frame.tail(1)])  # as of two folders
    assert summarise(apart)["family"].tolist() == ["clustering"]
