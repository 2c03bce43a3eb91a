"""Folders of images that are odd in some way: what is read of them, what is said, and what is refused in one line."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.data.catalogue import Dataset
from benchmark.data.datasets import load
from benchmark.data.files import decode
from benchmark.data.identity import count_validation, describe
from benchmark.data.survey import Survey, survey
from benchmark.errors import UsageError
from benchmark.words import cell_words


def encode(kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (9, 7), seed: int = 0, **more: Any) -> bytes:
    """The bytes of an image of noise."""
    pixels = np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **more)
    return file.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def plant(root: Path, tree: str) -> Path:
    """'train/cat=3 train/dog=3 empty/ notes.txt': so many images in a folder, a folder, a file that is none."""
    for word in tree.split():
        path, _, count = word.partition("=")
        for number in range(int(count or 0)):
            put(root / path / f"{number}.png", encode(seed=zlib.crc32(os.fsencode(f"{path}{number}"))))
        if path.endswith("/"):
            (root / path).mkdir(parents=True)
        elif not count:
            put(root / path, b"some text\n")
    return root


def count_images(images: Survey) -> tuple[int, int, int]:
    return len(images.training), 0 if images.validation is None else len(images.validation), len(images.test)


def read_refusal(root: Path) -> str:
    with pytest.raises(UsageError) as error:
        survey(root)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("dataset folder: ")
    return message


CALLED_AS_SPLITS = ["are called as splits are", "call them train and test", "if they are classes, rename one"]
PAIR = "a=5 b=5 "  # classes alone: 8 to train, of which validation is carved, and 2 to test
TRAIN = "train/a=4 train/b=4 "


# Which folder is which split


@pytest.mark.parametrize(
    ("tree", "expected", "source"),
    [
        (PAIR, (8, 0, 2), "drawn from all, 20%"),
        (TRAIN, (6, 0, 2), "drawn from all, 20%"),
        (TRAIN + "test/a=1 test/b=1", (8, 0, 2), "from test/"),
        (TRAIN + "val/a=2 val/b=1", (8, 0, 3), "from val/"),
        (TRAIN + "val/a=2 val/b=2 test/a=1 test/b=1", (8, 4, 2), "from test/"),
        ("Train/a=4 Train/b=4 VALID/a=2 VALID/b=2 Testing/a=1 Testing/b=1", (8, 4, 2), "from Testing/"),
        ("train_set/a=4 train_set/b=4 test-images/a=1 test-images/b=1", (8, 0, 2), "from test-images/"),
        ("training/a=4 training/b=4 validation/a=1 validation/b=1", (8, 0, 2), "from validation/"),
        ("traindata/a=4 traindata/b=4 eval/a=1 eval/b=1 dev/a=2 dev/b=2", (8, 4, 2), "from eval/"),
        ("train2017/a=4 train2017/b=4 val2017/a=2 val2017/b=1", (8, 0, 3), "from val2017/"),
        ("trn/a=4 trn/b=4 tst_images_64/a=1 tst_images_64/b=1", (8, 0, 2), "from tst_images_64/"),
    ],
)
def test_split_folders_have_many_names(tmp_path: Path, tree: str, expected: tuple[int, int, int], source: str) -> None:
    images = survey(plant(tmp_path, tree))
    assert count_images(images) == expected
    assert images.classes == ["a", "b"]
    assert images.test_from.startswith(source)
    data = load(Dataset("folder", str(tmp_path), side=4, validation=0.3))
    assert (len(data.train), len(data.validation), len(data.test)) == images.count(Dataset(validation=0.3))
    assert len(data.validation) == count_validation(Dataset("folder", str(tmp_path), validation=0.3)), "as `tune` says"
    assert expected[1] in (0, len(data.validation)), "nothing is carved where there is a validation folder"


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ("test/a=3 test/b=3", ["split folder 'test' but no folder train", "renamed"]),
        ("val/a=3 val/b=3 test/a=3 test/b=3", ["no folder train"]),
        (TRAIN + "training/a=1 training/b=1", ["'train' and 'training'", "both the train folder", "one is needed"]),
        ("train=4 test=2", ["test, train of", "named as split folders but hold no class folders", "DIR/train/CLASS"]),
        ("train=4", ["named as split folders but hold no class folders"]),
        ("car=3 train=3 bus=3", ["'train' in", "beside bus, car", "if it is a class, rename it", "one folder a class"]),
        ("x/train/a=2 x/train/b=2 y/train/c=2 y/train/d=2", ["x, y in", "they are datasets", "dataset.root=", "/x"]),
        ("im/train/a=3 im/train/b=3", ["they are datasets", "/im"]),
        (
            "cat/train=3 cat/test=1 dog/train=3 dog/test=1",
            ["cat/test, dog/test", "above the classes"],
        ),
        ("im/a=3 im/b=3", ["only the class 'im'", "its 2 folders are classes with dataset.root=", "/im"]),
        ("a=5", ["only the class 'a'", "DIR/CLASS/*.jpg"]),
        ("train/a=5", ["only the class 'a'"]),
        ("0.png 1.png", ["holds no class folders", "DIR/CLASS/*.jpg", "dataset.unlabelled=DIR"]),
        (".hidden/a=3", ["holds no class folders"]),
        (PAIR + "c/ d/", ["no image in the class folders c, d", "remove them, or add images"]),
        (
            PAIR + "c/labels.txt c/photo.heic",
            ["no image in the class folder c", "remove it, or add images; left out: ", "; left out: .heic files"],
        ),
        ("c/ d/", ["no image in the class folders c, d"]),
        (TRAIN + "test/a=1 test/b/", ["no image in the class folder test/b"]),
        (TRAIN + "test/a=1 test/c=1", ["must be the same (only in train/ b; only in test/ c)"]),
        ("train/Cat=3 train/dog=3 test/cat=3 test/dog=3", ["only in train/ Cat; only in test/ cat"]),
        (
            "train/a=3 train/caf\u00e9=3 test/a=3 test/cafe\u0301=3",
            [r"only in train/ 'caf\xe9'; only in test/ 'cafe\u0301'"],
        ),
        (
            "caf\u00e9=3 cafe\u0301=3 a=3",
            [r"'cafe\u0301' and 'caf\xe9'", "one name in two Unicode forms", "merge them"],
        ),
        ("seg_train/seg_train/a=3 seg_train/seg_train/b=3 seg_test/seg_test/a=1 seg_pred=2", CALLED_AS_SPLITS),
        ("train_dataset/a=3 train_dataset/b=3 test_dataset/a=1 test_dataset/b=1", CALLED_AS_SPLITS),
        ("trainA=3 trainB=3 testA=3 testB=3", CALLED_AS_SPLITS),
        (
            "train/train/a=3 train/train/b=3 train/val/a=1 train/val/b=1",
            ["train/train, train/val of", "inside of one", "dataset.root=", "/train"],
        ),
        ("train/train=3 train/val=3", ["train/train, train/val of", "move them up"]),
        (TRAIN + "test/test/a=1 test/test/b=1", ["test/test of", "inside of one"]),
        (PAIR + "c=1", ["at least 3 are needed to train, validate and test", "c (1)"]),
        (PAIR + "c=2", ["c (2)"]),
        (TRAIN + "train/c=1 test/a=1 test/b=1 test/c=1", ["at least 2 are needed to train and validate", "c (1)"]),
    ],
)
def test_what_can_be_meant_in_two_ways_or_none_is_refused(tmp_path: Path, tree: str, words: list[str]) -> None:
    message = read_refusal(plant(tmp_path, tree))
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("tree", "expected", "note"),
    [
        (TRAIN + "test=9", (6, 0, 2), "left out: split folders without class folders: 1 (test)"),
        (TRAIN + "meta/x=3 meta/y=3", (6, 0, 2), "left out: folders beside the split folders: 1 (meta)"),
        (TRAIN + "train/loose.png train/b.txt", (6, 0, 2), "outside of the class folders: 2 (train/b.txt)"),
        (PAIR + "labels.csv README.md", (8, 0, 2), "left out: files outside of the class folders: 2 (README.md)"),
        (PAIR + "a/x.csv a/y.json b/z.csv", (8, 0, 2), ".csv files that are not read as images: 2 (a/x.csv)"),
        (PAIR + "a/LICENSE", (8, 0, 2), "files without an ending that are not read as images: 1 (a/LICENSE)"),
        (
            PAIR + "a/.ipynb_checkpoints=2 .git/x=1 __MACOSX/a=2",
            (8, 0, 2),
            "hidden or system files and folders: 3 (",
        ),
        (
            PAIR + "a/._0.png a/.DS_Store b/Thumbs.db @eaDir/a=1",
            (8, 0, 2),
            "system files and folders: 4 (@eaDir)",
        ),
        (PAIR + "a/inner/deep=5", (12, 0, 3), ""),
        ("a/x/y=5 b/x=5", (8, 0, 2), ""),
        ("7up=3 \u732b=3 \u0444=3", (6, 0, 3), ""),
        (f"{'long' * 60}=3 b=3", (4, 0, 2), ""),
        ("x/a=3 x/b=3 y/a=3 y/b=3", (10, 0, 2), "all classes hold the same folders, a, b: if these are the classes, "),
        ("x/a=3 x/b=3 x=1 y/a=3 y/b=3", (10, 0, 3), ""),
        ("bullet_train=3 test_tube=3", (4, 0, 2), ""),
        (TRAIN + "train/train=4 test/a=1 test/b=1 test/train=1", (12, 0, 3), ""),
        ("Cat=3 cat=3 dog=3", (6, 0, 3), "classes whose names differ in case or blanks alone: 2 (Cat = cat)"),
    ],
)
def test_what_is_left_out_is_said(tmp_path: Path, tree: str, expected: tuple[int, int, int], note: str) -> None:
    images = survey(plant(tmp_path, tree))
    assert count_images(images) == expected
    assert note in " | ".join(images.notes)
    assert bool(note) == bool(images.notes)


def test_names_of_any_letters_are_read_and_printed_on_one_line(tmp_path: Path) -> None:
    for folder in ("my cat", "new\nline", "tab\tcat"):
        plant(tmp_path / folder, ".=3")
    (tmp_path / "my cat" / "0.png").rename(tmp_path / "my cat" / "a\nb.png")
    put(tmp_path / "my cat" / "x\ny.txt", b"text")
    images = survey(tmp_path)
    assert images.classes == ["my cat", "new\nline", "tab\tcat"]
    text = images.describe(Dataset())
    assert r"(my cat, 'new\nline', 'tab\tcat')" in text
    assert "\n" not in text + "".join(images.notes)
    put(tmp_path / "my cat" / "a\nb.png", b"no image")
    assert r"'my cat/a\nb.png' (not an image)" in read_refusal(tmp_path)


@pytest.mark.parametrize("place", ["folder", "file"])
def test_a_name_that_is_not_utf8_is_named_by_its_bytes(tmp_path: Path, place: str) -> None:
    plant(tmp_path, PAIR)
    name = os.fsdecode(b"caf\xe9")
    plant(tmp_path, f"{name}=3") if place == "folder" else put(tmp_path / "a" / f"{name}.png", encode())
    message = read_refusal(tmp_path)
    assert r"caf\xe9" in message
    assert "not UTF-8 text: rename it" in message
    message.encode()


# Links, and files that are there twice


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root = plant(tmp_path / "im", PAIR)
    plant(tmp_path / "elsewhere", "x=2")
    (root / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root / "a")
    (root / "a" / "more" / "top").symlink_to(root)
    (root / "b" / "higher").symlink_to(tmp_path)
    (root / "b" / "gone.png").symlink_to(root / "nothing")
    (root / "b" / "circle.png").symlink_to("circle.png")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "b" / "pipe.png")
    images = survey(root)
    assert np.bincount(images.labels).tolist() == [7, 5]
    assert [note.removeprefix("left out: ") for note in images.notes] == [
        "files outside of the class folders: 1 (circle)",
        "links to a folder above: 3 (a/more/top)",
        "links that lead nowhere: 2 (b/circle.png)",
        "pipes, sockets and devices: 1 (b/pipe.png)",
    ]


@pytest.mark.parametrize(("link", "to"), [("loop", "."), ("loop", ".."), ("train", "."), ("test", ".")])
def test_a_class_or_split_that_leads_to_a_folder_above_is_none(tmp_path: Path, link: str, to: str) -> None:
    root = plant(tmp_path / "im", PAIR)
    (root / link).symlink_to(to)
    images = survey(root)
    assert (images.classes, count_images(images)) == (["a", "b"], (8, 0, 2))
    assert images.notes == [f"left out: links to a folder above: 1 ({link})"]


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "folder", "copy"])
def test_one_image_in_two_classes_is_said_to_be_a_wrong_label(tmp_path: Path, kind: str) -> None:
    plant(tmp_path, PAIR)
    first, second = tmp_path / "a" / "0.png", tmp_path / "b" / "x.png"
    if kind == "symbolic link":
        second.symlink_to(first)
    elif kind == "hard link":
        os.link(first, second)
    elif kind == "folder":
        (tmp_path / "b" / "x").symlink_to(tmp_path / "a")
    else:
        second.write_bytes(first.read_bytes())
    notes = survey(tmp_path).notes
    number, other = (10, "b/x/0.png") if kind == "folder" else (2, "b/x.png")
    pair = f"{number} (a/0.png = {other})"
    links = [] if kind == "copy" else [f"images that are the same file as another, by links: {pair}"]
    expected = [*links, f"images of which the same is in another class, so that a label is wrong: {pair}"]
    assert notes[: len(expected)] == expected


def test_a_test_image_that_was_trained_on_is_said_with_its_like(tmp_path: Path) -> None:
    plant(tmp_path, TRAIN + "test/a=2 test/b=2")
    whole = (tmp_path / "train" / "a" / "3.png").read_bytes()
    for name in ("0", "1"):
        put(tmp_path / "test" / "a" / f"{name}.png", whole)
    leaked = "test images that are training images too, whose accuracy says nothing: 2 "
    assert survey(tmp_path).notes == [leaked + "(test/a/0.png = train/a/3.png)"]
    put(tmp_path / "train" / "b" / "0.png", whole)
    assert [note.partition(": ")[2] for note in survey(tmp_path).notes] == [
        "4 (train/a/3.png = train/b/0.png)",
        "2 (test/a/0.png = train/a/3.png)",
    ]


def test_a_test_image_that_is_a_validation_image_is_said(tmp_path: Path) -> None:
    """The probe, once its strength is chosen, is fitted to the validation images too."""
    plant(tmp_path, TRAIN + "val/a=2 val/b=2 test/a=2 test/b=2")
    put(tmp_path / "test" / "a" / "0.png", (tmp_path / "val" / "a" / "1.png").read_bytes())
    note = "test images that are validation images too, to which the probe is fitted: 1 (test/a/0.png = val/a/1.png)"
    assert survey(tmp_path).notes == [note]


def test_one_content_twice_in_a_class_is_said(tmp_path: Path) -> None:
    plant(tmp_path, TRAIN + "test/a=1 test/b=1")
    put(tmp_path / "train" / "a" / "1.png", (tmp_path / "train" / "a" / "0.png").read_bytes())
    assert survey(tmp_path).notes == ["images with the content of another: 2 (train/a/0.png = train/a/1.png)"]


# What is in a file


def encode_png16(colour: int) -> bytes:
    """A 2 x 2 PNG of 16 bits a channel, all samples 0xC8FF; colour type 0 is grey, 2 RGB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 2, 16, colour, 0, 0, 0)
    rows = (b"\0" + b"\xc8\xff" * 2 * (3 if colour else 1)) * 2
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encode_pages(kind: str) -> bytes:
    second = Image.new("RGB", (9, 7), (0, 0, 200))
    return encode(kind, save_all=True, append_images=[second])


