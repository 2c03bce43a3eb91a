"""Charts of single cells, from the files in their folders: training curves, projected features, nearest neighbours."""

from __future__ import annotations

import base64
import itertools
import json
import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from results import files
from results.figures.chart import Chart, Series
from results.record import LOOKS_NAME
from results.statistics.comparable import Comparable

MOST_CELLS = 6
MOST_LINES = 36
_POINTS = 200
_LOST = 4  # lines of failed or collapsed cells, which are there to be looked at
_PICTURE = 300_000  # characters of one PNG: six of them leave the page below its size
_PIXELS = 2**22  # of it, which its characters do not tell: a plain picture of a gigapixel has as few
_PNG = b"\x89PNG\r\n\x1a\n"


def charts(among: Comparable, cells: pd.DataFrame, problems: list[str]) -> list[Chart]:
    """The training curves of a `Comparable`, and the looks of its best cells where they have kept some.

    `cells` are its rows of the loaded frame, with `row`, their configuration's. `problems` get a line on each file
    that cannot be used.
    """
    best = _best(among, cells)
    return [*_training(among, cells, best, problems), *_looks(among, best, problems)]


class _Best(NamedTuple):
    """The best configuration of a method, and its finished cells by seed."""

    method: str
    label: str  # of the configuration, in a figure
    configuration: str
    cells: pd.DataFrame


def _best(among: Comparable, cells: pd.DataFrame) -> list[_Best]:
    """One of each method, from the best method."""
    table = among.table[among.table["mean"].notna()].sort_values("mean", ascending=False, kind="stable")
    best = []
    for row in table.drop_duplicates("method").to_dict("records"):
        own = cells[(cells["row"] == row["row"]) & (cells["status"] == "finished")]
        best.append(_Best(row["method"], row["label"], row["configuration"], own.sort_values("seed")))
    return best


def _training(among: Comparable, cells: pd.DataFrame, best: list[_Best], problems: list[str]) -> list[Chart]:
    finished, left_out = _finished_curves(among, best, problems)
    series = [*finished, *_lost_curves(among, cells, problems)]
    if not series:
        return []
    caption = "Loss of each method's best configuration: a thin line a seed, a thick one their mean."
    height = "training loss"
    several, lost = len({curve.method for curve in series}) > 1, len(series) > len(finished)
    if several:
        series, height = _scale_to_own_ranges(series), "training loss, from its lowest to its highest"
        caption += " Losses of different methods are not comparable, so each has its own range, 0 to 1: the shape "
        caption += "tells, not the height."
    caption += " Only the methods of the highest accuracy are here." * left_out
    if among.table["group"].any():
        caption += " A colour is a family of methods." + " Runs that failed or collapsed are named as such." * lost
    elif lost:
        caption += " Dashed lines are runs that failed or collapsed."
    caption += " Where such a run leaves its method's range, it follows the edge." * (lost and several)
    caption += among.usual
    title = f"Training{among.suffix}"
    return [Chart("lines", f"training{among.file}", title, caption, "epoch", height, tuple(series))]


def _finished_curves(among: Comparable, best: list[_Best], problems: list[str]) -> tuple[list[Series], bool]:
    """From the best method, while there is room, and whether there was not for all."""
    series: list[Series] = []
    groups = dict(zip(among.table["method"], among.table["group"], strict=True))
    dashes: Counter[str] = Counter()
    for method, label, _, own in best:
        runs = [run for folder in own["folder"] if len(run := loss_curve(folder, problems))]
        if not runs:
            continue
        if len(series) + len(runs) >= MOST_LINES:
            return series, True
        dash = dashes[groups[method]] if groups[method] else 0  # the colour is the family's
        dashes[groups[method]] += 1
        if len(runs) == 1:
            series.append(Series(label, tuple(runs[0]["epoch"]), tuple(runs[0]["loss"]), method, dash=dash))
            continue
        series += [Series(label, tuple(run["epoch"]), tuple(run["loss"]), method, "thin") for run in runs]
        mean = pd.concat(runs).groupby("step")[["epoch", "loss"]].mean()
        series.append(Series(label, tuple(mean["epoch"]), tuple(mean["loss"]), method, dash=dash))
    return series, False


def _lost_curves(among: Comparable, cells: pd.DataFrame, problems: list[str]) -> Iterator[Series]:
    labels = dict(zip(among.table["row"], among.table["label"], strict=True))
    for row in cells[cells["status"] != "finished"].drop_duplicates("row").head(_LOST).to_dict("records"):
        run = loss_curve(row["folder"], problems)
        if len(run):
            name = f"{labels[row['row']]}, {row['status']}"
            yield Series(name, tuple(run["epoch"]), tuple(run["loss"]), row["method"], "level")


def _scale_to_own_ranges(series: list[Series]) -> list[Series]:
    """Each method's curves between 0 and 1, its lowest and highest loss; a lost run's count if it has no others."""
    scaled = []
    for curve in series:
        own = [each for each in series if each.method == curve.method]
        counted = [each for each in own if each.look != "level"] or own
        low, high = min(min(each.y) for each in counted), max(max(each.y) for each in counted)
        y = tuple(min(max((loss - low) / (high - low or 1.0), 0.0), 1.0) for loss in curve.y)
        scaled.append(replace(curve, y=y, texts=tuple(f"loss {loss:.4g}" for loss in curve.y)))
    return scaled


