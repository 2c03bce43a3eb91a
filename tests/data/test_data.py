"""Datasets, splits and the errors of both, on scikit-learn's digits and on small files in the published formats."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import PATIENCE
from PIL import Image

from benchmark.data.catalogue import CATALOGUE, Dataset, entry, require
from benchmark.data.datasets import Data, channel_statistics, load
from benchmark.data.splits import stratify, subsample
from benchmark.errors import UsageError


def list_images(data: Data) -> list[torch.Tensor]:
    return [split.images for split in (data.train, data.validation, data.test)]


def sort_rows(images: torch.Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images)


# Splits


def test_a_split_is_disjoint_covers_everything_and_keeps_proportions():
    labels = np.random.default_rng(0).choice(5, 1003, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    training, validation = stratify(labels, 0.1, seed=3)
    assert sorted([*training, *validation]) == list(range(1003))
    assert len(validation) == 100
    assert (np.diff(training) > 0).all()
    assert (np.diff(validation) > 0).all()
    exact = np.bincount(labels) * 100 / 1003
    assert (abs(np.bincount(labels[validation]) - exact) < 1).all()


def test_a_split_depends_on_the_seed_alone():
    labels = np.repeat([7, 3, 5], [40, 20, 60])
    first, second, other = (stratify(labels, 0.25, seed)[1] for seed in (0, 0, 1))
    assert first.tolist() == second.tolist() != other.tolist()
    # Written down once: another machine, year or version of numpy must hold out the same images.
    assert stratify(np.arange(30) % 3, 0.2, seed=0)[1].tolist() == [1, 3, 11, 13, 20, 21]
    assert subsample(np.arange(30) % 3, 6, seed=0).tolist() == [7, 10, 11, 15, 18, 23]


def test_small_classes_keep_an_image_on_either_side():
    labels = np.repeat([0, 1, 2, 3], [96, 3, 2, 1])
    training, validation = stratify(labels, 0.02, seed=0)
    assert np.bincount(labels[validation], minlength=4).tolist() == [1, 1, 1, 0]
    training, validation = stratify(labels, 0.99, seed=0)
    assert np.bincount(labels[training], minlength=4).tolist() == [1, 1, 1, 1]


def test_limited_keeps_proportions_and_every_class():
    labels = np.repeat([0, 1, 2], [70, 27, 3])
    counts = {
        count: np.bincount(labels[subsample(labels, count, 0)], minlength=3).tolist() for count in (1, 3, 10, 100)
    }
    assert counts == {1: [1, 0, 0], 3: [1, 1, 1], 10: [7, 2, 1], 100: [70, 27, 3]}
    assert np.bincount(labels[subsample(labels, 6, 0, least=2)]).tolist() == [2, 2, 2]
    assert subsample(labels, 0, 0).tolist() == []


@pytest.mark.parametrize("fraction", [0, 1, float("nan")])
def test_a_split_refuses_fractions_that_leave_a_side_empty(fraction):
    with pytest.raises(ValueError, match="fraction"):
        stratify([0, 1], fraction, 0)


def test_limited_refuses_more_than_there_is():
    with pytest.raises(ValueError, match="cannot take 3 of 2"):
        subsample([0, 1], 3, 0)


# Digits


@pytest.fixture(scope="module")
def digits() -> Data:
    return load(Dataset())


def test_digits_have_the_promised_shapes_and_values(digits):
    assert [len(split) for split in (digits.train, digits.validation, digits.test)] == [1213, 135, 449]
    assert len(digits.train) + len(digits.validation) == entry("digits").images
    assert digits.pretrain is digits.train
    assert digits.class_names == list("0123456789")
    for split in (digits.train, digits.validation, digits.test):
        assert split.images.shape == (len(split), 3, 8, 8)
        assert split.images.dtype == torch.uint8
        assert split.images.is_contiguous()
        assert split.labels.shape == (len(split),)
        assert split.labels.dtype == torch.int64
        assert split.labels.unique().tolist() == list(range(10))
        assert (split.images[:, 0] == split.images[:, 2]).all()
    assert digits.train.images.unique().tolist() == [round(value * 255 / 16) for value in range(17)]


def test_digits_splits_hold_every_image_once(digits):
    from sklearn.datasets import load_digits

    published = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    everything = torch.from_numpy(published).unsqueeze(1).expand(-1, 3, -1, -1)
    assert sort_rows(torch.cat(list_images(digits))) == sort_rows(everything)


def test_split_seed_moves_validation_and_never_the_test_set(digits):
    same, other = load(Dataset()), load(Dataset(split_seed=1))
    assert all(torch.equal(a, b) for a, b in zip(list_images(digits), list_images(same), strict=True))
    assert sort_rows(digits.validation.images) != sort_rows(other.validation.images)
    assert torch.equal(digits.test.images, other.test.images)
    assert torch.equal(digits.test.labels, other.test.labels)


def test_limit_takes_a_stratified_part_of_the_training_set_only(digits):
    data = load(Dataset(limit=200, validation=0.25))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [150, 50, 449]
    assert all(19 <= count <= 21 for count in torch.bincount(torch.cat([data.train.labels, data.validation.labels])))
    assert set(sort_rows(data.train.images)) <= set(sort_rows(torch.cat(list_images(digits)[:2])))
    smallest = load(Dataset(limit=20))
    assert torch.bincount(smallest.train.labels).tolist() == torch.bincount(smallest.validation.labels).tolist()


def test_mean_and_std_are_those_of_the_pretraining_images(digits):
    scaled = digits.pretrain.images.double() / 255
    assert digits.mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert digits.std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), rel=1e-12)


def test_channel_statistics_keep_channels_apart_over_many_chunks():
    images = torch.randint(256, (9000, 3, 2, 2), dtype=torch.uint8) // torch.tensor([1, 2, 5]).view(3, 1, 1)
    mean, std = channel_statistics(images.to(torch.uint8))
    scaled = images.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), rel=1e-12)


# What a user may not ask for


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "cifar"}, ["unknown dataset 'cifar'", "did you mean 'cifar10'?", "stl10"]),
        ({"name": "cifar10"}, ["'nowhere'", "cifar-10-batches-py", "dataset.download=true", "dataset.root=DIR"]),
        ({"name": "svhn"}, ["train_32x32.mat, test_32x32.mat"]),
        ({"name": "folder"}, ["there is no folder '/", "/nowhere'; give", "DIR/train/CLASS/*.jpg", "DIR/CLASS/*.jpg"]),
        ({"limit": -1}, ["dataset.limit=-1", "0 for all"]),
        ({"limit": 1349}, ["dataset.limit=1349", "to 1348"]),
        ({"limit": 19}, ["dataset.limit=19", "from 20"]),
        ({"validation": 0.0}, ["dataset.validation=0.0", "above 0 and below 1"]),
        ({"validation": 1.0}, ["dataset.validation=1.0"]),
        ({"validation": float("nan")}, ["dataset.validation=nan"]),
        ({"split_seed": -1}, ["dataset.split_seed=-1"]),
        ({"split_seed": "seed"}, ["dataset.split_seed=seed", "give a number"]),
        ({"side": 64}, ["dataset.side=64", "digits", "folder"]),
        ({"name": "folder", "side": -1}, ["dataset.side=-1"]),
    ],
)
def test_errors_are_one_line_that_says_what_to_type(settings, words):
    with pytest.raises(UsageError) as error:
        load(Dataset(**{"root": "nowhere", **settings}))
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_what_is_there_or_may_be_downloaded_is_not_refused(tmp_path):
    require(Dataset(name="digits", root="nowhere"))
    require(Dataset(name="cifar100", root="nowhere", download=True))
    (tmp_path / "cifar-100-python").mkdir()
    require(Dataset(name="cifar100", root=str(tmp_path)))


def test_a_root_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images" / "stl10_binary").mkdir(parents=True)
    require(Dataset(name="stl10", root="~/images"))


def test_planning_looks_datasets_up_without_torch():
    code = "import sys, benchmark.data.catalogue; assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=PATIENCE)


def test_the_catalogue_is_complete():
    for name, item in CATALOGUE.items():
        assert item.name == name
        assert item.title
        assert item.source
        assert item.image_files or item.view >= item.side > 0


# Folders of images


def paint(path: Path, colour: tuple[int, int, int] | int = (200, 100, 50), size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(path)


def test_a_folder_with_train_and_val(tmp_path):
    for number in range(10):
        paint(tmp_path / "train" / "cat" / f"{number}.png", (10 * number, 0, 255))
        paint(tmp_path / "train" / "dog" / f"{number}.jpg", 128)
    paint(tmp_path / "val" / "cat" / "0.png", (0, 255, 0))
    paint(tmp_path / "val" / "dog" / "0.png", (0, 0, 255))
    data = load(Dataset(name="folder", root=str(tmp_path), side=16, validation=0.2))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [16, 4, 2]
    assert data.class_names == ["cat", "dog"]
    assert data.train.images.shape == (16, 3, 16, 16)
    assert data.train.images.dtype == torch.uint8
    assert data.test.images[:, :, 0, 0].tolist() == [[0, 255, 0], [0, 0, 255]]
    assert data.test.labels.tolist() == [0, 1]
    cats = torch.cat([split.images[split.labels == 0] for split in (data.train, data.validation)])
    assert sorted(cats[:, 0, 0, 0].tolist()) == list(range(0, 100, 10))
    assert (data.train.images[data.train.labels == 1] == 128).all()


def test_of_val_and_test_the_test_set_is_test_unless_it_has_no_classes(tmp_path):
    for name in ("a", "b"):
        for part, grey in (("train", 1), ("val", 2), ("test", 3)):
            for number in range(3):
                paint(tmp_path / part / name / f"{number}.png", grey)
    settings = Dataset(name="folder", root=str(tmp_path), side=8)
    assert load(settings).test.images.unique().tolist() == [3]
    for name in ("a", "b"):
        for number in range(3):
            (tmp_path / "test" / name / f"{number}.png").rename(tmp_path / "test" / f"{name}{number}.png")
        (tmp_path / "test" / name).rmdir()
    assert load(settings).test.images.unique().tolist() == [2]


def test_a_folder_of_classes_alone_has_a_fixed_fifth_as_test(tmp_path):
    for number in range(20):
        paint(tmp_path / "car" / f"{number}.png", number)
        paint(tmp_path / "tram" / f"{number}.png", 100 + number)
    first, other = (load(Dataset(name="folder", root=str(tmp_path), split_seed=seed)) for seed in (0, 1))
    assert [len(split) for split in (first.train, first.validation, first.test)] == [29, 3, 8]
    assert first.class_names == ["car", "tram"]
    assert first.train.images.shape[2:] == (128, 128)
    assert torch.bincount(first.test.labels).tolist() == [4, 4]
    assert torch.equal(first.test.images, other.test.images)
    values = torch.cat([images[:, 0, 0, 0] for images in list_images(first)])
    assert sorted(values.tolist()) == [*range(20), *range(100, 120)]


def test_folder_images_are_cropped_to_the_centre_square(tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (250, 120, 5)
    for name, pixels in (("wide", wide), ("tall", wide.transpose(1, 0, 2))):
        for part, numbers in (("train", 2), ("test", 1)):
            for number in range(numbers):
                file = tmp_path / part / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)
    data = load(Dataset(name="folder", root=str(tmp_path), side=10))
    for images in list_images(data):
        assert images.shape[2:] == (10, 10)
        # The outermost pixels mix with what lies beyond the crop, as in a resize before it.
        assert (images[:, :, 1:-1, 1:-1] == torch.tensor([250, 120, 5]).view(3, 1, 1)).all()


def test_folder_images_are_resized_with_antialiasing(tmp_path):
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    for name in ("a", "b"):
        for number in range(3):
            paint(tmp_path / name / f"{number}.png", 0)
            Image.fromarray(stripes).save(tmp_path / name / f"{number}.png")
    images = load(Dataset(name="folder", root=str(tmp_path), side=8)).train.images
    assert (images.float() - 127.5).abs().max() < 20


def test_only_the_images_of_a_limit_are_read(tmp_path):
    for name in ("a", "b"):
        for number in range(10):
            paint(tmp_path / name / f"{number}.png", number)
    data = load(Dataset(name="folder", root=str(tmp_path), side=8, limit=4))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [2, 2, 4]


def break_folder(tmp_path: Path, fault: str) -> str:
    """Two good class folders, each with one image less than it needs or one fault."""
    for part in ("train", "val"):
        for name in ("a", "b"):
            for number in range(3):
                paint(tmp_path / part / name / f"{number}.png", number)
    bad = tmp_path / "train" / "b" / "1.png"
    if fault == "text":
        bad.write_text("not an image")
    elif fault == "cut":
        noise = np.random.default_rng(0).integers(256, size=(50, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(bad)
        bad.write_bytes(bad.read_bytes()[:3000])
    elif fault == "16 bits":
        Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(bad)
    elif fault == "other classes":
        (tmp_path / "val" / "b").rename(tmp_path / "val" / "c")
    elif fault == "empty class":
        (tmp_path / "train" / "c").mkdir()
    elif fault == "one image":
        bad.unlink()
        (tmp_path / "train" / "b" / "2.png").unlink()
    elif fault == "no classes":
        return str(tmp_path / "train" / "a")
    elif fault == "one class":
        paint(tmp_path / "alone" / "a" / "0.png")
        return str(tmp_path / "alone")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("text", ["b/1.png", "not an image", "replace or remove"]),
        ("cut", ["b/1.png", "truncated"]),
        ("16 bits", ["b/1.png", "8 bits"]),
        ("other classes", ["only in train/ b", "only in val/ c"]),
        ("empty class", ["no image in the class folder train/c", "remove it, or add images"]),
        ("one image", ["at least 2 are needed to train and validate", "b (1)"]),
        ("no classes", ["holds no class folders"]),
        ("one class", ["holds only the class 'a'"]),
        ("large", ["12 images x 1200000000 bytes", "smaller dataset.side"]),
    ],
)
def test_a_faulty_folder_is_one_line_that_says_where(tmp_path, fault, words):
    root = break_folder(tmp_path, fault)
    with pytest.raises(UsageError) as error:
        load(Dataset(name="folder", root=root, side=20_000 if fault == "large" else 8))
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


# The published formats, written small


def draw_colours(count: int, side: int) -> np.ndarray:
    return np.random.default_rng(count).integers(256, size=(count, 3, side, side), dtype=np.uint8)


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_files_become_three_channels(tmp_path, name, folder):
    raw = tmp_path / folder / "raw"
    raw.mkdir(parents=True)
    images = {"train": draw_colours(40, 28)[:, 0], "t10k": draw_colours(20, 28)[:, 0]}
    for part, pixels in images.items():
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(len(pixels)) % 10)
    data = load(Dataset(name=name, root=str(tmp_path)))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [30, 10, 20]
    assert (data.test.images == torch.from_numpy(images["t10k"]).unsqueeze(1)).all()
    assert data.test.labels.tolist() == [*range(10)] * 2
    assert len(data.class_names) == 10
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03short")
    with pytest.raises(UsageError, match=rf"dataset {name} cannot be read .*{folder}/raw .*dataset.download=true"):
        load(Dataset(name=name, root=str(tmp_path)))


def test_a_failed_download_says_why_and_what_else_works(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot be downloaded to .*Not a directory.* by hand \(LeCun"):
        load(Dataset(name="mnist", root=str(blocked), download=True))


def compute_checksum(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


# torchvision compares files with the checksums of the real ones; these tests tell it those of theirs.
@pytest.mark.parametrize(
    ("name", "kind", "key", "names"),
    [("cifar10", "CIFAR10", "labels", "label_names"), ("cifar100", "CIFAR100", "fine_labels", "fine_label_names")],
)
def test_cifar_files_keep_their_pixels(tmp_path, monkeypatch, name, kind, key, names):
    from torchvision import datasets

    dataset = getattr(datasets, kind)
    folder = tmp_path / dataset.base_folder
    folder.mkdir()
    files = {
        "first": {"data": draw_colours(40, 32).reshape(40, -1), key: [*range(10)] * 4},
        "held": {"data": draw_colours(20, 32).reshape(20, -1), key: [*range(10)] * 2},
        "about": {names: [f"kind {label}" for label in range(10)]},
    }
    for file, content in files.items():
        (folder / file).write_bytes(pickle.dumps(content))
    assert issubclass(dataset, datasets.CIFAR10)
    with pytest.raises(UsageError, match=f"dataset {name} cannot be read .*corrupted.*{dataset.base_folder}"):
        load(Dataset(name=name, root=str(tmp_path)))
    monkeypatch.setattr(dataset, "train_list", [["first", compute_checksum(folder / "first")]])
    monkeypatch.setattr(dataset, "test_list", [["held", compute_checksum(folder / "held")]])
    monkeypatch.setattr(dataset, "meta", {"filename": "about", "key": names, "md5": compute_checksum(folder / "about")})
    data = load(Dataset(name=name, root=str(tmp_path)))
    assert np.array_equal(data.test.images.numpy(), draw_colours(20, 32))
    assert data.test.labels.tolist() == [*range(10)] * 2
    assert sort_rows(torch.cat(list_images(data)[:2])) == sort_rows(torch.from_numpy(draw_colours(40, 32)))
    assert data.class_names[3] == "kind 3"
    assert all(images.is_contiguous() for images in list_images(data))


def test_svhn_files_keep_their_pixels(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision import datasets

    changed = {}
    for part, count in (("train", 40), ("test", 20)):
        file = f"{part}_32x32.mat"
        digits = np.arange(count) % 10
        published = np.where(digits == 0, 10, digits).reshape(-1, 1)  # its zeros carry the label 10
        savemat(tmp_path / file, {"X": draw_colours(count, 32).transpose(2, 3, 1, 0), "y": published})
        changed[part] = ["", file, compute_checksum(tmp_path / file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", changed)
    data = load(Dataset(name="svhn", root=str(tmp_path)))
    assert np.array_equal(data.test.images.numpy(), draw_colours(20, 32))
    assert data.test.labels.tolist() == [*range(10)] * 2
    assert data.test.images.is_contiguous()
    assert data.class_names == list("0123456789")


def test_stl10_trains_on_its_unlabelled_images(tmp_path, monkeypatch):
    from torchvision import datasets

    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for part, count in (("train", 40), ("test", 20), ("unlabeled", 60)):
        draw_colours(count, 96).transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")  # stored column by column
        if part != "unlabeled":
            (np.arange(count) % 10 + 1).astype(np.uint8).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(f"kind {label}" for label in range(10)))
    for lists in ("train_list", "test_list"):
        checksums = [[file, compute_checksum(folder / file)] for file, _ in getattr(datasets.STL10, lists)]
        monkeypatch.setattr(datasets.STL10, lists, checksums)
    data = load(Dataset(name="stl10", root=str(tmp_path)))
    assert [len(split) for split in (data.pretrain, data.train, data.validation, data.test)] == [60, 30, 10, 20]
    assert np.array_equal(data.pretrain.images.numpy(), draw_colours(60, 96))
    assert data.pretrain.labels.unique().tolist() == [-1]
    assert np.array_equal(data.test.images.numpy(), draw_colours(20, 96))
    assert data.class_names[9] == "kind 9"
    assert data.mean == pytest.approx((data.pretrain.images.double() / 255).mean((0, 2, 3)).tolist(), rel=1e-12)
    fewer = load(Dataset(name="stl10", root=str(tmp_path), limit=20))
    assert [len(split) for split in (fewer.pretrain, fewer.train, fewer.validation, fewer.test)] == [20, 10, 10, 20]
    assert set(sort_rows(fewer.pretrain.images)) < set(sort_rows(data.pretrain.images))
    more = load(Dataset(name="stl10", root=str(tmp_path), limit=50))
    assert [len(split) for split in (more.pretrain, more.train, more.validation)] == [50, 30, 10]
