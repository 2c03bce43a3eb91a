"""Curves of single cells over their training, from their logs: the loss, and the accuracy on the validation split."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from results import files, record
from results.figures.chart import Chart, Look, Series
from results.quantity import quantify
from results.statistics.comparable import Comparable

MOST_LINES = 36
ACCURACY = record.VALIDATION
_POINTS = 200
_LOST = 4  # lines of cells that did not finish, which are there to be looked at
_AXES = (
    ("epochs", "epoch", "epochs"),
    ("views", "views", "image views in training"),
    ("hours", "hours", "hours of training, summed over processes"),
)


class Best(NamedTuple):
    """The best configuration of a method, and its finished cells by seed."""

    method: str
    label: str  # of the configuration, in a figure
    configuration: str
    cells: pd.DataFrame


class _Curve(NamedTuple):
    """The runs of a method's best configuration, or one that did not finish."""

    name: str
    method: str
    runs: list[pd.DataFrame]
    dash: int = 0
    lost: bool = False


Read = Callable[[Mapping[Hashable, Any]], pd.DataFrame]  # a cell's curve, empty where it has none


def build_training_charts(
    comparable: Comparable, cells: pd.DataFrame, best: list[Best], problems: list[str]
) -> list[Chart]:
    """The loss over epochs. `problems` get a line on each log that cannot be read."""
    curves, left_out = _read_curves(comparable, cells, best, lambda cell: read_loss_curve(cell["folder"], problems))
    series = _draw(curves, "epoch", "loss", by="step")
    if not series:
        return []
    caption = "Loss of each method's configuration of the highest mean: a thin line a seed, a thick one their mean."
    y_label = "training loss"
    several, lost = len({curve.method for curve in curves}) > 1, any(curve.lost for curve in curves)
    if several:
        series, y_label = _scale_to_own_ranges(series), "training loss, from its lowest to its highest"
        caption += " Losses of different methods are not comparable, so each has its own range, 0 to 1: the shape "
        caption += "tells, not the height."
    caption += _explain_lines(comparable, left_out, lost)
    caption += " Where such a run leaves its method's range, it follows the edge." * (lost and several)
    caption += comparable.usual
    title = f"Training{comparable.suffix}"
    return [Chart("lines", f"training{comparable.file}", title, caption, "epoch", y_label, tuple(series))]


def build_validation_charts(comparable: Comparable, cells: pd.DataFrame, best: list[Best]) -> list[Chart]:
    """The accuracy on the validation split, where it was measured while cells trained: over epochs, views and hours."""
    curves, left_out = _read_curves(comparable, cells, best, read_accuracy_curve)
    if not curves:
        return []
    caption = "kNN accuracy (k = 20) on the validation split while each method's configuration of the highest mean "
    caption += "trained: a thin line a seed, a thick one their mean. The neighbours are among at most 10,000 training "
    caption += "images."
    caption += _explain_lines(comparable, left_out, any(curve.lost for curve in curves)) + comparable.usual
    devices = sorted({str(device) for device in cells["cost.device"].dropna()})
    charts = []
    for word, column, label in _AXES:
        text = caption
        if word == "hours" and len(devices) > 1:
            text += f" Devices differ, so hours do not compare: {'; '.join(devices)}."
        series = tuple(_draw(curves, column, "accuracy", by="epoch"))
        name, title = f"validation_{word}{comparable.file}", f"Accuracy while training{comparable.suffix}"
        chart = Chart("lines", name, title, text, label, "validation kNN-20 (%)", series)
        charts.append(replace(chart, choice=word))
    return [replace(charts[0], others=tuple(charts[1:]))]


def _explain_lines(comparable: Comparable, left_out: bool, lost: bool) -> str:
    text = " Only the methods of the highest accuracy are here." * left_out
    if comparable.table["group"].any():
        return text + " A colour is a family of methods." + " Runs that did not finish are named as such." * lost
    return text + " Dashed lines are runs that did not finish." * lost


def _read_curves(
    comparable: Comparable, cells: pd.DataFrame, best: list[Best], read: Read
) -> tuple[list[_Curve], bool]:
    """From the best method, while there is room, and whether there was not for all; then some that did not finish."""
    curves, lines, left_out = list[_Curve](), 0, False
    groups = dict(zip(comparable.table["method"], comparable.table["group"], strict=True))
    dashes: Counter[str] = Counter()
    for method, label, _, finished in best:
        runs = [run for cell in finished.to_dict("records") if len(run := read(cell))]
        if not runs:
            continue
        if lines + len(runs) >= MOST_LINES:
            left_out = True
            break
        dash = dashes[groups[method]] if groups[method] else 0  # the colour is the family's
        dashes[groups[method]] += 1
        lines += len(runs) + (len(runs) > 1)
        curves.append(_Curve(label, method, runs, dash))
    labels = dict(zip(comparable.table["row"], comparable.table["label"], strict=True))
    for cell in cells[cells["status"] != "finished"].drop_duplicates("row").head(_LOST).to_dict("records"):
        if len(run := read(cell)):
            curves.append(_Curve(f"{labels[cell['row']]}, {cell['status']}", cell["method"], [run], lost=True))
    return curves, left_out


