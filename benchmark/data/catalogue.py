"""The datasets by name: what they are, where their files lie, and whether they are there. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.data.layout import LAYOUTS, UNLABELLED, require_root
from benchmark.errors import MissingData, UsageError, unknown

RUN: Literal["seed"] = "seed"  # as `split_seed`: another split for each of the run's seeds


@dataclass(frozen=True)
class Dataset:
    """Which images, and how they are split."""

    name: str = "digits"  # a name from `python -m benchmark datasets`
    root: str = "data"  # folder that holds, or receives, its files; of dataset=folder, the images; of hf, the name
    unlabelled: str = ""  # with dataset=folder: another one, of images without labels, that methods train on instead
    download: bool = False  # fetch the files if they are not there
    limit: int = 0  # use a stratified subset of this many training images; 0 is all
    validation: float = 0.1  # share of the training set that is carved off for validation, never trained on
    split_seed: int | Literal["seed"] = 0  # seed of that split, or that of the run
    side: int = 0  # pixels at which images that lie as files are kept; 0 is the dataset's own, 128 of a folder
    cache: int = 0  # the same as dataset.side, kept in a file on disk that is made once, not in memory
    cache_dir: str = ""  # where that file lies; by default in dataset.root + ".cache"
    stream: bool = False  # decode image files anew for every view, from their full size; nothing is kept
    fingerprint: str = ""  # of images that lie as files, found by looking at them; no word sets it


@dataclass(frozen=True)
class Entry:
    """One dataset.

    ``images`` is the number of images a method can train on before the validation share is taken off them (STL-10:
    the unlabelled ones, of which none are taken off); ``side`` the stored height and width in pixels; ``view`` the
    height and width in pixels that methods train on by default; ``files`` the paths below the root that show that the
    dataset is there. None stands for what only the files can tell.
    ``mirrored``: whether a mirrored image still is of its class, which a digit is not. ``image_files``: whether its
    images lie as files of any sizes, so that they have a fingerprint and can be cached and streamed; the others are
    arrays. ``obtain``: what to do where they are not there, of a dataset that cannot be downloaded.
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
    image_files: bool = False
    obtain: str = ""

    @property
    def is_named_by_root(self) -> bool:
        """Whether only ``dataset.root`` says which images they are."""
        return self.image_files and not self.files


_IMAGENET = "Russakovsky et al. 2015, https://image-net.org/challenges/LSVRC/2012/"
_IMAGENET_FOLDERS = (
    "put the folders train and val there, with a folder of each WordNet id (n01440764), or give dataset.root=DIR; "
    "torchvision.datasets.ImageNet makes them of ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
    "ILSVRC2012_devkit_t12.tar.gz, which image-net.org gives to those who register"
)
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
    *(
        Entry(
            name=f"imagenette{side}",
            title=f"Imagenette, {side} pixels",
            images=9469,
            classes=10,
            side=side,
            view=view,
            files=(f"imagenette2-{side}",),
            source="Howard 2019, https://github.com/fastai/imagenette, second version; tested on its val set",
            image_files=True,
        )
        for side, view in ((160, 128), (320, 224))
    ),
    Entry(
        name="tiny_imagenet",
        title="Tiny ImageNet",
        images=100_000,
        classes=200,
        side=64,
        view=64,
        files=("tiny-imagenet-200/train", "tiny-imagenet-200/val/val_annotations.txt"),
        source="Stanford CS231n, http://cs231n.stanford.edu/tiny-imagenet-200.zip; tested on its val set",
        image_files=True,
        obtain="unpack http://cs231n.stanford.edu/tiny-imagenet-200.zip there, or give dataset.root=DIR",
    ),
    Entry(
        name="imagenet",
        title="ImageNet (ILSVRC2012)",
        images=1_281_167,
        classes=1000,
        side=256,
        view=224,
        files=("train", "val"),
        source=f"{_IMAGENET}; tested on its val set",
        image_files=True,
        obtain=_IMAGENET_FOLDERS,
    ),
    Entry(
        name="imagenet100",
        title="ImageNet-100",
        images=None,
        classes=100,
        side=256,
        view=224,
        files=("train", "val"),
        source="100 classes of ImageNet, listed by Tian et al. 2019, arXiv:1906.05849, HobbitLong/CMC imagenet100.txt",
        image_files=True,
        obtain=_IMAGENET_FOLDERS,
    ),
    Entry(
        name="caltech101",
        title="Caltech-101",
        images=3030,
        classes=101,
        side=128,
        view=128,
        files=("caltech101/101_ObjectCategories",),
        source="Fei-Fei et al. 2004, https://data.caltech.edu/records/20086; 30 images a class for training",
        image_files=True,
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
        image_files=True,
        obtain=LAYOUTS,
    ),
    Entry(
        name="hf",
        title="Hugging Face dataset",
        images=None,
        classes=None,
        side=128,
        view=128,
        files=(),
        source="dataset=hf:NAME of the hub, or hf:DIR of parquet or arrow files; needs the package datasets",
        image_files=True,
        obtain="give dataset=hf:NAME, such as hf:uoft-cs/cifar10, or hf:DIR with parquet or arrow files",
    ),
    Entry(
        name="webdataset",
        title="Tar shards",
        images=None,
        classes=None,
        side=128,
        view=128,
        files=(),
        source="dataset=webdataset:PATTERN, tar files of KEY.jpg beside KEY.cls or KEY.json",
        image_files=True,
        obtain="give dataset=webdataset:DIR with tar files, or a pattern such as webdataset:DIR/train-{000..146}.tar",
    ),
)
CATALOGUE: dict[str, Entry] = {item.name: item for item in _ENTRIES}


