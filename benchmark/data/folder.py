"""A folder of image files, one class a folder, as a dataset: its layout, and where its images are kept.

In memory as centre squares of `side` pixels, the same squares in a file on disk (`cache`), or nowhere (`stream`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmark.data.cache import Cached, open_cache
from benchmark.data.catalogue import LAYOUTS, Dataset, entry, location, subfolders
from benchmark.data.files import Files, squares
from benchmark.data.source import TEST_SEED, Images, Indices, Rows, Source, require_images
from benchmark.data.splits import stratify
from benchmark.errors import UsageError

MEMORY = 4 * 2**30  # bytes; a folder that is kept in memory and larger than this is refused


def source(dataset: Dataset) -> Source:
    """Images in class folders. Of `test` and `val` the test set is `test`, if it has class folders."""
    root = location(dataset)
    held_out = None
    # A folder `train` without folders inside it is a class of that name.
    if next(subfolders(root / "train"), None) is not None:
        held_out = next((root / name for name in ("test", "val") if any(subfolders(root / name))), None)
        root = root / "train"
    rows, names = _class_folders(root, dataset)
    if held_out is None:
        require_images(rows.labels, names, 3, "train, validation and test")
        rest, taken = stratify(rows.labels, 0.2, TEST_SEED)
        return Source(rows.take(rest), rows.take(taken), names)
    test, test_names = _class_folders(held_out, dataset)
    if names != test_names:
        only = ((root, sorted(set(names) - set(test_names))), (held_out, sorted(set(test_names) - set(names))))
        differences = "; ".join(f"only in {part.name}: {', '.join(few[:5])}" for part, few in only if few)
        raise UsageError(f"class folders of {str(root)!r} and {str(held_out)!r} must be the same ({differences})")
    return Source(rows, test, names)


def _class_folders(folder: Path, dataset: Dataset) -> tuple[Rows, list[str]]:
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(folder))
    except OSError as error:
        raise UsageError(f"dataset folder: {error} ({str(folder)!r}); {LAYOUTS}") from error
    if len(found.classes) < 2:
        raise UsageError(f"dataset folder: {str(folder)!r} holds only the class {found.classes[0]!r}; {LAYOUTS}")
    paths = [path for path, _ in found.samples]
    return Rows(np.asarray(found.targets, dtype=np.int64), _reader(paths, folder, dataset)), found.classes


def _reader(paths: list[str], folder: Path, dataset: Dataset) -> Callable[[Indices], Images]:
    """What gives the chosen ones of all the `paths` of `folder`."""
    side = dataset.side or entry("folder").side
    if dataset.stream:
        names = np.array(paths)
        return lambda chosen: Files(names[chosen], side)
    if dataset.cache:
        place = Path(dataset.cache_dir).expanduser() if dataset.cache_dir else _beside(location(dataset))
        images, totals = open_cache(paths, folder, side, place)
        return lambda chosen: Cached(images, totals, chosen)

    def read(chosen: Indices) -> Tensor:
        kept = torch.empty((len(chosen), 3, side, side), dtype=torch.uint8)
        pixels = kept.numpy()
        for row, square in enumerate(squares([paths[i] for i in chosen], side)):
            pixels[row] = square
        return kept

    return read


def _beside(root: Path) -> Path:
    """Not inside: there it would be a class."""
    return root.absolute().with_name(root.absolute().name + ".cache")


def require_memory(dataset: Dataset, images: int) -> None:
    """Raise UsageError where that many images are too many to be kept in memory."""
    if dataset.cache or dataset.stream:
        return
    size = 3 * (dataset.side or entry("folder").side) ** 2
    if images * size > MEMORY:
        needed, allowed = (f"{number / 2**30:.1f} GiB" for number in (images * size, MEMORY))
        fits = int((MEMORY / (3 * images)) ** 0.5)
        raise UsageError(
            f"dataset folder needs {images} images x {size} bytes = {needed} of memory, more than {allowed}: give a "
            f"smaller dataset.side, {fits} at most, or a dataset.limit; or dataset.cache=SIZE to keep them on disk, or "
            "dataset.stream=true to decode them anew for every view"
        )
