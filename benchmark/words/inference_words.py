"""The words of `export` and `features`: which cell, which images, where to, and in which form. Imports no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.data.catalogue import Dataset
from benchmark.errors import UsageError, nearest, unknown
from benchmark.settings import schema
from benchmark.settings.runtime import Runtime
from benchmark.settings.values import parse_value
from benchmark.words import runtime_words

FORMATS = {
    "program": "torch.export's, `encoder.pt2`: holds the graph; written anyway where timm has no such stem",
    "onnx": "`encoder.onnx`; needs the extra onnx",
}
ENDINGS = (".parquet", ".npz")  # of a table of features
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Export:
    """What `export` is asked for."""

    cell: str  # a folder, or the name or key of a cell of runs/
    out: Path
    formats: list[str]  # of `FORMATS`, beside what is written anyway
    push: str  # ENTITY/NAME on the Hugging Face Hub, or ""
    runtime: Runtime


@dataclass(frozen=True)
class Features:
    """What `features` is asked for."""

    cell: str
    images: str  # a folder, a dataset's name or a text file of paths
    out: Path
    head: bool  # the projection head's output too
    encoder: str  # student, or its momentum copy, the teacher
    tokens: str  # which tokens of a vision transformer are the features; "": what it pools
    datasets: Dataset  # where datasets lie
    runtime: Runtime


def read_export(words: list[str]) -> Export:
    """Raises `UsageError` for any word that cannot be meant."""
    (cell,), assigned = _split("export", words, ["CELL"], ("out", "format", "push", "threads", "trust"))
    formats = assigned.pop("format", [])
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    out, push = Path(_single(assigned, "out") or ""), _single(assigned, "push") or ""
    if not out.name:
        raise UsageError("export needs out=DIR, a folder that is not there yet")
    if push and not _REPOSITORY.fullmatch(push):
        raise UsageError(f"push={push}: ENTITY/NAME is needed, such as push=my-team/my-encoder")
    return Export(cell, out, formats, push, runtime_words.read_runtime(assigned))


def read_features(words: list[str]) -> Features:
    """Raises `UsageError` for any word that cannot be meant."""
    own_words = ("head", "dataset.root", "dataset.download")
    (cell, images), assigned = _split(
        "features", words, ["CELL", "IMAGES"], ("out", "encoder", "tokens", *own_words, "device", "threads", "trust")
    )
    encoder, tokens = _single(assigned, "encoder") or "student", _single(assigned, "tokens") or ""
    out = Path(_single(assigned, "out") or "")
    if out.suffix not in ENDINGS:
        hint = f", not out={out}" if out.name else ""
        raise UsageError(f"features needs out=FILE that ends in {' or '.join(ENDINGS)}{hint}")
    types = schema.list_types() | {"head": bool}
    dataset: dict[str, Any] = {}
    for key in own_words:
        text = _single(assigned, key)
        if text is not None:
            dataset[key.removeprefix("dataset.")] = parse_value(text, types[key], key)
    head = dataset.pop("head", False)
    if head and (tokens or encoder != "student"):
        raise UsageError("head=true: the head was given what the student pools; not with encoder= or tokens=")
    return Features(cell, images, out, head, encoder, tokens, Dataset(**dataset), runtime_words.read_runtime(assigned))


def _split(
    command: str, words: list[str], arguments: list[str], allowed: tuple[str, ...]
) -> tuple[list[str], dict[str, list[str]]]:
    """What stands for the `arguments`, a path with `=` in it too, and the `key=value` words behind."""
    keys = [word.partition("=")[0] for word in words]
    leading = [
        word
        for word, key in zip(words, keys, strict=True)
        if "=" not in word or "/" in key or (key not in allowed and os.path.exists(os.path.expanduser(word)))
    ]
    if len(leading) != len(arguments):
        given_text = f", got {' '.join(leading)!r}" if leading else ""
        limit = "; it takes one at a time" if len(leading) > len(arguments) else ""
        raise UsageError(f"{command} needs {' and '.join(arguments)} before its words{given_text}{limit}")
    assigned = runtime_words.split([word for word in words if word not in leading])
    for key in assigned:
        if key not in allowed:
            raise UsageError(f"{key}= does not apply here{nearest(key, allowed)} (allowed: {', '.join(allowed)})")
    return leading, assigned


def _single(assigned: dict[str, list[str]], key: str) -> str | None:
    """The one value of a word, which is taken out."""
    return runtime_words.require_single(key, assigned.pop(key)) if key in assigned else None
