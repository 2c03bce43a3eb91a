"""From a folder's records to what a user reads: on the terminal, in report/, and on W&B. Imports no torch.

It is where `results`, which knows nothing of `benchmark`, meets the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.display import columns
from benchmark.errors import UsageError
from benchmark.settings.presets.published import PROTOCOLS
from benchmark.tracking import site, wandb_run
from results.frames import forecasts, frame, trials
from results.published import like, sweeps
from results.quantity import quantify
from results.report import report, verdict
from results.statistics import comparable, compare, stability, summaries, tuning
from results.tables import comparison, evaluations, formats, terminal
from results.tables import tuning as tuning_tables

if TYPE_CHECKING:
    import pandas as pd

MOST = 60  # rows of a table on the terminal; the files of the report have all
Section = tuple[str, list[list[str]]]  # a title, and rows of text under a header; fewer than two say nothing


def write(out: Path, reference: str | None, project: tuple[str, str] | None) -> None:
    """Print the tables of all records below `out` and write its report; on W&B too where a `project` is given.

    Raises `UsageError` for a reference that is not there, and for what W&B did not take.
    """
    if project and not site.is_installed("wandb_workspaces"):
        raise UsageError("report wandb=: wandb-workspaces is not installed; pip install '.[wandb]'")
    loaded, problems = frame.load(out)
    metric = comparable.choose_headline(loaded)
    try:
        ranked = compare.rank_configurations(loaded, metric)
        compared = comparison.tabulate(loaded, reference, metric, ranked)
        tests = None if reference is None else compare.compare_pairs(loaded, reference, metric)
    except ValueError as error:
        raise UsageError(str(error)) from error
    searches = trials.load(out)
    foretold = forecasts.read(out, problems)
    print("".join(f"left out: {problem}\n" for problem in problems), end="", file=sys.stderr)
    summary = summaries.summarise(loaded)
    comparisons = sweeps.compare_sweeps(loaded, metric)
    sections = [
        ("Beside published numbers", sweeps.tabulate(comparisons)),
        *compare_like(loaded),
        *tabulate_evaluations(loaded),
        *tuning_tables.tabulate(searches),
        ("Forecasts against truth", formats.tabulate_forecasts(forecasts.compare_with_truth(loaded, foretold))),
    ]
    print_summary(summary)
    print_sections([("Ranks and differences, as far as the seeds allow", compared)])
    _, *answers = verdict.conclude(loaded, comparable.group_comparables(loaded, metric, ranked), ranked, tests)
    answers += comparison.explain(ranked) + tuning.explain_budgets(loaded, searches)
    explained = [f"- {text}" for text in answers]
    print(*explained, sep="\n", end="\n" * bool(explained))
    print_sections(sections)
    if not loaded.empty or searches:
        folder, notes = report.write(
            out,
            loaded,
            problems,
            published=list(dict.fromkeys(pair.curve for pair in comparisons)),
            summary=summary,
            ranked=ranked,
            compared=compared,
            tests=tests,
            searches=searches,
            extras=sections,
        )
        for note in notes:
            print(note if note.startswith("left out: ") else f"note: {note}", file=sys.stderr)
        print(f"wrote {folder / 'report.html'} and, beside it, tables and figures as files", file=sys.stderr)
    if project:
        from results.report import wandb_report

        tables = [("Ranks and differences", compared), *sections]
        below = [f"## {title}\n\n{formats.to_pipes(rows)}" for title, rows in tables if len(rows) > 1]
        text = "\n".join([formats.to_markdown(summary), *explained, *below])
        try:
            print(wandb_report.write(loaded, text, out, project, site.find_obstacle()))
        except wandb_report.Unsaved as error:
            raise UsageError(f"wandb={'/'.join(project)}: {error}") from error


def compare_like(loaded: pd.DataFrame) -> list[Section]:
    """Cells that follow published protocols beside their numbers, and where the cells differ from these protocols."""
    rows = like.tabulate(loaded)
    names = [name for name in dict.fromkeys(row[0] for row in rows[1:]) if name in PROTOCOLS]
    unlike = [[name, difference] for name in names for difference in PROTOCOLS[name].differences]
    return [("Like published protocols", rows), ("Where ours differ from them", [["like", "ours and theirs"], *unlike])]


def tabulate_evaluations(loaded: pd.DataFrame) -> list[Section]:
    """What `evaluate` measured of these records, and how alike it orders the configurations."""
    rows = evaluations.tabulate(loaded)
    if not rows:
        return []
    title = (
        "By other evaluations (rates and strengths are chosen on the whole validation split; intervals are over seeds"
    )
    if any(header.startswith(("1 %", "10 %")) for header in rows[0]):
        title += ", and few labels are the same draws for each of them"
    return [
        (title + ")", rows),
        ("Whether they order the configurations alike", stability.tabulate(loaded)),
    ]


def print_tuning(out: Path, names: Sequence[str]) -> None:
    """What the trials of these searches say, on the terminal, and where methods of the folder had other budgets."""
    searches = trials.load(out)
    print_sections(tuning_tables.tabulate([search for search in searches if search.name in names]))
    datasets = {search.dataset for search in searches if search.name in names}
    for text in tuning.compare_budgets([search for search in searches if search.dataset in datasets]):
        print(f"note: {text}", file=sys.stderr)


def print_evaluations(folders: Sequence[Path]) -> None:
    """What `evaluate` measured of the cells in these folders, on the terminal."""
    print_sections(tabulate_evaluations(frame.load_folders(folders)))


def print_records(out: Path, folders: Sequence[Path]) -> None:
    """The table of these cells, or that none has a record, and where to go from there."""
    loaded = frame.load_folders(sorted(folders))  # as `report` reads them: intervals are drawn in the records' order
    if loaded.empty:
        print(f"no table: none of these cells has a record yet; python -m benchmark status out={out} says how they are")
        return
    print_summary(summaries.summarise(loaded))
    print(f"records: {out}/; tables and figures of all of them: python -m benchmark report out={out}", file=sys.stderr)
    if count := wandb_run.count_unsynced(out):
        print(
            f"kept offline: {quantify(count, 'run')}; to W&B: wandb sync {out}/*/wandb/offline-run-*", file=sys.stderr
        )


def print_summary(summary: pd.DataFrame) -> None:
    """The table of a summary, as wide as the terminal, and its notes below."""
    from rich.console import Console

    console = Console()
    table = terminal.to_rich(summary, console.width, MOST)
    notes, table.caption = table.caption, None  # which would be broken at the table's width
    console.print(table)
    if notes:
        console.print(notes, style="table.caption")


def print_sections(sections: Sequence[Section]) -> None:
    """The first `MOST` rows of each section, under its title; sections without rows are left out."""
    for title, rows in sections:
        if len(rows) > 1:
            print(f"{title}:")
            columns.show(rows[0], rows[1 : 1 + MOST])
            if len(rows) > 1 + MOST:
                print(f"and {len(rows) - 1 - MOST} more, in the report")
