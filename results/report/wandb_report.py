"""A W&B report on the records of a folder: their tables as text, and panels by method and by whatever else varies.

Panels draw what `benchmark.tracking` sent: `metrics/NAME` and `cost/NAME` of a run's summary, the lines of log.jsonl,
and the settings. The runs are those of the sweep, which is W&B's group, that have finished under the same protocol and,
where there are several, the same version of the results.
`wandb_workspaces` is imported only inside functions; nothing but `publish` needs a network.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from results import record
from results.frames import labels
from results.frames.frame import RESOLVED
from results.statistics.summaries import find_varying

ACCURACY, SECONDS, STATUS = "metrics/linear_top1", "cost/seconds", "status"  # in a run's summary
STEP, LOSS, VALIDATION = "step", "loss", record.VALIDATION  # in its history
CURVE_AXES = {"epoch": "epochs", "views": "image views", "seconds": "seconds"}  # of the validation's lines there
WAIT = 60.0  # seconds for W&B to take a report
LOG_FROM = 8  # times the least value: the axis is logarithmic from there


class Unsaved(Exception):
    """W&B did not take the report. One line says why."""


class Target(NamedTuple):
    """Where a report goes, and the group whose runs it shows."""

    entity: str
    project: str
    group: str


def write(frame: pd.DataFrame, text: str, out: Path, project: tuple[str, str], unreachable: str) -> str:
    """Write the report's specification to `out`/wandb_report.json, and save the report if nothing is `unreachable`.

    `frame` is what `frames.frame.load` returns of `out`, `text` what the report says in markdown, `project` an entity
    and a project. Returns a line for the user: the report's address, or where its specification is. Raises `Unsaved`.
    """
    if not (frame["status"] == "finished").any():
        raise Unsaved(f"no cell below {out} has finished; there is nothing to compare")
    target, path = Target(*project, record.name_sweep(out)), out / "wandb_report.json"
    record.write_json(path, specify(frame, text, target))
    where = f"the report's specification is in {path}"
    if unreachable:
        return f"W&B: {unreachable}; {where}"
    try:
        return publish(frame, text, target)
    except Unsaved as error:
        raise Unsaved(f"{error}; {where}") from error


def specify(frame: pd.DataFrame, text: str, target: Target) -> dict[str, Any]:
    """What would be saved, as plain data. Its run sets name no project, which only W&B can number: the report's own."""
    report = _build_report(frame, text, target, "")
    spec = report._to_model().spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"entity": target.entity, "project": target.project, "title": report.title, "spec": spec}


def publish(frame: pd.DataFrame, text: str, target: Target) -> str:
    """Save the report and return its address. Raises `Unsaved`, at the latest after `WAIT` seconds."""
    answers: list[str | Exception] = []

    def save() -> None:
        try:
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its reports about itself, which it waits for
            import wandb

            wandb.setup(wandb.Settings(silent=True))
            answers.append(_build_report(frame, text, target, target.entity).save().url)
        except Exception as error:  # noqa: BLE001 - whatever the client raises, one line is told
            answers.append(error)

    # In a thread: the client tries again for many minutes where a server takes connections and says nothing.
    thread = threading.Thread(target=save, name="report", daemon=True)
    thread.start()
    thread.join(WAIT)
    if not answers:
        raise Unsaved(f"no answer within {WAIT:g} s")
    if isinstance(answers[0], str):
        return answers[0]
    line = " ".join(str(answers[0]).split())
    if "not found" in line:
        line = f"there is no project {target.entity}/{target.project}; send its runs first, with `wandb sync`"
    raise Unsaved(line) from answers[0]