def encode_huge() -> bytes:
    data = bytearray(encode())
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def encode_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode("JPEG", exif=exif)


def encode_see_through() -> bytes:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=b"\xff\x00")
    return file.getvalue()


NOTE_OF_PAGES = "images of several pages or frames, of which the first is used: 1"


@pytest.mark.parametrize(
    ("name", "make", "note"),
    [
        ("really_png.jpg", encode, ""),
        ("no_ending", encode, ""),
        ("UPPER.PNG", encode, ""),
        ("image.jfif", lambda: encode("JPEG"), "1 JPEG"),
        ("LOUD.JPG", lambda: encode("JPEG"), "1 JPEG"),
        ("image.webp", lambda: encode("WEBP"), "1 WEBP"),
        ("image.bmp", lambda: encode("BMP"), "1 BMP"),
        ("image.ppm", lambda: encode("PPM"), "1 PPM"),
        ("moving.gif", lambda: encode_pages("GIF"), NOTE_OF_PAGES),
        ("pages.tif", lambda: encode_pages("TIFF"), NOTE_OF_PAGES),
        ("stereo.mpo", lambda: encode_pages("MPO"), NOTE_OF_PAGES),
        ("moving.webp", lambda: encode_pages("WEBP"), NOTE_OF_PAGES),
        ("turned.jpg", encode_turned, "images with an EXIF rotation, which is not applied: 1 (a/turned.jpg)"),
        ("cmyk.jpg", lambda: encode("JPEG", "CMYK"), "1 JPEG"),
        ("grey.png", lambda: encode(mode="L"), ""),
        ("bits.png", lambda: encode(mode="1"), ""),
        ("alpha.png", lambda: encode(mode="RGBA"), ""),
        ("grey_alpha.png", lambda: encode(mode="LA"), ""),
        ("palette.png", lambda: encode(mode="P"), ""),
        ("see_through.png", encode_see_through, ""),
        ("deep.png", lambda: encode_png16(2), ""),
        ("dot.png", lambda: encode(size=(1, 1)), ""),
        ("dot.jpg", lambda: encode("JPEG", size=(1, 1)), "1 JPEG"),
        ("line.jpg", lambda: encode("JPEG", size=(1, 500)), "1 JPEG"),
        ("line.png", lambda: encode(size=(500, 1)), ""),
    ],
)
def test_every_kind_of_image_is_read_alike_in_memory_cache_and_stream(
    tmp_path: Path, name: str, make: Callable[[], bytes], note: str, recwarn: pytest.WarningsRecorder
) -> None:
    root = plant(tmp_path / "im", "train/a=3 train/b=3 test/a=1 test/b=1")
    put(root / "test" / "a" / name, make())
    images = survey(root)
    assert count_images(images) == (6, 0, 3)
    assert note.replace("(a/", "(test/a/") in " | ".join(images.notes)
    assert bool(note) == bool(images.notes)
    in_memory, cached, streamed = (
        load(Dataset("folder", str(root), side=6, cache=cache, stream=stream)).test.images[:]
        for cache, stream in ((0, False), (6, False), (0, True))
    )
    assert torch.equal(in_memory, cached)
    assert in_memory.shape == streamed.shape == (3, 3, 6, 6)
    assert not [str(warning.message) for warning in recwarn]


