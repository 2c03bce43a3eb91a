"""Images that stay on a disk: a cache that is the same as memory, and streams that are torchvision's crops."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as F
from commandline import PATIENCE
from numpy.typing import NDArray
from PIL import Image

from benchmark.augment import parameters, parse
from benchmark.cells import run
from benchmark.contract.short_training import CPU, prepare, train_briefly
from benchmark.data import cache, files
from benchmark.data.catalogue import Dataset
from benchmark.data.datasets import Data, load
from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training import build
from benchmark.training.distributed import World
from benchmark.words import cell_words

WORDS = [
    "dataset=folder",
    "view_size=16",
    "backbone=test_resnet",
    "stem=native",
    "preset=none",
    "epochs=2",
    "batch_size=8",
    "precision=fp32",
    "seeds=3",
    "augmentation=simclr_cifar",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """48 images of several sizes and kinds in two classes, 16 of them held out."""
    random = np.random.default_rng(0)
    for number in range(48):
        side = random.integers(20, 40, size=2)
        coarse = random.integers(256, size=(4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((int(side[1]), int(side[0])), Image.Resampling.BICUBIC)
        kind = ("jpg", "png", "bmp", "jpg")[number % 4]
        image = image.convert({3: "L", 7: "CMYK"}.get(number % 8, "RGB"))
        path = tmp_path / "im" / ("train" if number < 32 else "val") / "ab"[number % 2] / f"{number:02}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path / "im"


def read_cell(folder: Path, *more: str, method: str = "simclr") -> Settings:
    keys = {word.partition("=")[0] for word in more}
    usual = [word for word in WORDS if word.partition("=")[0] not in keys]
    return cell_words.read([f"methods={method}", f"dataset.root={folder}", *usual, *more]).cells[0]


def are_the_same(one: Data, other: Data) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("pretrain", "train", "validation", "test")]
    equal = all(torch.equal(a.images[:], b.images[:]) and torch.equal(a.labels, b.labels) for a, b in pairs)
    return equal and (one.mean, one.std) == (other.mean, other.std)


# Cache


def test_a_cache_gives_what_memory_gives(folder: Path) -> None:
    in_memory, on_disk = read_cell(folder, "dataset.side=20"), read_cell(folder, "dataset.cache=20")
    assert address.hash_cell(in_memory) == address.hash_cell(on_disk)
    assert are_the_same(load(in_memory.dataset), load(on_disk.dataset))
    for more in ("dataset.limit=20", "dataset.split_seed=5"):
        one, other = (read_cell(folder, word, more).dataset for word in ("dataset.side=20", "dataset.cache=20"))
        assert are_the_same(load(one), load(other))
    memory, disk = train_briefly(in_memory), train_briefly(on_disk)
    assert memory.losses == disk.losses
    assert all(torch.equal(value, disk.state[name]) for name, value in memory.state.items())


def test_a_cache_is_built_once_and_without_the_files_still_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(read_cell(folder, "dataset.cache=20").dataset)
    monkeypatch.setattr(cache, "squares", None)
    assert are_the_same(first, load(read_cell(folder, "dataset.cache=20").dataset))


def test_a_build_that_is_cut_short_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BLOCK", 4)
    settings = read_cell(folder, "dataset.cache=20").dataset
    decoding = files.squares

    def cut_short(paths: list[str], side: int) -> Iterator[NDArray[np.uint8]]:
        if any("b/11" in path for path in paths):  # 21 of 48 in order
            raise UsageError("stopped")
        return decoding(paths, side)

    monkeypatch.setattr(cache, "squares", cut_short)
    with pytest.raises(UsageError, match="stopped"):
        load(settings)
    # and what was said to be there, the machine lost
    images = next((folder.parent / "im.cache").glob("*.images"))
    with images.open("r+b") as file:
        file.write(b"\0" * 100)
    decoded: list[str] = []
    monkeypatch.setattr(cache, "squares", lambda paths, side: decoded.extend(paths) or decoding(paths, side))
    assert are_the_same(load(settings), load(replace(settings, cache=0)))
    assert len(decoded) == 4 + 28  # the lost block, and those that were missing


def test_a_damaged_cache_is_refused(folder: Path) -> None:
    settings = read_cell(folder, "dataset.cache=20").dataset
    load(settings)
    images = next((folder.parent / "im.cache").glob("*.images"))
    with images.open("r+b") as file:
        file.seek(500)
        file.write(b"\1\2\3")
    with pytest.raises(UsageError, match=r"damaged \(images 0 to 47 are not what was written\): remove its files"):
        load(settings)
    with images.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UsageError, match="1000 bytes instead of 57600"):
        load(settings)


TOGETHER = """import multiprocessing, pathlib, resource, sys
from benchmark.data.catalogue import Dataset
from benchmark.data import cache, files
from benchmark.data.datasets import load

