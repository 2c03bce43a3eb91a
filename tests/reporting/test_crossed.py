"""Seeds and test images: what records hold of the images is in every interval and claim, and what they lack is said."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic
from test_moderated import write_verdict

from benchmark.cli import reporting
from results import readme, record
from results.frames.frame import load
from results.statistics import compare, crossed, inference, layout, simulation, summaries
from results.statistics.comparable import group_comparables
from results.tables import comparison, formats

IMAGES = 400
HARD = np.random.default_rng(0).normal(size=IMAGES)
TEST = {"images": IMAGES, "order": "aaaa", "classes": 10, "largest_class": 0.1, "references": 1000}
MISSING = "The part of the test images is missing: no record holds which of them were right."
pytestmark = pytest.mark.filterwarnings("error")


def put(
    out: Path, method: str, seeds: Sequence[int | None], share: float = 0.8, bits: bool = True, order: str = "aaaa"
) -> None:
    """A record a seed, whose bits are about as many as the share says, and mostly the easy images."""
    for seed in seeds:
        rng = np.random.default_rng(zlib.crc32(f"{method}{seed}".encode()))
        latent = HARD + rng.normal(0, 0.7, IMAGES)
        right = latent > np.quantile(HARD, 1 - share)
        content: dict[str, Any] = {"schema": 1, "key": f"{method}{seed}", "protocol": "aaaaaaaa", "status": "finished"}
        content |= {"reason": None, "settings": {"method": method, "dataset": {"name": "mine"}, "seed": seed}}
        content |= {"metrics": {"linear_top1": float(right.mean()), "knn200_top1": 0.5}, "cost": {}, "versions": {}}
        content |= {"commit": None, "dirty": None, "started": "", "finished": ""}
        content |= {"resolved": {"test": TEST | {"order": order}}}
        if bits:
            content |= {"correct": {"linear_top1": record.pack(np.packbits(right).tobytes())}}
        record.write(out / content["key"], content)


def explain_ranks(out: Path) -> str:
    return " ".join(comparison.explain(compare.rank_configurations(load(out)[0])))


def test_intervals_hold_for_new_seeds_and_new_images() -> None:
    """Bounds of three standard errors below what docs/statistics.md has, of 100 studies: 97, 97 and an error of 2 %."""
    words = {"studies": "100", "configurations": "6", "seeds": "1,3", "images": "449"}
    header, one, three = simulation.tabulate(words)
    assert header == simulation.IMAGES_HEADER
    assert one[3:] == ["–", one[4], "–", "–", one[7], "–", "–", "–"], "one seed has the part of the images alone"
    assert min(float(one[4]), float(one[7])) >= 92
    numbers = np.array(three[3:], dtype=float)
    assert numbers[[2, 5]].min() >= 92
    assert numbers[7] <= 6
    assert numbers[[2, 5]].min() > numbers[[0, 1, 3, 4]].max() - 3, "neither part alone holds as often"
    assert max(numbers[0], numbers[1]) < 92


def test_a_perfect_score_on_few_images_is_as_uncertain_as_they_are_few(tmp_path: Path) -> None:
    """Clopper and Pearson's interval of 18 of 18 is 81.5 to 100; cut alone it would be 90.4 to 100."""
    synthetic.write(1, tmp_path, images=18)
    (path,) = tmp_path.glob("*/record.json")
    content = json.loads(path.read_text())
    content |= {"correct": {"linear_top1": record.pack(np.packbits(np.ones(18, bool)).tobytes())}}
    content["metrics"]["linear_top1"] = 1.0
    record.write(path.parent, content)
    frame = load(tmp_path)[0]
    row = compare.compute_intervals(frame).iloc[0]
    assert (row["low"], row["high"]) == (pytest.approx(0.815, abs=0.01), 1)
    assert "100.0 (80.9 to 100.0)" in formats.to_markdown(summaries.summarise(frame))
    words = {"studies": "50", "configurations": "6", "seeds": "1,3", "images": "18"}
    _, one, three = simulation.tabulate(words)
    assert min(float(one[4]), float(three[5])) >= 95
    _, perfect = simulation.tabulate(words | {"seeds": "1", "accuracy": "0.98"})
    assert float(perfect[4]) >= 95


