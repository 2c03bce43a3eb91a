"""Datasets by name whose images lie as files: which files of an archive are which, and what is said where they lack."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import archives
import pytest
import torch
from commandline import PATIENCE
from torchvision import datasets as torchvision_datasets

from benchmark.cli import checks
from benchmark.data import identity
from benchmark.data.catalogue import CATALOGUE, Dataset
from benchmark.data.datasets import load
from benchmark.data.identity import describe, survey_images
from benchmark.data.survey import Survey
from benchmark.errors import UsageError
from benchmark.settings.cell import Settings
from benchmark.words.cell_words import read
from results.published import numbers


@pytest.fixture(autouse=True)
def _look_anew():
    identity.forget_surveys()


def survey(name: str, root: Path) -> Survey:
    labelled, _ = survey_images(Dataset(name, str(root)))
    assert labelled is not None
    return labelled


def read_cell(*words: str) -> Settings:
    (cell,) = read(["methods=simclr", *words]).cells
    return cell


def test_imagenette_is_trained_on_its_train_and_tested_on_its_val(tmp_path):
    archives.make_imagenette(tmp_path)
    data = load(Dataset("imagenette160", str(tmp_path), side=8))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [30, 10, 20]
    assert data.class_names == list(archives.IMAGENETTE)
    lines = describe([Dataset("imagenette160", str(tmp_path))])
    assert "test from val/" in lines[0]
    assert "note: imagenette160 has 9469 training images as published, this copy 40" in lines


def test_tiny_imagenet_is_tested_on_the_labels_of_its_annotations(tmp_path):
    archives.make_tiny_imagenet(tmp_path)
    images = survey("tiny_imagenet", tmp_path)
    assert (len(images.training), len(images.test), len(images.classes)) == (600, 200, 200)
    names = {Path(images.paths[i]).name: images.classes[images.labels[i]] for i in images.test}
    assert names["val_199.JPEG"] == "n00000000"
    assert names["val_0.JPEG"] == "n00000199"
    assert not images.notes
    (tmp_path / "tiny-imagenet-200/val/images/val_7.JPEG").unlink()
    identity.forget_surveys()
    with pytest.raises(
        UsageError, match=r"dataset tiny_imagenet: .*lacks images that val_annotations.txt names: val_7"
    ):
        survey("tiny_imagenet", tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("val/val_annotations.txt", b"noise", r"val_annotations.txt' holds the line noise, which is no FILE, tab"),
        ("val/val_annotations.txt", b"caf\xe9.JPEG\tn00000000", "lacks images that val_annotations.txt names"),
        ("val/val_annotations.txt", b"\n", "holds 0 test classes, not the 200 of tiny_imagenet"),
        ("val/images", None, "there is no folder '.*val/images'"),
        ("train/n00000000/images", None, "there is no folder '.*train/n00000000/images'"),
        ("train", b"", r"train' cannot be read \(Not a directory\)"),
    ],
)
def test_a_damaged_copy_is_one_line(tmp_path, file, text, message):
    archives.make_tiny_imagenet(tmp_path)
    path = tmp_path / "tiny-imagenet-200" / file
    if path.is_dir():
        shutil.rmtree(path)
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(UsageError, match=message) as error:
        survey("tiny_imagenet", tmp_path)
    assert "\n" not in str(error.value)


def test_a_copy_without_classes_or_without_its_test_images_is_refused(tmp_path):
    (tmp_path / "caltech101/101_ObjectCategories").mkdir(parents=True)
    with pytest.raises(UsageError, match="holds 0 train classes, not the 101 of caltech101"):
        survey("caltech101", tmp_path)
    archives.make_imagenette(tmp_path)
    shutil.rmtree(tmp_path / "imagenette2-160/val")
    with pytest.raises(UsageError, match="holds 0 test classes, not the 10 of imagenette160"):
        survey("imagenette160", tmp_path)


def test_imagenet_has_all_its_classes_and_imagenet100_those_of_the_list(tmp_path):
    archives.make_imagenet(tmp_path)
    whole, part = survey("imagenet", tmp_path), survey("imagenet100", tmp_path)
    assert [(len(images.training), len(images.test)) for images in (whole, part)] == [(2000, 1000), (200, 100)]
    assert part.classes[0] == "n01558993"
    assert part.classes[-1] == "n13040303"
    assert any("left out: class folders that are not of ImageNet-100: 1800" in note for note in part.notes)
    (tmp_path / "train/n01558993").rename(tmp_path / "train/robin")
    identity.forget_surveys()
    with pytest.raises(
        UsageError, match=r"dataset imagenet: .* 999 train classes, not the 1000 of imagenet: .*=folder"
    ):
        survey("imagenet", tmp_path)
    with pytest.raises(UsageError, match=r"99 train classes, without n01558993, not the 100 of imagenet100"):
        survey("imagenet100", tmp_path)


def test_the_classes_of_imagenet100_are_those_of_cmc():
    """Of the list as its authors have it, sorted, a line each."""
    text = "\n".join(sorted(archives.read_imagenet100())) + "\n"
    assert len(text.split()) == 100
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "5ee5db69d488"


def test_validation_images_that_are_not_sorted_into_classes_are_said(tmp_path):
    archives.put(tmp_path / "train/n01440764", 2)
    archives.put(tmp_path / "val", 2)
    with pytest.raises(UsageError, match=r"dataset imagenet: .*val' holds no folder of a WordNet id such as n01440764"):
        survey("imagenet", tmp_path)


def test_caltech101_trains_on_the_same_thirty_images_of_each_class(tmp_path):
    archives.make_caltech101(tmp_path / "here")
    images = survey("caltech101", tmp_path / "here")
    assert (len(images.training), len(images.test), len(images.classes)) == (3030, 202, 101)
    assert set(torch.from_numpy(images.labels[images.training]).bincount().tolist()) == {30}
    assert not set(images.training) & set(images.test)
    tested = {Path(images.paths[i]).name for i in images.test}
    assert len(tested) > 20, "they are drawn, not the last ones"
    (tmp_path / "here").rename(tmp_path / "there")
    elsewhere = survey("caltech101", tmp_path / "there")
    assert elsewhere.fingerprint == images.fingerprint
    assert "test from all but 30 images a class" in describe([Dataset("caltech101", str(tmp_path / "there"))])[0]


def test_they_are_cached_and_streamed_as_a_folder_is(tmp_path):
    archives.make_imagenette(tmp_path)
    words = ("dataset=imagenette160", f"dataset.root={tmp_path}", "view_size=8", "backbone=resnet10t", "epochs=1")
    in_memory, cached = read_cell(*words, "dataset.side=10"), read_cell(*words, "dataset.cache=10")
    assert in_memory.dataset.fingerprint == cached.dataset.fingerprint == survey("imagenette160", tmp_path).fingerprint
    images = [load(one.dataset).test.images for one in (in_memory, cached)]
    assert torch.equal(images[0], images[1][:])
    assert [path.name for path in tmp_path.glob("imagenette2-160.cache/*.images")]
    streamed = load(read_cell(*words, "dataset.stream=true").dataset).test.images
    assert streamed[torch.arange(3)].shape == (3, 3, 8, 8)


def test_presets_imagenet_for_imagenet_and_fitted_settings_for_the_others(tmp_path):
    archives.make_imagenet(tmp_path)
    archives.make_imagenette(tmp_path)
    root = f"dataset.root={tmp_path}"
    for name in ("imagenet", "imagenet100"):
        settings = read_cell(f"dataset={name}", root)
        assert (settings.backbone, settings.view_size, settings.epochs, settings.batch_size) == (
            "resnet50",
            224,
            200,
            4096,
        )
        assert read_cell(f"dataset={name}", root, "dataset.stream=true").dataset.side == 224
    assert read_cell("dataset=imagenette160", root).epochs == 500


def test_published_numbers_are_of_datasets_by_these_names():
    assert set(numbers.load()["dataset"]) <= set(CATALOGUE)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=imagenette"], "unknown dataset 'imagenette'; did you mean 'imagenette160'?"),
        (["dataset=imagenette160"], "looked for imagenette2-160): add dataset.download=true"),
        (["dataset=tiny_imagenet", "dataset.download=true"], "unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
        (["dataset=imagenet", "dataset.download=true"], "ILSVRC2012_img_train.tar"),
        (["dataset=caltech101"], "looked for caltech101/101_ObjectCategories): add dataset.download=true"),
    ],
)
def test_what_is_not_there_is_one_line_that_says_what_to_put_where(tmp_path, words, message):
    with pytest.raises(UsageError) as error:
        read(["methods=simclr", *words, f"dataset.root={tmp_path}"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_planning_looks_at_them_without_torch(tmp_path):
    archives.make_imagenette(tmp_path)
    code = (
        "import sys; from benchmark.data import identity, catalogue\n"
        f"identity.identify(catalogue.Dataset('imagenette160', {str(tmp_path)!r}))\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=PATIENCE)


# Downloads


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address at which the files in the folder are."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def pack(root: Path, server: str, monkeypatch: pytest.MonkeyPatch, digest: str = "") -> None:
    """Imagenette's archive, where torchvision fetches it."""
    archives.make_imagenette(root / "published")
    archive = root / "imagenette2-160.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "published/imagenette2-160", "imagenette2-160")
    digest = digest or hashlib.md5(archive.read_bytes()).hexdigest()
    sources = torchvision_datasets.Imagenette._ARCHIVES | {"160px": (f"{server}/{archive.name}", digest)}
    monkeypatch.setattr(torchvision_datasets.Imagenette, "_ARCHIVES", sources)


def test_imagenette_is_downloaded_when_the_words_say_so(tmp_path, server, monkeypatch):
    pack(tmp_path, server, monkeypatch)
    root = tmp_path / "data"
    request = checks.read_request(
        ["methods=random", "dataset=imagenette160", f"dataset.root={root}", "dataset.download=true"]
    )
    assert request.cells[0].dataset.fingerprint == survey("imagenette160", tmp_path / "published").fingerprint
    assert [path.name for path in root.iterdir()] == ["imagenette2-160"], "neither archive nor scratch is left"


def test_an_archive_of_another_checksum_leaves_nothing(tmp_path, server, monkeypatch):
    pack(tmp_path, server, monkeypatch, digest="0" * 32)
    root = tmp_path / "data"
    with pytest.raises(
        UsageError, match=r"dataset imagenette160 cannot be downloaded to .* check the network"
    ) as error:
        survey_images(Dataset("imagenette160", str(root), download=True))
    assert "\n" not in str(error.value)
    assert not list(root.iterdir())
