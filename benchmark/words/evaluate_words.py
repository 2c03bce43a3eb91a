"""The words of `evaluate`: which cells, which evaluations, and which datasets the encoders are carried over to."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

import methods
from benchmark.data import catalogue, identity
from benchmark.data.catalogue import Dataset
from benchmark.errors import UsageError, unknown
from benchmark.settings import schema
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.settings.values import parse_value
from benchmark.words import cell_words, runtime_words

EVALUATIONS = {
    "knn": "nearest neighbours by metric, k and weights",
    "sgd_probe": "linear classifier by SGD on augmented views, the papers' protocol",
    "few_labels": "linear probe with 1 % and 10 % of the labels, one of each class at least",
    "finetune": "the whole encoder fine-tuned with these labels",
    "heads": "the projection head's output beside the encoder's",
    "teacher": "the encoder's momentum copy in its place, where the method has one (named only)",
    "tokens": "other tokens of a vision transformer, and its last four blocks (named only)",
    "transfer": "linear probe and neighbours on other datasets",
    "looks": "a t-SNE of test images and their neighbours as images, for `looks.json`",
}
_NAMED = ("teacher", "tokens", "transfer")  # done where they are asked for by name
_FOLDER = ("cells", "evaluations", "transfer")
_FILES = ("dataset.root", "dataset.download")  # where datasets lie on this machine


@dataclass(frozen=True)
class Request:
    """What the words ask for."""

    runtime: Runtime
    evaluations: list[str]  # names of `EVALUATIONS`, transfer among them where there are datasets for it
    named: list[str]  # those of them that the words name
    transfer: list[Dataset]
    cells: list[Settings] | None  # those that the words name, to be run first if need be; None: those of the folder
    names: list[str]  # of cells of the folder; none: all that are finished
    files: dict[str, str]  # of `_FILES`, as given
    notes: list[str]


def read(words: list[str]) -> Request:
    """Raises `UsageError` for any word that cannot be meant."""
    identity.forget_surveys()
    assigned = runtime_words.split(words)
    evaluations, datasets = list(dict.fromkeys(assigned.get("evaluations", []))), assigned.get("transfer", [])
    for name in evaluations:
        if name not in EVALUATIONS:
            raise unknown("evaluation", name, EVALUATIONS)
    if "transfer" in evaluations and not datasets:
        raise UsageError("evaluations=transfer needs transfer=DATASET,DATASET")
    files = {key: runtime_words.require_single(key, assigned[key]) for key in _FILES if key in assigned}
    transfer = [_dataset(name, files) for name in datasets]
    if len({dataset.name for dataset in transfer}) < len(transfer):
        raise UsageError(f"transfer={','.join(datasets)}: one of each kind at a time, for their numbers have its name")
    named = evaluations + (["transfer"] if transfer and "transfer" not in evaluations else [])
    evaluations = named if evaluations else [name for name in EVALUATIONS if name not in _NAMED] + named
    for key in assigned:
        near = difflib.get_close_matches(key, _FOLDER, n=1, cutoff=0.75)
        if key not in _FOLDER and near:
            raise UsageError(f"unknown word {key!r}; did you mean {near[0]!r}? (`python -m benchmark evaluate --help`)")
    other_words = {word: word.partition("=")[0] for word in words if word.partition("=")[0] not in _FOLDER}
    if all(key in _FILES or runtime_words.is_runtime_word(key) for key in other_words.values()):
        runtime = runtime_words.read_folder([word for word, key in other_words.items() if key not in _FILES])
        names = assigned.get("cells", [])
        return Request(_require_in_process(runtime), evaluations, named, transfer, None, names, files, [])
    if "cells" in assigned:
        raise UsageError(
            "cells= chooses of the cells of out=FOLDER; words that name cells themselves do not go with it"
        )
    methods_word = [] if "methods" in assigned else [f"methods={find_pretrained_method()}"]
    request = cell_words.read([*methods_word, *other_words])
    runtime, cells = _require_in_process(request.runtime), request.cells
    return Request(runtime, evaluations, named, transfer, cells, [], {}, request.notes)


def find_pretrained_method() -> str:
    """The method that is what its weights are."""
    return next(name for name in methods.names() if schema.is_pretrained(name))


def locate(cell: Settings, files: dict[str, str]) -> Settings:
    """The cell with its dataset where it lies on this machine; image files are elsewhere only if they are the same."""
    root, image_files = files.get("dataset.root"), catalogue.entry(cell.dataset.name).image_files
    if image_files and not (root and identity.holds(cell.dataset, root)):
        return cell
    return replace(cell, dataset=_place(cell.dataset, files))


def _dataset(name: str, files: dict[str, str]) -> Dataset:
    name, root = catalogue.split_name(name)
    dataset = _place(Dataset(name=name), files)
    item = catalogue.entry(name)
    if item.is_named_by_root and not root and "dataset.root" not in files:
        raise UsageError(f"transfer={name} needs its images: {item.obtain}")
    dataset = replace(dataset, root=root or dataset.root)
    catalogue.require(dataset)
    return identity.identify(dataset)


def _place(dataset: Dataset, files: dict[str, str]) -> Dataset:
    types = schema.list_types()
    for key, text in files.items():
        dataset = replace(dataset, **{key.removeprefix("dataset."): parse_value(text, types[key], key)})
    return dataset


def _require_in_process(runtime: Runtime) -> Runtime:
    if runtime.launcher != "here":
        raise UsageError(f"launcher={runtime.launcher}: evaluate measures one cell after the other, here")
    return runtime