def test_alpha_is_dropped_and_of_16_bits_the_upper_8_are_used(tmp_path: Path) -> None:
    for part, count in (("train", 2), ("test", 1)):
        for number in range(count):
            put(tmp_path / part / "deep" / f"{number}.png", encode_png16(2))
            put(tmp_path / part / "see" / f"{number}.png", encode_see_through())
    images = load(Dataset("folder", str(tmp_path), side=2)).test.images
    assert images[0].unique().tolist() == [0xC8]
    assert images[1, :, 0, 0].tolist() == [10, 200, 30]


CUT = encode("JPEG", size=(64, 64))[:1500]
UNUSABLE: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty.jpg", bytes, "empty"),
    ("page.jpg", lambda: b"<html>404 Not Found</html>", "not an image"),
    ("grey16.png", lambda: encode_png16(0), "pixels of mode I;16, not 8 bits a channel"),
    ("float.tif", lambda: encode("TIFF", "F"), "pixels of mode F, not 8 bits a channel"),
    ("bomb.png", encode_huge, "exceeds limit"),
]


def test_all_files_that_cannot_be_used_are_named_in_one_line(tmp_path: Path) -> None:
    plant(tmp_path, PAIR)
    for name, make, _ in UNUSABLE:
        put(tmp_path / "a" / name, make())
    message = read_refusal(tmp_path)
    assert "5 of 15 files" in message
    assert message.endswith("replace or remove them")
    for name, _, reason in UNUSABLE:
        assert f"a/{name} (" in message
        assert reason in message


