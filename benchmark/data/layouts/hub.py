"""Datasets of Hugging Face, by name or as a folder of parquet or arrow files, written once into tar shards.

The bytes of each image stay as they are; `shards` reads them. Imports the package datasets only where it has to.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmark.data.catalogue import Dataset, location
from benchmark.data.layout import SPLITS, TEST, TRAIN, VALIDATION, find_split
from benchmark.data.layouts.scratch import build_folder
from benchmark.data.layouts.shards import user_cache
from benchmark.display.counting import show_progress
from benchmark.errors import UsageError

CHUNK = 1000  # images between two steps of the progress


def convert(dataset: Dataset) -> Path:
    """The folder of the shards, one a split, made if it is not there.

    UsageError where the package, the dataset or the network is missing, or a column of images or of labels.
    """
    name, folder = dataset.root, location(dataset)
    cache = Path(os.path.expanduser(dataset.cache_dir)) if dataset.cache_dir else user_cache() / "hf"
    is_local = folder.is_dir()
    folder_of_images = cache / (f"{folder.name}-{_digest_files(folder)}" if is_local else name.replace("/", "--"))
    if folder_of_images.is_dir():
        return folder_of_images
    if not is_local and not dataset.download:
        raise UsageError(
            f"dataset hf: {name!r} is no folder here, and not fetched yet: add dataset.download=true to fetch it from "
            "huggingface.co"
        )
    splits = _load(name, folder if is_local else None)
    try:
        with build_folder(folder_of_images) as scratch:
            for split, rows in splits.items():
                _write(scratch / folder_of_images.name / f"{split}.tar", rows, f"{name} {split}")
    except OSError as error:
        raise UsageError(f"dataset hf: {error}; dataset.cache_dir=DIR puts its shards elsewhere") from error
    return folder_of_images


def _load(name: str, folder: Path | None) -> dict[str, Any]:
    """Split -> `datasets.Dataset`."""
    try:
        import datasets
    except ImportError as error:
        raise UsageError("dataset=hf needs the package datasets: pip install 'contrastive-benchmark[hf]'") from error
    try:
        if folder is None:
            loaded = datasets.load_dataset(name)
        elif any((folder / file).exists() for file in ("dataset_dict.json", "state.json")):
            loaded = datasets.load_from_disk(str(folder))
        else:
            loaded = datasets.load_dataset(str(folder))
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        advice = "check the files" if folder else "check the name and the network"
        raise UsageError(f"dataset hf: {name!r} cannot be loaded ({message}): {advice}") from error
    by_title = dict(loaded) if isinstance(loaded, dict) else {TRAIN: loaded}
    usual_first = sorted(by_title, key=lambda title: title.lower() not in SPLITS)
    titles = {split: title for title in reversed(usual_first) if (split := find_split(title))}
    if not titles and len(by_title) == 1:
        titles = {TRAIN: next(iter(by_title))}
    if TRAIN not in titles:
        raise UsageError(f"dataset hf: {name!r} has the splits {', '.join(by_title)}, but no train")
    left_out = [f"{title} ({len(rows)} images)" for title, rows in by_title.items() if title not in titles.values()]
    if left_out:
        print(f"note: {name}: splits that are left out: {', '.join(left_out)}", file=sys.stderr)
    return {split: by_title[titles[split]] for split in (TRAIN, VALIDATION, TEST) if split in titles}


def _write(path: Path, rows: Any, title: str) -> None:
    """Each row as NUMBER.jpg, or .png, beside NUMBER.cls, the name of its class; without one where it has no label."""
    import datasets

    image, label = _columns(rows.features, title)
    kind = rows.features[label]
    names = kind.names if isinstance(kind, datasets.ClassLabel) else None
    rows = rows.select_columns([image, label])
    if isinstance(rows.features[image], datasets.Image):
        rows = rows.cast_column(image, datasets.Image(decode=False))
    path.parent.mkdir(exist_ok=True)
    absent = 0
    with tarfile.open(path, "w") as tar, show_progress(f"{title}: writing", len(rows), "image", ", once") as advance:
        for number, row in enumerate(rows):
            value, picture = row[label], row[image]
            if picture is None:
                absent += 1
                continue
            has_label = value is not None and value != -1
            data = picture["bytes"] or Path(picture["path"]).read_bytes()
            ending = "png" if data.startswith(b"\x89PNG") else "jpg"  # whatever it is, its content is looked at
            parts = {ending: data} | ({"cls": str(names[value] if names else value).encode()} if has_label else {})
            for suffix, content in parts.items():
                member = tarfile.TarInfo(f"{number:08}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            if number % CHUNK == CHUNK - 1:
                advance(CHUNK)
    if absent:
        print(f"note: {title}: rows without an image that are left out: {absent}", file=sys.stderr)


def _columns(features: Any, title: str) -> tuple[str, str]:
    """The column of images, and that of labels: of several the one of most classes, which is the finest."""
    import datasets

    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image) or _is_encoded(kind)]
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    labels.sort(key=lambda name: -features[name].num_classes)
    named = [name for name in ("label", "labels", "cls", "class") if name in features and name not in labels]
    labels += [name for name in named if isinstance(features[name], datasets.Value)]
    if len(images) != 1 or not labels:
        columns = ", ".join(
            f"{name} ({getattr(kind, 'dtype', type(kind).__name__)})" for name, kind in features.items()
        )
        raise UsageError(f"dataset hf: {title} needs one column of images and one of labels, and has {columns}")
    if len(labels) > 1:
        others = ", ".join(labels[1:])
        print(f"note: {title}: the classes are those of the column {labels[0]}, not of {others}", file=sys.stderr)
    return images[0], labels[0]


def _is_encoded(kind: Any) -> bool:
    """Whether a column, of a file that says no more, holds the bytes and the path of images."""
    return isinstance(kind, dict) and {"bytes", "path"} <= set(kind)


def _digest_files(folder: Path) -> str:
    """Eight hexadecimal digits that change with the files."""
    files: Iterable[Path] = sorted(path for path in folder.rglob("*") if path.is_file())
    stamps = [f"{path}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256(os.fsencode("\n".join(stamps))).hexdigest()[:8]
