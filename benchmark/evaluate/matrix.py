"""The evaluations beyond the headline, each with the protocol by which its numbers are told from others'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import methods
from benchmark.backbones import tokens
from benchmark.data import catalogue, identity
from benchmark.data.catalogue import Dataset
from benchmark.evaluate import few_labels, finetune, gallery, headline, knn_grid, outputs, sgd_probe, transfer
from benchmark.evaluate.frozen_cell import FrozenCell
from benchmark.settings import schema
from benchmark.settings.address import digest
from benchmark.settings.cell import Settings
from benchmark.training import build

VERSION = 1  # raised when a change to these evaluators alters their numbers
TRANSFER = "transfer_"  # before the name of a dataset

Numbers = Iterator[tuple[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """One that is asked for, as it stands in `evaluation.json`."""

    name: str
    settings: dict[str, Any]
    numbers: Callable[[FrozenCell, Path], Numbers]  # of a cell and its folder
    explain: Callable[[FrozenCell], list[str]] = lambda _: []  # what is to be known of them

    @property
    def protocol(self) -> str:
        """Of the evaluation alone; data, split and view size are in the protocol of the cell's record."""
        versions = {"version": VERSION, "shared": headline.VERSION}  # probe and neighbours are those of the record
        return digest(versions | {"evaluation": self.name} | self.settings)


def choose_evaluations(names: Sequence[str], targets: Sequence[Dataset]) -> list[Evaluation]:
    """Those of `names`, in their order; for `transfer` one for each dataset of `targets`."""
    by_name = {
        "knn": Evaluation("knn", knn_grid.state_protocol(), lambda frozen, _: knn_grid.evaluate(frozen)),
        "sgd_probe": Evaluation("sgd_probe", sgd_probe.state_protocol(), lambda frozen, _: sgd_probe.evaluate(frozen)),
        "few_labels": Evaluation(
            "few_labels", few_labels.state_protocol(), lambda frozen, _: few_labels.evaluate(frozen), few_labels.explain
        ),
        "finetune": Evaluation(
            "finetune", finetune.state_protocol(), lambda frozen, _: finetune.evaluate(frozen), few_labels.explain
        ),
        "heads": Evaluation("heads", outputs.HEAD_SETTINGS, lambda frozen, _: outputs.evaluate_head(frozen)),
        "teacher": Evaluation("teacher", outputs.TEACHER_SETTINGS, lambda frozen, _: outputs.evaluate_teacher(frozen)),
        "tokens": Evaluation("tokens", outputs.TOKEN_SETTINGS, lambda frozen, _: outputs.evaluate_tokens(frozen)),
        "looks": Evaluation("looks", gallery.state_protocol(), gallery.evaluate),
    }
    evaluations = []
    for name in names:
        evaluations += [_transfer(to) for to in targets] if name == "transfer" else [by_name[name]]
    return evaluations


def find_obstacle(name: str, cell: Settings) -> str:
    """Why the evaluation of this name, `transfer_cifar10` say, says nothing of the cell; empty where it does."""
    dataset = cell.dataset
    if name == _name_transfer(dataset) and not catalogue.entry(dataset.name).is_named_by_root:
        return f"transfer={dataset.name}: the cell is of {dataset.name} itself, and its record has these numbers"
    if not identity.has_labels(dataset) and name != "looks" and not name.startswith(TRANSFER):
        return f"evaluations={name}: the cell's images have no labels; looks and transfer do without"
    if name == "heads" and (method := build.method_on_meta(cell)) is not None and not hasattr(method, "head"):
        return f"evaluations=heads: {cell.method} has no projection head"
    if name == "teacher" and not schema.describe(cell.method).momentum_encoder:
        having = ", ".join(
            other for other in methods.names() if methods.is_own(other) and methods.describe(other).momentum_encoder
        )
        return f"evaluations=teacher: {cell.method} has no momentum copy of its encoder; these have one: {having}"
    if name == "tokens" and not tokens.list_kinds(build.encoder_on_meta(cell)):
        return (
            f"evaluations=tokens: {cell.backbone or cell.method} has no tokens; a vision transformer of timm has, as "
            "backbone=vit_tiny_patch16_224"
        )
    return ""


def _transfer(to: Dataset) -> Evaluation:
    def numbers(frozen: FrozenCell, folder: Path) -> Numbers:
        return transfer.evaluate(frozen, build.load_dataset(to))

    return Evaluation(_name_transfer(to), transfer.state_protocol(to), numbers)


def write_word(name: str) -> str:
    """The word that asks for the evaluation of this name: `evaluations=knn`, `transfer=cifar10`."""
    return f"transfer={name.removeprefix(TRANSFER)}" if name.startswith(TRANSFER) else f"evaluations={name}"


def _name_transfer(to: Dataset) -> str:
    return TRANSFER + to.name
