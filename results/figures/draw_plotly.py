"""Charts as plotly.js figures: plain dictionaries for JSON. Colours of text and grid are the page's, light or dark."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from results.figures.chart import MANY, Chart, Series, place_series
from results.figures.palette import GREY, Style, choose_mark, style_class

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_HEIGHT = 430
_LEGEND = 200  # more of it for a legend of many methods


def build_figure(chart: Chart, styles: Mapping[str, Style]) -> dict[str, Any]:
    """`data` and `layout` of one chart, without its title and caption, which the page writes. A picture has none.

    `customdata` of a point is its configuration's row, for what a click opens.
    """
    if chart.kind == "heatmap":
        return _build_heatmap(chart)
    many = sum(len(series.x) for series in chart.series) > MANY
    traces = [_build_trace(chart, series, number, styles, many) for number, series in enumerate(chart.series)]
    # Under headings, each row is named already.
    legend = len({series.name for series in chart.series if series.look != "thin"}) > 1 and not chart.headings
    above = {"orientation": "h", "yanchor": "bottom", "y": 1.01, "x": 0}
    layout: dict[str, Any] = {"height": _HEIGHT, "showlegend": legend, "legend": above}
    if legend and any(series.family for series in chart.series):
        layout["height"] += _LEGEND
        above |= {"groupclick": "toggleitem"}
    layout |= {
        "hovermode": "closest",
        "xaxis": _build_x_axis(chart),
        "yaxis": {"title": {"text": _escape(chart.y_label)}},
    }
    layout["margin"] = {"l": 60, "r": 20, "t": 34, "b": 50}
    if chart.kind == "intervals":
        order = [_escape(name) for name in reversed(chart.order)]
        layout["yaxis"] = {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": order,
            "automargin": True,
            "tickmode": "array",
            "tickvals": order,
            "range": [-0.7, len(order) - 0.3],
        }
        bold = {_escape(name) for name in chart.headings}
        layout["yaxis"]["ticktext"] = [f"<b>{name}</b>" if name in bold else name for name in order]
        layout["height"] = 110 + 21 * len(order)
    elif chart.y_range:
        layout["yaxis"]["range"] = list(chart.y_range)
    if chart.right_range:
        layout["yaxis2"] = {
            "overlaying": "y",
            "side": "right",
            "range": list(chart.right_range),
            "showgrid": False,
            "tickmode": "auto",
            "title": {"text": _escape(chart.right_label)},
        }
        layout["margin"]["r"] = 60
    if chart.kind == "points":
        hidden = {"showgrid": False, "showticklabels": False, "zeroline": False, "showline": False}
        layout |= {"xaxis": hidden, "yaxis": {**hidden, "scaleanchor": "x"}}
        layout["margin"] = {"l": 10, "r": 10, "t": 34, "b": 10}
    return {"data": traces, "layout": layout}


def _build_trace(chart: Chart, series: Series, number: int, styles: Mapping[str, Style], many: bool) -> dict[str, Any]:
    style = style_class(series.dash) if chart.kind == "points" else styles.get(series.method, Style(GREY, "circle"))
    x, y = list(series.x), list(series.y)
    if chart.kind == "groups":
        x = place_series(chart, series)
    if series.look == "lost" and chart.y_range:
        low, high = chart.y_range
        y = [low + 0.025 * (high - low)] * len(x)
    modes = {"dots": "markers", "lost": "markers", "line": "lines+markers", "published": "lines+markers"}
    modes["joined"] = "lines+markers"
    mode = "markers" if chart.kind == "groups" else modes.get(series.look, "lines")
    mode = "lines" if chart.kind == "lines" else mode
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": mode,
        "name": _escape(series.name),
        "legendgroup": _escape(series.name),
    }
    if series.family:
        trace |= {
            "legendgroup": _escape(series.family),
            "legendgrouptitle": {"text": f"<b>{_escape(series.family)}</b>"},
        }
    trace |= {
        "x": _to_json_values(x),
        "y": _to_json_values(y),
        "line": {"color": style.colour, "width": 2, "dash": "solid"},
    }
    small = chart.kind == "points" or (many and series.look == "dots")
    hollow = "-open" if series.dash % 2 and chart.kind != "points" else ""
    trace["marker"] = {
        "color": style.colour,
        "symbol": choose_mark(style, series.dash) + hollow,
        "size": 6 if small else 9,
    }
    trace |= _style_look(series, style)
    if series.texts:
        trace["text"] = [_escape(text) for text in series.texts]
    if series.rows:
        trace["customdata"] = list(series.rows)
    trace["hovertemplate"] = _write_hover(chart, series)
    if any(not math.isnan(low) for low in series.low) and not (many and chart.kind == "scatter"):
        key = "error_x" if chart.kind == "intervals" else "error_y"
        trace[key] = _build_bars(series, chart.kind == "intervals") | {
            "color": style.colour,
            "thickness": 1.4,
            "width": 3,
        }
    return trace


def _style_look(series: Series, style: Style) -> dict[str, Any]:
    """What a look changes in a trace."""
    line = {"color": style.colour, "width": 2, "dash": _DASHES[series.dash % len(_DASHES)]}
    if series.look == "front":
        return {"line": line | {"color": GREY, "width": 1.5, "shape": "hv"}}
    if series.look == "level":
        return {"line": line | {"width": 1.5, "dash": _DASHES[1 + series.dash % 4]}}
    if series.look == "thin":
        return {"line": line | {"width": 0.9}, "opacity": 0.45, "showlegend": False}
    if series.look == "lost":
        mark = {"color": style.colour, "symbol": "x-thin", "size": 9, "line": {"width": 2, "color": style.colour}}
        return {"marker": mark, "showlegend": False, "cliponaxis": False}
    if series.look == "joined":
        return {"line": line | {"width": 4}, "marker": {"color": GREY, "symbol": "circle", "size": 7}, "hoverinfo": "y"}
    if series.look == "published":
        mark = {"color": GREY, "symbol": "circle-open", "size": 7}
        dash = ("dash", "dot", "dashdot", "longdash")[series.dash % 4]
        return {"yaxis": "y2", "line": line | {"color": GREY, "width": 1.5, "dash": dash}, "marker": mark}
    return {"line": line}


def _build_bars(series: Series, along_x: bool) -> dict[str, Any]:
    centre = series.x if along_x else series.y
    above = [high - mid for high, mid in zip(series.high, centre, strict=True)]
    below = [mid - low for low, mid in zip(series.low, centre, strict=True)]
    return {"type": "data", "symmetric": False, "array": _to_json_values(above), "arrayminus": _to_json_values(below)}


def _write_hover(chart: Chart, series: Series) -> str:
    text = "<br>%{text}" if series.texts else ""
    if chart.kind == "points":
        return "%{fullData.name}<extra></extra>"
    if chart.kind == "intervals":
        return f"<b>%{{y}}</b><br>{_escape(chart.x_label)}: %{{x:.2f}}{text}<extra></extra>"
    if series.look == "lost":
        return "%{text}<extra></extra>"
    if series.look == "published":
        return f"%{{fullData.name}}<br>%{{x}}: %{{y:.2f}}{text}<extra></extra>"
    value = "%{y:.3g}" if chart.kind == "lines" else "%{y:.2f}"
    x_text = "" if chart.kind == "groups" else f"{_escape(chart.x_label)}: %{{x}}<br>"
    return f"<b>%{{fullData.name}}</b><br>{x_text}{_escape(chart.y_label)}: {value}{text}<extra></extra>"


def _build_x_axis(chart: Chart) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": _escape(chart.x_label)}, "automargin": True}
    if chart.kind == "groups":
        positions = list(range(len(chart.order)))
        axis |= {"tickmode": "array", "tickvals": positions, "ticktext": [_escape(name) for name in chart.order]}
        axis |= {"range": [-0.6, len(positions) - 0.4], "zeroline": False}
    elif chart.x_log:
        axis["type"] = "log"
    if chart.x_ticks:
        axis |= {"tickmode": "array", "tickvals": list(chart.x_ticks), "ticktext": [f"{x:g}" for x in chart.x_ticks]}
    return axis


def _build_heatmap(chart: Chart) -> dict[str, Any]:
    names = [_escape(name) for name in chart.order]
    low, high = chart.z_range
    trace = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": [_to_json_values(row) for row in chart.matrix],
        "zmin": low,
        "zmax": high,
        "colorscale": "Cividis",
        "texttemplate": "%{z:.1f}",
        "xgap": 2,
        "ygap": 2,
        "customdata": [list(row) for row in chart.matrix_rows],
        "hoverongaps": False,
        "hovertemplate": "%{y} and %{x}: %{z:.2f} %<extra></extra>",
        "colorbar": {"thickness": 12, "outlinewidth": 0},
    }
    layout = {
        "height": 130 + 46 * len(names),
        "margin": {"l": 70, "r": 20, "t": 34, "b": 50},
        "xaxis": {"showgrid": False, "automargin": True},
        "yaxis": {"autorange": "reversed", "showgrid": False, "automargin": True},
    }
    return {"data": [trace], "layout": layout}


def _to_json_values(values: Sequence[Any]) -> list[Any]:
    """Values for JSON, which has no NaN; six digits are more than a screen shows."""
    plain: list[Any] = []
    for value in values:
        if isinstance(value, str):
            plain.append(_escape(value))
        else:
            plain.append(None if math.isnan(value) else float(f"{value:.6g}"))
    return plain


def _escape(text: str) -> str:
    """Text for plotly, which reads tags: a record's text must not become a link."""
    return html.escape(text, quote=False)
