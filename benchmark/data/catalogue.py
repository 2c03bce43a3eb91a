"""The datasets by name: what they are, where their files lie, and whether they are there. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.layout import LAYOUTS, UNLABELLED, require_root
from benchmark.errors import UsageError, unknown


@dataclass(frozen=True)
class Dataset:
    """Which images, and how they are split."""

    name: str = "digits"  # a name from `python -m benchmark datasets`
    root: str = "data"  # folder that holds, or receives, its files; of dataset=folder, the images
    unlabelled: str = ""  # with dataset=folder: another one, of images without labels, that methods train on instead
    download: bool = False  # fetch the files if they are not there
    limit: int = 0  # use a stratified subset of this many training images; 0 is all
    validation: float = 0.1  # share of the training set that is carved off for validation, never trained on
    split_seed: int = 0  # seed of that split, apart from the run's seed
    side: int = 0  # pixels at which the images of a folder are kept; 0 is 128
    cache: int = 0  # the same as dataset.side, kept in a file on disk that is made once, not in memory
    cache_dir: str = ""  # where that file lies; by default in dataset.root + ".cache"
    stream: bool = False  # decode a folder's images anew for every view, from their full size; nothing is kept
    fingerprint: str = ""  # of a folder's images, found by looking at them; no word sets it


@dataclass(frozen=True)
class Entry:
    """One dataset.

    ``images`` is the number of images a method can train on before the validation share is taken off them (STL-10:
    the unlabelled ones, of which none are taken off); ``side`` the stored height and width in pixels; ``view`` the
    height and width in pixels that methods train on by default; ``files`` the paths below the root that show that the
    dataset is there. None stands for what only the files can tell.
    ``mirrored``: whether a mirrored image still is of its class, which a digit is not.
    """

    name: str
    title: str
    images: int | None
    classes: int | None
    side: int
    view: int
    files: tuple[str, ...]
    source: str
    mirrored: bool = True


_CIFAR = "Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html"
_ENTRIES = (
    Entry(
        name="digits",
        title="Optical digits",
        images=1348,
        classes=10,
        side=8,
        view=32,
        files=(),
        source="scikit-learn's load_digits, from https://archive.ics.uci.edu/dataset/80",
        mirrored=False,
    ),
    Entry("cifar10", "CIFAR-10", 50_000, 10, 32, 32, ("cifar-10-batches-py",), _CIFAR),
    Entry("cifar100", "CIFAR-100", 50_000, 100, 32, 32, ("cifar-100-python",), _CIFAR),
    Entry(
        name="stl10",
        title="STL-10",
        images=100_000,
        classes=10,
        side=96,
        view=96,
        files=("stl10_binary",),
        source="Coates et al. 2011, https://cs.stanford.edu/~acoates/stl10/",
    ),
    Entry(
        name="svhn",
        title="SVHN",
        images=73_257,
        classes=10,
        side=32,
        view=32,
        files=("train_32x32.mat", "test_32x32.mat"),
        source="Netzer et al. 2011, http://ufldl.stanford.edu/housenumbers/",
        mirrored=False,
    ),
    Entry(
        name="mnist",
        title="MNIST",
        images=60_000,
        classes=10,
        side=28,
        view=32,
        files=("MNIST/raw",),
        source="LeCun et al. 1998, http://yann.lecun.com/exdb/mnist/",
        mirrored=False,
    ),
    Entry(
        name="fashion_mnist",
        title="Fashion-MNIST",
        images=60_000,
        classes=10,
        side=28,
        view=32,
        files=("FashionMNIST/raw",),
        source="Xiao et al. 2017, arXiv:1708.07747, https://github.com/zalandoresearch/fashion-mnist",
    ),
    Entry(
        name="folder",
        title="Folder of images",
        images=None,
        classes=None,
        side=128,
        view=128,
        files=(),
        source="your own images, one folder a class, below dataset.root",
    ),
)
CATALOGUE: dict[str, Entry] = {item.name: item for item in _ENTRIES}


def entry(name: str) -> Entry:
    """The dataset called ``name``; UsageError with the nearest name if there is none."""
    if name not in CATALOGUE:
        raise unknown("dataset", name, CATALOGUE)
    return CATALOGUE[name]


def location(dataset: Dataset) -> Path:
    """The root folder, absolute."""
    return absolute(dataset.root)


def absolute(folder: str) -> Path:
    """The folder's path with a leading ``~`` expanded: no shell does so inside ``dataset.root=~/images``.

    A link keeps its own name, by which a cache is called, and beside which it lies.
    """
    path = Path(os.path.expanduser(folder))
    return path.resolve() if ".." in path.parts else path.absolute()


def require(dataset: Dataset) -> None:
    """Raise UsageError if a setting is out of range, or the files are not there and may not be downloaded.

    Looks at paths only, so that planning can call it for every cell; `load` finds damaged files.
    """
    found = entry(dataset.name)
    if dataset.limit < 0:
        raise UsageError(f"dataset.limit={dataset.limit} is not allowed: give a number of images, or 0 for all")
    if not 0 < dataset.validation < 1:
        raise UsageError(
            f"dataset.validation={dataset.validation} is not allowed: give the fraction of the training images to "
            "validate on, above 0 and below 1, such as dataset.validation=0.1"
        )
    if dataset.split_seed < 0:
        raise UsageError(f"dataset.split_seed={dataset.split_seed} is not allowed: give 0 or a positive whole number")
    if dataset.cache < 0 or (dataset.cache and dataset.name != "folder"):
        raise UsageError(
            f"dataset.cache={dataset.cache} is not allowed for dataset {dataset.name}: give a number of pixels for "
            "dataset=folder; the others fit in memory"
        )
    if dataset.stream and (dataset.cache or dataset.name != "folder"):
        given = f"dataset.cache={dataset.cache}" if dataset.cache else f"dataset {dataset.name}"
        raise UsageError(f"dataset.stream=true is not allowed with {given}: it decodes the files of dataset=folder")
    if dataset.side < 0 or (dataset.side and dataset.name != "folder"):
        raise UsageError(
            f"dataset.side={dataset.side} is not allowed for dataset {dataset.name}: give a number of pixels for "
            "dataset=folder, and leave it at 0 for the others, which are kept as they are published"
        )
    root = location(dataset)
    if dataset.unlabelled and dataset.name != "folder":
        raise UsageError(f"dataset.unlabelled={dataset.unlabelled} is for dataset=folder, not for {dataset.name}")
    if dataset.name == "folder":
        for folder, remedy in ((dataset.root, LAYOUTS), (dataset.unlabelled, UNLABELLED)):
            if folder:
                require_root(absolute(folder), remedy)
    if not dataset.download and not all((root / file).exists() for file in found.files):
        raise UsageError(
            f"dataset {dataset.name} not found in {dataset.root!r} (looked for {', '.join(found.files)}): "
            "add dataset.download=true to download it, or dataset.root=DIR if it is elsewhere"
        )
