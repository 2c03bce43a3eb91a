"""Charts as files of matplotlib, for papers and slides: SVG and PNG. No pyplot, so no window and no state."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from results.figures import palette
from results.figures.chart import MANY, Chart, Series, place_series
from results.figures.palette import GREY, Style, style_class

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "pentagon": "p",
    "star": "*",
    "cross": "P",
    "x": "X",
    "hexagon": "h",
}
_DASHES = ("-", "--", ":", "-.")
_DPI = 150


def render(chart: Chart, styles: Mapping[str, Style]) -> dict[str, bytes]:
    """Ending -> the file's bytes. The caption is not in it: it stands in the report."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if chart.kind == "picture":
        return {"png": base64.b64decode(chart.png)}
    with matplotlib.rc_context():
        figure = draw(chart, styles)
        # Not `savefig`, which draws all of it once more before it draws.
        svg, png = BytesIO(), BytesIO()
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
        # At the usual level, compression is a tenth of all the time, for a few kilobytes.
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None}, pil_kwargs={"compress_level": 2})
        return {"svg": svg.getvalue(), "png": png.getvalue()}


def draw(chart: Chart, styles: Mapping[str, Style]) -> Figure:
    """The chart as a figure. Sets matplotlib's parameters, by which it is to be saved too. A `picture` is none."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Text stays text, so that an editor can change it; the same chart gives the same bytes.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmark", "font.size": 9})
    # A font by its name and without hints is found and drawn sooner, and looks the same at this resolution.
    matplotlib.rcParams.update({"font.family": "DejaVu Sans", "text.hinting": "none"})
    matplotlib.rcParams.update({"axes.spines.top": False, "axes.spines.right": bool(chart.right_range)})
    tall = {"intervals": 1.2 + 0.19 * len(chart.order), "heatmap": 1.3 + 0.42 * len(chart.order), "points": 4.6}
    longest = max(map(len, chart.order), default=0)
    wide = {"intervals": max(6.8, 4.0 + 0.062 * longest), "heatmap": 2.2 + 0.55 * len(chart.order), "points": 5.2}
    size = wide.get(chart.kind, 6.8), tall.get(chart.kind, 4.0)
    rows = _count_legend_rows(chart)
    size = size[0], size[1] + 0.17 * max(0, rows - 2)
    engine = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    figure = Figure(figsize=size, dpi=_DPI, layout=engine)
    axes = figure.add_subplot()
    axes.set_title(_escape(chart.title), loc="left", fontsize=10, y=1.01)  # a y of its own saves finding one
    if chart.kind == "heatmap":
        _draw_heatmap(axes, chart)
    else:
        _draw_axes(axes, chart, styles)
    # The layout is found once for all files: finding it costs as much as drawing.
    engine.execute(figure)
    figure.set_layout_engine("none")
    return figure


def _draw_axes(axes: Axes, chart: Chart, styles: Mapping[str, Style]) -> None:
    axes.set_xlabel(_escape(chart.x_label))
    axes.set_ylabel(_escape(chart.y_label))
    if chart.x_log:
        axes.set_xscale("log")
    if chart.y_range:
        axes.set_ylim(*chart.y_range)
    right = axes.twinx() if chart.right_range else axes
    if chart.right_range:
        right.set_ylim(*chart.right_range)
        right.set_ylabel(_escape(chart.right_label))
    many = sum(len(series.x) for series in chart.series) > MANY
    for series in chart.series:
        _draw(right if series.look == "published" else axes, chart, series, styles, many)
    _set_ticks(axes, chart)
    if chart.kind == "points":
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")
    else:
        axes.grid(alpha=0.25, linewidth=0.6)
        _style_headings(axes, chart)
    pairs = [
        pair for side in dict.fromkeys((axes, right)) for pair in zip(*side.get_legend_handles_labels(), strict=True)
    ]
    unique = {label: handle for handle, label in pairs}
    if len(unique) > 1 and not chart.headings:  # under headings, each row is named already
        _draw_legend(axes, chart, unique)


def _draw_legend(axes: Axes, chart: Chart, handles: Mapping[str, Artist]) -> None:
    """What each line or mark is, below the axes; under the name of its family where methods are grouped."""
    from matplotlib.lines import Line2D

    columns = max(1, min(len(handles), 100 // (max(map(len, handles)) + 7)))
    blocks = _group_legend(chart)
    names = list(handles)
    if blocks:
        packed = _pack(blocks, columns)
        columns, names = len(packed), [name for column in packed for name in column]
    figure = axes.get_figure()
    assert figure is not None
    small = {"handletextpad": 0.3, "columnspacing": 0.8, "handlelength": 1.2 if chart.kind == "points" else 2.2}
    nothing = Line2D([], [], linestyle="none")
    legend = figure.legend(
        [handles.get(name, nothing) for name in names],
        names,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=8,
        **small,
    )
    headings = {block[0] for block in blocks}
    for text, name in zip(legend.get_texts(), names, strict=True):
        if name in headings and name not in handles:
            text.set_fontweight("bold")


def _count_legend_rows(chart: Chart) -> float:
    """About how many rows of text the legend has."""
    longest = max((len(series.name) + 7 for series in chart.series), default=0)
    blocks = _group_legend(chart)
    if chart.headings or not blocks:
        return 0 if chart.headings else len({series.name for series in chart.series}) * longest / 100
    return len(_pack(blocks, max(1, 100 // longest))[0])


def _group_legend(chart: Chart) -> list[list[str]]:
    """The parts of a legend by family, each under its heading; what is of none first. Nothing without families."""
    blocks: dict[str, list[str]] = {}
    for series in chart.series:
        blocks.setdefault(series.family, [f"{series.family}:"] if series.family else []).append(_escape(series.name))
    return list(blocks.values()) if any(blocks) else []


def _pack(blocks: list[list[str]], most: int) -> list[list[str]]:
    """The blocks in order in up to `most` columns, none in two, as short as they can be and all of one length."""
    for height in range(max(map(len, blocks)), sum(map(len, blocks)) + 1):
        columns: list[list[str]] = [[]]
        for block in blocks:
            if len(columns[-1]) + len(block) > height:
                columns.append([])
            columns[-1] += block
        if len(columns) <= most:
            break
    return [column + [""] * (height - len(column)) for column in columns]


def _style_headings(axes: Axes, chart: Chart) -> None:
    """The rows of an axis that only head others: bold, without a line across."""
    for tick, name in zip(axes.yaxis.get_major_ticks(), reversed(chart.order), strict=False):
        if name in chart.headings:
            tick.label1.set_fontweight("bold")
            tick.gridline.set_visible(False)
            tick.tick1line.set_visible(False)


def _draw(axes: Axes, chart: Chart, series: Series, styles: Mapping[str, Style], many: bool) -> None:
    style = style_class(series.dash) if chart.kind == "points" else styles.get(series.method, Style(GREY, "circle"))
    x: list[Any] = list(series.x)
    y: list[Any] = list(series.y)
    if chart.kind == "intervals":
        y = [len(chart.order) - 1 - chart.order.index(label) for label in series.y]
    elif chart.kind == "groups":
        x = place_series(chart, series)
    name, dash = _escape(series.name), _DASHES[series.dash % len(_DASHES)]
    mark: dict[str, Any] = {
        "marker": _MARKS[palette.choose_mark(style, series.dash)],
        "markersize": 3 if many or chart.kind == "points" else 5,
    }
    if series.look == "lost":
        edge = axes.get_ylim()[0]
        axes.plot(x, [edge] * len(x), "x", color=style.colour, clip_on=False, markersize=6)
    elif series.look == "published":
        axes.plot(x, y, ("--", ":", "-.")[series.dash % 3], color=GREY, marker="o", markerfacecolor="none", label=name)
    elif series.look == "front":
        axes.step(x, y, where="post", color=GREY, linewidth=1.2, label=name)
    elif series.look == "level":
        axes.plot(x, y, _DASHES[1 + series.dash % 3], color=style.colour, linewidth=1.2, label=name)
    elif series.look == "joined":
        axes.plot(x, y, color=GREY, marker="o", markersize=3.5, linewidth=2.6)
    elif series.look == "thin":
        axes.plot(x, y, color=style.colour, linewidth=0.6, alpha=0.4)
    elif chart.kind == "lines":
        axes.plot(x, y, dash, color=style.colour, linewidth=1.6, label=name)
    else:
        line = "none" if series.look == "dots" or chart.kind == "groups" else dash
        hollow = series.dash % 2 and chart.kind != "points"
        mark["markerfacecolor"] = "none" if hollow else style.colour
        axes.plot(x, y, linestyle=line, color=style.colour, label=name, **mark)
        if series.low and not (many and chart.kind == "scatter"):
            _draw_bars(axes, chart, series, x, y, style.colour)


def _draw_bars(axes: Axes, chart: Chart, series: Series, x: list[Any], y: list[Any], colour: str) -> None:
    """Lines from end to end, in one call: errorbar takes several times as long."""
    ends = [
        (i, low, high) for i, (low, high) in enumerate(zip(series.low, series.high, strict=True)) if not math.isnan(low)
    ]
    lows, highs = [low for _, low, _ in ends], [high for _, _, high in ends]
    if chart.kind == "intervals":
        axes.hlines([y[i] for i, _, _ in ends], lows, highs, color=colour, linewidth=1.1)
    else:
        axes.vlines([x[i] for i, _, _ in ends], lows, highs, color=colour, linewidth=1.1)


def _set_ticks(axes: Axes, chart: Chart) -> None:
    if chart.kind == "intervals":
        axes.set_yticks(range(len(chart.order)), [_escape(label) for label in reversed(chart.order)], fontsize=7)
        axes.set_ylim(-0.7, len(chart.order) - 0.3)
    elif chart.kind == "groups":
        long = sum(map(len, chart.order)) > 60
        positions, words = range(len(chart.order)), [_escape(label) for label in chart.order]
        axes.set_xticks(positions, words, rotation=30 if long else 0, ha="right" if long else "center")
    elif chart.x_ticks:
        axes.set_xticks(chart.x_ticks, [f"{x:g}" for x in chart.x_ticks])
        axes.minorticks_off()


def _draw_heatmap(axes: Axes, chart: Chart) -> None:
    low, high = chart.z_range
    axes.imshow(chart.matrix, cmap="cividis", vmin=low, vmax=high)
    words = [_escape(name) for name in chart.order]
    axes.set_xticks(range(len(words)), words, rotation=30, ha="right")
    axes.set_yticks(range(len(words)), words)
    axes.spines[:].set_visible(False)
    for i, row in enumerate(chart.matrix):
        for j, value in enumerate(row):
            if not math.isnan(value):
                dark = value < (low + high) / 2
                axes.text(
                    j, i, f"{value:.1f}", ha="center", va="center", color="white" if dark else "black", fontsize=8
                )


def _escape(text: str) -> str:
    """Text for matplotlib, which reads what stands between two dollars as mathematics."""
    return text.replace("$", r"\$")