def builds(root, log):
    cache.squares = lambda paths, side: lines.append(len(paths)) or files.squares(paths, side)
    lines = []
    lines.append(load(Dataset(name="folder", root=root, side=20, cache=20)).mean)
    pathlib.Path(log).write_text(repr(lines))

def lacks_room(root):
    cache.BLOCK = 8
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    load(Dataset(name="folder", root=root, side=20, cache=20))

one, other, log = sys.argv[1:]
fork = multiprocessing.get_context("fork")
both = [fork.Process(target=builds, args=(one, f"{log}{number}")) for number in range(2)]
full = fork.Process(target=lacks_room, args=(other,))
for process in (*both, full):
    process.start()
for process in (*both, full):
    process.join()
print([process.exitcode for process in (*both, full)])"""


def test_two_that_start_together_build_one_cache_and_a_full_disk_is_one_line(
    folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Three processes of one interpreter's imports. The build that lacked room goes on where there is some."""
    other = tmp_path / "other" / "im"
    shutil.copytree(folder, other)
    call = [sys.executable, "-c", TOGETHER, str(folder), str(other), str(tmp_path / "log")]
    result = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.stdout == "[0, 0, 1]\n", "of a full disk an error, not a signal\n" + result.stderr
    logs = [ast.literal_eval((tmp_path / f"log{number}").read_text()) for number in range(2)]
    assert sorted(count for log in logs for count in log[:-1]) == [48]
    assert logs[0][-1] == logs[1][-1]
    assert "UsageError: dataset.cache=20: " in result.stderr
    assert "dataset.cache_dir=DIR puts it elsewhere" in result.stderr
    settings = read_cell(other, "dataset.cache=20").dataset
    assert are_the_same(load(settings), load(replace(settings, cache=0)))


def test_a_cache_lies_where_it_is_told(folder: Path, tmp_path: Path) -> None:
    load(read_cell(folder, "dataset.cache=20", f"dataset.cache_dir={tmp_path / 'elsewhere'}").dataset)
    assert len(list((tmp_path / "elsewhere").glob("im-20-*.images"))) == 1
    assert not (folder.parent / "im.cache").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"dataset.cache=20: .*dataset.cache_dir=DIR puts it elsewhere"):
        load(read_cell(folder, "dataset.cache=20", f"dataset.cache_dir={tmp_path / 'file'}").dataset)


def test_room_is_asked_for_before_anything_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    monkeypatch.setattr(cache, "squares", None)
    with pytest.raises(UsageError, match=r"0.0 GiB are needed in .*im.cache'"):
        load(read_cell(folder, "dataset.cache=20").dataset)


# Streams


def test_a_streamed_crop_is_torchvisions(folder: Path) -> None:
    paths = np.array(sorted(str(path) for path in (folder / "train").rglob("*.*")))
    opened = files.Files(paths, 16).open(torch.arange(len(paths)))
    policy = parse("crop").policies[0]
    generator = torch.Generator().manual_seed(0)
    boxes = parameters.draw_boxes(policy, len(paths), *opened.sides.unbind(1), generator)
    large, small = opened.crops([(boxes, 24), (boxes, 7)])
    for i, path in enumerate(paths):
        with Image.open(path) as file:
            image = F.pil_to_tensor(file.convert("RGB"))
        assert tuple(image.shape[1:]) == tuple(opened.sides[i].tolist())
        for crops in (large, small):
            expected = F.resized_crop(image, *boxes[i].tolist(), size=list(crops.shape[2:]), antialias=True)
            assert (crops[i].int() - expected.int()).abs().max() <= 1


def test_streamed_batches_are_a_function_of_the_step(folder: Path) -> None:
    settings = read_cell(folder, "dataset.stream=true", "augmentation=simclr_cifar+1x8")
    _, batches = prepare(settings, World())
    fed = list(batches.feed(0, 2 * batches.per_epoch))
    later = list(batches.feed(3, 5))
    assert len(fed) == 6
    for batch, other in zip(later, fed[3:5], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch.views, other.views, strict=True))
    assert [tuple(view.shape[1:]) for view in fed[0].views] == [(3, 16, 16), (3, 16, 16), (3, 8, 8)]
    assert not torch.equal(fed[0].views[0], fed[0].views[1])
    halves = [prepare(settings, World())[1] for _ in range(2)]
    for rank, half in enumerate(halves):
        part = replace(half, world=World(rank, 2)).get(1, half.order(0))
        own = slice(4 * rank, 4 * rank + 4)
        assert torch.equal(part.index, fed[1].index[own])
        assert all(torch.equal(a, b[own]) for a, b in zip(part.views, fed[1].views, strict=True))


