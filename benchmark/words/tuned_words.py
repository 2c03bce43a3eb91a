"""`settings=tuned`, `settings=FILE`: settings from a file, over the preset and below the command's own words.

    # moco: trial 12 of 16
    # moco: tuned with dataset=digits dataset.limit=0 epochs=10 backbone=resnet18 batch_size=64
    moco.learning_rate=0.0731
    moco.momentum=0.95

`tune` writes such a file for each dataset, `OUT/tuned/DATASET.txt`, which `settings=tuned` reads. Others may be written
by hand: only what a cell is stands there, and what names a method that is not asked for is left alone. What a method
was `tuned with` is compared with the cells that take its settings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import methods
from benchmark.data import identity
from benchmark.data.catalogue import Dataset
from benchmark.errors import UsageError, nearest
from benchmark.settings import schema
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.settings.values import parse_value
from benchmark.words import clusters, runtime_words

FOLDER, TUNED = "tuned", "tuned"  # below out=; the value of settings= that means the files there


def locate(out: str, dataset: Dataset) -> Path:
    """The file of a dataset below `out`; image files are told apart by their fingerprint."""
    return Path(out) / FOLDER / f"{_name(dataset)}.txt"


def _name(dataset: Dataset) -> str:
    fingerprint = identity.identify(dataset).fingerprint
    return f"{dataset.name}{'-' * bool(fingerprint)}{fingerprint[:10]}"


def read_words(runtime: Runtime, dataset: Dataset) -> dict[str, str]:
    """Word -> value of the file that `settings=` names for a cell on `dataset`; nothing without the word.

    `UsageError` for a file that is not there, or that says what it cannot.
    """
    return _read(_find(runtime, dataset)) if runtime.settings else {}


def _find(runtime: Runtime, dataset: Dataset) -> Path:
    if runtime.settings != TUNED:
        path = Path(runtime.settings)
        if not path.is_file():
            hint = nearest(runtime.settings, [TUNED])
            raise UsageError(f"settings={runtime.settings}: no such file of settings{hint}")
        return path
    path = locate(runtime.out, dataset)
    if not path.is_file():
        raise UsageError(f"settings=tuned: no {path}; `python -m benchmark tune` with out={runtime.out} writes it")
    return path


def warn(cell: Settings, runtime: Runtime) -> list[str]:
    """That the file says nothing of a method that trains: it runs by its preset, beside others that were tuned."""
    method = cell.method
    if not runtime.settings or not schema.describe(method).trains:
        return []
    owners = {key.rpartition(".")[0] for key in read_words(runtime, cell.dataset)}
    if owners & {"", method, method.rpartition(".")[2]}:
        return []
    return [f"{method}: settings={runtime.settings} says nothing of it, so it runs by its preset"]


def describe_setting(cell: Settings, searched: Iterable[str] = ()) -> str:
    """What a method is tuned with, as words: that of which other values may want other settings, but for what is
    `searched` itself."""
    return " ".join(f"{name}={text}" for name, text in _describe_conditions(cell).items() if name not in searched)


def compare(cells: Sequence[Settings], runtime: Runtime) -> list[str]:
    """One note on the cells that are not of the data or the length that their settings were tuned with."""
    if not runtime.settings:
        return []
    settings = {path: _read_settings(path) for path in {_find(runtime, cell.dataset) for cell in cells}}
    others: dict[str, dict[str, dict[str, None]]] = {}
    for cell in cells:
        conditions = _describe_conditions(cell)
        for name, text in settings[_find(runtime, cell.dataset)].get(cell.method, {}).items():
            if conditions.get(name, text) != text:
                others.setdefault(cell.method, {}).setdefault(f"{name}={text}", {})[conditions[name]] = None
    methods: dict[str, list[str]] = {}
    for method, differences in others.items():
        listed = ", ".join(f"{word} (here {', '.join(texts)})" for word, texts in differences.items())
        methods.setdefault(listed, []).append(method)
    parts = [f"{', '.join(names)} with {listed}" for listed, names in methods.items()]
    return [f"settings={runtime.settings} was tuned elsewhere, and may not fit: {'; '.join(parts)}"] if parts else []


def _describe_conditions(cell: Settings) -> dict[str, str]:
    if not schema.describe(cell.method).trains:
        return {}
    values = {"dataset": _name(cell.dataset), "dataset.limit": cell.dataset.limit, "epochs": cell.epochs}
    values |= {"backbone": cell.backbone, "batch_size": cell.batch_size}
    return {name: str(value) for name, value in values.items()}


def _read_settings(path: Path) -> dict[str, dict[str, str]]:
    """Method -> what the file says that it was tuned with, in a comment; nothing of those of which it does not."""
    lines = re.findall(r"^# (\S+): tuned with (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        method: dict(word.partition("=")[::2] for word in text.split()) for method, text in lines if text.isprintable()
    }


def _read(path: Path) -> dict[str, str]:
    lines = clusters.read_lines(path)
    try:
        texts: dict[str, str] = {}
        for key, values in runtime_words.split(lines).items():
            texts[key] = runtime_words.require_single(key, values)
            _check(key, texts[key])
    except UsageError as error:
        raise UsageError(f"settings={path}: {error}") from error
    return texts


def _is_plugin(method: str) -> bool:
    """Whether it may be a plugin's name: a module path, or a file's that is no slip of one of ours."""
    names = methods.names()
    slip = difflib.get_close_matches(method, names, cutoff=0.8)
    return "." in method or (method.isidentifier() and method not in names and not slip)


def _check(key: str, text: str) -> None:
    """Raise `UsageError` for what is no setting of a cell, and no option of a method of ours."""
    types = {name: kind for name, kind in schema.list_types().items() if "." not in name}
    method, _, name = key.rpartition(".")
    types |= schema.list_options(method) if method in methods.names() else {}
    if _is_plugin(method):  # which need not be here
        return
    if method in methods.names() and name not in types:
        raise UsageError(f"{method} has no {name}{nearest(name, types)}")
    if name not in types or (method and method not in methods.names()) or name in ("method", "seed"):
        raise UsageError(f"{key}= cannot stand there, only METHOD.OPTION=VALUE, a line each")
    parse_value(text, types[name], key)