@pytest.mark.parametrize("where", [{}, {"cache": 8}, {"stream": True}])
def test_damaged_pixels_are_all_named_before_anything_is_kept(tmp_path: Path, where: dict[str, Any]) -> None:
    root = plant(tmp_path / "im", PAIR)
    put(root / "a" / "cut.jpg", CUT)
    put(root / "b" / "cut.png", encode(size=(64, 64))[:9000])
    survey(root)
    with pytest.raises(UsageError) as error:
        load(Dataset("folder", str(root), side=8, **where))
    message = str(error.value)
    assert message.startswith("2 of 12 images cannot be read: ")
    assert all(name in message for name in ("a/cut.jpg (", "b/cut.png ("))
    assert "\n" not in message
    assert not (tmp_path / "im.cache").exists()


def test_more_than_can_be_listed_are_counted(tmp_path: Path) -> None:
    plant(tmp_path, PAIR)
    for number in range(103):
        put(tmp_path / "a" / f"{number:03}.jpg", b"")
    message = read_refusal(tmp_path)
    assert "103 of 113 files" in message
    assert "and 3 more: replace or remove them" in message


def test_text_with_a_colon_a_line_and_other_files_are_no_images(tmp_path: Path) -> None:
    plant(tmp_path, PAIR)
    put(tmp_path / "a" / "meta.yaml", b"Label: cat\nImage type: L image\n")
    put(tmp_path / "a" / "labels.idx", b"\0\0\x08\x03" + bytes(range(1, 60)))
    put(tmp_path / "a" / "notes", b"P3 is the third page")
    put(tmp_path / "b" / "drawing.eps", encode("EPS"))
    assert count_images(survey(tmp_path)) == (8, 0, 2)


