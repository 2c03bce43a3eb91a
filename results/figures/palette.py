"""One colour and one mark a method, the same in every figure of a report, told apart by the colour-blind as well."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from results.figures.chart import Chart
from results.frames import method_families

GREY = "#808080"
# Okabe and Ito's palette without black and yellow, which vanish on a dark and on a white page, then Paul Tol's muted.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#44AA99",
    "#AA4499",
)
MARKS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star")
MORE_MARKS = (*MARKS, "cross", "x", "hexagon")  # of the methods of one family


class Style(NamedTuple):
    colour: str
    mark: str


def choose_styles(charts: Iterable[Chart]) -> dict[str, Style]:
    """Method -> its style; by the alphabet, so that an order of accuracy does not colour anew.

    Where methods are grouped by family, a colour is a family's: it is seen before a mark is. Up to ten methods of one
    have marks that differ.
    """
    flat = [variant for chart in charts for variant in (chart, *chart.others)]
    methods = sorted({series.method for chart in flat for series in chart.series if series.method})
    families = {series.method: series.family for chart in flat for series in chart.series if series.family}
    if families:
        orders = {name: method_families.find_order(families.get(name, "")) for name in methods}
        within = {
            name: [method for method in methods if orders[method] == orders[name]].index(name) for name in methods
        }
        return {name: Style(COLOURS[orders[name]], MORE_MARKS[within[name] % len(MORE_MARKS)]) for name in methods}
    # Seven marks on ten colours: no two of the first seventy methods look alike.
    return {name: Style(COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]) for i, name in enumerate(methods)}


def choose_mark(style: Style, number: int) -> str:
    """The mark of a method's line of that number: full and open by turns, and each two lines another shape."""
    return MARKS[(MARKS.index(style.mark) + number // 2) % len(MARKS)] if number > 1 else style.mark


def style_class(number: int) -> Style:
    """The style of a class of images, beside which no method is drawn."""
    return Style(COLOURS[number % len(COLOURS)], MARKS[(number // len(COLOURS)) % len(MARKS)])