def _build_report(frame: pd.DataFrame, text: str, target: Target, entity: str) -> Any:
    import wandb_workspaces.reports.v2 as wr

    blocks: list[Any] = [wr.MarkdownBlock(text=text)]
    finished = frame[frame["status"] == "finished"]
    versions = finished["results_version"]
    for (protocol, version), part in finished.groupby(["protocol", versions], sort=False):
        title = f"{', '.join(part['dataset.name'].unique())}, protocol {str(protocol)[:8]}"
        condition = f"Config('protocol') == {_quote(str(protocol))}"
        if versions.nunique() > 1:
            title += f", results version {version:.0f}"
            condition += f" and Config('{_locate_setting('results_version')}') == {version:.0f}"
        blocks.append(wr.H2(title))
        blocks += _build_grids(part, target, entity, condition)
    title = f"{target.group}: {', '.join(frame['method'].unique())}"[:128]
    return wr.Report(entity=target.entity, project=target.project, title=title, blocks=blocks)


def _build_grids(part: pd.DataFrame, target: Target, entity: str, condition: str) -> list[Any]:
    """The panels of the runs that `same` filters: means by method, and every run over what varies."""
    import wandb_workspaces.reports.v2 as wr

    def select_runs(name: str, further: str = "", grouped: Sequence[str] = ()) -> Any:
        # As text, because the client's own expressions put quotes around a value that has some.
        filters = f"Metric('Group') == {_quote(target.group)} and {condition}"
        filters += f" and SummaryMetric('{STATUS}') == 'finished'{further}"
        # With an entity, the client asks W&B for the project's number.
        return wr.Runset(entity=entity, project=target.project, name=name, filters=filters, groupby=list(grouped))

    method, top1 = wr.Config("method"), "linear top-1"
    by_method = wr.PanelGrid(
        runsets=[select_runs("by method", grouped=["config.method"])],
        panels=[
            # Without a range: it would be over configurations as well as seeds.
            wr.BarPlot(
                title=f"{top1} by method, over all its runs",
                metrics=[wr.SummaryMetric(ACCURACY)],
                groupby=method,
                groupby_aggfunc="mean",
            ),
            wr.LinePlot(
                title="loss by method, over all its runs", x=STEP, y=[LOSS], groupby=method, groupby_aggfunc="mean"
            ),
        ],
    )
    if part["cost.seconds_to_90"].notna().any():  # else nothing was measured while they trained
        by_method.panels += [
            wr.LinePlot(title=f"validation kNN over {name}", x=x, y=[VALIDATION]) for x, name in CURVE_AXES.items()
        ]
    accuracy = wr.SummaryMetric(ACCURACY)
    panels: list[Any] = [wr.ScatterPlot(title=f"{top1} against seconds", x=wr.SummaryMetric(SECONDS), y=accuracy)]
    for name in find_varying(part):
        setting = name.removeprefix("settings.")
        axis, title = wr.Config(_locate_setting(setting)), f"{top1} over {labels.strip_prefix(setting)}"
        values = part[name].dropna()
        if setting in ("method", "dataset.name"):
            continue
        if (
            pd.api.types.is_numeric_dtype(values.infer_objects())
            and not values.map(lambda value: isinstance(value, bool)).any()
        ):
            wide = values.min() > 0 and values.max() >= LOG_FROM * values.min()
            panels.append(wr.ScatterPlot(title=title, x=axis, y=accuracy, log_x=bool(wide)))
        else:
            bars = wr.BarPlot(title=title, metrics=[accuracy], groupby=axis, groupby_aggfunc="mean")
            panels.append(bars)
    runsets = [select_runs(name, f" and Config('method') == {_quote(name)}") for name in part["method"].unique()]
    return [by_method, wr.PanelGrid(runsets=runsets, panels=panels)]


def _locate_setting(name: str) -> str:
    """Where a run's configuration has it; what the machine made of the settings stands apart."""
    return f"resolved.{name}" if name in RESOLVED else name


def _quote(text: str) -> str:
    """As a literal of the client's filters, which would change an equals sign, or end at a quote, inside of one."""
    return "'" + "".join(sign if sign.isalnum() or sign in " _-./" else f"\\U{ord(sign):08x}" for sign in text) + "'"
