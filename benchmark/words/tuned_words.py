"""`settings=tuned`, `settings=FILE`: settings from a file, over the preset and below the command's own words.

    # moco: trial 12 of 16
    moco.learning_rate=0.0731
    moco.momentum=0.95

`tune` writes such a file for each dataset, `OUT/tuned/DATASET.txt`, which `settings=tuned` reads. Others may be written
by hand: only what a cell is stands there, and what names a method that is not asked for is left alone.
"""

from __future__ import annotations

import difflib
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


def path_of(out: str, dataset: Dataset) -> Path:
    """The file of a dataset below `out`; image files are told apart by their fingerprint."""
    fingerprint = identity.identify(dataset).fingerprint
    return Path(out) / FOLDER / f"{dataset.name}{'-' * bool(fingerprint)}{fingerprint[:10]}.txt"


def words(runtime: Runtime, dataset: Dataset) -> dict[str, str]:
    """Word -> value of the file that `settings=` names for a cell on `dataset`; nothing without the word.

    `UsageError` for a file that is not there, or that says what it cannot.
    """
    if not runtime.settings:
        return {}
    if runtime.settings != TUNED:
        path = Path(runtime.settings).expanduser()
        if not path.is_file():
            hint = nearest(runtime.settings, [TUNED])
            raise UsageError(f"settings={runtime.settings}: no such file of settings{hint}")
        return _read(path)
    path = path_of(runtime.out, dataset)
    if not path.is_file():
        raise UsageError(f"settings=tuned: no {path}; `python -m benchmark tune` with out={runtime.out} writes it")
    return _read(path)


def warn(cell: Settings, runtime: Runtime) -> list[str]:
    """That the file says nothing of a method that trains: it runs by its preset, beside others that were tuned."""
    method = cell.method
    if not runtime.settings or not schema.describe(method).trains:
        return []
    owners = {key.rpartition(".")[0] for key in words(runtime, cell.dataset)}
    if owners & {"", method, method.rpartition(".")[2]}:
        return []
    return [f"{method}: settings={runtime.settings} says nothing of it, so it runs by its preset"]


def _read(path: Path) -> dict[str, str]:
    lines = clusters.read_lines(path)
    try:
        assigned = runtime_words.split(lines)
        for key, values in assigned.items():
            if len(values) > 1:
                raise UsageError(f"{key}={','.join(values)}: one value is needed")
            _check(key, values[0])
    except UsageError as error:
        raise UsageError(f"settings={path}: {error}") from error
    return {key: values[0] for key, values in assigned.items()}


def _is_plugin(method: str) -> bool:
    """Whether it may be a plugin's name: a module path, or a file's that is no slip of one of ours."""
    ours = methods.names()
    slip = difflib.get_close_matches(method, ours, cutoff=0.8)
    return "." in method or (method.isidentifier() and method not in ours and not slip)


def _check(key: str, text: str) -> None:
    """Raise `UsageError` for what is no setting of a cell, and no option of a method of ours."""
    types = {name: kind for name, kind in schema.declared_types().items() if "." not in name}
    method, _, name = key.rpartition(".")
    types |= schema.options_of(method) if method in methods.names() else {}
    if _is_plugin(method):  # which need not be here
        return
    if method in methods.names() and name not in types:
        raise UsageError(f"{method} has no {name}{nearest(name, types)}")
    if name not in types or (method and method not in methods.names()) or name in ("method", "seed"):
        raise UsageError(f"{key}= cannot stand there, only METHOD.OPTION=VALUE, a line each")
    parse_value(text, types[name], key)