def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    plant(tmp_path, PAIR)
    (tmp_path / "a" / "0.png").chmod(0)
    if os.access(tmp_path / "a" / "0.png", os.R_OK):
        pytest.skip("the superuser reads everything")
    assert "a/0.png ([Errno 13] Permission denied" in read_refusal(tmp_path)
    (tmp_path / "b").chmod(0)
    assert "cannot be read (Permission denied)" in read_refusal(tmp_path)
    (tmp_path / "b").chmod(0o700)


def test_a_user_without_a_home_folder_can_look_at_images(tmp_path: Path) -> None:
    root = plant(tmp_path / "im", PAIR)
    code = "import os, pathlib; os.path.expanduser = lambda path: path; from benchmark.data.survey import survey; "
    code += f"survey(pathlib.Path({str(root)!r})); assert not os.path.exists('~')"
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path / "scratch")}
    (tmp_path / "scratch").mkdir()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path / "scratch", env=environment)


@pytest.mark.parametrize("where", ["a/x", "x"])
def test_what_is_there_and_cannot_be_looked_at_is_not_left_out(tmp_path: Path, where: str) -> None:
    """As a folder that may not be entered, or a disk that does not answer, makes it."""
    root = plant(tmp_path / "im", PAIR)
    (root / where).symlink_to("x" * 300)
    assert f"/{where}' cannot be read (File name too long)" in read_refusal(root)


