"""Image files: decoded by threads, as centre squares of one size, or as crops, anew for every view.

Threads, not worker processes: decoding and resizing let go of Python's lock, so that cores are kept busy without a
copy of the dataset's paths in each process, shared memory, or a second start-up.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmark import environment
from benchmark.data import inspection
from benchmark.data.layouts.shards import open_image
from benchmark.data.source import Images, spread_evenly
from benchmark.display.counting import show_progress
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

LISTED = 100  # bad files in one message
SAMPLE = 1024  # images from which the statistics of a streamed dataset are taken
AHEAD = 2  # things made before they are asked for

A = TypeVar("A")
B = TypeVar("B")


def use_one_thread() -> None:
    """Torch's operations in this thread stay in it: its neighbours keep the other cores busy."""
    torch.set_num_threads(1)


@cache
def reader_pool() -> ThreadPoolExecutor:
    """One thread a core that this process may use; processes that torchrun puts on one machine share its cores."""
    return ThreadPoolExecutor(environment.shared_cores(), "reader", use_one_thread)


def prefetch(make: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`map(make, items)`, made in a thread while the caller is busy with what it got before."""
    with ThreadPoolExecutor(1, "prefetch", use_one_thread) as thread:
        waiting: list[Future[B]] = []
        try:
            for item in items:
                waiting.append(thread.submit(make, item))
                if len(waiting) > AHEAD:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def read_batches(images: Images, indices: Iterable[Tensor]) -> Iterator[Tensor]:
    """The images at each index; those on a disk are read while the caller is busy with the ones before."""
    if isinstance(images, Tensor):
        return (images[index.to(images.device)] for index in indices)
    return prefetch(images.__getitem__, indices)


class Files:
    """Image files of any sizes as centre squares of `side` pixels, or as crops."""

    device = torch.device("cpu")

    def __init__(self, paths: NDArray[Any], side: int) -> None:
        self.paths, self.side = paths, side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """uint8 (n, 3, side, side): the largest centre squares."""
        opened = self.open(index)
        least = opened.sides.min(dim=1, keepdim=True).values.expand(-1, 2)
        boxes = torch.cat([(opened.sides - least) // 2, least], dim=1)
        return opened.crops([(boxes, self.side)])[0]

    def open(self, index: Tensor | slice) -> OpenedFiles:
        """The bytes of these files and their sides, not decoded yet. `BadImage` for what cannot be read."""
        paths = self.paths[index if isinstance(index, slice) else index.numpy()].tolist()
        files = list(reader_pool().map(_open, paths))
        sides = torch.tensor([[height, width] for _, height, width in files], dtype=torch.int64).view(-1, 2)
        return OpenedFiles(paths, [data for data, _, _ in files], sides)

    def sums(self) -> tuple[int, list[int], list[int]]:
        """Of evenly spaced images: to decode all of them would take as long as an epoch."""
        return sum_pixels(self[spread_evenly(len(self), SAMPLE)])


class Squares(Files):
    """The same as they are kept in memory or in a cache: squares by Pillow."""

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """uint8 (n, 3, side, side)."""
        paths = self.paths[index if isinstance(index, slice) else index.numpy()].tolist()
        return torch.from_numpy(np.stack(list(squares(paths, self.side))))


class OpenedFiles:
    """Files read but not decoded yet, whose `sides` (n, 2), height and width, are known."""

    def __init__(self, paths: list[str], data: list[bytes], sides: Tensor) -> None:
        self.paths, self.data, self.sides = paths, data, sides

    def crops(self, requests: list[tuple[Tensor, int]]) -> list[Tensor]:
        """For each `(boxes, size)` of `requests` the boxes (n, 4), top, left, height and width, resized to uint8
        (n, 3, size, size) as torchvision's resized_crop with antialiasing does it. Each image is decoded once."""
        crops_of_requests = [torch.empty(len(self.paths), 3, size, size, dtype=torch.uint8) for _, size in requests]
        boxes = [box.tolist() for box, _ in requests]

        def decode_and_crop(i: int) -> None:
            image = _decode(self.data[i], self.paths[i])
            for crops, box in zip(crops_of_requests, boxes, strict=True):
                crops[i] = _crop(image, box[i], crops.shape[2])

        for _ in reader_pool().map(decode_and_crop, range(len(self.paths))):
            pass
        return crops_of_requests


class BadImage(UsageError):
    """A file that is no image, or a damaged one."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"image {path!r} cannot be read ({reason}): replace or remove it")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str]]:
        """As another process takes it: by what it was made of, not by its one line."""
        return type(self), (self.path, self.reason)


def squares(paths: list[str], side: int) -> Iterator[NDArray[np.uint8]]:
    """Of each file the centre square, (3, side, side), in order."""
    # Where one file is bad, `map` cancels those not begun, so that the error does not wait for the whole folder.
    return reader_pool().map(partial(_square, side=side), paths)


def require_decoding(paths: list[str], fingerprint: str) -> None:
    """UsageError that names all files that cannot be decoded; a JPEG is decoded at an eighth of its size. Images whose
    fingerprint is known to decode are not looked at again."""
    if inspection.is_decoded(fingerprint):
        return
    title, bad = "decoding, to find damaged files:", list[BadImage]()
    with warnings.catch_warnings(action="ignore"), show_progress(title, len(paths), "image", ", once") as advance:
        for problem in reader_pool().map(_find_damage, paths):
            bad += [problem] if problem else []
            advance(1)
    if len(bad) == 1:
        raise bad[0]
    if bad:
        listed = ", ".join(f"{image.path} ({image.reason})" for image in bad[:LISTED])
        more = f" and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        raise UsageError(f"{len(bad)} of {len(paths)} images cannot be read: {listed}{more}: replace or remove them")
    inspection.note_decoded(fingerprint)


def _find_damage(path: str) -> BadImage | None:
    from PIL import Image

    try:
        with _readable(path), open_image(path) as file, Image.open(file) as image:
            _require_usable(image)
            image.draft("RGB", (max(image.width // 8, 1), max(image.height // 8, 1)))
            image.convert("RGB")
    except BadImage as damage:
        return damage
    return None


def sum_pixels(images: Tensor) -> tuple[int, list[int], list[int]]:
    """Of uint8 (n, 3, H, W): as `OnDisk.sums`, exactly: pixel values are counted and summed as whole numbers."""
    counts, values = torch.zeros(3, 256, dtype=torch.int64), torch.arange(256)
    for chunk in images.split(4096):
        for channel in range(3):
            counts[channel] += torch.bincount(chunk[:, channel].flatten(), minlength=256)
    return int(counts[0].sum()), (counts @ values).tolist(), (counts @ values**2).tolist()


def decode(path: str) -> Tensor:
    """The whole file, uint8 (3, H, W)."""
    return _decode(_open(path)[0], path)


def _open(path: str) -> tuple[bytes, int, int]:
    """The file's bytes, and its height and width."""
    from PIL import Image

    with _readable(path):
        with open_image(path) as file:
            data = file.read()
        with Image.open(io.BytesIO(data)) as image:  # reads no more than the header
            inspection.require_few_pixels(image)
            return data, image.height, image.width


def _decode(data: bytes, path: str) -> Tensor:
    """uint8 (3, H, W), channels last."""
    with _readable(path):
        return torch.from_numpy(np.array(_pixels(io.BytesIO(data)))).permute(2, 0, 1)


def _crop(image: Tensor, box: list[int], size: int) -> Tensor:
    """The box, top, left, height and width, of uint8 (3, H, W), resized to (3, size, size)."""
    top, left, height, width = box
    part = image[None, :, top : top + height, left : left + width]
    part = part.contiguous(memory_format=torch.channels_last)  # the fast path of the resizing
    return F.interpolate(part, size=(size, size), mode="bilinear", antialias=True)[0]


def _square(path: str, side: int) -> NDArray[np.uint8]:
    with _readable(path), open_image(path) as file:
        return fit_square(_pixels(file), side)


def crop_square(image: Image.Image, side: int) -> Tensor:
    """The centre square of an image in RGB, uint8 (3, side, side), as `Files` gives it."""
    least = min(image.size)
    box = [(image.height - least) // 2, (image.width - least) // 2, least, least]
    return _crop(torch.from_numpy(np.array(image)).permute(2, 0, 1), box, side)


def fit_square(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The centre square of an image in RGB, (3, side, side), by Pillow."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(image, (side, side), method=Image.Resampling.BILINEAR)).transpose(2, 0, 1)


def _pixels(file: IO[bytes]) -> Image.Image:
    """In RGB. Pillow: torchvision's own decoder, hardly faster, reads fewer kinds of files, and is to be removed."""
    from PIL import Image

    with Image.open(file) as image:
        _require_usable(image)
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")


def _require_usable(image: Image.Image) -> None:
    """ValueError for an image of too many pixels or bits a channel, or that Pillow draws with another program."""
    inspection.require_few_pixels(image)
    if image.format in inspection.UNDRAWN:
        raise ValueError(f"{image.format}, not drawn here")
    if image.mode.startswith(("I", "F")):  # Pillow would clip these at 255, which leaves a white image
        raise ValueError(f"pixels of mode {image.mode}, not 8 bits a channel")


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """`BadImage` for a file that is no image, or a damaged one, whatever that makes of the readers."""
    from PIL import Image

    try:
        yield
    except Exception as error:
        message = "not an image" if isinstance(error, Image.UnidentifiedImageError) else ""
        message = message or getattr(error, "strerror", None) or str(error)
        raise BadImage(path, message or type(error).__name__) from error
