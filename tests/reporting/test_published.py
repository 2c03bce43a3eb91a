"""Published numbers: the file is well-formed, and verdicts on synthetic studies whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

import methods
from benchmark.augment import parse
from benchmark.data import catalogue
from benchmark.settings import schema
from benchmark.settings.values import parse_value
from results.published import numbers, sweeps

METRICS = {"top1", "linear_top1", "knn_top1", "knn5_top1", "knn10_top1", "knn20_top1", "knn200_top1"}
SEEDS = range(5)


def simulate_study(
    values: Mapping[Any, float], axis: str = "options.temperature", sd: float = 0.002, **settings: Any
) -> pd.DataFrame:
    """A loaded frame of one sweep: normal values about these means, and more that a seed does to all."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10 * sd, len(SEEDS))
    fixed = {"protocol": "p", "status": "finished", "method": "simclr", "dataset.name": "digits", "dataset.limit": 0}
    fixed |= {"backbone": "resnet10t", "epochs": 10, "batch_size": 128} | settings
    rows = [
        fixed | {axis: value, "seed": seed, "metrics.linear_top1": mean + shared[seed] + rng.normal(0, sd)}
        for value, mean in values.items()
        for seed in SEEDS
    ]
    return pd.DataFrame(rows)


def list_verdicts(frame: pd.DataFrame) -> list[dict[str, str]]:
    rows = sweeps.tabulate(sweeps.compare_sweeps(frame))
    return [dict(zip(sweeps.HEADER, row, strict=True)) for row in rows[1:]]


def find_verdict(frame: pd.DataFrame) -> dict[str, str]:
    (verdict,) = list_verdicts(frame)
    return verdict


def test_every_row_is_a_number_of_a_known_method_with_a_source() -> None:
    rows = numbers.load()
    assert len(rows) > 200
    assert set(rows["method"]) <= set(methods.names())
    assert rows["result"].between(0.1, 0.99).all()
    assert set(rows["metric"]) <= METRICS
    assert set(rows["dataset"]) <= set(catalogue.CATALOGUE)
    for name in ("table", "backbone", "protocol", "source"):
        assert rows[name].str.strip().ne("").all(), name
    assert not rows.drop(columns="result").duplicated().any()


def test_settings_and_axes_are_ours() -> None:
    """A misspelt one would silently never be compared."""
    declared = schema.list_types()
    for row in numbers.load().to_dict("records"):
        words = dict(word.split("=", 1) for word in row["settings"].split())
        options = schema.list_options(row["method"])
        kinds = declared | {f"options.{name}": kind for name, kind in options.items()}
        assert set(words) | set(row["axes"].split()) <= set(kinds)
        assert set(row["axes"].split()) <= {"epochs", "batch_size", *words}
        for name, text in words.items():
            parse_value(text, kinds[name], name)
        if "augmentation" in words:
            parse(words["augmentation"])


def test_ids_are_unique_and_points_in_order() -> None:
    curves = [one for axis in set(" ".join(numbers.load()["axes"]).split()) for one in numbers.find_curves(axis)]
    assert len({(one.id, one.metric) for one in curves}) == len({one.id for one in curves}) == len(curves) > 50
    for one in curves:
        assert len(one.x) == len(one.y) == len(set(one.x)) >= 2
        assert all(isinstance(x, str) for x in one.x) or list(one.x) == sorted(one.x)
        assert "\n" not in one.protocol


def test_as_the_papers_print_them() -> None:
    (table5,) = numbers.find_curves("options.temperature", "simclr")
    assert (table5.x, table5.y) == ((0.05, 0.1, 0.5, 1.0), (0.597, 0.644, 0.607, 0.58))
    assert table5.verified
    assert "resnet50, epochs 100, batch_size 4096" in table5.protocol
    curves = {one.id: one for axis in ("batch_size", "epochs") for one in numbers.find_curves(axis, "simclr")}
    linear = curves["simclr-tableB1/epochs=100/learning_rate_rule=linear/learning_rate=0.3"]
    assert linear.y == (0.575, 0.607, 0.628, 0.640, 0.646, 0.648)
    assert curves["simclr-tableB1/epochs=800/learning_rate_rule=sqrt/learning_rate=1.2"].y == (
        0.665,
        0.674,
        0.683,
        0.688,
        0.691,
        0.691,
    )
    assert curves["simclr-tableB1/batch_size=512/learning_rate_rule=sqrt/learning_rate=1.2"].y == (
        0.638,
        0.656,
        0.667,
        0.674,
    )
    assert {one.id: max(one.y) for one in numbers.find_curves("options.temperature", "moco")} == {
        "moco_v2-temperature/options.head=linear": 0.607,
        "moco_v2-temperature/options.head=mlp": 0.662,
    }
    (figure5,) = [one for one in numbers.find_curves("augmentation") if one.id == "simclr-figure5"]
    assert not figure5.verified, "an image, remembered"


