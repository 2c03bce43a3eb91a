"""A cell's address: what decides its numbers, hashed, and the folder that is named by it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import methods
from benchmark.data.catalogue import Dataset, entry
from benchmark.data.identity import UNLABELLED
from benchmark.settings.cell import YOUNGER, Settings
from benchmark.settings.schema import describe

# Raised when a change to the code alters the numbers that the same settings give; old records then stay, as others.
RESULTS_VERSION = 1

MACHINE = (
    "root",
    "unlabelled",
    "download",
    "cache",
    "cache_dir",
)  # of a dataset: where its files lie changes no number


def identify(settings: Settings) -> dict[str, Any]:
    """All settings that can change the cell's numbers, as plain data: what is hashed, and what a record holds."""
    values = asdict(settings)
    for name in MACHINE:
        del values["dataset"][name]
    if methods.is_own(settings.method):  # of a plugin the source is in the key
        described = describe(settings.method)
        for name in described.younger:
            if values["options"].get(name) == getattr(described.Config(), name):
                del values["options"][name]
    if not settings.dataset.fingerprint:
        del values["dataset"]["fingerprint"]
        if entry(settings.dataset.name).image_files:  # of a cell made before images had one: named by their path
            values["dataset"]["root"] = settings.dataset.root
    if not settings.dataset.stream:  # younger than the first records, which have no such setting
        del values["dataset"]["stream"]
    for name in YOUNGER:
        if values[name] in (None, getattr(Settings, name)):
            del values[name]
    if settings.processes == 1:
        del values["processes"]
    del values["prune_below"]  # it ends a trial, and changes no number until then
    if not settings.trial:
        del values["trial"]
    if not settings.method_version:
        del values["method_version"]
    if not settings.weights:  # the same
        del values["weights"]
    else:  # the bytes name a file, not its path
        values["weights"] = settings.weights.rpartition("@")[2]
    return values


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same plain data in one level, under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def hash_cell(settings: Settings) -> str:
    """The cell's address: a hash of its identity."""
    return digest({"version": RESULTS_VERSION} | identify(settings))


def digest(values: dict[str, Any]) -> str:
    """Ten hexadecimal digits that plain data always gives, in any order of its names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def name_data(dataset: Dataset) -> str:
    """Which images are evaluated, wherever they lie: what decides whether two numbers may be compared."""
    if not entry(dataset.name).image_files:
        return dataset.name
    labelled = dataset.fingerprint.partition(UNLABELLED)[0]
    return f"{dataset.name}:{labelled or dataset.fingerprint or dataset.root}"


def name_folder(settings: Settings) -> str:
    """The cell's folder below `out`, named to be read by people."""
    trial = f"-trial{settings.trial.rpartition('/')[2]}" if settings.trial else ""
    return f"{settings.method}-{settings.dataset.name}{trial}-{hash_cell(settings)}"
