"""The critical-difference diagram: which configurations can be told apart, by bars that join those which cannot.

After Demšar (Statistical comparisons of classifiers over multiple data sets, Journal of Machine Learning Research 7,
2006), over accuracies in place of ranks, and with the tests of the table.
"""

from __future__ import annotations

from results.figures.chart import Chart, Series
from results.statistics.comparable import Comparable

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SETS, _ROWS = "cannot be told apart:", "configurations:"


def build_charts(comparable: Comparable) -> list[Chart]:
    """The diagram of those that are ranked, none where they are fewer than three."""
    table = comparable.table[[len(sets) > 0 for sets in comparable.table["joined"]]]
    table = table.sort_values("mean", ascending=False, kind="stable")
    if len(table) < 3:
        return []
    count = 1 + max(max(sets) for sets in table["joined"])
    names = [_LETTERS[i] if i < len(_LETTERS) else str(i + 1) for i in range(count)]
    series, order = [], [_SETS, *names, _ROWS]
    for number, name in enumerate(names):
        means = [mean for mean, sets in zip(table["mean"], table["joined"], strict=True) if number in sets]
        series.append(Series(name, tuple(means), (name,) * len(means), look="joined"))
    for row in table.to_dict("records"):
        label = f"{row['label']}  {' '.join(names[number] for number in row['joined'])}"
        order.append(label)
        point = (row["mean"],), (label,)
        series.append(Series(row["method"], *point, row["method"], "dots", rows=(row["row"],), family=row["group"]))
    caption = "A bar joins the means of configurations that cannot be told apart, corrected for all pairs; the letters "
    caption += "beside a configuration are its bars. Two that share none differ significantly."
    caption += " Two seeds: this assumes comparable spreads." if comparable.has_two_seeds else ""
    caption += comparable.usual
    return [
        Chart(
            "intervals",
            f"differences{comparable.file}",
            f"Which can be told apart{comparable.suffix}",
            caption,
            f"{comparable.measure} (%)",
            "",
            tuple(series),
            order=tuple(order),
            headings=(_SETS, _ROWS),
        )
    ]
