"""A folder of images is named by what is in it: the same wherever it lies, another as soon as anything changes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from commandline import run_in_process
from PIL import Image

from benchmark.cells import plan
from benchmark.data import folder, inspection
from benchmark.data.catalogue import Dataset
from benchmark.data.datasets import load
from benchmark.data.survey import survey
from benchmark.errors import UsageError
from benchmark.evaluate.headline import hash_protocol
from benchmark.settings import address
from benchmark.settings.cell import Settings, restore
from benchmark.training import build
from benchmark.words import cell_words, evaluate_words, runtime_words

WORDS = ["methods=pixels", "dataset=folder", "dataset.side=8", "view_size=8"]
FOREIGN = os.fsdecode(b"caf\xe9")  # a name that is no UTF-8


def paint(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(12):
        paint(tmp_path / "im" / "ab"[number % 2] / f"{number:02}.bmp", number)
    return tmp_path / "im"


def read_cell(root: Path | str, *more: str) -> Settings:
    return cell_words.read([*WORDS, f"dataset.root={root}", *more]).cells[0]


def compute_address(settings: Settings) -> tuple[str, str, str]:
    return address.hash_cell(settings), hash_protocol(settings), settings.dataset.fingerprint


# The same images


def test_however_a_folder_is_spelt_its_cells_are_the_same(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = compute_address(read_cell(images))
    link = images.parent / "link"
    link.symlink_to(images)
    monkeypatch.chdir(images / "a")
    monkeypatch.setenv("HOME", str(images.parent))
    for spelt in (f"{images}/", "..", "../../im", "../../im/.", "~/im", link, f"{link}/", "../b/../../link"):
        assert compute_address(read_cell(spelt)) == usual, spelt
    load(read_cell("..", "dataset.cache=8").dataset)
    (cached,) = images.parent.rglob("*.images")
    assert cached == images.parent / "im.cache" / f"im-8-{usual[2]}.images"
    monkeypatch.chdir(images)
    assert compute_address(read_cell(".")) == usual
    load(read_cell(".", "dataset.cache=8").dataset)
    assert list(images.parent.rglob("*.images")) == [cached]


def test_a_moved_or_copied_folder_is_the_same(images: Path) -> None:
    usual = compute_address(read_cell(images))
    copied, moved = images.with_name("copied"), images.with_name("moved")
    shutil.copytree(images, copied)
    images.rename(moved)
    assert compute_address(read_cell(copied)) == compute_address(read_cell(moved)) == usual
    for root in (copied, moved):
        (root / "labels.csv").write_text("what is no image is no part of it")
        (root / "a" / ".DS_Store").write_text("nor this")
    assert compute_address(read_cell(copied)) == usual


# Other images


def rewrite(images: Path) -> None:
    path = images / "a" / "02.bmp"
    before = path.stat()
    paint(path, 99)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def add_class(images: Path) -> None:
    for number in range(3):
        paint(images / "c" / f"{number}.bmp", 50 + number)


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        add_class,
        lambda images: (images / "a" / "02.bmp").rename(images / "a" / "03.bmp"),
        lambda images: (images / "a" / "02.bmp").rename(images / "b" / "02.bmp"),
        lambda images: (images / "a").rename(images / "A"),
        lambda images: (images / "a" / "02.bmp").unlink(),
        lambda images: paint(images / "a" / "more.bmp", 77),
    ],
)
def test_any_change_gives_other_cells_and_the_old_ones_are_not_gone_on_with(
    images: Path, change: Callable[[Path], object]
) -> None:
    before = read_cell(images, "dataset.cache=8")
    load(before.dataset)
    change(images)
    after = read_cell(images, "dataset.cache=8")
    assert all(one != other for one, other in zip(compute_address(before), compute_address(after), strict=True))
    restored = restore(json.loads(json.dumps(asdict(before))))
    with pytest.raises(UsageError, match=r"holds other images .* than the cell was asked for with") as error:
        folder.open_source(restored.dataset)
    assert "\n" not in str(error.value)
    assert load(after.dataset).test.images[:].tolist() == load(replace(after.dataset, cache=0)).test.images.tolist()
    assert len(list((images.parent / "im.cache").glob("*.images"))) == 2, "of other images no cache is used"


def test_what_was_seen_is_kept_and_a_damaged_keeping_only_costs_time(
    images: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "kept"))
    monkeypatch.setattr(inspection, "RECENT", -(10**18))
    opened: list[str] = []
    inspect = inspection._inspect_file
    monkeypatch.setattr(inspection, "_inspect_file", lambda path, *more: opened.append(path) or inspect(path, *more))
    first = survey(images)
    paint(images / "a" / "more.bmp", 77)
    second = survey(images)
    assert len(opened) == 12 + 1
    (store,) = (tmp_path / "kept").rglob("*.npz")
    store.write_bytes(store.read_bytes()[:-100])
    assert survey(images).fingerprint == second.fingerprint != first.fingerprint
    assert len(opened) == 12 + 1 + 13
    monkeypatch.setattr(inspection, "RECENT", 10**18)
    survey(images)
    assert len(opened) == 12 + 1 + 13 + 13, "a file just written may have been written again since"
    shutil.rmtree(tmp_path / "kept")
    (tmp_path / "kept").touch()
    assert survey(images).fingerprint == second.fingerprint


def test_files_too_large_in_all_are_known_by_size_and_ends(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = survey(images)
    monkeypatch.setattr(inspection, "WHOLE", 100)
    monkeypatch.setattr(inspection, "END", 60)
    ends = survey(images)
    assert ends.fingerprint != whole.fingerprint
    path = images / "a" / "02.bmp"
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)
    assert survey(images).fingerprint != ends.fingerprint


def test_a_large_file_is_read_in_pieces_to_the_same_fingerprint(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = survey(images)
    copied = images.with_name("copied")
    shutil.copytree(images, copied)
    monkeypatch.setattr(inspection, "READ", 100)
    assert survey(copied).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("more", "key", "protocol"),
    [({}, "db36746e33", "375c8c01b2"), ({"stream": True, "side": 32, "limit": 40}, "c51a0f4842", "f5b8033085")],
)
def test_cells_made_before_there_were_fingerprints_keep_their_keys(
    more: dict[str, object], key: str, protocol: str
) -> None:
    dataset = {"name": "folder", "root": "/data/im", "download": False, "limit": 0, "validation": 0.1, "split_seed": 0}
    dataset |= {"side": 0, "cache": 0, "cache_dir": "", "stream": False}
    settings = restore({"method": "pixels", "options": {}, "view_size": 32, "dataset": dataset | more})
    assert (address.hash_cell(settings), hash_protocol(settings)) == (key, protocol)
    assert evaluate_words.locate(settings, {}) == settings


# From the command line


def test_a_run_says_what_it_found_and_goes_on_only_with_the_same_images(
    images: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    (images / "a" / "labels.csv").write_text("x")
    words = [*WORDS, f"dataset.root={images}", f"out={tmp_path / 'runs'}", "device=cpu"]
    result = run_in_process(["plan", "--quick", *words], environment)
    assert result.returncode == 0, result.stderr
    assert "im: 2 classes (a, b), 8 train / 2 validation / 2 test images (test drawn from all, 20%" in result.stderr
    assert "note: left out: .csv files that are not read as images: 1 (a/labels.csv)" in result.stderr
    assert run_in_process(["run", *words], environment).returncode == 0
    (first,) = plan.list_folders(tmp_path / "runs")
    (first / "record.json").unlink()
    (first / "log.jsonl").touch()
    assert plan.read_state(first).word == "interrupted"
    add_class(images)
    build.load_dataset.cache_clear()  # as in another process
    result = run_in_process(["resume", f"out={tmp_path / 'runs'}", "device=cpu"], environment)
    assert result.returncode == 2
    assert "error: dataset.root=" in result.stderr
    assert "holds other images" in result.stderr
    result = run_in_process(["run", *words], environment)
    assert result.returncode == 0, result.stderr
    assert "3 classes (a, b, c)" in result.stderr
    assert len(list(plan.list_folders(tmp_path / "runs"))) == 2


def test_an_evaluation_does_not_take_the_folder_it_stands_in_for_images(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = read_cell(images)
    moved = images.with_name("moved")
    shutil.copytree(images, moved)
    monkeypatch.chdir(moved)
    assert evaluate_words.locate(settings, {}).dataset.root == str(images)
    assert evaluate_words.locate(settings, {"dataset.root": str(moved)}).dataset.root == str(moved)
    rewrite(moved)
    evaluate_words.read([f"out={tmp_path}", "evaluations=knn"])
    assert evaluate_words.locate(settings, {"dataset.root": str(moved)}).dataset.root == str(images)
    with pytest.raises(UsageError, match=r"transfer=folder needs its images: give dataset.root=DIR"):
        evaluate_words.read(["transfer=folder"])


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["dataset=folder"], ["dataset=folder needs its images: give dataset.root=DIR"]),
        (["dataset=folder", "dataset.root=gone"], ["there is no folder '/", "/gone'"]),
        (["dataset=folder", "dataset.root=imm"], ["there is no folder '/", "/imm'; did you mean 'im'"]),
        (["dataset=./im"], ["unknown dataset './im'", "dataset=folder dataset.root=./im"]),
        (["dataset=folder", "dataset.root=~nobody-of-this-name/im"], ["there is no folder"]),
        (["dataset=folder", "dataset.root=im/a/00.bmp"], ["00.bmp' is a file", "DIR/CLASS/*.jpg"]),
        (["@~nobody-of-this-name/words"], ["~nobody-of-this-name/words"]),
        (
            ["dataset=folder", "dataset.root=im", "dataset.unlabelled=im,two"],
            ["for the path 'im,two' type", "'dataset.unlabelled=im\\,two'"],
        ),
        (["dataset=folder", "dataset.root=im,two"], ["for the path 'im,two' type", "'dataset.root=im\\,two'"]),
        (["dataset=folder", "dataset.root=im", f"out={FOREIGN}"], [r"b'out=caf\xe9'", "not UTF-8"]),
        (["dataset=folder", f"dataset.root={FOREIGN}"], [r"caf\xe9'", "not UTF-8 text: rename the path"]),
        (["dataset=folder", "dataset.root=im", f"dataset.cache_dir={FOREIGN}"], [r"caf\xe9'", "not UTF-8"]),
    ],
)
def test_paths_that_cannot_be_meant_are_one_line(
    images: Path, environment: dict[str, str], words: list[str], parts: list[str]
) -> None:
    (images.parent / "im,two").mkdir()
    result = run_in_process(["run", "methods=pixels", *words], environment, images.parent)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert all(part in line for part in parts), line
    assert sorted(path.name for path in images.parent.iterdir()) == ["im", "im,two"]


def test_the_home_folder_stands_in_every_path(images: Path, environment: dict[str, str]) -> None:
    environment = environment | {"HOME": str(images.parent)}
    words = [*WORDS, "dataset.root=~/im", "out=~/runs", "device=cpu"]
    result = run_in_process(["run", *words], environment, images)
    assert result.returncode == 0, result.stderr
    assert len(list(plan.list_folders(images.parent / "runs"))) == 1
    assert run_in_process(["status", "out=~/runs"], environment, images).returncode == 0


def test_a_comma_after_a_backslash_is_one_of_the_value(images: Path) -> None:
    assert runtime_words.split([r"a=x\,y,z", "b=1,2"]) == {"a": ["x,y", "z"], "b": ["1", "2"]}
    usual = compute_address(read_cell(images))
    renamed = images.rename(images.with_name("a, b"))
    assert compute_address(read_cell(str(renamed).replace(",", r"\,"))) == usual
    with pytest.raises(UsageError, match="has an empty value"):
        runtime_words.split(["dataset.root=a,"])


def test_a_folder_in_a_place_whose_name_is_not_utf8_is_read(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = compute_address(read_cell(images))
    place = images.parent / FOREIGN
    place.mkdir()
    images.rename(place / "im")
    monkeypatch.chdir(place)
    settings = read_cell("im", "dataset.cache=8")
    assert compute_address(settings)[:2] == usual[:2]
    assert len(load(settings.dataset).train) == 8
    with pytest.raises(UsageError, match="holds no class folders") as error:
        survey(place / "im" / "a")
    str(error.value).encode(errors="backslashreplace")


def test_a_name_as_long_as_names_may_be_has_a_cache(images: Path) -> None:
    root = images.rename(images.with_name("n" * 240))
    load(Dataset("folder", str(root), side=8, cache=8))
    assert len(list(images.parent.glob("n*.cache/*.images"))) == 1
