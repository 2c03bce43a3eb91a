"""Configurations as figures need them: of one protocol and dataset, a row each with settings, interval and cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from results.frames import labels, method_families
from results.frames.frame import FAMILY, NOT_FINISHED, find_settings
from results.statistics import compare
from results.statistics.stability import find_accuracies
from results.statistics.summaries import find_varying, number_configurations, summarise


@dataclass(frozen=True)
class Comparable:
    """The configurations of one protocol and dataset, whose numbers may be compared.

    `table`: the rows of `summaries.summarise` with `row`, their place in it; `configuration`, its name, and `label`,
    as much of it as figures have room for; `n`, and `mean`, `low`, `high` in percent; `cost.hours`, `cost.memory` in
    GiB; `lost`, a text on the runs that did not finish, "" without any; `group`, the family in words, "" where rows
    are not grouped; `interval`, `over` and `joined`, as `compare.rank_configurations` has them. `usual` says what the
    labels leave out.
    """

    dataset: str
    protocol: str
    metric: str
    table: pd.DataFrame
    names: tuple[str, ...]  # settings that vary within a method
    usual: str
    several: bool  # the frame has others, of other data or protocols

    @property
    def suffix(self) -> str:
        """What a title needs where there are others."""
        return f" – {self.dataset}, protocol {self.protocol[:8]}" if self.several else ""

    @property
    def measure(self) -> str:
        return self.metric.replace("_top1", " top-1").replace("_", " ")

    @property
    def file(self) -> str:
        return f"-{self.dataset}-{self.protocol[:8]}" if self.several else ""

    @property
    def bars(self) -> str:
        """What the bars of a figure are; "" where there are none."""
        if self.table["low"].isna().all():
            return ""
        kinds, over = self.table["interval"], set(self.table["over"])
        images = " and test images" if compare.BOTH in over else ""
        images += ", of some over seeds alone" if images and compare.SEEDS in over else ""
        if images and kinds.str.startswith(compare.IMAGES).any():
            images += ", of one seed over test images only"
        text = f"intervals over seeds{images}, by the variance that configurations share"
        if self.has_two_seeds:
            has_shared = kinds.eq(compare.SHARED).any()
            two_seeds_text = f"intervals over two seeds{images}, which assume comparable spreads"
            return f"{text}; those of two seeds assume comparable spreads" if has_shared else two_seeds_text
        if kinds.eq(compare.SHARED).any():
            return f"95 % {text}"
        return f"95 % intervals over {'test images only' if over == {''} else f'seeds{images}'}"

    @property
    def has_two_seeds(self) -> bool:
        """Whether some interval rests on comparable spreads, so that no 95 % is claimed."""
        return bool(self.table["interval"].eq(compare.TWO_SEEDS).any())

    @property
    def lost(self) -> str:
        """A sentence on runs that gave no number, or nothing."""
        counts = [(int(self.table[status].sum()), status) for status in NOT_FINISHED]
        counts_text = " and ".join(f"{count} {status}" for count, status in counts if count)
        runs = "run" if sum(count for count, _ in counts) == 1 else "runs"
        return f" Not in any mean: {counts_text} {runs}." if counts_text else ""


def group_comparables(frame: pd.DataFrame, metric: str, ranks: pd.DataFrame) -> list[Comparable]:
    """Every comparable of a loaded frame, in order of first appearance.

    `ranks` is what `compare.rank_configurations` returned for the metric.
    """
    if frame.empty:
        return []
    ranks = ranks.sort_values("row")
    summary = _add_costs(frame)
    several = ranks[["protocol", "dataset"]].drop_duplicates().shape[0] > 1
    collected = []
    for keys, part in ranks.groupby(["protocol", "dataset"], sort=False):
        protocol, dataset = map(str, keys)
        table = summary.loc[part["row"]].reset_index(drop=True)
        names, (short, usual) = _find_varying(table), labels.abbreviate(table)
        table = table.assign(row=part["row"].to_numpy(), n=part["n"].to_numpy(), label=short)
        table = table.assign(
            **{name: part[name].to_numpy() for name in ("configuration", "interval", "over", "joined")}
        )
        table = table.assign(**{name: part[name].to_numpy() * 100 for name in ("mean", "low", "high")})
        table = table.assign(lost=[_describe_losses(counts) for counts in table[[*NOT_FINISHED]].to_numpy()])
        words = table[FAMILY].map(method_families.to_words) if method_families.are_grouped(table) else ""
        table = table.assign(group=words)
        collected.append(Comparable(dataset, protocol, metric, table, tuple(names), usual, several))
    return collected


def choose_headline(frame: pd.DataFrame) -> str:
    """The accuracy on test images that figures show: the linear probe's, else the first that some record has."""
    measured = [name for name in find_accuracies(frame) if frame[f"metrics.{name}"].notna().any()]
    return next((name for name in ("linear_top1", "knn20_top1", *measured) if name in measured), "linear_top1")


def _add_costs(frame: pd.DataFrame) -> pd.DataFrame:
    """The summary, with the hours of all processes: four GPUs for an hour are four hours."""
    summary = summarise(frame, [])
    finished = frame.reset_index(drop=True)
    finished = finished[finished["status"] == "finished"]
    hours = finished["cost.seconds"] * finished["cost.processes"].fillna(1) / 3600
    group = number_configurations(frame.reset_index(drop=True)).loc[finished.index]
    memory = summary["cost.peak_memory_bytes"] / 2**30
    return summary.assign(**{"cost.hours": hours.groupby(group).median(), "cost.memory": memory})


def _find_varying(table: pd.DataFrame) -> list[str]:
    """The settings that vary within a method; what only tells methods apart is told by their names."""
    differing = {name for _, part in table.groupby("method", sort=False) for name in find_varying(part)} - {"method"}
    return [name for name in find_settings(table) if name in differing]


def _describe_losses(counts: Iterable[int]) -> str:
    return ", ".join(f"{count} {word}" for count, word in zip(counts, NOT_FINISHED, strict=True) if count)
