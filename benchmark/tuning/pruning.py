"""Which trials end early: those whose best accuracy is below the median of the trials before, at the same epoch.

The rule is that of Optuna's MedianPruner (Golovin et al., Google Vizier, KDD 2017, section 3.2, has it with running
means in place of values). What a trial must reach is settled when it is asked for, and goes with its cell: so the cell
decides alone, wherever it runs, and decides the same when it is taken up again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from benchmark.words.tune_words import STARTUP, first_pruning
from results import files, record

THRESHOLDS = "prune_below"  # a trial's attribute in the journal


def compute_thresholds(epochs: int, before: Sequence[FrozenTrial]) -> str:
    """What the trial behind those `before` must reach, as `Settings.prune_below` has it: medians in percent, rounded
    down to hundredths, so that a trial at the median stays.

    Only trials that finished, collapsed or were stopped count; until there are `STARTUP` of them nothing has to be
    reached. The first epoch of all is always named: there every trial is measured, however seldom it is otherwise.
    """
    first = first_pruning(epochs)
    medians = {first: 0.0}
    complete = [trial.intermediate_values for trial in before if trial.state == TrialState.COMPLETE]
    if len(complete) >= STARTUP:
        for epoch in sorted({epoch for curve in complete for epoch in curve if first <= epoch < epochs}):
            medians[epoch] = float(np.median([curve[epoch] for curve in complete if epoch in curve]))
    return ",".join(f"{math.floor(1e4 * median) / 100:g}@{epoch}" for epoch, median in medians.items())


def tell_curve(storage: BaseStorage, study: str, number: int, folder: Path) -> None:
    """Tell the journal the accuracies on validation images, epoch by epoch, that a trial's cell has logged."""
    trial = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study), number)
    for epoch, accuracy in _read_curve(folder).items():
        storage.set_trial_intermediate_value(trial, epoch, accuracy)


def _read_curve(folder: Path) -> Mapping[int, float]:
    lines = [(line.get("epoch"), line.get(record.VALIDATION)) for line in files.read_lines(folder / "log.jsonl")]
    return {e: a for e, a in lines if isinstance(e, int) and isinstance(a, float) and math.isfinite(a)}