def _draw(curves: Sequence[_Curve], x: str, y: str, by: str) -> list[Series]:
    """A line a run; of several the mean too, at those values of `by` that most of them have."""
    series = list[Series]()
    for name, method, runs, dash, lost in curves:
        look: Look = "level" if lost else "line"
        if len(runs) > 1:
            series += [Series(name, tuple(run[x]), tuple(run[y]), method, "thin") for run in runs]
            together = pd.concat(runs)
            groups = together.groupby(together[by].rename("by"))
            runs = [groups[[x, y]].mean()[groups.size() == groups.size().max()]]
        series.append(Series(name, tuple(runs[0][x]), tuple(runs[0][y]), method, look, dash=dash))
    return series


def _scale_to_own_ranges(series: list[Series]) -> list[Series]:
    """Each method's curves between 0 and 1, its lowest and highest loss; a lost run's count if it has no others."""
    scaled = []
    for curve in series:
        siblings = [other for other in series if other.method == curve.method]
        reference = [other for other in siblings if other.look != "level"] or siblings
        low, high = min(min(other.y) for other in reference), max(max(other.y) for other in reference)
        y = tuple(min(max((loss - low) / (high - low or 1.0), 0.0), 1.0) for loss in curve.y)
        scaled.append(replace(curve, y=y, texts=tuple(f"loss {loss:.4g}" for loss in curve.y)))
    return scaled


def read_loss_curve(folder: str, problems: list[str]) -> pd.DataFrame:
    """`step`, `epoch` as a fraction where the log allows it, and `loss` of a cell's log, thinned to 200 lines or less.

    Empty where there is no log. A line that a kill has cut, and a loss that is no finite number, are left out; any
    other line that cannot be read is one of `problems`.
    """
    path, lines = Path(folder) / "log.jsonl", list[tuple[int, float, float]]()
    try:
        texts = files.read_text(path, errors="replace").splitlines()
    except OSError as error:
        problems += [] if isinstance(error, FileNotFoundError) else [str(error)]
        return pd.DataFrame(columns=["step", "epoch", "loss"])
    broken = list[int]()
    for number, text in enumerate(texts, 1):
        try:
            entry = json.loads(text)
            if ACCURACY in entry:
                continue
            line = int(entry["step"]), float(entry["epoch"]), float(entry["loss"])
            if max(map(abs, line[:2])) > files.LARGEST:
                raise ValueError
            lines.append(line)
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            broken += [number] if number < len(texts) else []
    if broken:
        problems.append(f"{path}: {quantify(len(broken), 'line')} that cannot be read, first line {broken[0]}")
    usable = [line for line in lines if abs(line[2]) <= files.LARGEST]  # which NaN is not
    table = pd.DataFrame(usable, columns=["step", "epoch", "loss"])
    if len(table) > 1 and table["epoch"].iloc[-1] >= 1 and table["step"].iloc[-1] > 0:
        # The log counts whole epochs; steps divide them evenly.
        last = table.iloc[-1]
        table["epoch"] = table["step"] * (last["epoch"] / last["step"])
    return table.iloc[:: max(1, math.ceil(len(table) / _POINTS))]


def read_accuracy_curve(cell: Mapping[Hashable, Any]) -> pd.DataFrame:
    """`epoch`, `views`, `hours` of all processes and `accuracy` in percent of a cell's log, whose loss curve tells of
    what cannot be read in it. Empty where it was not measured twice."""
    lines = list(_read_evaluations(cell))
    return pd.DataFrame(lines if len(lines) > 1 else [], columns=["epoch", "views", "hours", "accuracy"])


def _read_evaluations(cell: Mapping[Hashable, Any]) -> Iterator[tuple[float, float, float, float]]:
    processes = cell["cost.processes"] if pd.notna(cell["cost.processes"]) else 1
    try:
        texts = files.read_text(Path(cell["folder"]) / "log.jsonl", errors="replace").splitlines()
    except OSError:
        return
    for text in texts:
        if ACCURACY not in text:
            continue
        try:
            entry = json.loads(text)
            seconds, accuracy = float(entry["seconds"]), float(entry[ACCURACY])
            line = float(entry["epoch"]), float(entry["views"]), seconds * processes / 3600, 100 * accuracy
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            continue
        if all(abs(value) <= files.LARGEST for value in line):  # which NaN is not
            yield line
