"""What can be told apart: agreement with scipy and with hand-computed cases, and error rates on simulated studies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from results import record
from results.frames.frame import load
from results.statistics import compare, significance
from results.tables import comparison

# Errors that no table should be made with, such as a division by a spread of nothing.
pytestmark = pytest.mark.filterwarnings("error")

FIRST = ["configuration", "seeds", "linear_top1 %", "rank"]
A: dict[int | None, float] = {0: 0.90, 1: 0.92, 2: 0.97, 3: 0.91}
B: dict[int | None, float] = {0: 0.88, 1: 0.91, 2: 0.93, 3: 0.90}


def put(
    out: Path,
    method: str,
    values: Mapping[int | None, float],
    status: str = "finished",
    protocol: str = "aaaaaaaaaaaa",
    dataset: str = "synthetic",
    **settings: Any,
) -> None:
    """Write one synthetic record a seed, as the training side would."""
    for seed, value in values.items():
        key = f"{method}{len(list(record.find(out)))}"
        full = {"method": method, "dataset": {"name": dataset}} | settings | {"seed": seed}
        content: dict[str, Any] = {"schema": 1, "key": key, "protocol": protocol, "status": status}
        content |= {
            "reason": None if status == "finished" else "why",
            "settings": full,
            "metrics": {"linear_top1": value, "knn20_top1": 1 - value},
            "cost": {},
        }
        content |= {"versions": {}, "commit": None, "dirty": None, "started": "", "finished": ""}
        record.write(out / key, content)


def load_frame(out: Path) -> pd.DataFrame:
    frame, problems = load(out)
    assert problems == []
    return frame


def find_row(table: pd.DataFrame, **where: str) -> pd.Series:
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def simulate_studies(draws: int, means: list[float], seeds: int = 5, sd: float = 0.01) -> np.ndarray:
    """Simulated studies, (studies, methods, seeds): normal values about these means.

    What a seed does to all methods alike is ten times larger than what it does to one: pairing has to remove it.
    """
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10 * sd, (draws, 1, seeds))
    return 0.7 + np.array(means)[:, None] + shared + rng.normal(0, sd, (draws, len(means), seeds))


def build_frame(values: np.ndarray) -> pd.DataFrame:
    """The studies in one frame, each under a protocol of its own."""
    study, method, seed = (index.ravel() for index in np.indices(values.shape))
    columns = {"protocol": [f"p{i}" for i in study], "method": [f"m{i}" for i in method], "seed": seed}
    return pd.DataFrame(columns | {"status": "finished", "metrics.linear_top1": values.ravel()})


def test_one_configuration_has_students_interval(tmp_path: Path) -> None:
    put(tmp_path, "moco", {0: 0.90, 1: 0.92, 2: 0.97})
    row = find_row(compare.compute_intervals(load_frame(tmp_path)))
    # Mean 0.93, squared deviations 9 + 1 + 16 = 26e-4, t(0.975, 2) = 4.30265; the ends by draws, cut at 100 %.
    half = 4.30265 * math.sqrt(13e-4 / 3)
    assert (row["low"], row["high"]) == (pytest.approx(0.93 - half, abs=0.003), 1)
    assert (row["configuration"], row["n"], row["interval"]) == ("moco", 3, "t")
    low, _ = stats.t.interval(0.95, 2, 0.93, stats.sem([0.90, 0.92, 0.97]))
    assert row["low"] == pytest.approx(low, abs=0.003)
    pd.testing.assert_frame_equal(
        compare.compute_intervals(load_frame(tmp_path)), compare.compute_intervals(load_frame(tmp_path))
    )


@pytest.mark.parametrize(
    ("values", "status", "interval"),
    [
        ({0: 0.9}, "finished", "none: one seed"),
        ({None: 0.9}, "finished", "none: fixed"),
        (dict.fromkeys(range(3), 0.9), "finished", "none: the same in every seed"),
        (dict.fromkeys(range(12), 0.9), "finished", "none: the same in every seed"),
        ({0: 0.9, 1: 0.8}, "failed", "none: no finished run"),
    ],
)
def test_no_interval_is_said(tmp_path: Path, values: Mapping[int | None, float], status: str, interval: str) -> None:
    put(tmp_path, "moco", values, status)
    row = find_row(compare.compute_intervals(load_frame(tmp_path)))
    assert row["interval"] == interval
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])


def test_paired_is_scipy_over_shared_seeds_only(tmp_path: Path) -> None:
    put(tmp_path, "moco", A)
    put(tmp_path, "simclr", B)
    row = find_row(compare.compare_pairs(load_frame(tmp_path), "simclr"))
    test = stats.ttest_rel(list(A.values()), list(B.values()))
    assert (row["n"], row["p"], row["p_holm"]) == (4, pytest.approx(test.pvalue), pytest.approx(test.pvalue))
    assert row["p_adjusted"] == pytest.approx(test.pvalue, abs=0.005), "two configurations share nothing"
    assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)), abs=0.001)
    # By hand: differences 2, 1, 4, 1 points; mean 2, squared deviations 0 + 1 + 4 + 1 = 6, sd = sqrt(2),
    # t = 2 / (sqrt(2) / 2) = sqrt(8) = 2.828 < 3.182 = t(0.975, 3).
    assert (row["difference"], row["sd"]) == pytest.approx((0.02, math.sqrt(2) / 100))
    assert (row["configuration"], row["reference"], row["significant"]) == ("moco", "simclr", False)
    other = find_row(compare.compare_pairs(load_frame(tmp_path), "moco"))
    assert (other["difference"], other["low"], other["p"]) == pytest.approx(
        (-row["difference"], -row["high"], row["p"])
    )
    put(tmp_path, "moco", {7: 0.1})
    put(tmp_path, "simclr", {8: 0.9, 9: 0.9})
    more = find_row(compare.compare_pairs(load_frame(tmp_path), "simclr"))
    assert more[["n", "difference", "p"]].tolist() == pytest.approx([4, 0.02, row["p"]]), "seeds of one say nothing"


def test_a_fixed_method_is_a_one_sample_test(tmp_path: Path) -> None:
    put(tmp_path, "moco", A)
    put(tmp_path, "pixels", {None: 0.85})
    put(tmp_path, "random", {None: 0.15})
    pairs = compare.compare_pairs(load_frame(tmp_path), "pixels")
    row, test = find_row(pairs, configuration="moco"), stats.ttest_1samp(list(A.values()), 0.85)
    assert (row["n"], row["p"], row["difference"]) == pytest.approx((4, test.pvalue, 0.075))
    low, high = test.confidence_interval(0.95)
    assert (row["low"] + 0.85, row["high"] + 0.85) == pytest.approx((low, high), abs=0.003)
    both = find_row(pairs, configuration="random")
    assert (both["n"], both["difference"], both["note"]) == (0, pytest.approx(-0.7), "both are fixed: exact")
    assert both["significant"]
    assert compare.rank_configurations(load_frame(tmp_path))["rank"].tolist()[-1] == "3", (
        "two fixed methods differ, or do not"
    )


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({0: 0.8, 9: 0.7}, "one shared seed: no test"),
        ({8: 0.8, 9: 0.7}, "no shared seed: no test"),
        ({seed: value - 0.1 for seed, value in A.items()}, "the same difference in every seed: no test"),
        (A, "the same difference in every seed: no test"),
    ],
)
def test_no_test_is_said(tmp_path: Path, values: Mapping[int | None, float], note: str) -> None:
    put(tmp_path, "moco", A)
    put(tmp_path, "simclr", values)
    row = find_row(compare.compare_pairs(load_frame(tmp_path), "moco"))
    assert (row["note"], row["significant"]) == (note, False)
    assert row[["low", "high", "sd", "p", "p_holm", "p_adjusted"]].isna().all()
    assert compare.rank_configurations(load_frame(tmp_path))["rank"].tolist() == ["–", "–"]
    assert compare.count_seeds_needed(compare.compare_pairs(load_frame(tmp_path))).empty


def test_failed_and_collapsed_count_nowhere(tmp_path: Path) -> None:
    put(tmp_path, "moco", A)
    put(tmp_path, "simclr", B)
    before = comparison.tabulate(load_frame(tmp_path), "moco")
    put(tmp_path, "moco", {4: 0.1, 5: 0.2}, "collapsed")
    put(tmp_path, "simclr", {4: 0.3, 5: 0.1}, "failed")
    assert comparison.tabulate(load_frame(tmp_path), "moco") == before


def test_protocols_and_datasets_are_never_pooled(tmp_path: Path) -> None:
    put(tmp_path, "moco", A)
    put(tmp_path, "simclr", B)
    put(tmp_path, "moco", {10: 0.2, 11: 0.3}, protocol="bbbbbbbbbbbb")
    put(tmp_path, "simclr", {0: 0.1, 1: 0.5, 2: 0.6}, protocol="bbbbbbbbbbbb")
    put(tmp_path, "simclr", {0: 0.4, 1: 0.5}, dataset="cifar10")
    frame = load_frame(tmp_path)
    pairs = compare.compare_pairs(frame)
    assert sorted(zip(pairs["protocol"].str[0], pairs["dataset"], pairs["n"], strict=True)) == [
        ("a", "synthetic", 4),
        ("b", "synthetic", 0),
    ]
    assert compare.compute_intervals(frame)["n"].tolist() == [4, 4, 2, 3, 2]
    assert len(compare.compare_pairs(frame, "moco")) == 2, "a family without the reference is left out"
    header, *rows = comparison.tabulate(frame, "moco")
    assert header[:3] == ["dataset", "protocol", "configuration"]
    assert len(rows) == 5


def test_a_seed_run_twice_is_one_seed(tmp_path: Path) -> None:
    put(tmp_path, "moco", {0: 0.8, 1: 0.95})
    put(tmp_path, "moco", {0: 0.9})
    row = find_row(compare.compute_intervals(load_frame(tmp_path)))
    assert (row["n"], row["mean"]) == (2, pytest.approx((0.85 + 0.95) / 2))


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        # Smallest times 4, next times 3, and so on; 0.03 x 2 = 0.06, and the last may not be less.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.01], [1.0, 1.0, 0.03]),
        ([0.02, math.nan, 0.01], [0.02, math.nan, 0.02]),
        ([0.04], [0.04]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([math.nan], [math.nan]),
        ([], []),
    ],
)
def test_holm_by_hand(p: list[float], adjusted: list[float]) -> None:
    assert significance.holm(np.array(p)) == pytest.approx(np.array(adjusted), nan_ok=True)


def test_holm_is_over_the_tests_of_one_family(tmp_path: Path) -> None:
    put(tmp_path, "moco", A)
    put(tmp_path, "simclr", B)
    put(tmp_path, "swav", dict(enumerate([0.70, 0.721, 0.772, 0.713])))
    put(tmp_path, "pcl", {0: 0.5})  # in no test
    for seed in range(3):
        put(tmp_path, f"other{seed}", A, protocol="bbbbbbbbbbbb", lr=seed)  # in another family
    tests = compare.compare_pairs(load_frame(tmp_path)).query("protocol == 'aaaaaaaaaaaa' and p.notna()")
    smallest, middle, largest = sorted(tests["p"])
    corrected = [3 * smallest, max(3 * smallest, 2 * middle), max(3 * smallest, 2 * middle, largest)]
    assert sorted(tests["p_holm"]) == pytest.approx(corrected)


def test_ranks_are_shared_by_what_cannot_be_told_apart(tmp_path: Path) -> None:
    noise = [0.003, -0.002, 0.001, -0.004, 0.002]
    put(tmp_path, "low", {seed: 0.50 + gap for seed, gap in enumerate(noise)})
    put(tmp_path, "high", {seed: 0.90 - gap for seed, gap in enumerate(noise)})
    put(tmp_path, "near", {seed: 0.901 - noise[seed - 1] for seed in range(5)})
    put(tmp_path, "pixels", {None: 0.2})
    put(tmp_path, "lucky", {0: 0.99})
    put(tmp_path, "broken", {0: 0.99}, "failed")
    ranks = compare.rank_configurations(load_frame(tmp_path)).set_index("configuration")
    assert ranks["rank"].to_dict() == {
        "lucky": "–",
        "near": "1-2",
        "high": "1-2",
        "low": "3",
        "pixels": "4",
        "broken": "–",
    }
    assert list(ranks.index) == ["lucky", "near", "high", "low", "pixels", "broken"]
    assert ranks["joined"].to_dict() == {
        "near": (0,),
        "high": (0,),
        "low": (1,),
        "pixels": (2,),
        "lucky": (),
        "broken": (),
    }
    assert (ranks.loc["near", "best"], ranks.loc["near", "worst"]) == (1, 2)
    assert ranks["note"].to_dict() == dict.fromkeys(ranks.index, "") | {
        "lucky": "one seed",
        "broken": "no finished run",
    }


def test_a_chain_has_overlapping_ranks(tmp_path: Path) -> None:
    """High and low can be told apart, and the one between from neither: 1-2, 1-3, 2-3."""
    put(tmp_path, "low", {0: 0.80, 1: 0.81, 2: 0.80})
    put(tmp_path, "between", {0: 0.84, 1: 0.89, 2: 0.82})
    put(tmp_path, "high", {0: 0.90, 1: 0.911, 2: 0.90})
    assert compare.rank_configurations(load_frame(tmp_path))["rank"].tolist() == ["1-2", "1-3", "2-3"]


@pytest.mark.parametrize(
    ("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10), (-1.0, 10), (0.0, math.inf)]
)
def test_seeds_needed_are_the_tabulated_ones(tmp_path: Path, effect: float, seeds: float) -> None:
    """The numbers that G*Power gives for a two-sided paired t-test at 5 % and 80 %."""
    spread = np.array([-1.0, 0, 1]) / 100  # sd 0.01
    put(tmp_path, "moco", dict(enumerate(0.8 + effect / 100 + spread)))
    put(tmp_path, "pixels", {None: 0.8})
    row = find_row(compare.count_seeds_needed(compare.compare_pairs(load_frame(tmp_path))))
    assert (row["seeds"], row["level"]) == (seeds, 0.05)


def test_seeds_needed_reach_their_power_at_the_corrected_level(tmp_path: Path) -> None:
    put(tmp_path, "moco", A)
    put(tmp_path, "simclr", B)
    put(tmp_path, "pcl", {0: 0.93, 1: 0.89, 2: 0.96, 3: 0.90})
    needed = compare.count_seeds_needed(compare.compare_pairs(load_frame(tmp_path)))
    assert len(needed) == 3
    assert needed["level"].tolist() == pytest.approx([0.05 / 3] * 3)
    assert (needed["seeds"] > needed["n"]).all()
    row = needed.iloc[0]  # moco and simclr
    draws = np.random.default_rng(0).normal(row["difference"], row["sd"], (20_000, int(row["seeds"])))
    assert (stats.ttest_1samp(draws, 0, axis=1).pvalue < row["level"]).mean() == pytest.approx(0.8, abs=0.05)
    more = compare.count_seeds_needed(compare.compare_pairs(load_frame(tmp_path)), power=0.95)
    assert (more["seeds"] >= needed["seeds"]).all()


def test_true_ranks_lie_within_the_ranks() -> None:
    """In 95 % of studies."""
    ranks = compare.rank_configurations(build_frame(simulate_studies(60, [0, 0, 0.02, 0.06])))
    true = pd.DataFrame({"configuration": ["m0", "m1", "m2", "m3"], "first": [3, 3, 2, 1], "last": [4, 4, 2, 1]})
    both = ranks.merge(true)
    covers = ((both["best"] <= both["first"]) & (both["worst"] >= both["last"])).groupby(both["protocol"]).all()
    assert len(covers) == 60
    assert covers.mean() >= 0.9


def test_configurations_are_named_by_what_varies(tmp_path: Path) -> None:
    put(tmp_path, "moco", A, options={"queue": 4096.0, "temperature": 0.2}, epochs=10)
    put(tmp_path, "moco", B, options={"queue": 65536, "temperature": 0.2}, epochs=10)
    put(tmp_path, "simclr", B, options={"temperature": 0.5}, epochs=10)
    frame = load_frame(tmp_path)
    assert compare.compute_intervals(frame)["configuration"].tolist() == [
        "moco queue=4096",
        "moco queue=65536",
        "simclr",
    ]
    assert compare.compare_pairs(frame, "moco queue=4096")["reference"].unique().tolist() == ["moco queue=4096"]
    with pytest.raises(ValueError, match="'moco' is ambiguous: give one of moco queue=4096, moco queue=65536"):
        compare.compare_pairs(frame, "moco")
    with pytest.raises(ValueError, match=r"no reference 'simclir'; there are: .*simclr; nearest: simclr"):
        comparison.tabulate(frame, "simclir")
    with pytest.raises(
        ValueError, match="no metric 'linear_top'; there are: knn20_top1, linear_top1; nearest: linear_"
    ):
        compare.compute_intervals(frame, "linear_top")
    assert compare.compute_intervals(frame, "knn20_top1")["mean"].iloc[0] == pytest.approx(
        1 - np.mean(list(A.values()))
    )


def test_rows_are_text_under_a_header(tmp_path: Path) -> None:
    put(tmp_path, "moco", {0: 0.90, 1: 0.92, 2: 0.97, 3: 0.91})
    put(tmp_path, "simclr", B)
    put(tmp_path, "pcl", {0: 0.5})
    put(tmp_path, "pixels", {None: 0.85})
    assert comparison.tabulate(load_frame(tmp_path), "simclr") == [
        [*FIRST, "minus simclr", "p", "p (Holm's t)", "seeds needed", "note"],
        ["moco", "4", "92.5 (88.3 to 96.7)", "1-2", "+2.0 (-0.5 to 4.5)", "0.086", "0.066", "8 (4 to >1000)", ""],
        ["simclr", "4", "90.5 (86.3 to 94.7)", "1-3", "–", "–", "–", "–", ""],
        ["pixels", "1", "85.0", "2-3", "-5.5 (-12.7 to 1.7)", "0.096", "0.026", "8 (5 to 100)", "fixed"],
        ["pcl", "1", "52.5", "–", "-38.0", "–", "–", "–", "one seed; its own seeds: 50.0; one shared seed: no test"],
    ]
    assert comparison.tabulate(load_frame(tmp_path))[0] == [*FIRST, "note"]


def test_nothing_to_compare_is_empty(tmp_path: Path) -> None:
    for table in (compare.compute_intervals, compare.compare_pairs, compare.rank_configurations):
        assert table(load_frame(tmp_path)).empty
    assert compare.count_seeds_needed(compare.compare_pairs(load_frame(tmp_path))).empty
    assert comparison.tabulate(load_frame(tmp_path), "moco") == []
    put(tmp_path, "moco", {0: 0.9}, "failed")
    assert comparison.tabulate(load_frame(tmp_path), "moco")[1:] == [
        ["moco", "0", "–", "–", "–", "–", "–", "–", "no finished run"]
    ]