# As printed, in percent, by batch size and epochs, in the order of the file; "dclw" is DCL with weights.
PRINTED = {
    ("raminnakhli", "cifar10", "linear_top1"): {
        "simclr": "78.3 81.47 83.09 83.26",
        "dcl": "84.6 85.57 85.63 85.36",
        "dclw": "83.32 82.68 83.5 82.7",
    },
    ("raminnakhli", "cifar100", "linear_top1"): {
        "simclr": "52.2 57.76 58 59.6",
        "dcl": "60.1 60.33 61.73 61.92",
        "dclw": "60.16 59.7 59.05 57.3",
    },
    ("emp-ssl", "cifar10", "linear_top1"): {
        "simclr": "28.2 56.5 66.3 91.0",
        "byol": "24.9 48.9 68.4 92.6",
        "vicreg": "40.6 69.7 78.1 92.1",
        "swav": "24.5 53.2 76.7 92.3",
    },
    ("supcontrast", "cifar10", "linear_top1"): {"simclr": "93.6", "supcon": "96.0"},
    ("supcontrast", "cifar100", "linear_top1"): {"simclr": "70.7", "supcon": "76.5"},
    ("eb_jepa", "cifar10", "linear_top1"): {"vicreg": "90.12"},
    ("lightly-imagenette", "imagenette160", "knn20_top1"): {
        "simclr": "88.9",
        "moco": "87.4",
        "swav": "90.2 89.0",  # the second with its queue
        "nnclr": "88.4",
        "dcl": "86.1",
        "dclw": "86.5",
        "byol": "88.7",
        "simsiam": "87.2",
        "barlow_twins": "85.2",
        "vicreg": "84.5",
    },
    ("wmse-table1", "cifar10", "linear_top1"): {"simclr": "91.80", "byol": "91.73"},
    ("wmse-table1", "cifar10", "knn5_top1"): {"simclr": "88.42", "byol": "89.45"},
    ("wmse-table1", "cifar100", "linear_top1"): {"simclr": "66.83", "byol": "66.60"},
    ("wmse-table1", "cifar100", "knn5_top1"): {"simclr": "56.56", "byol": "56.82"},
    ("wmse-table1", "stl10", "linear_top1"): {"simclr": "90.51", "byol": "91.99"},
    ("wmse-table1", "stl10", "knn5_top1"): {"simclr": "85.68", "byol": "88.64"},
    ("wmse-table1", "tiny_imagenet", "linear_top1"): {"simclr": "48.84", "byol": "51.00"},
    ("wmse-table1", "tiny_imagenet", "knn5_top1"): {"simclr": "32.86", "byol": "36.24"},
}


def test_newer_tables_have_their_numbers_and_say_which_are_from_memory() -> None:
    rows = numbers.load().sort_values(["batch_size", "epochs"], kind="stable")
    names = rows["method"].where(~rows["settings"].str.contains("weighted=true"), "dclw")
    for (table, dataset, metric), lines in PRINTED.items():
        own = rows[(rows["table"] == table) & (rows["dataset"] == dataset) & (rows["metric"] == metric)]
        ours = own.groupby(names)["result"].apply(lambda results: [round(100 * result, 2) for result in results])
        assert ours.to_dict() == {name: [*map(float, text.split())] for name, text in lines.items()}, table
        assert set(own["verified"]) == {table not in ("emp-ssl", "wmse-table1")}, table


def test_the_same_order_agrees() -> None:
    verdict = find_verdict(simulate_study({0.05: 0.70, 0.1: 0.80, 0.5: 0.75, 1.0: 0.60}))
    assert (verdict["values"], verdict["agree"], verdict["disagree"]) == ("0.05, 0.1, 0.5, 1", "6", "0")
    assert verdict["verdict"] == "agree"
    assert verdict["conditions"] == (
        "protocol differs: dataset digits (imagenet), backbone resnet10t (resnet50), epochs 10 (100), "
        "batch_size 128 (4096)"
    )


def test_one_significant_pair_the_other_way_disagrees() -> None:
    verdict = find_verdict(simulate_study({0.05: 0.70, 0.1: 0.80, 0.5: 0.85, 1.0: 0.60}))
    assert (verdict["agree"], verdict["disagree"], verdict["verdict"]) == ("5", "1", "disagree")


def test_noise_and_single_seeds_cannot_be_told() -> None:
    values = {0.05: 0.700, 0.1: 0.702, 0.5: 0.701, 1.0: 0.699}
    assert find_verdict(simulate_study(values, sd=0.02))["verdict"] == "cannot be told"
    apart = simulate_study({0.05: 0.70, 0.1: 0.80, 0.5: 0.75, 1.0: 0.60})
    assert find_verdict(apart[apart["seed"] == 0])["cannot be told"] == "6"
    failed = apart.assign(status=apart["status"].where(apart["options.temperature"] != 1.0, "failed"))
    assert find_verdict(failed)["values"] == "0.05, 0.1, 0.5"


