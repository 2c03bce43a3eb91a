"""`export` and `features` as a user meets them: tables, what stands in them, and refusals that leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import trained_cell
from commandline import run_in_process
from PIL import Image
from pyarrow import parquet

from benchmark.inference import tables
from benchmark.training import checkpoint

WORDS = ("methods=simclr", "backbone=test_resnet", "view_size=16")


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_cell.write(tmp_path_factory.mktemp("study") / "runs", WORDS)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five photos: three at the top, of which one has another ending, and two in a folder of a split."""
    root, rng = tmp_path / "photos", np.random.default_rng(0)
    (root / "train" / "cat").mkdir(parents=True)
    for name in ("a.png", "b.png", "c.picture", "train/cat/d.png", "train/cat/e.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(root / name, format="png")
    (root / "notes.txt").write_text("no image")
    return root


def refuse(environment: dict[str, str], folder: Path, *words: object) -> str:
    """The one line that a command ends with, having left nothing in `folder` that was not there."""
    before = sorted(folder.rglob("*"))
    result = run_in_process([str(word) for word in words], environment, folder)
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert sorted(folder.rglob("*")) == before
    return result.stderr.splitlines()[-1]


def test_a_table_has_names_labels_and_rows_of_both_forms(
    cell: Path, photos: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for out in ("features.parquet", "features.npz"):
        result = run_in_process(
            ["features", str(cell), "photos", f"out={out}", "head=true", "threads=1"], environment, tmp_path
        )
        assert result.returncode == 0, result.stderr
        assert "note: left out: .txt files that are not read as images: 1 (notes.txt)\n" in result.stderr
    frame, arrays = pd.read_parquet(tmp_path / "features.parquet"), np.load(tmp_path / "features.npz")
    assert frame["name"].tolist() == ["a.png", "b.png", "c.picture", "train/cat/d.png", "train/cat/e.png"]
    assert frame["label"].isna().tolist() == [True, True, True, False, False]
    assert arrays["name"].tolist() == frame["name"].tolist()
    assert arrays["label"].tolist() == ["", "", "", "cat", "cat"]
    assert arrays["cell"] == cell.name
    for name, width in (("features", 96), ("head", 128)):
        assert arrays[name].shape == (5, width)
        assert arrays[name].dtype == np.float32
        np.testing.assert_array_equal(np.stack(frame[name]), arrays[name])
    metadata = parquet.read_schema(tmp_path / "features.parquet").metadata
    assert metadata[b"cell"].decode() == cell.name

    (tmp_path / "paths.txt").write_text("photos/b.png\n\nphotos/train/cat/e.png\n")
    assert (
        run_in_process(["features", str(cell), "paths.txt", "out=some.parquet"], environment, tmp_path).returncode == 0
    )
    some = pd.read_parquet(tmp_path / "some.parquet")
    assert some.columns.tolist() == ["name", "features"], "a list has no labels"
    assert some["name"].tolist() == ["photos/b.png", "photos/train/cat/e.png"]
    np.testing.assert_allclose(np.stack(some["features"]), arrays["features"][[1, 4]], atol=1e-6)
    assert not list(tmp_path.glob(".*"))


def test_a_dataset_by_name_is_written_group_by_group(
    cell: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "GROUP", 500)
    key = cell.name.rpartition("-")[2]
    result = run_in_process(
        ["features", key, "digits", f"out={tmp_path / 'digits.parquet'}"], environment, cell.parents[1]
    )
    assert result.returncode == 0, result.stderr
    file = parquet.ParquetFile(tmp_path / "digits.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [512, 512, 516, 257]
    frame = file.read().to_pandas()
    assert frame["name"].iloc[[0, 1347, 1348, 1796]].tolist() == ["train/0", "train/1347", "test/0", "test/448"]
    assert frame["label"].value_counts().to_dict()["3"] == 183


def test_all_damaged_images_are_named_at_once_and_no_table_is_left(
    cell: Path, photos: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    whole = (photos / "a.png").read_bytes()
    (photos / "b.png").write_bytes(whole[:-400])  # pixels are missing
    (photos / "train" / "cat" / "d.png").write_bytes(whole[:-300])
    for out in ("features.parquet", "features.npz"):
        line = refuse(environment, tmp_path, "features", cell, photos, f"out={out}")
        assert "2 of 5 images cannot be read" in line
        assert "b.png (" in line
        assert "d.png (" in line
    (photos / "a.png").write_text("no image")
    line = refuse(environment, tmp_path, "features", cell, photos, "out=features.parquet")
    assert [part for part in ("3 of 5 images", "a.png (not an image)", "b.png (", "d.png (") if part not in line] == []
    (tmp_path / "list.txt").write_text("\ufeffphotos/train/cat/e.png\r\n", encoding="utf-8")  # as Windows does
    assert run_in_process(["features", str(cell), "list.txt", "out=one.npz"], environment, tmp_path).returncode == 0
    (tmp_path / "one.npz").unlink()
    (tmp_path / "list.txt").write_text("photos/train/cat/e.png\nphotos/x.png\n")
    assert "x.png" in refuse(environment, tmp_path, "features", cell, "list.txt", "out=features.parquet")
    (tmp_path / "list.txt").write_text("photos/x.png\nphotos/b.png\nphotos/train/cat/e.png\nphotos/notes.txt\n")
    line = refuse(environment, tmp_path, "features", cell, "list.txt", "out=features.parquet")
    for part in ("list.txt': 3 of 4", "x.png (No such file or directory)", "b.png (", "notes.txt (not an image)"):
        assert part in line


def test_what_cannot_be_meant_is_one_line(
    cell: Path, photos: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "gone.txt").write_text("photos/a.png\nphotos/x.png\n")
    (tmp_path / "other.txt").write_text("photos/a.png\nphotos/notes.txt\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a=b").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "pipe.txt").write_text("pipe.png\n")
    for words, parts in (
        (("features", cell, "out=f.parquet"), ["needs CELL and IMAGES"]),
        (("features", cell, "photos", "out=f.csv"), ["ends in .parquet or .npz, not out=f.csv"]),
        (("features", cell, "photos"), ["ends in .parquet or .npz"]),
        (("features", cell, "photos", "out=f.npz", "heads=true"), ["heads=", "did you mean 'head'?"]),
        (("features", cell, "photos", "out=f.npz", "head=maybe"), ["head=maybe", "true or false"]),
        (("features", cell, "cifar", "out=f.npz"), ["no folder, list of files or dataset 'cifar'", "'cifar10'"]),
        (("features", cell, "photoss", "out=f.npz"), ["'photoss'; did you mean 'photos'?"]),
        (("features", cell, "cifar10", "out=f.npz"), ["cifar10 not found in 'data'"]),
        (
            ("features", cell, "gone.txt", "out=f.npz"),
            ["gone.txt': image 'photos/x.png'", "(No such file"],
        ),
        (("features", cell, "other.txt", "out=f.npz"), ["'photos/notes.txt'", "(not an image)"]),
        (("features", cell, "photos/a.png", "out=f.npz"), ["neither a folder nor a text"]),
        (("features", cell, "a=b", "out=f.npz"), ["a=b' holds no image"]),
        (("features", cell, "pipe.txt", "out=f.npz"), ["'pipe.png'", "(not an image)"]),
        (("features", cell, "empty", "out=f.npz"), ["holds no image"]),
        (("features", cell.parent, "photos", "out=f.npz"), ["no cell's folder", "status out="]),
        (("export", cell), ["needs out=DIR"]),
        (("export", "out=new"), ["needs CELL"]),
        (("export", cell, "out=full"), ["out=full is there already"]),
        (("export", cell, "out=new", "format=onxx"), ["unknown format 'onxx'", "did you mean 'onnx'"]),
        (("export", cell, "out=new", "push=me"), ["push=me", "ENTITY/NAME"]),
        (("export", cell, "out=new", "seeds=1"), ["seeds= does not apply here"]),
        (
            ("export", "simclr-digits-0123456789", "out=new"),
            ["unknown cell 'simclr-digits-0123456789'", "no cells below runs; give the cell's folder"],
        ),
    ):
        line = refuse(environment, tmp_path, *words)
        assert [part for part in parts if part not in line] == [], line


def test_a_cell_that_has_no_encoder_to_give_says_why(cell: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    runs = tmp_path / "runs"
    pixels = trained_cell.write(runs, ["methods=pixels", "view_size=16"])
    assert "pixels has no backbone" in refuse(environment, tmp_path, "export", pixels, "out=new")
    assert "pixels has no projection head" in refuse(
        environment, tmp_path, "features", pixels, "digits", "out=f.npz", "head=true"
    )
    copies = {name: runs / name / cell.name for name in ("gone", "other", "unfinished", "old")}
    for copy in copies.values():
        shutil.copytree(cell, copy)
    (copies["gone"] / checkpoint.FILE_NAME).unlink()
    state = torch.load(copies["other"] / checkpoint.FILE_NAME)
    torch.save(state | {"key": "0123456789"}, copies["other"] / checkpoint.FILE_NAME)
    (copies["unfinished"] / "record.json").unlink()
    for name, part in (
        ("gone", "last.pt is gone"),
        ("other", "belongs to cell 0123456789"),
        ("unfinished", "the cell is interrupted"),
    ):
        assert part in refuse(environment, tmp_path, "export", copies[name], "out=new")
    path = copies["old"] / "record.json"  # of a version that kept the statistics of pixels nowhere
    content = json.loads(path.read_text())
    del content["checksum"], content["resolved"]["pixel_mean"]
    path.write_text(json.dumps(content))
    del state["pixel_mean"]
    torch.save(state, copies["old"] / checkpoint.FILE_NAME)
    assert "mean and deviation of its pixels" in refuse(environment, tmp_path, "export", copies["old"], "out=new")


def test_onnx_without_its_packages_is_one_line(
    cell: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, package=None: None if name == "onnx" else find(name, package))
    line = refuse(environment, tmp_path, "export", cell, "out=new", "format=onnx")
    assert "no onnx: pip install 'contrastive-benchmark[onnx]'" in line
