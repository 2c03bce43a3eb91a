"""Charts of single cells, from the files in their folders: projected features, nearest neighbours, and the curves of
`curve_charts`."""

from __future__ import annotations

import base64
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from results import files
from results.figures import curve_charts
from results.figures.chart import Chart, Series
from results.figures.curve_charts import Best
from results.record import LOOKS_NAME
from results.statistics.comparable import Comparable

MOST_CELLS = 6
_PICTURE = 300_000  # characters of one PNG: six of them leave the page below its size
_PIXELS = 2**22  # of it, which its characters do not tell: a plain picture of a gigapixel has as few
_PNG = b"\x89PNG\r\n\x1a\n"


def build_charts(comparable: Comparable, cells: pd.DataFrame, problems: list[str]) -> list[Chart]:
    """The curves of a `Comparable`, and the looks of its best cells where they have kept some.

    `cells` are its rows of the loaded frame, with `row`, their configuration's. `problems` get a line on each file
    that cannot be used.
    """
    best = _find_best(comparable, cells)
    curves = [
        *curve_charts.build_validation_charts(comparable, cells, best),
        *curve_charts.build_training_charts(comparable, cells, best, problems),
    ]
    return [*curves, *_build_gallery_charts(comparable, best, problems)]


def _find_best(comparable: Comparable, cells: pd.DataFrame) -> list[Best]:
    """One of each method, from the best method."""
    table = comparable.table[comparable.table["mean"].notna()].sort_values("mean", ascending=False, kind="stable")
    best = []
    for row in table.drop_duplicates("method").to_dict("records"):
        finished = cells[(cells["row"] == row["row"]) & (cells["status"] == "finished")]
        best.append(Best(row["method"], row["label"], row["configuration"], finished.sort_values("seed")))
    return best


def _build_gallery_charts(comparable: Comparable, best: list[Best], problems: list[str]) -> Iterator[Chart]:
    """Projections first, then neighbours: figures of one sort are compared side by side."""
    galleries = []
    for configuration in best:
        folders = configuration.cells["folder"]
        readable = ((folder, gallery) for folder in folders if (gallery := _read_gallery(folder, problems)) is not None)
        galleries += [(configuration, *pair) for pair in itertools.islice(readable, 1)]
    for draw in (_projection, _neighbours):
        for configuration, folder, gallery in galleries[:MOST_CELLS]:
            try:
                yield draw(comparable, configuration, gallery)
            except (LookupError, TypeError, ValueError) as error:
                kind = draw.__name__.strip("_")
                problems.append(f"{Path(folder) / LOOKS_NAME}: no {kind} to show: {type(error).__name__}: {error}")


def _read_gallery(folder: str, problems: list[str]) -> dict[str, Any] | None:
    path = Path(folder) / LOOKS_NAME
    try:
        gallery = files.read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        problems.append(f"{path}: {error}")
        return None
    return gallery if isinstance(gallery, dict) else None


def _projection(comparable: Comparable, best: Best, gallery: dict[str, Any]) -> Chart:
    projection = gallery["projection"]
    points = pd.DataFrame({name: list(projection[name]) for name in ("x", "y", "label")})
    points = points.astype({"x": float, "y": float}).dropna()
    words = {"pca": "the first two principal components", "tsne": "t-SNE"}
    kind, classes = str(projection["kind"]), list(gallery.get("classes", ()))
    series: list[Series] = []
    for number, part in points.groupby("label", sort=True):
        name = files.make_printable(_name_class(number, classes))
        series.append(Series(name, tuple(part["x"]), tuple(part["y"]), look="dots", dash=len(series)))
    caption = (
        f"{len(points)} frozen features of {best.configuration}, projected by {words.get(kind, kind)}; a colour a "
    )
    caption += "class. The projection never saw the labels; axes have no unit, and distances between far groups mean "
    caption += "little."
    title = f"Features: {best.label}{comparable.suffix}"
    return Chart("points", f"features-{best.method}{comparable.file}", title, caption, series=tuple(series))


def _name_class(label: Any, classes: list[Any]) -> str:
    has_name = isinstance(label, int | float) and float(label).is_integer() and 0 <= label < len(classes)
    return str(classes[int(label)] if has_name else label)


def _neighbours(comparable: Comparable, best: Best, gallery: dict[str, Any]) -> Chart:
    picture = gallery["neighbours"]
    png, queries = str(picture["png"]), list(picture["queries"])
    nearest = [list(row) for row in picture["neighbours"]]
    _require_small_png(png)
    pairs = [(query, neighbour) for query, row in zip(queries, nearest, strict=False) for neighbour in row]
    if not pairs:
        raise ValueError("no neighbours")
    same_class = sum(query == neighbour for query, neighbour in pairs)
    caption = "A row a test image: itself, then its nearest neighbours among the training images, in the features of "
    caption += f"{best.configuration}. {same_class} of {len(pairs)} neighbours have its class."
    title = f"Nearest neighbours: {best.label}{comparable.suffix}"
    return Chart("picture", f"neighbours-{best.method}{comparable.file}", title, caption, png=png)


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