def entry(name: str) -> Entry:
    """The dataset called ``name``; UsageError with the nearest name if there is none."""
    if name not in CATALOGUE:
        hint = f"; a folder of images is dataset=folder dataset.root={name}" if Path(name).is_dir() else ""
        raise unknown("dataset", name, CATALOGUE, hint)
    return CATALOGUE[name]


def split_name(text: str) -> tuple[str, str]:
    """`hf:NAME` as ('hf', 'NAME'): the dataset, and its root where that is what names the images; else ''."""
    name, _, root = text.partition(":")
    return (name, root) if root and entry(name).is_named_by_root else (text, "")


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
    """Raise UsageError if a setting is out of range, MissingData if files are not there and may not be downloaded.

    Looks at paths only, so that planning can call it for every cell; `load` finds damaged files.
    """
    item = entry(dataset.name)
    if dataset.limit < 0:
        raise UsageError(f"dataset.limit={dataset.limit} is not allowed: give a number of images, or 0 for all")
    if not 0 < dataset.validation < 1:
        raise UsageError(
            f"dataset.validation={dataset.validation} is not allowed: give the fraction of the training images to "
            "validate on, above 0 and below 1, such as dataset.validation=0.1"
        )
    if dataset.split_seed != RUN and dataset.split_seed < 0:
        raise UsageError(
            f"dataset.split_seed={dataset.split_seed} is not allowed: give 0, a positive whole number, or {RUN} for "
            "the seed of each run"
        )
    file_datasets = "one whose images lie as files, such as dataset=folder"
    if dataset.cache < 0 or (dataset.cache and not item.image_files):
        raise UsageError(
            f"dataset.cache={dataset.cache} is not allowed for dataset {dataset.name}: give a number of pixels for "
            f"{file_datasets}; the others fit in memory"
        )
    if dataset.stream and (dataset.cache or not item.image_files):
        conflict = f"dataset.cache={dataset.cache}" if dataset.cache else f"dataset {dataset.name}"
        raise UsageError(f"dataset.stream=true is not allowed with {conflict}: it decodes the files of {file_datasets}")
    if dataset.side < 0 or (dataset.side and not item.image_files):
        raise UsageError(
            f"dataset.side={dataset.side} is not allowed for dataset {dataset.name}: give a number of pixels for "
            f"{file_datasets}, and leave it at 0 for the others, which are kept as they are published"
        )
    root = location(dataset)
    if dataset.unlabelled and dataset.name != "folder":
        raise UsageError(f"dataset.unlabelled={dataset.unlabelled} is for dataset=folder, not for {dataset.name}")
    if dataset.name == "folder":
        for folder, remedy in ((dataset.root, LAYOUTS), (dataset.unlabelled, UNLABELLED)):
            if folder:
                require_root(absolute(folder), remedy)
    if (item.obtain or not dataset.download) and not all((root / file).exists() for file in item.files):
        todo = item.obtain or "add dataset.download=true to download it, or dataset.root=DIR if it is elsewhere"
        raise MissingData(
            f"dataset {dataset.name} not found in {dataset.root!r} (looked for {', '.join(item.files)}): {todo}"
        )
