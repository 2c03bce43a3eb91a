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
from results.figures.palette import Style, choose_styles
from results.figures.published_curves import Published
from results.frames.trials import Search
from results.report import page
from results.report.verdict import conclude
from results.statistics import compare, tuning
from results.statistics.comparable import choose_headline, group_comparables
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
    tests: pd.DataFrame | None = None,
    searches: Sequence[Search] = (),
    extras: Sequence[tuple[str, list[list[str]]]] = (),
) -> tuple[Path, list[str]]:
    """Write `out`/report/ from what `frames.frame.load` returned; the folder, and a note on each part that is missing.

    `published` are curves to lay over the ablations; `summary` what `summarise` returned, `ranked` and `compared` what
    `compare.rank_configurations` and `comparison.tabulate` did for the metric of `choose_headline`, made here where not
    given; `tests` what `compare.compare_pairs` did with a reference; `searches` what `trials.load` did; `extras` more
    tables as titles with rows of text under a header.
    """
    folder, notes, broken = out / FOLDER, list[str](), list[str]()
    files.make_folder(folder)
    summary = summarise(frame) if summary is None else summary
    metric = choose_headline(frame)
    ranks = compare.rank_configurations(frame, metric) if ranked is None else ranked
    rows = comparison.tabulate(frame, metric=metric, ranked=ranks) if compared is None else compared
    comparables = group_comparables(frame, metric, ranks)
    charts = summary_charts.build_charts(comparables, frame, published, broken) + tuning_chart.build_charts(searches)
    broken = list(dict.fromkeys(map(files.make_printable, broken)))
    notes += [f"left out: {problem}" for problem in broken]
    styles = choose_styles(charts)
    tables = [("Ranks and differences", rows if len(rows) > 2 else []), *extras]
    sentences = comparison.explain(ranks) + tuning.explain_budgets(frame, searches)
    text = page.render(
        frame,
        summary,
        charts,
        styles,
        folder=out,
        page_folder=folder,
        verdict=[*conclude(frame, comparables, ranks, tests), *filter(None, [" ".join(sentences)])],
        ranks=ranks,
        extras=tables,
        problems=[*problems, *broken],
    )
    record.write_whole(folder / "report.html", text.encode())
    _write_tables(folder, summary, tables, sentences)
    try:
        record.write_whole(folder / "results.parquet", to_parquet(frame))
    except ImportError as error:
        notes.append(f"no results.parquet: {error}")
    try:
        _write_figures(folder / "figures", charts, styles)
    except ImportError as error:
        notes.append(f"no figures as files: {error}")
    if not find_spec("plotly"):
        notes.append("no figures in report.html: plotly is not installed")
    return folder, notes


def _write_tables(
    folder: Path, summary: pd.DataFrame, tables: Sequence[tuple[str, list[list[str]]]], sentences: Sequence[str]
) -> None:
    below = "\n".join(f"## {title}\n\n{formats.to_pipes(lines)}" for title, lines in tables if lines)
    below += "".join(f"\n- {sentence}" for sentence in sentences) + "\n" * bool(sentences)
    record.write_whole(folder / "table.md", f"{formats.to_markdown(summary)}\n{below}".encode())
    record.write_whole(folder / "table.tex", formats.to_latex(summary).encode())
    record.write_whole(folder / "results.csv", formats.to_csv(summary).encode())


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A row a record. A column that mixes kinds of values, as a setting may, becomes text; numbers stay as they are.

    Raises ImportError without pyarrow.
    """
    columns = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype == object:
            kinds = {type(value) for value in column.dropna()}
            column = column if len(kinds) < 2 and kinds <= {str, bool} else column.map(_to_text, na_action="ignore")
            column = column.where(column.notna(), None)
        columns[name] = column
    file = BytesIO()
    pd.DataFrame(columns).to_parquet(file, engine="pyarrow", index=False)
    return file.getvalue()


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _write_figures(folder: Path, charts: Sequence[Chart], styles: dict[str, Style]) -> None:
    files.make_folder(folder)
    for chart in charts:
        for variant in (chart, *chart.others):
            for ending, content in draw_matplotlib.render(variant, styles).items():
                record.write_whole(folder / f"{variant.name}.{ending}", content)