def loss_curve(folder: str, problems: list[str]) -> pd.DataFrame:
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
            line = int(entry["step"]), float(entry["epoch"]), float(entry["loss"])
            if max(map(abs, line[:2])) > files.LARGEST:
                raise ValueError
            lines.append(line)
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            broken += [number] if number < len(texts) else []
    if broken:
        problems.append(f"{path}: {len(broken)} lines cannot be read, first line {broken[0]}")
    usable = [line for line in lines if abs(line[2]) <= files.LARGEST]  # which NaN is not
    table = pd.DataFrame(usable, columns=["step", "epoch", "loss"])
    if len(table) > 1 and table["epoch"].iloc[-1] >= 1 and table["step"].iloc[-1] > 0:
        # The log counts whole epochs; steps divide them evenly.
        last = table.iloc[-1]
        table["epoch"] = table["step"] * (last["epoch"] / last["step"])
    return table.iloc[:: max(1, math.ceil(len(table) / _POINTS))]


def _looks(among: Comparable, best: list[_Best], problems: list[str]) -> Iterator[Chart]:
    """Projections first, then neighbours: figures of one sort are compared side by side."""
    galleries = []
    for configuration in best:
        folders = configuration.cells["folder"]
        known = ((folder, gallery) for folder in folders if (gallery := _read(folder, problems)) is not None)
        galleries += [(configuration, *pair) for pair in itertools.islice(known, 1)]
    for draw in (_projection, _neighbours):
        for configuration, folder, gallery in galleries[:MOST_CELLS]:
            try:
                yield draw(among, configuration, gallery)
            except (LookupError, TypeError, ValueError) as error:
                what = draw.__name__.strip("_")
                problems.append(f"{Path(folder) / LOOKS_NAME}: no {what} to show: {type(error).__name__}: {error}")


def _read(folder: str, problems: list[str]) -> dict[str, Any] | None:
    path = Path(folder) / LOOKS_NAME
    try:
        gallery = files.read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
        return None
    return gallery if isinstance(gallery, dict) else None


def _projection(among: Comparable, best: _Best, gallery: dict[str, Any]) -> Chart:
    projection = gallery["projection"]
    points = pd.DataFrame({name: list(projection[name]) for name in ("x", "y", "label")})
    points = points.astype({"x": float, "y": float}).dropna()
    words = {"pca": "the first two principal components", "tsne": "t-SNE"}
    kind, classes = str(projection["kind"]), list(gallery.get("classes", ()))
    series: list[Series] = []
    for number, part in points.groupby("label", sort=True):
        name = files.printable(_class(number, classes))
        series.append(Series(name, tuple(part["x"]), tuple(part["y"]), look="dots", dash=len(series)))
    caption = (
        f"{len(points)} frozen features of {best.configuration}, projected by {words.get(kind, kind)}; a colour a "
    )
    caption += "class. The projection never saw the labels; axes have no unit, and distances between far groups mean "
    caption += "little."
    title = f"Features: {best.label}{among.suffix}"
    return Chart("points", f"features-{best.method}{among.file}", title, caption, series=tuple(series))


def _class(label: Any, classes: list[Any]) -> str:
    known = isinstance(label, int | float) and float(label).is_integer() and 0 <= label < len(classes)
    return str(classes[int(label)] if known else label)


def _neighbours(among: Comparable, best: _Best, gallery: dict[str, Any]) -> Chart:
    picture = gallery["neighbours"]
    png, queries = str(picture["png"]), list(picture["queries"])
    nearest = [list(row) for row in picture["neighbours"]]
    _require_small_png(png)
    pairs = [(query, near) for query, row in zip(queries, nearest, strict=False) for near in row]
    if not pairs:
        raise ValueError("no neighbours")
    same = sum(query == near for query, near in pairs)
    caption = "A row a test image: itself, then its nearest neighbours among the training images, in the features of "
    caption += f"{best.configuration}. {same} of {len(pairs)} neighbours have its class."
    title = f"Nearest neighbours: {best.label}{among.suffix}"
    return Chart("picture", f"neighbours-{best.method}{among.file}", title, caption, png=png)


def _require_small_png(png: str) -> None:
    """ValueError for what is no PNG in base64, or one that a browser would take gigabytes to show."""
    if len(png) > _PICTURE:
        raise ValueError(f"a picture of {len(png)} characters, more than {_PICTURE}")
    content = base64.b64decode(png, validate=True)
    if not content.startswith(_PNG) or content[12:16] != b"IHDR":
        raise ValueError("the picture is no PNG")
    width, height = struct.unpack(">II", content[16:24].ljust(8, b"\xff"))
    if width * height > _PIXELS:
        raise ValueError(f"a picture of {width} x {height} pixels, more than {_PIXELS} in all")
