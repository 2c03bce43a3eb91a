"""Archives laid out as their authors publish them, of a few tiny JPEG files."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

from PIL import Image

from benchmark.data.layouts.archives import read_imagenet100

IMAGENETTE = (
    *("n01440764", "n02102040", "n02979186", "n03000684", "n03028079"),
    *("n03394916", "n03417042", "n03425413", "n03445777", "n03888257"),
)
_numbers = itertools.count()


def encode_jpeg(size: tuple[int, int] = (20, 16)) -> bytes:
    """An image that no call before has given."""
    number = next(_numbers)
    image = Image.new("RGB", size, (number % 256, number // 256 % 256, 60))
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue() + number.to_bytes(4, "little")  # what follows the end of a JPEG is not read


def put(folder: Path, count: int, ending: str = "JPEG") -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"image_{number + 1:04}.{ending}").write_bytes(encode_jpeg())


def make_imagenette(root: Path, side: int = 160) -> None:
    for name in IMAGENETTE:
        put(root / f"imagenette2-{side}/train" / name, 4)
        put(root / f"imagenette2-{side}/val" / name, 2)
    (root / f"imagenette2-{side}/noisy_imagenette.csv").write_text("path,noisy_labels_0\n")


def make_tiny_imagenet(root: Path) -> None:
    top, lines = root / "tiny-imagenet-200", []
    (top / "val/images").mkdir(parents=True)
    for number in range(200):
        name = f"n{number:08}"
        put(top / f"train/{name}/images", 3)
        (top / f"train/{name}/{name}_boxes.txt").write_text("image_0001.JPEG\t0\t0\t9\t9\n")
        (top / f"val/images/val_{199 - number}.JPEG").write_bytes(encode_jpeg())
        lines.append(f"val_{199 - number}.JPEG\t{name}\t0\t0\t9\t9\n")
    (top / "val/val_annotations.txt").write_text("".join(lines))
    put(top / "test/images", 2)


def make_imagenet(root: Path) -> None:
    """The 100 classes of ImageNet-100, and 900 others."""
    own = sorted(read_imagenet100())
    for name in [*own, *(f"n9{number:07}" for number in range(1000 - len(own)))]:
        put(root / "train" / name, 2)
        put(root / "val" / name, 1)


def make_caltech101(root: Path) -> None:
    for number in range(101):
        put(root / f"caltech101/101_ObjectCategories/class_{number:03}", 32, "jpg")
    put(root / "caltech101/101_ObjectCategories/BACKGROUND_Google", 3, "jpg")
