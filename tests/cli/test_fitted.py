"""Settings that follow from what a dataset holds, what is said of them, and what is said of words that cannot work."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from commandline import run_in_process
from PIL import Image

import methods
from benchmark.cli import checks
from benchmark.data import identity
from benchmark.data.identity import Facts
from benchmark.errors import UsageError
from benchmark.settings import presets, remarks
from benchmark.settings.presets.fitted import fit
from benchmark.settings.runtime import Runtime
from benchmark.training import build
from benchmark.words.cell_words import read

SIZES = (100, 720, 3000, 9000, 45_000, 1_000_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of forty images of 64 pixels."""
    root = tmp_path_factory.mktemp("own") / "images"
    noise = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (root / name).mkdir(parents=True)
        for number in range(40):
            Image.fromarray(noise.integers(256, size=(64, 70, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize("images", SIZES)
def test_no_memory_is_longer_than_the_data_allow(images: int) -> None:
    values = {word: rule.value for word, rule in fit(Facts(images, 10, 128)).items()}
    batch = int(values["batch_size"])
    assert images // batch >= 4, "an epoch has steps"
    for word in ("moco.queue", "pcl.queue", "ressl.queue", "nnclr.queue", "all4one.queue"):
        assert batch <= int(values[word]) <= max(batch, images / 4)
    assert int(values["swav.prototypes"]) <= int(values["swav.batch_size"])
    assert int(values["deepcluster.prototypes"]) <= max(4, images / 25)
    assert max(map(int, values["pcl.clusters"].split("+"))) <= images / 12
    assert int(values["pirl.negatives"]) <= images / 2


def test_what_few_steps_ask_for_is_left_to_the_authors_where_there_are_many() -> None:
    facts = Facts(3000, 10, 32)
    short, long = fit(facts, epochs=100), fit(facts, epochs=2000)
    assert "of 1100 steps" in short["deepcluster.temperature"].why
    assert "deepcluster.temperature" not in long
    assert (short["moco.momentum"].value, long["moco.momentum"].value) == ("0.95", "0.99")
    assert short["moco.learning_rate"].value == "0.12"
    assert float(long["moco.learning_rate"].value) < 0.12


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.describe(name).trains])
def test_every_method_gets_a_cell_without_a_doubt_on_a_folder(name: str, folder: Path) -> None:
    request = read([f"methods={name}", "dataset=folder", f"dataset.root={folder}"])
    (cell,) = request.cells
    assert (cell.view_size, cell.batch_size) == (64, 16)
    assert all(": fitted " in note or note.startswith("fitted to 86 training images: ") for note in request.notes)


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.describe(name).trains])
def test_no_fitted_value_is_refused_by_the_method_or_beside_the_users_batch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(name)
    batches = (2, 4, 6, 10, 15, 20, 25, 48, 50, 77, 100, 128, 300, 1000, 8192)
    for images in (2, 3, 7, 14, 16, 50, 86, 720, 9000, 45_000, 10**6):
        facts = Facts(images, draw.choice((2, 50)), draw.choice((1, 31, 64, 95)))
        for module in (presets, remarks, identity):
            monkeypatch.setattr(module, "measure", lambda *_, facts=facts: facts)
        for batch in [None, *draw.sample([size for size in batches if size <= images], min(2, images // 10))]:
            epochs = draw.choice((None, 1, 2, 9, 10, 200))
            settings = {"epochs": epochs, "batch_size": batch}
            words = [f"{word}={value}" for word, value in settings.items() if value]
            cells = read([f"methods={name}", "dataset=svhn", *words]).cells
            checks.require_possible(cells, Runtime())
            assert (cells[0].batch_size or 0) <= images
            if images == 2:
                build.check_networks(cells[0])


def test_the_view_is_no_larger_than_a_words_side(folder: Path) -> None:
    words = ["methods=simclr", "dataset=folder", f"dataset.root={folder}"]
    for word, view in (
        ("dataset.side=48", 32),
        ("dataset.cache=40", 32),
        ("dataset.side=64", 64),
        ("dataset.stream=true", 64),
    ):
        assert read([*words, word]).cells[0].view_size == view


def test_what_learns_from_labels_is_fitted_to_the_labelled_images(folder: Path, tmp_path: Path) -> None:
    for number in range(400):
        Image.new("RGB", (64, 64), (number % 256, number // 256, 0)).save(tmp_path / f"{number}.png")
    words = ["dataset=folder", f"dataset.root={folder}", f"dataset.unlabelled={tmp_path}"]
    request = read(["methods=simclr,supcon", *words])
    assert [cell.batch_size for cell in request.cells] == [32, 16]
    for images in (400, 86):
        assert any(note.startswith(f"fitted to {images} training images: ") for note in request.notes)


def test_a_batch_of_more_images_than_a_folder_trains_on_is_refused_by_plan(folder: Path) -> None:
    (cell,) = read(["methods=simclr", "dataset=folder", f"dataset.root={folder}", "batch_size=87"]).cells
    with pytest.raises(UsageError, match="batch_size=87: folder has 86 images"):
        checks.require_possible([cell], Runtime())


def test_the_smallest_folder_that_is_allowed_trains(tmp_path: Path, environment: dict[str, str]) -> None:
    for number in range(6):
        path = tmp_path / "tiny" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (number * 40, 0, 0)).save(path)
    words = ["methods=simclr,moco", "dataset=folder", f"dataset.root={tmp_path / 'tiny'}", f"out={tmp_path / 'out'}"]
    result = run_in_process(["run", *words, "backbone=test_resnet", "epochs=1", "wandb=off"], environment)
    assert result.returncode == 0, result.stderr
    assert "fitted to 2 training images: batch_size=2 (about a tenth of 2 images, from 2 to 256" in result.stderr


def test_a_word_wins_and_is_told_where_it_cannot_work(folder: Path) -> None:
    words = ["moco.queue=65536", "swav.prototypes=3000", "view_size=96", "epochs=7"]
    request = read(["methods=moco,swav", "dataset=folder", f"dataset.root={folder}", *words])
    moco, swav = request.cells
    assert (moco.options["queue"], swav.options["prototypes"], moco.view_size, moco.epochs) == (65536, 3000, 96, 7)
    notes = " ".join(request.notes)
    assert "moco: queue=65536 is 762 times the 86 training images: a key meets itself" in notes
    assert "swav: prototypes=3000 are more than the 16 embeddings" in notes
    assert "view_size=96 is more than the 64 pixels" in notes
    assert "epochs=7" not in notes, "what the user said is not said to be fitted"
    assert "momentum=0.95 (the key encoder has to follow within 35 steps)" in notes, "it follows the user's epochs"


def test_views_are_never_larger_than_the_images_that_are_kept(folder: Path) -> None:
    words = ["methods=random", "dataset=folder", f"dataset.root={folder}"]
    (cell,) = read([*words, "view_size=224"]).cells
    assert cell.dataset.side == 224, "the side follows the view"
    assert read([*words, "view_size=96"]).cells[0].dataset.side == 0, "the usual 128 are enough"
    with pytest.raises(UsageError, match=r"view_size=224 is more than dataset\.side=160, .* give dataset\.side=224"):
        read([*words, "view_size=224", "dataset.side=160"])
    with pytest.raises(UsageError, match=r"view_size=224 is more than dataset\.cache=160"):
        read([*words, "view_size=224", "dataset.cache=160"])
    (note,) = read(["methods=simclr", "dataset=digits", "view_size=64"]).notes
    assert note == "simclr: view_size=64 is more than the 8 pixels of digits"
    assert not read(["methods=simclr", "dataset=digits"]).notes


def test_patches_that_leave_pixels_out_are_said(folder: Path) -> None:
    words = ["methods=random", "dataset=digits", "backbone=vit_tiny_patch16_224"]
    assert (
        "view_size=40 is no multiple of the 16 pixels of a patch: 8 are left out"
        in read([*words, "view_size=40", "stem=native"]).notes[0]
    )
    assert not read([*words, "view_size=48", "stem=native"]).notes
    assert not read([*words, "view_size=40"]).notes, "patches of 4 pixels"


def test_without_a_preset_nothing_is_fitted(folder: Path) -> None:
    (cell,) = read(["methods=moco", "dataset=folder", f"dataset.root={folder}", "preset=none", "batch_size=8"]).cells
    assert cell.options["queue"] == 65536


def test_what_was_found_and_fitted_stands_in_plan_and_record(
    folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ["methods=moco", "dataset=folder", f"dataset.root={folder}", "backbone=test_resnet", "stem=native"]
    words += ["view_size=16", "epochs=1", "moco.queue=128", f"out={tmp_path}", "wandb=off"]
    plan = run_in_process(["plan", "--quick", *words], environment)
    assert "images: 3 classes (a, b, c), 86 train / 10 validation / 24 test images" in plan.stderr
    assert "moco: queue=128 is 149% of the 86 training images" in plan.stderr
    result = run_in_process(["run", *words], environment)
    assert result.returncode == 0, result.stderr
    record = next(tmp_path.glob("*/record.json")).read_text()
    assert "3 classes (a, b, c), 86 train / 10 validation / 24 test images" in record
    assert "queue=128 is 149% of the 86 training images" in record
    assert "batch_size=16 (about a tenth of 86 images" in record
    assert "queue=128 is 149% of the 86 training images" in " ".join(result.stdout.split()), "in the table"