def test_a_streamed_view_is_the_kept_ones_when_nothing_is_resized(tmp_path: Path) -> None:
    """The same draws, through the other path: images that already have the side at which they are kept."""
    random = np.random.default_rng(1)
    for number in range(24):
        path = tmp_path / "im" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(path)
    in_memory, streamed = (
        prepare(read_cell(tmp_path / "im", word), World())[1] for word in ("dataset.side=16", "dataset.stream=true")
    )
    for a, b in zip(in_memory.feed(0, 2), streamed.feed(0, 2), strict=True):
        assert torch.equal(a.index, b.index)
        for one, other in zip(a.views, b.views, strict=True):
            assert (one - other).abs().max() < 0.05  # of a standard deviation: pixels were rounded once


@pytest.mark.parametrize("where", ["dataset.stream=true", "dataset.cache=20"])
def test_training_from_a_disk_resumes_to_the_same_bytes(folder: Path, where: str, tmp_path: Path) -> None:
    from benchmark.contract.short_training import StopAt
    from benchmark.training.stop import Stopped

    settings = read_cell(folder, where, method="moco")
    whole = train_briefly(settings)
    with pytest.raises(Stopped):
        train_briefly(settings, stop=StopAt(3), folder=tmp_path)
    resumed = train_briefly(settings, folder=tmp_path)
    assert resumed.losses == whole.losses
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.state.items())


def test_a_stream_is_evaluated_and_recorded_as_another_protocol(folder: Path, tmp_path: Path) -> None:
    records = []
    for word in ("dataset.stream=true", "dataset.side=16"):
        settings = read_cell(folder, word)
        place = run.RunContext(
            Runtime(out=str(tmp_path)), World(), CPU, run.Stop(), run.ProgressDisplay(1, shown=False)
        )
        content = run.run(settings, place)
        assert content is not None
        assert content["status"] == "finished", content["reason"]
        records.append(content)
    assert records[0]["protocol"] != records[1]["protocol"]
    assert records[0]["key"] != records[1]["key"]
    assert 0 <= records[0]["metrics"]["linear_top1"] <= 1


def test_an_image_that_breaks_in_training_fails_its_cell_and_says_which(folder: Path, tmp_path: Path) -> None:
    settings = read_cell(folder, "dataset.stream=true")
    data = build.load_dataset(settings.dataset)
    bad = Path(data.train.images.paths[3])
    bad.write_bytes(bad.read_bytes()[:60])
    place = run.RunContext(Runtime(out=str(tmp_path)), World(), CPU, run.Stop(), run.ProgressDisplay(1, shown=False))
    content = run.run(settings, place)
    assert content is not None
    assert content["status"] == "failed"
    assert bad.name in content["reason"]
    assert "cannot be read" in content["reason"]


def test_reading_ahead_leaves_the_callers_threads_alone(folder: Path) -> None:
    torch.set_num_threads(2)
    try:
        batches = prepare(read_cell(folder, "dataset.stream=true"), World())[1]
        feed = batches.feed(0, 6)
        next(feed)
        assert torch.get_num_threads() == 2
        feed.close()
        assert not any(thread.name.startswith("prefetch") for thread in threading.enumerate())
    finally:
        torch.set_num_threads(1)


# What is refused


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["dataset=cifar10", "dataset.cache=32"], "dataset.cache=32 is not allowed for dataset cifar10"),
        (["dataset=cifar10", "dataset.stream=true"], "dataset.stream=true is not allowed with dataset cifar10"),
        (["dataset.stream=true", "dataset.cache=32"], "dataset.stream=true is not allowed with dataset.cache=32"),
        (["dataset.side=30", "dataset.cache=32"], "dataset.side=30 and dataset.cache=32: give one of them"),
        (["dataset.side=30", "dataset.stream=true"], "dataset.side=30 and dataset.stream=True: give one of them"),
        (["dataset.cache=-1"], "dataset.cache=-1 is not allowed"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(folder: Path, more: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(read_cell(folder, *more).dataset)


def test_a_jigsaw_is_not_streamed(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"pirl cuts its patches from kept images: dataset.cache=SIZE"):
        build.check(read_cell(folder, "dataset.stream=true", method="pirl"), World(), CPU)


def test_a_folder_too_large_for_memory_names_the_ways_out(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"dataset.cache=SIZE to keep them on disk, or dataset.stream=true"):
        load(Dataset(name="folder", root=str(folder), side=20_000))
