"""Configurations as figures need them: of one protocol and dataset, a row each with settings, interval and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from results import compare
from results.frame import setting_columns
from results.statistics import configurations, summarise, varying

# Settings that follow another one and would split its curve.
FOLLOWS = {"batch_size": ("microbatch",)}
_LONG = 40  # characters: a longer label leaves usual values out, a longer value is cut


@dataclass(frozen=True)
class Family:
    """The configurations of one protocol and dataset, whose numbers may be compared.

    `table`: the rows of `statistics.summarise` with `row`, their place in it; `label`, the method and what tells it
    apart within the method; `n`, and `mean`, `low`, `high` in percent; `hours`, `memory` in GiB; `lost`, a text on
    the failed and collapsed runs, "" without any. `usual` says which settings the labels leave out.
    """

    dataset: str
    protocol: str
    metric: str
    table: pd.DataFrame
    names: tuple[str, ...]  # settings that vary within a method
    usual: str
    several: bool  # the frame has other families

    @property
    def suffix(self) -> str:
        """What a title needs where there are other families."""
        return f" – {self.dataset}, protocol {self.protocol[:8]}" if self.several else ""

    @property
    def measure(self) -> str:
        return self.metric.replace("_top1", " top-1").replace("_", " ")

    @property
    def file(self) -> str:
        return f"-{self.dataset}-{self.protocol[:8]}" if self.several else ""

    @property
    def lost(self) -> str:
        """A sentence on runs that gave no number, or nothing."""
        counts = [(int(self.table[status].sum()), status) for status in ("failed", "collapsed")]
        told = " and ".join(f"{count} {status}" for count, status in counts if count)
        return f" Not in any mean: {told} runs." if told else ""


def families(frame: pd.DataFrame, metric: str, made: pd.DataFrame | None = None) -> list[Family]:
    """Every family of a loaded frame, in order of first appearance.

    `made` is what `compare.intervals` or `compare.ranks` returned for the metric, where it is there already.
    Raises ValueError for a metric that no record has.
    """
    if frame.empty:
        return []
    found = (compare.intervals(frame, metric) if made is None else made).sort_values("row")
    summary = _with_costs(frame)
    several = found[["protocol", "dataset"]].drop_duplicates().shape[0] > 1
    collected = []
    for keys, part in found.groupby(["protocol", "dataset"], sort=False):
        protocol, dataset = map(str, keys)
        table = summary.loc[part["row"]].assign(row=part["row"].to_numpy(), n=part["n"].to_numpy())
        table = table.assign(**{name: part[name].to_numpy() * 100 for name in ("mean", "low", "high")})
        table = table.reset_index(drop=True)
        names = _within(table)
        labels, usual = _labels(table, names)
        table = table.assign(label=labels, lost=[_lost(*pair) for pair in table[["failed", "collapsed"]].to_numpy()])
        collected.append(Family(dataset, protocol, metric, table, tuple(names), usual, several))
    return collected


def headline(frame: pd.DataFrame) -> str:
    """The accuracy that figures show: the linear probe's, else the first accuracy that some record has."""
    known = [name.removeprefix("metrics.") for name in frame.columns if name.startswith("metrics.")]
    accuracies = [name for name in known if name.endswith("_top1") and frame[f"metrics.{name}"].notna().any()]
    return next((name for name in ("linear_top1", "knn20_top1", *accuracies) if name in accuracies), "linear_top1")


def short(name: str) -> str:
    return name.removeprefix("options.")


def text(value: Any) -> str:
    """A setting as people write it; a whole number may stand in a column of floats."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return " ".join(str(value).split())


def brief(value: Any) -> str:
    """A setting as a figure has room for it."""
    whole = text(value)
    return whole if len(whole) <= _LONG else whole[: _LONG - 1] + "…"


def _with_costs(frame: pd.DataFrame) -> pd.DataFrame:
    """The summary, with the hours of all processes: four GPUs for an hour are four hours."""
    summary = summarise(frame, [])
    finished = frame.reset_index(drop=True)
    finished = finished[finished["status"] == "finished"]
    hours = finished["cost.seconds"] * finished["cost.processes"].fillna(1) / 3600
    group = configurations(frame.reset_index(drop=True)).loc[finished.index]
    return summary.assign(hours=hours.groupby(group).median(), memory=summary["cost.peak_memory_bytes"] / 2**30)


def _within(table: pd.DataFrame) -> list[str]:
    """The settings that vary within a method; what only tells methods apart is told by their names."""
    found = [varying(part) for _, part in table[["method", *_settings(table)]].groupby("method", sort=False)]
    return [name for name in _settings(table) if any(name in names for names in found)]


def _settings(table: pd.DataFrame) -> list[str]:
    return [name for name in setting_columns(table) if name not in ("method", *_OWN)]


_OWN = ("row", "n", "mean", "low", "high", "hours", "memory", "label", "lost", "protocol")


def _labels(table: pd.DataFrame, names: Sequence[str]) -> tuple[list[str], str]:
    """Texts like `moco queue=4096`, and a sentence on what they leave out."""
    followers = {follower for name in names for follower in FOLLOWS.get(name, ())}
    own: dict[str, list[str]] = {}
    for method, part in table.groupby("method", sort=False):
        varied = varying(part[["method", *names]])
        own[str(method)] = [name for name in varied if name not in (*followers, "method")]
    # Texts, so that null is a value like any other; a single configuration may lack what all others have.
    values = table[list(names)].astype(object).map(lambda value: "–" if pd.isna(value) else text(value))

    def made(left_out: dict[tuple[str, str], str]) -> list[str]:
        labels = []
        for method, row in zip(table["method"], values.to_dict("records"), strict=True):
            told = [name for name in own[method] if row[name] != left_out.get((method, name), "–")]
            labels.append(" ".join([method, *(f"{short(name)}={brief(row[name])}" for name in told)]))
        return labels

    labels = made({})
    if max(map(len, labels)) <= _LONG:
        return labels, ""
    usual = {
        (str(method), name): part[name].mode().iloc[0]
        for method, part in values.groupby(table["method"], sort=False)
        for name in own[str(method)]
    }
    differing = made(usual)
    if len(set(differing)) < len(labels):
        return labels, ""
    shared: dict[str, list[str]] = {}
    for method in own:
        told = " ".join(
            f"{short(name)}={brief(usual[method, name])}" for name in own[method] if usual[method, name] != "–"
        )
        shared.setdefault(told, []).append(method)
    words = "; ".join(f"{', '.join(methods)}: {told}" for told, methods in shared.items() if told)
    return differing, f" Labels name what differs from the usual ({words})."


def _lost(failed: int, collapsed: int) -> str:
    return ", ".join(f"{count} {word}" for count, word in ((failed, "failed"), (collapsed, "collapsed")) if count)
