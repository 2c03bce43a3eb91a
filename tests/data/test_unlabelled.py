"""Images without labels: a method trains on them, and is evaluated on a labelled folder, or without any accuracy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commandline import run_in_process
from PIL import Image

from benchmark.cli.checks import read_request
from benchmark.data import inspection
from benchmark.data.catalogue import Dataset
from benchmark.data.datasets import load
from benchmark.data.identity import describe
from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.words.cell_words import read

SMALL = ["backbone=test_resnet", "stem=native", "view_size=16", "epochs=1", "batch_size=16", "wandb=off"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(labelled, unlabelled): two classes of 20 images; 45 images, flat and nested."""
    base = tmp_path_factory.mktemp("images")
    noise = np.random.default_rng(0)
    names = [f"labelled/{name}/{number}.png" for name in "ab" for number in range(20)]
    names += [f"plenty/{number}.png" for number in range(30)] + [
        f"plenty/2024/may/{number}.jpg" for number in range(15)
    ]
    for name in [*names, "plenty/.hidden.png"]:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(256, size=(20, 20, 3), dtype=np.uint8)).save(base / name)
    (base / "plenty" / "list.csv").write_text("a,b")
    return base / "labelled", base / "plenty"


@pytest.mark.parametrize("storage", [{}, {"cache": 16}, {"stream": True}])
def test_methods_train_on_the_images_without_labels(folders: tuple[Path, Path], storage: dict[str, int | bool]) -> None:
    labelled, plenty = map(str, folders)
    data = load(Dataset("folder", labelled, side=0 if storage else 16, unlabelled=plenty, **storage))
    assert [len(part) for part in (data.pretrain, data.train, data.validation, data.test)] == [45, 29, 3, 8]
    assert set(data.pretrain.labels.tolist()) == {-1}
    without = load(Dataset("folder", labelled, side=0 if storage else 16, **storage))
    assert data.mean != without.mean, "pixels are normalised by what is trained on"
    assert (data.test.images[:4] == without.test.images[:4]).all(), "and evaluated on the same images"


def test_the_words_make_a_cell_of_both_whose_numbers_may_be_compared(folders: tuple[Path, Path]) -> None:
    from benchmark.evaluate.headline import hash_protocol

    labelled, plenty = folders
    words = ["methods=simclr", "dataset=folder", f"dataset.root={labelled}", *SMALL]
    (labels_alone,), request = read(words).cells, read([*words, f"dataset.unlabelled={plenty}"])
    (both,) = request.cells
    assert address.hash_cell(labels_alone) != address.hash_cell(both)
    assert hash_protocol(labels_alone) == hash_protocol(both), "both are measured on the same images"
    (elsewhere,) = read([*words, f"dataset.unlabelled={plenty}/../plenty/"]).cells
    assert address.hash_cell(elsewhere) == address.hash_cell(both)


def test_test_images_among_those_without_labels_are_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    labelled, plenty = folders
    shutil.copytree(plenty, tmp_path / "more")
    shutil.copytree(labelled, tmp_path / "more" / "again")
    notes = describe([Dataset("folder", str(labelled), unlabelled=str(tmp_path / "more"))])
    assert "note: test images that are among those without labels, and so are trained on: 8" in notes
    assert not [
        line for line in describe([Dataset("folder", str(labelled), unlabelled=str(plenty))]) if "among" in line
    ]


def test_they_are_found_though_the_others_are_too_many_to_be_hashed_whole(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled, plenty = folders
    shutil.copytree(plenty, tmp_path / "more")
    shutil.copytree(labelled, tmp_path / "more" / "again")
    shutil.copytree(labelled, tmp_path / "own")
    monkeypatch.setattr(inspection, "WHOLE", sum(path.stat().st_size for path in labelled.rglob("*.png")))
    notes = describe([Dataset("folder", str(tmp_path / "own"), unlabelled=str(tmp_path / "more"))])
    assert "note: test images that are among those without labels, and so are trained on: 8" in notes


def test_without_any_labels_there_is_training_and_no_accuracy(
    folders: tuple[Path, Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ["methods=random,simclr", "dataset=folder", f"dataset.unlabelled={folders[1]}", f"out={tmp_path}", *SMALL]
    result = run_in_process(["run", *words], environment)
    assert result.returncode == 0, result.stderr
    assert "plenty: 45 images without labels" in result.stderr
    assert "no labels, so no accuracy can be given" in result.stderr
    assert "hidden or system files and folders" in result.stderr
    assert ".csv files that are not read as images" in result.stderr
    for path in tmp_path.glob("*/record.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "finished"
        assert set(record["metrics"]) == {"effective_rank", "uniformity", "alignment"}
        assert (path.parent / "looks.json").exists(), "nearest neighbours to look at"
    assert "no labels, so no accuracy can be given" in " ".join(result.stdout.split()), "below the table"
    assert run_in_process(["report", f"out={tmp_path}"], environment).returncode == 0
    assert "no labels" in (tmp_path / "report" / "report.html").read_text()
    for words_of_it, code in ((["evaluations=looks"], 0), ([], 0), (["evaluations=knn,looks"], 2)):
        evaluation = run_in_process(["evaluate", f"out={tmp_path}", *words_of_it], environment)
        assert evaluation.returncode == code, evaluation.stderr
    assert "evaluations=knn: the cell's images have no labels; looks and transfer do without" in evaluation.stderr
    supervised = run_in_process(["run", "methods=supcon", *words[1:]], environment)
    assert supervised.returncode == 2
    assert "supcon learns from labels, and there are none" in supervised.stderr


def test_so_few_images_that_nothing_could_be_measured_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    """Of one validation image there is no uniformity: the cell had no record, and ended all others."""
    words = ["methods=simclr", "dataset=folder", f"dataset.unlabelled={folders[1]}", "dataset.limit=14"]
    words += [*SMALL[:4], "batch_size=4", f"out={tmp_path}"]
    for command in (["plan", "--quick"], ["run"]):
        result = run_in_process([*command, *words], environment)
        assert result.returncode == 2
        assert "dataset.validation=0.1 holds back 1 image of 14 without labels" in result.stderr
        assert "dataset.validation=0.22, or more images" in result.stderr
    assert run_in_process(["plan", "--quick", *words, "dataset.validation=0.22"], environment).returncode == 0


def test_a_supervised_method_has_the_images_with_labels(
    folders: tuple[Path, Path], environment: dict[str, str]
) -> None:
    few = [f"dataset.root={folders[0]}", f"dataset.unlabelled={folders[0] / 'a'}", *SMALL[:4], "batch_size=24"]
    codes = [
        run_in_process(["plan", f"methods={name}", "dataset=folder", *few, "--quick"], environment).returncode
        for name in ("supcon", "simclr")
    ]
    assert codes == [0, 2]


def test_bad_words_are_one_line(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        read(["methods=simclr", "dataset=folder", f"dataset.unlabelled={tmp_path / 'nowhere'}"])
    with pytest.raises(UsageError, match="holds 0 images: at least 3"):
        read(["methods=simclr", "dataset=folder", f"dataset.unlabelled={tmp_path}"])
    with pytest.raises(UsageError, match=r"dataset\.unlabelled=.* is for dataset=folder, not for digits"):
        read_request(["methods=simclr", "dataset=digits", f"dataset.unlabelled={folders[1]}"])