def test_the_variance_of_a_difference_is_that_of_the_crossed_design() -> None:
    rng = np.random.default_rng(0)
    n, images = 4, 3000
    hard, own = rng.normal(0, 1, images), rng.normal(0, 0.5, (2, images))
    right = (1 + hard + own[:, None] + rng.normal(0, 1, (2, n, images)) > 0).astype(np.float32)
    parts = [layout.average_seeds(each) for each in right]
    outcomes = layout.Outcomes(np.stack([a for a, _ in parts]), np.array([b for _, b in parts]), np.ones(2, dtype=bool))
    model = crossed.fit(right.mean(axis=2).astype(float), np.zeros(2, dtype=bool), images, outcomes)
    test = inference.test_pairs(model, np.array([0]), np.array([1])).iloc[0]
    gaps = right[0].astype(float) - right[1]
    residuals = 0.0
    for each in right.astype(float):  # the mean square of seed and image together, plainly
        residual = each - each.mean(axis=0) - each.mean(axis=1, keepdims=True) + each.mean()
        residuals += (residual**2).sum() / ((n - 1) * (images - 1))
    expected = gaps.mean(axis=0).var(ddof=1) / images - residuals / (n * images)
    assert test["images_variance"] == pytest.approx(expected, rel=0.02)


def test_a_mean_and_a_difference_have_two_parts(tmp_path: Path) -> None:
    for method, share in (("a", 0.8), ("b", 0.75), ("c", 0.7)):
        put(tmp_path, method, range(4), share)
    frame = load(tmp_path)[0]
    header, *rows = comparison.tabulate(frame, "a")
    for head in ("± by seeds", "± by images", "difference ± by seeds", "difference ± by images"):
        values = [row[header.index(head)] for row in rows if row[0] != "a"]
        assert min(map(float, values)) > 0
    tests = compare.compare_pairs(frame, "a")
    intervals = compare.compute_intervals(frame)
    assert (tests["by_images"].to_numpy() < intervals["by_images"].min()).all(), "images that are hard for both"
    whole = (intervals["high"] - intervals["low"]) / 2
    assert (whole > intervals[["by_seeds", "by_images"]].max(axis=1)).all()
    assert "A difference is claimed for new seeds and new test images." in explain_ranks(tmp_path)
    summary = summaries.summarise(frame)
    assert summary["metrics.linear_top1.half_width"].to_numpy() == pytest.approx(whole.to_numpy())
    assert summary["metrics.knn200_top1.by_images"].isna().all()
    assert "over seeds and test images, by the variance" in formats.to_markdown(summary)
    (among,) = group_comparables(frame, "linear_top1", compare.rank_configurations(frame))
    assert among.bars == "95 % intervals over seeds and test images, by the variance that configurations share"


def test_notes_below_a_narrow_table_have_the_width_of_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    for method in ("a", "b", "c"):
        put(tmp_path, method, range(3))
    reporting.print_summary(summaries.summarise(load(tmp_path)[0]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:5])) < 80
    note = (
        "mean ± half-width of the 95 % interval over seeds and test images, by the variance that configurations share"
    )
    assert note in [line.strip() for line in lines]


def test_records_without_bits_stay_readable_and_lack_the_part(tmp_path: Path) -> None:
    for method in ("a", "b", "c"):
        put(tmp_path, method, range(3), bits=False)
    assert MISSING in explain_ranks(tmp_path)
    frame = load(tmp_path)[0]
    assert "± by images" not in comparison.tabulate(frame)[0]
    assert "the part of the test images is missing" in formats.to_markdown(summaries.summarise(frame))
    put(tmp_path, "new", range(3))
    put(tmp_path, "next", range(3))
    put(tmp_path, "c", [7])  # has it in one of its records
    after = compare.rank_configurations(load(tmp_path)[0]).set_index("configuration")
    assert after["over"].to_dict() == dict.fromkeys("abc", compare.SEEDS) | dict.fromkeys(("new", "next"), compare.BOTH)
    text = explain_ranks(tmp_path)
    assert "Over seeds alone, as differences from them, for records lack which images were right: " in text
    assert MISSING not in text
    tests = compare.compare_pairs(load(tmp_path)[0]).set_index(["configuration", "reference"])
    assert tests["by_images"].notna().sum() == 1
    assert tests.loc[("new", "next"), "by_images"] > 0
    assert formats.to_markdown(summaries.summarise(load(tmp_path)[0])).count("(seeds only)") == 3


