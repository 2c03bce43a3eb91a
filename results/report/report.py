"""The folder of a report: report.html, table.md, table.tex, results.csv, results.parquet, and the figures as files.

results.csv is the summary, a row a configuration; results.parquet has a row a record with all columns of
`frames.frame.load`. Files of an earlier report are replaced one by one, each whole or not at all; others are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import pandas as pd

from results import files, record
from results.figures import draw_matplotlib, summary_charts, tuning_chart
from results.figures.chart import Chart
from results.figures.palette import Style, styles
from results.figures.published_curves import Published
from results.frames.trials import Search
from results.report import page
from results.report.verdict import verdict
from results.statistics import compare, tuning
from results.statistics.comparable import comparables, headline
from results.statistics.summaries import summarise
from results.tables import comparison, formats

FOLDER = "report"


def write(
    out: Path,
    frame: pd.DataFrame,
    problems: Sequence[str] = (),
    *,
    published: Sequence[Published] = (),
    summary: pd.DataFrame | None = None,
    ranked: pd.DataFrame | None = None,
    compared: list[list[str]] | None = None,
    searches: Sequence[Search] = (),
    extras: Sequence[tuple[str, list[list[str]]]] = (),
) -> tuple[Path, list[str]]:
    """Write `out`/report/ from what `frames.frame.load` returned; the folder, and a note on each part that is missing.

    `published` are curves to lay over the ablations; `summary` what `summarise` returned, `ranked` and `compared` what
    `compare.ranks` and `comparison.rows` did for the `headline` metric, made here where not given; `searches` what
    `trials.load` did; `extras` more tables as titles with rows of text under a header.
    """
    folder, notes, broken = out / FOLDER, list[str](), list[str]()
    files.make_folder(folder)
    summary = summarise(frame) if summary is None else summary
    metric = headline(frame)
    ranks = compare.ranks(frame, metric) if ranked is None else ranked
    rows = comparison.rows(frame, metric=metric, ranked=ranks) if compared is None else compared
    comparable_tables = comparables(frame, metric, ranks)
    charts = summary_charts.charts(comparable_tables, frame, published, broken) + tuning_chart.charts(searches)
    broken = list(dict.fromkeys(map(files.printable, broken)))
    notes += [f"left out: {problem}" for problem in broken]
    chosen = styles(charts)
    more = [("Ranks and differences", rows if len(rows) > 2 else []), *extras]
    explained = comparison.explain(ranks) + tuning.explain_budgets(frame, searches)
    text = page.render(
        frame,
        summary,
        charts,
        chosen,
        folder=out,
        page_folder=folder,
        verdict=[*verdict(frame, comparable_tables, ranks), *filter(None, [" ".join(explained)])],
        ranks=ranks,
        extras=more,
        problems=[*problems, *broken],
    )
    record.write_whole(folder / "report.html", text.encode())
    below = "\n".join(f"## {title}\n\n{formats.pipes(lines)}" for title, lines in more if lines)
    below += "".join(f"\n- {sentence}" for sentence in explained) + "\n" * bool(explained)
    record.write_whole(folder / "table.md", f"{formats.to_markdown(summary)}\n{below}".encode())
    record.write_whole(folder / "table.tex", formats.to_latex(summary).encode())
    record.write_whole(folder / "results.csv", formats.to_csv(summary).encode())
    try:
        record.write_whole(folder / "results.parquet", parquet(frame))
    except ImportError as error:
        notes.append(f"no results.parquet: {error}")
    try:
        _figures(folder / "figures", charts, chosen)
    except ImportError as error:
        notes.append(f"no figures as files: {error}")
    if not find_spec("plotly"):
        notes.append("no figures in report.html: plotly is not installed")
    return folder, notes


def parquet(frame: pd.DataFrame) -> bytes:
    """A row a record. A column that mixes kinds of values, as a setting may, becomes text; numbers stay as they are.

    Raises ImportError without pyarrow.
    """
    columns = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype == object:
            kinds = {type(value) for value in column.dropna()}
            column = column if len(kinds) < 2 and kinds <= {str, bool} else column.map(_text, na_action="ignore")
            column = column.where(column.notna(), None)
        columns[name] = column
    file = BytesIO()
    pd.DataFrame(columns).to_parquet(file, engine="pyarrow", index=False)
    return file.getvalue()


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _figures(folder: Path, charts: Sequence[Chart], chosen: dict[str, Style]) -> None:
    files.make_folder(folder)
    for chart in charts:
        for variant in (chart, *chart.others):
            for ending, content in draw_matplotlib.files(variant, chosen).items():
                record.write_whole(folder / f"{variant.name}.{ending}", content)
