"""What is averaged is the same experiment: what a record says of how its numbers came about tells rows apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results import record
from results.frames.frame import load
from results.report import wandb_report
from results.statistics import compare
from results.statistics.summaries import summarise
from results.tables.formats import to_markdown

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of wandb-workspaces itself

OLD: dict[str, Any] = {"precision": "fp32"}  # what records of before say
NEW = OLD | {"results_version": 1, "compile": False, "tf32": False}
CODE: dict[str, Any] = {"versions": {"torch": "2.8.0", "timm": "1.0.31"}, "dirty": False}


def put(out: Path, seed: int, resolved: dict[str, Any], cost: dict[str, Any] | None = None, **other: Any) -> None:
    settings = {"method": "simclr", "dataset": {"name": "digits"}, "seed": seed, "precision": "auto"}
    settings |= other.pop("settings", {})
    key = f"simclr{len(list(record.find(out)))}"
    content: dict[str, Any] = {"schema": 1, "key": key, "protocol": "aaaaaaaa", "status": "finished", "reason": None}
    content |= {"settings": settings, "metrics": {"linear_top1": 0.8 + seed / 100}, "resolved": resolved}
    content |= {"cost": {"device": "NVIDIA A", "processes": 1} | (cost or {}), "commit": "0123456789"} | CODE
    content |= {"started": "2025-01-01T00:00:00", "finished": "2025-01-01T00:01:00"} | other
    record.write(out / key, content)


@pytest.mark.parametrize(
    ("one", "other", "label"),
    [
        (NEW, {"results_version": 2}, "results_version=2"),
        (NEW, {"precision": "bf16"}, "precision=bf16"),
        (NEW, {"compile": True}, "compile=true"),
        (NEW, {"tf32": True}, "tf32=true"),
        (OLD, NEW, "tf32=false"),
    ],
)
def test_two_kinds_of_numbers_are_two_rows(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], label: str
) -> None:
    """In tables, ranks and the report of W&B; seeds of either kind stand together."""
    for seed in (0, 1):
        put(tmp_path, seed, one)
        put(tmp_path, seed + 2, one | other)
    frame, problems = load(tmp_path)
    assert problems == []
    assert summarise(frame)["seeds"].tolist() == [2, 2]
    ranks = compare.rank_configurations(frame)
    assert ranks["n"].tolist() == [2, 2]
    assert any(label in name for name in ranks["configuration"])
    assert label.partition("=")[0] in to_markdown(summarise(frame)).splitlines()[0]


def test_processes_part_a_mean_where_numbers_depend_on_them(tmp_path: Path) -> None:
    two, parts = {"processes": 2}, {"batch_size": 256, "microbatch": 64}
    put(tmp_path, 0, NEW)
    put(tmp_path, 1, NEW, two)
    for local in ({"batch_norm": "local"}, {"batch_norm": "shuffle"}):
        put(tmp_path, 0, NEW, settings=local)
        put(tmp_path, 1, NEW, two, settings=local | two)
    put(tmp_path, 0, NEW, settings=parts)
    put(tmp_path, 1, NEW, two, settings=parts)
    put(tmp_path, 0, OLD, settings=parts)  # whose micro-batches were cut from each process's share
    put(tmp_path, 1, OLD, two, settings=parts)
    assert summarise(load(tmp_path)[0])["seeds"].tolist() == [2, 1, 1, 1, 1, 2, 1, 1]


def test_large_seeds_are_other_seeds(tmp_path: Path) -> None:
    """Beside a cell without a seed pandas would make them floats, in which these two are one."""
    for seed in (2**53, 2**53 + 1):
        put(tmp_path, 0, NEW, settings={"seed": seed})
    put(tmp_path, 0, NEW, settings={"method": "pixels", "seed": None})
    frame = load(tmp_path)[0]
    assert summarise(frame)["seeds"].tolist() == [2, 1]
    assert sorted(compare.rank_configurations(frame)["n"]) == [1, 2]


def test_auto_and_what_it_came_to_are_one_kind(tmp_path: Path) -> None:
    put(tmp_path, 0, NEW)
    put(tmp_path, 1, NEW, settings={"precision": "fp32"})
    put(tmp_path, 2, NEW, settings={"method": "random", "precision": None})
    put(tmp_path, 3, OLD | {"compile": False, "tf32": False})  # all that say no version are of the first
    summary = summarise(load(tmp_path)[0])
    assert summary["seeds"].tolist() == [3, 1]
    assert summary["precision"].fillna("none of its own").tolist() == ["fp32", "none of its own"]


def test_what_should_change_nothing_is_averaged_and_told(tmp_path: Path) -> None:
    put(tmp_path, 0, NEW, {"device": "Intel, 1 threads"})
    put(tmp_path, 1, NEW, {"device": "Intel, 2 threads"})
    assert "a mean over" not in to_markdown(summarise(load(tmp_path)[0]))
    put(tmp_path, 2, NEW, versions=CODE["versions"] | {"torch": "2.9.0"}, dirty=True)
    text = to_markdown(summarise(load(tmp_path)[0]))
    assert "- simclr: a mean over several versions: torch 2.8.0, timm 1.0.31; torch 2.9.0, timm 1.0.31" in text
    assert "- simclr: a mean over several devices: Intel; NVIDIA A" in text
    assert "- simclr: a mean over several states of the code: as committed; with uncommitted changes" in text


def test_the_report_of_wandb_shows_no_two_versions_together(tmp_path: Path) -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    put(tmp_path, 0, NEW)
    put(tmp_path, 0, NEW | {"results_version": 2})
    spec = wandb_report.specify(load(tmp_path)[0], "", wandb_report.Target("me", "proj", "runs"))["spec"]
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    versions = [
        condition["value"]
        for grid in grids
        for runs in grid["runSets"]
        for condition in runs["filters"]["filters"]
        if condition["key"]["name"] == "resolved.results_version"
    ]
    assert versions == [1, 1, 2, 2]