def test_one_seed_has_an_interval_of_the_images_alone_and_claims_nothing(tmp_path: Path) -> None:
    put(tmp_path, "high", [0], 0.95)
    put(tmp_path, "low", [0], 0.3)
    frame = load(tmp_path)[0]
    ranks = compare.rank_configurations(frame)
    assert set(ranks["interval"]) == {"images only: one seed"}
    assert ranks["rank"].tolist() == ["–", "–"]
    row = ranks.iloc[0]
    assert row["high"] - row["mean"] == pytest.approx(1.96 * np.sqrt(row["mean"] * (1 - row["mean"]) / IMAGES), rel=0.1)
    test = compare.compare_pairs(frame, "low").iloc[0]
    assert (test["significant"], test["note"]) == (False, "images only: one shared seed: no test")
    assert test["low"] > 0.5
    assert "No difference is claimed by these." in explain_ranks(tmp_path)
    text = formats.to_markdown(summaries.summarise(frame))
    assert text.count("(images only)") == 2
    assert "images only: of 1 seed, the 95 % interval for new test images and the same weights" in text
    assert "for other test images and the same weights, simultaneous for all of them" in write_verdict(tmp_path)
    (among,) = group_comparables(frame, "linear_top1", ranks)
    assert among.bars == "95 % intervals over test images only"


def test_bits_of_other_test_sets_are_not_compared(tmp_path: Path) -> None:
    for method, order in (("a", "aaaa"), ("b", "bbbb"), ("c", "aaaa")):
        put(tmp_path, method, range(3), order=order)
    frame = load(tmp_path)[0]
    assert compare.compare_pairs(frame)["by_images"].isna().all()
    assert set(compare.rank_configurations(frame)["over"]) == {compare.SEEDS}


def test_fixed_methods_differ_by_their_images(tmp_path: Path) -> None:
    put(tmp_path, "pixels", [None], 0.8)
    put(tmp_path, "frozen", [None], 0.8)
    put(tmp_path, "worse", [None], 0.5)
    tests = compare.compare_pairs(load(tmp_path)[0]).set_index(["configuration", "reference"])
    significance = {tuple(sorted(pair)): bool(significant) for pair, significant in tests["significant"].items()}
    assert significance == {("frozen", "pixels"): False, ("pixels", "worse"): True, ("frozen", "worse"): True}
    put(tmp_path, "single", [0], 0.5)  # a fixed reference does not make one seed testable
    test = compare.compare_pairs(load(tmp_path)[0], "pixels").set_index("configuration")
    assert test["significant"].to_dict() == {"frozen": False, "worse": True, "single": False}


def test_no_number_of_seeds_makes_up_for_too_few_images(tmp_path: Path) -> None:
    for method, share in (("a", 0.8), ("b", 0.785)):
        put(tmp_path, method, range(4), share)
    tests = compare.compare_pairs(load(tmp_path)[0])
    without_images = compare.count_seeds_needed(tests.assign(images_variance=0.0)).iloc[0]["seeds"]
    assert compare.count_seeds_needed(tests).iloc[0]["seeds"] > without_images


def test_a_kept_study_keeps_the_bits_and_a_report_has_them(tmp_path: Path) -> None:
    synthetic.write(6, tmp_path / "runs", images=50)
    readme.keep(tmp_path / "runs", tmp_path / "study")
    study, runs = (load(tmp_path / name)[0] for name in ("study", "runs"))
    assert study["correct.linear_top1"].tolist() == runs["correct.linear_top1"].tolist()
    assert study["correct.linear_top1"].notna().all()


def test_bits_are_one_an_image_and_the_share_that_the_metric_says(tmp_path: Path) -> None:
    put(tmp_path, "a", [0])
    path = tmp_path / "a0/record.json"
    content = json.loads(path.read_text())
    del content["checksum"]
    bits = content["correct"]["linear_top1"]
    for wrong in (bits[4:], bits + "AAAA", "é" + bits[1:], bits.replace(bits[:4], "AAAA"), 7, None):
        path.write_text(json.dumps(content | {"correct": {"linear_top1": wrong}}))
        with pytest.raises(ValueError, match=r"record\.json: correct\.linear_top1"):
            record.read(path.parent)
    path.write_text(json.dumps(content | {"resolved": {}}))
    with pytest.raises(ValueError, match="needs the number of test images"):
        record.read(path.parent)
