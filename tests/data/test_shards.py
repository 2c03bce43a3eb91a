"""Images in tar shards, and datasets of Hugging Face, which are written into such shards."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import archives
import pytest
import torch

from benchmark.data import identity
from benchmark.data.catalogue import Dataset
from benchmark.data.datasets import load
from benchmark.data.identity import describe, survey_images
from benchmark.data.layouts.shards import open_image
from benchmark.data.survey import Survey
from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.words import evaluate_words
from benchmark.words.cell_words import read

FOREIGN = os.fsdecode(b"caf\xe9")  # a name that is no UTF-8


@pytest.fixture(autouse=True)
def _look_anew():
    identity.forget_surveys()


def write(shard: Path, samples: dict[str, dict[str, bytes]]) -> None:
    """KEY -> ending -> content."""
    shard.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(shard, "w") as tar:
        for key, parts in samples.items():
            for ending, content in parts.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def make_samples(count: int, start: int = 0) -> dict[str, dict[str, bytes]]:
    """Labels 0, 2 and 10 in turn, the last one as json."""
    labels = [{"cls": b"0"}, {"cls": b"2\n"}, {"json": json.dumps({"label": 10, "width": 20}).encode()}]
    return {f"a/{start + number:04}": {"jpg": archives.encode_jpeg()} | labels[number % 3] for number in range(count)}


def write_shards(root: Path) -> None:
    for number in range(3):
        write(root / f"set-train-{number:06}.tar", make_samples(12, 100 * number))
    write(root / "set-val-000000.tar", make_samples(6, 900))


def read_cell(*words: str) -> Settings:
    (cell,) = read(["methods=simclr", "view_size=8", "backbone=resnet10t", *words]).cells
    return cell


def test_shards_are_read_where_they_lie(tmp_path):
    write_shards(tmp_path / "shards")
    settings = read_cell(f"dataset=webdataset:{tmp_path / 'shards'}", "dataset.side=10").dataset
    data = load(settings)
    assert data.class_names == ["0", "2", "10"]
    assert [len(split) for split in (data.train, data.validation, data.test)] == [32, 4, 6]
    assert torch.bincount(data.test.labels).tolist() == [2, 2, 2]
    labelled, _ = survey_images(settings)
    first = archives.Image.open(open_image(labelled.paths[labelled.test[0]])).resize((1, 1)).getpixel((0, 0))
    assert data.test.images[0, :, 5, 5].tolist() == pytest.approx(first, abs=2)
    assert not labelled.notes
    assert "test from val shards" in describe([settings])[0]
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".tar" and path.is_file()], "nothing is unpacked"


def test_shards_are_cached_streamed_and_known_wherever_they_lie(tmp_path):
    write_shards(tmp_path / "here")
    here = read_cell(f"dataset=webdataset:{tmp_path / 'here'}")
    pattern = f"dataset=webdataset:{tmp_path}/here/set-*-{{000000..000002}}.tar"
    assert address.hash_cell(read_cell(pattern)) == address.hash_cell(here)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = f"dataset=webdataset:{tmp_path / 'there'}"
    assert address.hash_cell(read_cell(moved)) == address.hash_cell(here)
    in_memory, cached = (
        load(read_cell(moved, word).dataset).test.images for word in ("dataset.side=10", "dataset.cache=10")
    )
    assert torch.equal(in_memory, cached[:])
    assert load(read_cell(moved, "dataset.stream=true").dataset).test.images[torch.arange(3)].shape == (3, 3, 8, 8)
    write(tmp_path / "there/set-train-000000.tar", make_samples(12))
    assert address.hash_cell(read_cell(moved)) != address.hash_cell(here), "other images"


def test_images_without_a_label_are_left_out_and_damaged_ones_named(tmp_path):
    unlabelled = {"x": {"jpg": archives.encode_jpeg()}, "y": {"jpg": archives.encode_jpeg(), "cls": b"-1"}}
    write(tmp_path / "shards/0.tar", make_samples(12) | unlabelled)
    lines = describe([Dataset("webdataset", str(tmp_path / "shards"))])
    assert "note: left out: samples without a label: 2 (0.tar/x.jpg)" in lines
    write(tmp_path / "shards/0.tar", make_samples(12) | {"a/bad": {"jpg": b"no image", "cls": b"0"}})
    identity.forget_surveys()
    with pytest.raises(UsageError, match=r"1 of 13 files .*0.tar/\d+\+8/a/bad.jpg \(not an image\)"):
        describe([Dataset("webdataset", str(tmp_path / "shards"))])


def test_an_image_is_known_by_its_content_and_what_else_is_left_out_is_said(tmp_path):
    others = {"b": {"cls": b"0", "txt": b"a cat", "picture": archives.encode_jpeg()}, "c": {"cls": b"2"}}
    write(tmp_path / "0.tar", make_samples(12) | {"b": others["b"] | {"jpeg": archives.encode_jpeg()}})
    usual = len(survey(tmp_path).paths)
    write(tmp_path / "0.tar", make_samples(12) | others | {"d": {"cls": b"0", "picture": archives.encode_jpeg()}})
    write(tmp_path / "._0.tar", {})
    images = survey(tmp_path)
    assert len(images.paths) == usual == 13
    assert [Path(path).name for path in images.paths if "picture" in path] == ["d.picture"]
    assert {note.partition(" (")[0] for note in images.notes} >= {
        "left out: hidden or system files and folders: 1",
        "left out: .txt files that are not read as images: 1",
        "left out: .cls files that are not read as images: 1",
    }


def survey(root: Path) -> Survey:
    identity.forget_surveys()
    labelled, _ = survey_images(Dataset("webdataset", str(root)))
    assert labelled is not None
    return labelled


def cut_short(root: Path) -> None:
    data = (root / "0.tar").read_bytes()
    (root / "0.tar").write_bytes(data[: len(data) // 2 // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE])


def join(root: Path) -> None:
    write(root / "1.tar", make_samples(12, 100))
    (root / "0.tar").write_bytes((root / "0.tar").read_bytes() + (root / "1.tar").read_bytes())


def label(root: Path, text: str) -> None:
    write(root / "0.tar", {"x": {"jpg": archives.encode_jpeg(), "json": text.encode()}})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, "0.tar' cannot be read .it is cut short, or several tar files in one"),
        (join, "0.tar' cannot be read .it is cut short, or several tar files in one"),
        (lambda root: (root / "gone.tar").symlink_to("nowhere"), "gone.tar' is no file, or a link that leads nowhere"),
        (lambda root: write(root / "0.tar", {}), "holds no images with labels to train on"),
        (lambda root: write(root / "0.tar", {"a": {"jpg": archives.encode_jpeg()}}), "holds no images with labels"),
        (lambda root: write(root / "0.tar", {"a": {"cls": b"3"}}), "no image in the class folder 3 of"),
        (lambda root: label(root, "[" * 100_000), "0.tar' cannot be read .*recursion"),
        (
            lambda root: label(root, '{"label": [1, 0, 1]}'),
            r"the label in x.json is \[1, 0, 1\], not one name or number",
        ),
        (lambda root: label(root, r'{"label": "\ud800"}'), r"the label in x.json is '\\ud800', not UTF-8 text"),
        (lambda root: (root / "0.tar").rename(root / "test.tar"), "holds no images with labels to train on"),
        (lambda root: write(root / "1.tar", {FOREIGN: {"jpg": b""}}), r"the name b'caf\\xe9.jpg' in it is not UTF-8"),
        (lambda root: (root / "0.tar").rename(root / f"{FOREIGN}.tar"), r"caf\\xe9.tar' is not UTF-8 text: rename it"),
    ],
)
def test_shards_that_lack_something_are_refused_in_one_line(tmp_path, spoil, message):
    write(tmp_path / "0.tar", make_samples(12))
    spoil(tmp_path)
    with pytest.raises(UsageError, match=message) as error:
        survey(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("", "dataset=webdataset needs its images: give dataset=webdataset:DIR"),
        (":{}/none", "there is no file"),
        (":{}/set-train-{{000001..000005}}.tar", r"set-train-000003.tar' \(3 of 5 are missing\)"),
        (":{}/set-train-{{0..99999999}}.tar", "names 100,000,000 shards, more than 100,000"),
        (":{}/empty", "holds nothing: files called NAME.tar are needed"),
        (":{}/packed.tar", r"shard .*packed.tar' cannot be read \("),
        (":{} dataset.root=elsewhere", "and dataset.root=elsewhere: give one of them"),
    ],
)
def test_shards_that_cannot_be_read_are_one_line(tmp_path, place, message):
    write_shards(tmp_path)
    (tmp_path / "empty").mkdir()
    tarfile.open(tmp_path / "packed.tar", "w:gz").close()
    words = f"dataset=webdataset{place.format(tmp_path)}".split()
    with pytest.raises(UsageError, match=message) as error:
        read(["methods=simclr", *words])
    assert "\n" not in str(error.value)


# Hugging Face


@pytest.fixture
def dictionary():
    """Its splits train and test; a label for each image and one for pairs of them, as CIFAR-100 has it."""
    datasets = pytest.importorskip("datasets")
    kinds = {"img": datasets.Image(), "coarse": datasets.ClassLabel(names=["pet", "thing"])}
    features = datasets.Features(kinds | {"fine": datasets.ClassLabel(names=["cat", "dog", "car"])})

    def split(count: int):
        fine = [number % 3 for number in range(count)]
        columns = {"img": [{"bytes": archives.encode_jpeg(), "path": None} for _ in fine], "fine": fine}
        return datasets.Dataset.from_dict(columns | {"coarse": [label // 2 for label in fine]}, features=features)

    return datasets.DatasetDict({"train": split(18), "test": split(6)})


@pytest.fixture
def parquet(dictionary, tmp_path: Path) -> Path:
    folder = tmp_path / "parquet"
    folder.mkdir()
    for split, rows in dictionary.items():
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_a_folder_of_parquet_and_one_of_arrow_files_are_the_same_images(dictionary, parquet, tmp_path, capsys):
    dictionary.save_to_disk(str(tmp_path / "arrow"))
    cells = [read_cell(f"dataset=hf:{tmp_path / kind}", "dataset.side=10") for kind in ("parquet", "arrow")]
    assert address.hash_cell(cells[0]) == address.hash_cell(cells[1])
    data = load(cells[0].dataset)
    assert data.class_names == ["car", "cat", "dog"]
    assert "the classes are those of the column fine, not of coarse" in capsys.readouterr().err
    assert [len(split) for split in (data.train, data.validation, data.test)] == [15, 3, 6]


def test_splits_and_rows_that_are_left_out_are_said(dictionary, tmp_path, capsys):
    import datasets

    without = dictionary["train"].map(lambda row, number: {"img": row["img"] if number else None}, with_indices=True)
    more = {"train": without, "extra": dictionary["test"], "eval": dictionary["test"], "test": dictionary["train"]}
    datasets.DatasetDict(more).save_to_disk(str(tmp_path / "arrow"))
    data = load(read_cell(f"dataset=hf:{tmp_path / 'arrow'}", "dataset.side=10").dataset)
    assert [len(split) for split in (data.train, data.validation, data.test)] == [14, 3, 6]
    printed = capsys.readouterr().err
    assert "splits that are left out: extra (6 images), test (18 images)" in printed, "of two test splits the first is"
    assert "train: rows without an image that are left out: 1" in printed


def test_a_name_of_the_hub_is_fetched_once_and_only_when_the_words_say_so(dictionary, monkeypatch, tmp_path):
    import datasets

    requests = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name: requests.append(name) or dictionary)
    words = ["dataset=hf:someone/pets", f"dataset.cache_dir={tmp_path / 'kept'}"]
    with pytest.raises(UsageError, match=r"'someone/pets' is no folder here, .*: add dataset.download"):
        read_cell(*words)
    fetched = read_cell(*words, "dataset.download=true")
    assert address.hash_cell(read_cell(*words)) == address.hash_cell(fetched)
    assert requests == ["someone/pets"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["someone--pets"]


def test_transfer_to_two_of_a_kind_is_refused_for_their_numbers_have_one_name(tmp_path):
    for name in ("a", "b"):
        write_shards(tmp_path / name)
    words = [f"transfer=webdataset:{tmp_path}/a,webdataset:{tmp_path}/b"]
    with pytest.raises(UsageError, match="one of each kind at a time"):
        evaluate_words.read(words)
    (one,) = evaluate_words.read([words[0].partition(",")[0]]).transfer
    assert one.root == f"{tmp_path}/a"


def test_a_missing_network_package_or_column_is_one_line(dictionary, parquet, monkeypatch):
    import datasets

    def fail(name):
        raise ConnectionError("no route\nto host")

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "load_dataset", fail)
        with pytest.raises(UsageError, match=r"'a/b' cannot be loaded \(no route to host\): check the name"):
            read_cell("dataset=hf:a/b", "dataset.download=true")
    for split in ("train", "test"):
        dictionary[split].remove_columns(["fine", "coarse"]).to_parquet(parquet / f"{split}-00000-of-00001.parquet")
    with pytest.raises(UsageError, match=r"needs one column of images and one of labels, and has img \("):
        read_cell(f"dataset=hf:{parquet}")
    for split in ("train", "test"):
        several = dictionary[split].remove_columns(["fine", "coarse"])
        several = several.add_column("label", [[0, 1]] * len(several))
        several.to_parquet(parquet / f"{split}-00000-of-00001.parquet")
    with pytest.raises(UsageError, match=r"needs one column of images and one of labels, and has img .*, label \("):
        read_cell(f"dataset=hf:{parquet}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs the package datasets: pip install 'contrastive-benchmark\[hf\]'"):
        read_cell(f"dataset=hf:{parquet}")
