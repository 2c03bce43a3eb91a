"""What the records of a kept study say: tables and tests as markdown, figures as SVG, and its line in the list of all.

A study is a folder of records and of `command.txt`, the command that made them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from results.figures import draw_matplotlib, palette, summary_charts, tuning_chart
from results.figures.chart import Chart
from results.frames import labels, trials
from results.frames.frame import load
from results.published import like, sweeps
from results.statistics import compare, tuning
from results.statistics.comparable import choose_headline, group_comparables
from results.statistics.summaries import summarise
from results.tables import comparison, formats
from results.tables import tuning as tuning_tables

COMMAND = "command.txt"
_DIGEST = "<!-- drawn from {} -->"


def load_records(folder: Path) -> pd.DataFrame:
    """The records of a study. Raises ValueError where there are none, or one cannot be read."""
    frame, problems = load(folder)
    if problems or frame.empty:
        raise ValueError(problems[0] if problems else f"{folder}: no records")
    return frame


def render(folder: Path) -> str:
    """The markdown of a study: its command, its table, what can be told apart, and what is published beside it."""
    frame = load_records(folder)
    summary = summarise(frame)
    parts = [formats.to_markdown(summary)]
    if summary["seeds"].max() > 1:
        parts.append(_describe_differences(frame, folder))
    parts += map(formats.to_pipes, (sweeps.tabulate(sweeps.compare_sweeps(frame)), like.tabulate(frame)))
    parts += [f"{title}:\n\n{formats.to_pipes(rows)}" for title, rows in tuning_tables.tabulate(trials.load(folder))]
    command = folder / COMMAND
    if command.exists():
        parts.insert(0, f"```bash\n{command.read_text(encoding='utf-8').strip()}\n```\n")
    return "\n".join(filter(None, parts))


def _describe_differences(frame: pd.DataFrame, folder: Path) -> str:
    """What can be told apart, and how."""
    ranks = compare.rank_configurations(frame)
    texts = comparison.explain(ranks) + tuning.explain_budgets(frame, trials.load(folder))
    notes = "".join(f"- {text}\n" for text in texts)
    return f"{formats.to_pipes(comparison.tabulate(frame, ranked=ranks))}\n{notes}"


def compare_with(folder: Path, reference: str | None) -> str:
    """What can be told apart in a study, without the columns in which nothing stands.

    Raises ValueError for a reference that is not there.
    """
    rows = comparison.tabulate(load_records(folder), reference)
    columns = [
        column for column in range(len(rows[0])) if any(row[column] not in ("", labels.NONE) for row in rows[1:])
    ]
    return formats.to_pipes([[row[column] for column in columns] for row in rows])


def list_studies(folders: Sequence[Path], pages: Path, start: Path) -> str:
    """A table of studies: the title of its page in the folder `pages`, linked from the folder `start`, and its size."""
    rows, links = [["study", "data", "methods", "cells", "seeds", "device"]], list[str]()
    for folder in folders:
        frame, page = load_records(folder), pages / f"{folder.name}.md"
        link = Path(os.path.relpath(page, start)).as_posix()
        most = summarise(frame, [])["seeds"].max()
        devices = "; ".join(sorted({str(device) for device in frame["cost.device"].dropna()}))
        counts = [str(frame["method"].nunique()), str(len(frame)), str(most)]
        rows.append([read_title(page), _describe_data(frame), *counts, devices])
        links.append(link)
    # Behind the escaping, which leaves no link as one.
    head, rule, *lines = formats.to_pipes(rows).splitlines()
    linked = [re.sub(r"^\| (.*?) \|", rf"| [\1]({link}) |", line) for line, link in zip(lines, links, strict=True)]
    return "\n".join([head, rule, *linked]) + "\n"


def read_title(page: Path) -> str:
    """The first heading of a page."""
    heading = re.search(r"^# +(.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return heading[1].strip() if heading else page.stem


def _describe_data(frame: pd.DataFrame) -> str:
    """Such as `cifar10, 2,000 images`."""
    limits = frame.reindex(columns=["dataset.limit"]).iloc[:, 0].fillna(0)
    pairs = dict.fromkeys(zip(frame["dataset.name"], limits, strict=True))
    return "; ".join(f"{name}, {int(limit):,} images" if limit else str(name) for name, limit in pairs)


class Figures:
    """The figures of a study, as its report would show them."""

    def __init__(self, folder: Path) -> None:
        frame = load_records(folder)
        metric = choose_headline(frame)
        curves = [row.curve for row in sweeps.compare_sweeps(frame, metric)]
        charts = summary_charts.build_charts(
            group_comparables(frame, metric, compare.rank_configurations(frame, metric)), frame, curves
        )
        charts += tuning_chart.build_charts(trials.load(folder))
        self._charts = {variant.name: variant for chart in charts for variant in (chart, *chart.others)}
        self._styles = palette.choose_styles(charts)

    def find_chart(self, name: str) -> Chart:
        """Raises ValueError for a name that no figure has."""
        if name not in self._charts:
            raise ValueError(f"no figure {name!r}; there are: {', '.join(self._charts)}")
        return self._charts[name]

    def draw(self, name: str) -> bytes:
        """SVG, with the digest of what it was drawn from in its last line."""
        svg = draw_matplotlib.render(self.find_chart(name), self._styles)["svg"]
        return svg.rstrip() + f"\n{self._digest(name)}\n".encode()

    def is_current(self, name: str, path: Path) -> bool:
        """Whether the file was drawn from these records; another matplotlib may draw the same in other bytes."""
        digest = self._digest(name)
        return path.exists() and path.read_text(encoding="utf-8").rstrip().endswith(digest)

    def _digest(self, name: str) -> str:
        content = _round([asdict(self.find_chart(name)), self._styles])
        return _DIGEST.format(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16])


def _round(data: Any) -> Any:
    """Plain data whose numbers are texts of four digits: no more is seen, and machines and other versions of NumPy
    differ in the last ones, where a number on the edge of being rounded up changes its text."""
    if isinstance(data, dict):
        return {str(name): _round(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_round(value) for value in data]
    return f"{float(data):.4g}" if isinstance(data, Real) else str(data)
