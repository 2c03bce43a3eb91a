"""Named ablations: which cells they mean, below the user's own words."""

from __future__ import annotations

import pytest

import methods
from benchmark.augment import parse
from benchmark.cli import listing
from benchmark.errors import UsageError
from benchmark.settings.address import hash_cell
from benchmark.settings.cell import Settings
from benchmark.settings.values import Times
from benchmark.words import cell_words
from benchmark.words.ablations import ABLATIONS, CHAIN, PAIRS
from results.published import numbers


def read_cells(*words: str) -> list[Settings]:
    return cell_words.read(list(words)).cells


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_gives_every_method_that_it_fits_at_least_two_cells(name: str) -> None:
    counts: dict[str, int] = {}
    for cell in read_cells(f"ablation={name}", f"methods={','.join(methods.names())}"):
        counts[cell.method] = counts.get(cell.method, 0) + 1
    assert max(counts.values()) > 2
    assert {counts[one] for one in ("random", "pixels")} == {1}, "nothing of them is trained"


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_names_published_curves_over_what_it_varies(name: str) -> None:
    axes = {key for part in ABLATIONS[name].parts for key in part}
    ids = {curve.id for axis in axes for key in (axis, f"options.{axis}") for curve in numbers.find_curves(key)}
    assert set(ABLATIONS[name].published) <= ids


def test_the_list_says_what_is_drawn_and_beside_what(capsys: pytest.CaptureFixture[str]) -> None:
    listing.print_ablations([])
    descriptions = dict(text.split(":", 1) for text in capsys.readouterr().out.split("\n\n") if ":" in text)
    assert "figure: curve; published curves: simclr-table5, moco_v2" in descriptions["ablation=temperature"]
    assert descriptions["ablation=queue"].endswith("published curves: none")


@pytest.mark.parametrize("name", ABLATIONS)
def test_each_holds_the_usual_cell(name: str) -> None:
    """What it varies around is one of its own cells, which other sweeps share; a projection head's width too."""
    method = {"prototypes": "swav", "loss": "simclr", "similarity": "simclr"}.get(name, "moco")
    (usual,) = read_cells(f"methods={method}")
    keys = {hash_cell(cell) for cell in read_cells(f"ablation={name}", f"methods={method}")}
    assert (hash_cell(usual) in keys) is (name != "augmentation" or usual.augmentation in CHAIN + PAIRS)


def test_the_user_s_words_go_before() -> None:
    cells = read_cells("ablation=temperature", "methods=simclr,moco", "moco.temperature=0.3", "seeds=0,1")
    simclr = [cell.options["temperature"] for cell in cells if cell.method == "simclr" and cell.seed == 0]
    assert simclr == [0.05, 0.1, 0.2, 0.5, 1.0, 0.34]
    assert {cell.options["temperature"] for cell in cells if cell.method == "moco"} == {0.3}
    assert len(read_cells("ablation=temperature", "methods=simclr", "temperature=0.1,0.3")) == 2


def test_several_are_crossed() -> None:
    assert len(read_cells("ablation=temperature,epochs", "methods=simclr")) == 6 * 4


def test_a_head_without_layers_has_no_widths() -> None:
    heads = [
        (cell.options["head"], cell.options["head_dim"])
        for cell in read_cells("ablation=projection_head", "methods=simclr")
    ]
    assert heads == [("none", 128)] + [(head, width) for head in ("linear", "mlp") for width in (32, 128, 512)]
    request = cell_words.read(["ablation=projection_head", "methods=pirl"])
    assert "pirl has no head=none: left out" in request.notes


def test_larger_batches_come_in_parts_of_the_usual_one_where_batch_norm_lets_them() -> None:
    sizes = [
        (c.batch_size, c.microbatch)
        for c in read_cells("ablation=batch_size", "methods=simclr", "learning_rate_rule=sqrt")
    ]
    assert sizes == [(32, 0), (64, 0), (128, 0), (256, 128), (512, 128)]
    assert {cell.microbatch for cell in read_cells("ablation=batch_size", "methods=moco")} == {0}, (
        "it shuffles whole batches"
    )
    assert {cell.microbatch for cell in read_cells("ablation=batch_size", "methods=simclr", "microbatch=16")} == {16}


def test_times() -> None:
    cells = read_cells("methods=simclr,swav,random", "epochs=x0.25,x1,x2.5", "swav.prototypes=x2", "learning_rate=x0.5")
    assert [cell.epochs for cell in cells] == [2, 10, 25, 2, 10, 25, None]
    usual = {cell.method: cell for cell in read_cells("methods=simclr,swav,random")}
    assert {cell.options["prototypes"] for cell in cells[3:6]} == {2 * usual["swav"].options["prototypes"]}
    for cell in cells[:6]:
        assert 2 * (cell.learning_rate or 0) == usual[cell.method].learning_rate


def test_only_whole_numbers_are_rounded() -> None:
    assert Times(0.5, whole=False).of(1) == 0.5
    assert [Times(factor, whole=True).of(10) for factor in (0.01, 0.25, 1.26)] == [1, 2, 13]


def test_of_each_dataset_its_own() -> None:
    cells = read_cells("methods=simclr", "dataset=digits,cifar10", "epochs=x2")
    usual = read_cells("methods=simclr", "dataset=digits,cifar10")
    assert [cell.epochs for cell in cells] == [2 * (cell.epochs or 0) for cell in usual]


def test_every_augmentation_is_one() -> None:
    for text in ABLATIONS["augmentation"].parts[0]["augmentation"]:
        parse(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ablation=temprature", "methods=simclr"], "unknown ablation 'temprature'; did you mean 'temperature'"),
        (["ablation=queue", "methods=simclr"], "none of methods=simclr has queue"),
        (["ablation=epochs", "methods=random"], "none of methods=random has epochs"),
        (["methods=simclr", "microbatch=x2"], "microbatch is 0 for simclr: a multiple says nothing"),
        (["methods=simclr", "seeds=x2"], "seeds is 0 for simclr: a multiple says nothing"),
        (["methods=simclr", "epochs=x0"], "epochs=x0 is less than 1: without it, simclr has epochs=10"),
        (["methods=simclr", "epochs=x"], "epochs=x: a whole number is needed"),
        (["methods=simclr", "backbone=x2"], None),
    ],
)
def test_bad_input(words: list[str], message: str | None) -> None:
    if message is None:
        assert read_cells(*words)[0].backbone == "x2", "text stays text"
    else:
        with pytest.raises(UsageError, match=message):
            read_cells(*words)
