"""Settings that follow from what a dataset holds, what is said of them, and what is said of words that cannot work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commandline import run_in_process
from PIL import Image

import methods
from benchmark.data.identity import Facts
from benchmark.errors import UsageError
from benchmark.settings.presets.fitted import fit
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


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.describe(name).trains])
def test_every_method_gets_a_cell_without_a_doubt_on_a_folder(name: str, folder: Path) -> None:
    request = read([f"methods={name}", "dataset=folder", f"dataset.root={folder}"])
    (cell,) = request.cells
    assert (cell.view_size, cell.batch_size) == (64, 16)
    assert all(": fitted " in note or note.startswith("fitted to 86 training images: ") for note in request.notes)


def test_a_word_wins_and_is_told_where_it_cannot_work(folder: Path) -> None:
    words = ["moco.queue=65536", "swav.prototypes=3000", "view_size=96", "epochs=7"]
    request = read(["methods=moco,swav", "dataset=folder", f"dataset.root={folder}", *words])
    moco, swav = request.cells
    assert (moco.options["queue"], swav.options["prototypes"], moco.view_size, moco.epochs) == (65536, 3000, 96, 7)
    told = " ".join(request.notes)
    assert "moco: queue=65536 is 762 times the 86 training images: a key meets itself" in told
    assert "swav: prototypes=3000 are more than the 16 embeddings" in told
    assert "view_size=96 is more than the 64 pixels" in told
    assert "epochs=7" not in told, "what the user said is not said to be fitted"
    assert "momentum=0.95 (the key encoder has to follow within 35 steps)" in told, "it follows the user's epochs"


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
    planned = run_in_process(["plan", "--quick", *words], environment)
    assert "images: 3 classes (a, b, c), 86 train / 10 validation / 24 test images" in planned.stderr
    assert "moco: queue=128 is 149% of the 86 training images" in planned.stderr
    done = run_in_process(["run", *words], environment)
    assert done.returncode == 0, done.stderr
    record = next(tmp_path.glob("*/record.json")).read_text()
    assert "3 classes (a, b, c), 86 train / 10 validation / 24 test images" in record
    assert "queue=128 is 149% of the 86 training images" in record
    assert "batch_size=16 (about a tenth of 86 images" in record
    assert "queue=128 is 149% of the 86 training images" in " ".join(done.stdout.split()), "in the table"