def test_a_root_that_cannot_be_looked_at_is_one_line(tmp_path: Path) -> None:
    message = read_refusal(tmp_path / ("x" * 300))
    assert "cannot be read (File name too long); give dataset.root=DIR" in message


def test_a_folder_with_validation_images_says_that_a_share_does_not_apply(tmp_path: Path) -> None:
    root = plant(tmp_path, TRAIN + "val/a=2 val/b=2 test/a=1 test/b=1")
    note = "note: dataset.validation=0.3 does not apply: there is a validation set"
    assert note in describe([Dataset("folder", str(root), validation=0.3)])
    words = ["methods=random", "dataset=folder", f"dataset.root={root}", "dataset.validation=0.3"]
    assert cell_words.read(words).notes == [], "it is said once"
    assert not [line for line in describe([Dataset("folder", str(root))]) if "does not apply" in line]


@pytest.mark.parametrize("size", [(10_000, 9_000), (40_000, 40_000)])
def test_an_image_of_too_many_pixels_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    """A few kilobytes of a file may be gigabytes of pixels: below Pillow's error, and above."""
    root = plant(tmp_path, "train/cat=9 train/dog=9")
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    bomb = put(root / "train/cat/bomb.png", file.getvalue())
    message = read_refusal(root)
    assert "train/cat/bomb.png" in message
    assert "pixels" in message
    with pytest.raises(UsageError, match="pixels"):
        decode(str(bomb))
