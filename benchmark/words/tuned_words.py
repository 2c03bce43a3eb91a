"""`settings=tuned`, `settings=FILE`: settings from a file, over the preset and below the command's own words.

    # moco: trial 12 of 16
    moco.learning_rate=0.0731
    moco.momentum=0.95

`tune` writes such a file for each dataset, `OUT/tuned/DATASET.txt`, which `settings=tuned` reads. Others may be written
by hand: only what a cell is stands there, and what names a method that is not asked for is left alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import methods
from benchmark.data import identity
from benchmark.data.catalogue import Dataset
from benchmark.errors import UsageError, nearest
from benchmark.settings import schema
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.words import clusters, runtime_words

FOLDER, TUNED = "tuned", "tuned"  # below out=; the value of settings= that means the files there
UNSET = ("methods", "seeds", "dataset")  # what a file of settings cannot say


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
        return _read(Path(runtime.settings).expanduser())
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
    except UsageError as error:
        raise UsageError(f"settings={path}: {error}") from error
    for key, values in assigned.items():
        if len(values) > 1:
            raise UsageError(f"settings={path}: {key}={','.join(values)}: one value is needed")
        if re.fullmatch(r"x[\d.]+", values[0]):
            raise UsageError(
                f"settings={path}: {key}={values[0]}: a multiple cannot stand there, only what it comes to"
            )
        _recognise(path, key)
    return {key: values[0] for key, values in assigned.items()}


def _recognise(path: Path, key: str) -> None:
    settings = {name for name in schema.declared_types() if "." not in name and name not in schema.PLURAL.values()}
    method, _, name = key.rpartition(".")
    known = settings | (set(schema.options_of(method)) if method in methods.names() else set())
    if (method or key in settings) and (name in known or "." in method) and key not in UNSET:
        return
    what = (
        f"{method} has no {name}{nearest(name, known)}" if method in methods.names() else f"{key}= cannot stand there"
    )
    raise UsageError(f"settings={path}: {what}; METHOD.OPTION=VALUE is what such a file has, a line each")
