"""Where a dataset's images lie on this machine, fetched first where a word asks for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from benchmark.data.catalogue import Dataset, entry, location, require
from benchmark.data.layouts import hub
from benchmark.data.layouts.scratch import build_folder
from benchmark.errors import UsageError


def locate(dataset: Dataset) -> Path:
    """The folder, or the pattern, below which the image files of `dataset` lie; of an archive its own folder.

    UsageError where they are not there, and may not or cannot be fetched.
    """
    require(dataset)
    if dataset.name == "hf":
        return hub.convert(dataset)
    root, files = location(dataset), entry(dataset.name).files
    tops = {Path(file).parts[0] for file in files}
    folder = root / tops.pop() if len(tops) == 1 else root
    if not all((root / file).exists() for file in files):
        with explain_failures(dataset):
            _download(dataset.name, folder)
    return folder


def _download(name: str, folder: Path) -> None:
    """Fetch and unpack an archive beside `folder`, which is there only when all of it is."""
    from torchvision import datasets

    with build_folder(folder) as scratch:
        if name == "caltech101":
            datasets.Caltech101(scratch, download=True)
        else:
            datasets.Imagenette(scratch, size=name.replace("imagenette", "") + "px", download=True)


@contextmanager
def explain_failures(dataset: Dataset) -> Iterator[None]:
    """Whatever torchvision makes of a failure as one UsageError."""
    try:
        yield
    except (RuntimeError, OSError, ValueError, TypeError, LookupError, AssertionError, HTTPException) as error:
        # torchvision's own advice names its Python argument, and its reports can run over several lines.
        message = " ".join(str(error).split()).removesuffix("You can use download=True to download it").strip(" .")
        item = entry(dataset.name)
        if dataset.download:
            attempt, todo = "downloaded to", f"check the network, or put the files there by hand ({item.source})"
        else:
            files = ", ".join(item.files)
            attempt = "read from"
            todo = f"remove {files} and add dataset.download=true, or dataset.root=DIR if a whole copy is elsewhere"
        raise UsageError(
            f"dataset {dataset.name} cannot be {attempt} {dataset.root!r} ({message or type(error).__name__}): {todo}"
        ) from error