def test_equal_means_are_seldom_told_apart() -> None:
    """Holm's correction: 5 % of studies without any difference, at most, have a pair that is told."""
    rng = np.random.default_rng(1)
    count = 0
    for _ in range(25):
        frame = simulate_study(dict.fromkeys((0.05, 0.1, 0.5, 1.0), 0.7))
        count += (
            find_verdict(frame.assign(**{"metrics.linear_top1": rng.normal(0.7, 0.01, len(frame))}))["cannot be told"]
            != "6"
        )
    assert count <= 4  # 99.3 % of binomial(25, 0.05)


def test_few_common_values_are_compared_by_trend() -> None:
    rising = {size: 0.6 + 0.03 * place for place, size in enumerate((32, 64, 128, 256, 512))}
    frame = simulate_study(rising, "batch_size", learning_rate_rule="linear", microbatch=0)
    # Larger batches come in parts: still one sweep.
    frame["microbatch"] = frame["microbatch"].where(frame["batch_size"] < 256, 128)
    comparison = find_verdict(frame)
    assert (comparison["values"], comparison["verdict"]) == ("trend 256 to 512 (256 to 8192)", "agree")
    assert comparison["published"] == "SimCLR paper (arXiv 2002.05709), table B.1"
    assert "learning_rate_rule" not in comparison["conditions"], "the curve with our rule"
    falling = simulate_study(
        dict(zip(rising, reversed(rising.values()), strict=True)), "batch_size", learning_rate_rule="sqrt"
    )
    assert find_verdict(falling)["verdict"] == "disagree"
    small = simulate_study(
        dict(zip((2, 4, 8, 16), rising.values(), strict=False)), "batch_size", learning_rate_rule="sqrt"
    )
    assert sweeps.compare_sweeps(small) == [], "their batches begin at 32"


def test_nearest_conditions_are_chosen() -> None:
    values = {0.1: 0.7, 0.2: 0.75, 0.5: 0.65}
    for head, verdict in (("linear", "disagree"), ("mlp", "agree")):
        # Without an MLP the paper's best is 0.1, with one it is 0.2.
        comparison = find_verdict(simulate_study(values, method="moco", **{"options.head": head}))
        assert comparison["verdict"] == verdict
        assert "head" not in comparison["conditions"]


def test_numbers_only_where_no_stated_condition_differs() -> None:
    same: dict[str, Any] = {"dataset.name": "imagenet", "backbone": "resnet50", "batch_size": 4096}
    frame = simulate_study({100: 0.644, 400: 0.66, 800: 0.697}, "epochs", **same)
    comparison = find_verdict(frame)
    assert comparison["published"] == "facebookresearch/vissl, MODEL_ZOO.md"
    assert comparison["conditions"].startswith(
        "the same; numbers: 0 shown to be within 1 point of ours, 0 beyond, 3 cannot"
    )
    assert (comparison["agree"], comparison["verdict"]) == ("3", "partly agree"), (
        "seeds that spread by two points show no number"
    )
    means = frame.groupby("epochs")["metrics.linear_top1"].transform("mean")
    exact = {100: 0.644, 400: 0.6771, 800: 0.6968}
    close = (frame["metrics.linear_top1"] - means) / 100 + frame["epochs"].map(exact)
    same_numbers = find_verdict(frame.assign(**{"metrics.linear_top1": close}))
    assert "3 shown to be within 1 point" in same_numbers["conditions"]
    assert (same_numbers["agree"], same_numbers["verdict"]) == ("6", "agree"), "the order and all numbers"
    far = simulate_study({100: 0.50, 400: 0.53, 800: 0.56}, "epochs", **same)
    assert "0 shown to be within 1 point of ours, 3 beyond" in find_verdict(far)["conditions"]
    assert (find_verdict(far)["agree"], find_verdict(far)["verdict"]) == ("3", "disagree"), (
        "the same order of other numbers"
    )
    part = find_verdict(far.assign(**{"dataset.limit": 10000}))
    assert part["conditions"] == "protocol differs: dataset imagenet limit=10000 (imagenet)"
    assert part["verdict"] == "agree"


def test_sweeps_are_kept_apart_and_named() -> None:
    up = {0.05: 0.70, 0.1: 0.80, 0.5: 0.75, 1.0: 0.60}
    frame = pd.concat([simulate_study(up, epochs=10), simulate_study({t: 1.4 - y for t, y in up.items()}, epochs=20)])
    assert [(row["method"], row["verdict"]) for row in list_verdicts(frame) if row["axis"] == "temperature"] == [
        ("simclr epochs=10", "agree"),
        ("simclr epochs=20", "disagree"),
    ]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(columns=["protocol", "status", "method", "seed", "metrics.linear_top1"]),
        simulate_study({0.1: 0.7}),
        simulate_study({0.2: 0.7, 0.3: 0.8}),  # no value in common, and SimCLR's curve rises and falls
        simulate_study({0.1: 0.7, 0.5: 0.8}, method="instdisc"),
        simulate_study({"crop": 0.7, "crop+colour": 0.8}, "augmentation"),
    ],
)
def test_nothing_to_compare_is_no_row(frame: pd.DataFrame) -> None:
    assert sweeps.tabulate(sweeps.compare_sweeps(frame)) == []
