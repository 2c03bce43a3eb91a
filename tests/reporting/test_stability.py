"""What `evaluate` left beside records, in frames and tables: columns, protocols, and how alike the rankings are."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli import reporting
from results import record
from results.frames import frame
from results.statistics import stability, summaries
from results.tables import evaluations, formats


def put_cell(out: Path, method: str, seed: int, linear: float, later: dict[str, Any] | None = None) -> Path:
    """A finished record, and evaluations beside it: name -> (protocol, metrics)."""
    folder, key = out / f"{method}-{seed}", f"{method}{seed}"
    content: dict[str, Any] = {
        "schema": 1,
        "cost": {"device": "cpu", "processes": 1},
        "versions": {},
        "key": key,
        "protocol": "aaaaaaaaaa",
        "status": "finished",
        "reason": None,
        "commit": None,
        "dirty": None,
        "started": "",
        "finished": "",
        "metrics": {"linear_top1": linear, "knn20_top1": linear},
        "settings": {"method": method, "seed": seed, "dataset": {"name": "digits"}},
    }
    record.write(folder, content)
    if later is not None:
        record.write_evaluations(
            folder, key, {name: {"protocol": p, "settings": {}, "metrics": m} for name, (p, m) in later.items()}
        )
    return folder


def put_ranked_cells(out: Path) -> None:
    """Four methods, two seeds each; the SGD probe swaps the last two, and the neighbours reverse all."""
    order = (("a", 0.9, 0.8, 0.1), ("b", 0.8, 0.7, 0.2), ("c", 0.7, 0.5, 0.3), ("d", 0.6, 0.6, 0.4))
    for method, linear, sgd, near in order:
        for seed, shift in ((0, -0.01), (1, 0.01)):
            later = {
                "sgd_probe": ("p" * 10, {"sgd_probe_top1": sgd + shift, "sgd_probe_rate": 0.1}),
                "knn": ("q" * 10, {"knn_cosine_tuned_top1": near - shift}),
            }
            put_cell(out, method, seed, linear + shift, later)


def test_taus_are_those_of_counted_pairs(tmp_path: Path) -> None:
    put_ranked_cells(tmp_path)
    records, problems = frame.load(tmp_path)
    assert problems == []
    rows = {(row["metric"], row["other"]): row for row in stability.compare(records).to_dict("records")}
    assert rows["linear_top1", "knn20_top1"]["tau"] == pytest.approx(1)
    assert rows["linear_top1", "knn_cosine_tuned_top1"]["tau"] == pytest.approx(-1)
    assert rows["linear_top1", "sgd_probe_top1"]["tau"] == pytest.approx((5 - 1) / 6), "one pair of six is swapped"
    assert {row["n"] for row in rows.values()} == {4}
    assert not any("rate" in name for pair in rows for name in pair)
    table = stability.tabulate(records)
    assert table[0] == [
        "ranks by",
        "Kendall's tau with linear",
        "tau of linear between split seeds",
        "its own between split seeds",
        "configurations",
    ]
    assert ["sgd_probe", "0.67", "1.00", "1.00", "4"] in table


def test_a_tau_stands_beside_what_seeds_allow(tmp_path: Path) -> None:
    """Two evaluations of one order, whose two seeds disagree on it: a tau of 1 cannot be hoped for."""
    for method, first, second in (("a", 0.9, 0.6), ("b", 0.8, 0.7), ("c", 0.7, 0.8)):
        for seed, value in enumerate((first, second)):
            put_cell(tmp_path, method, seed, value, {"knn": ("q" * 10, {"knn_cosine_tuned_top1": value})})
    records, _ = frame.load(tmp_path)
    assert stability.compare(records)[["metric_split", "other_split"]].eq(-1).all(axis=None)


def test_two_configurations_have_no_tau(tmp_path: Path) -> None:
    for method in ("a", "b"):
        put_cell(tmp_path, method, 0, 0.5, {"knn": ("p" * 10, {"knn_cosine_tuned_top1": 0.4})})
    records, _ = frame.load(tmp_path)
    assert stability.compare(records).empty
    assert stability.tabulate(records) == []
    assert stability.tabulate(frame.load(tmp_path / "none")[0]) == []
    assert evaluations.tabulate(frame.load(tmp_path / "none")[0]) == []


def test_evaluations_have_a_table_of_their_own(tmp_path: Path) -> None:
    for method in ("a", "b"):
        put_cell(tmp_path, method, 0, 0.5)
    before = formats.to_markdown(summaries.summarise(frame.load(tmp_path)[0]))
    assert evaluations.tabulate(frame.load(tmp_path)[0]) == []
    put_cell(
        tmp_path,
        "a",
        0,
        0.5,
        {
            "transfer_svhn": ("p" * 10, {"transfer_svhn_linear_top1": 0.25}),
            "sgd_probe": ("q" * 10, {"sgd_probe_top1": 0.5}),
        },
    )
    records, _ = frame.load(tmp_path)
    assert formats.to_markdown(summaries.summarise(records)) == before
    assert evaluations.tabulate(records) == [
        ["configuration", "seeds", "linear %", "SGD probe %", "svhn linear %"],
        ["a", "1", "50.0", "50.0", "25.0"],
        ["b", "1", "50.0", "–", "–"],
    ]


def test_few_labels_are_said_to_be_the_same_draws_for_every_seed(tmp_path: Path) -> None:
    for seed in range(2):
        put_cell(tmp_path, "a", seed, 0.5, {"few_labels": ("p" * 10, {"labels1_linear_top1": 0.3 + seed / 100})})
    titles = [title for title, rows in reporting.tabulate_evaluations(frame.load(tmp_path)[0]) if rows]
    assert "few labels are the same draws for each of them" in titles[0]
    assert "95 %" not in titles[0]


def test_protocols_of_an_evaluation_are_never_pooled(tmp_path: Path) -> None:
    put_cell(tmp_path, "a", 0, 0.5, {"knn": ("1234567890", {"knn_cosine_tuned_top1": 0.2})})
    put_cell(tmp_path, "a", 1, 0.5, {"knn": ("abcdefabcd", {"knn_cosine_tuned_top1": 0.4})})
    records, _ = frame.load(tmp_path)
    row = summaries.summarise(records).iloc[0]
    assert "metrics.knn_cosine_tuned_top1" not in records
    assert row["metrics.knn_cosine_tuned_top1@123456.mean"] == 0.2
    assert row["metrics.knn_cosine_tuned_top1@abcdef.mean"] == 0.4
    assert evaluations.tabulate(records)[0][3:] == ["kNN cosine@123456 %", "kNN cosine@abcdef %"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "unreadable"),
        ("[]", "not evaluations of schema 1"),
        (json.dumps({"schema": 1, "key": "other", "evaluations": {}}), "belongs to cell other"),
        (json.dumps({"schema": 1, "key": "a0", "evaluations": {"knn": {}}}), "'knn' lacks its protocol"),
        (
            json.dumps({"schema": 1, "key": "a0", "evaluations": {"knn": {"protocol": "p", "metrics": {"x": "y"}}}}),
            "metric 'x' is str",
        ),
    ],
)
def test_a_broken_file_is_a_problem_and_the_record_stands(tmp_path: Path, text: str, problem: str) -> None:
    folder = put_cell(tmp_path, "a", 0, 0.5)
    (folder / "evaluation.json").write_text(text)
    records, problems = frame.load(tmp_path)
    assert records["metrics.linear_top1"].tolist() == [0.5]
    assert len(problems) == 1
    assert problem in problems[0]
    assert "\n" not in problems[0]


def test_a_record_s_own_numbers_are_not_overwritten(tmp_path: Path) -> None:
    put_cell(tmp_path, "a", 0, 0.5, {"knn": ("p" * 10, {"linear_top1": 0.9})})
    assert frame.load(tmp_path)[0]["metrics.linear_top1"].tolist() == [0.5]
