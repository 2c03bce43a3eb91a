"""The answer in words, before any table: what may be best, what the seeds cannot tell apart, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from results.quantity import quantify
from results.statistics import compare, layout
from results.statistics.comparable import Comparable
from results.statistics.summaries import configurations

_NAMED = 5


def verdict(frame: pd.DataFrame, comparables: Sequence[Comparable], ranks: pd.DataFrame) -> list[str]:
    """A text on all of what `frames.frame.load` returned, and one on each of its comparables and their ranks.

    `ranks` is what `compare.ranks` returned for their metric.
    """
    if frame.empty:
        return ["There are no records yet."]
    texts = [_counts(frame)]
    cells = frame.reset_index(drop=True)
    cells = cells.assign(row=configurations(cells))
    for among in comparables:
        own = ranks[(ranks["protocol"] == among.protocol) & (ranks["dataset"] == among.dataset)]
        texts.append(_describe_comparable(among, own, cells[cells["row"].isin(own["row"])]))
    if len(texts) > 2:
        texts.append("Numbers of different datasets or protocols are not compared.")
    return texts


def _counts(frame: pd.DataFrame) -> str:
    counts = frame["status"].value_counts()
    words = ("finished", "failed", "collapsed", *(["stopped"] if "stopped" in counts else []))
    states = ", ".join(f"{counts.get(word, 0)} {word}" for word in words)
    devices = sorted({str(device) for device in frame["cost.device"].dropna()})
    on = f" Trained on {', '.join(devices)}." if devices else ""
    return f"{quantify(len(frame), 'cell')} of {quantify(frame['method'].nunique(), 'method')}: {states}.{on}"


def _describe_comparable(among: Comparable, ranks: pd.DataFrame, cells: pd.DataFrame) -> str:
    named = dict(zip(among.table["row"], among.table["configuration"], strict=True))
    text = (
        f"{among.dataset or 'unnamed data'}, protocol {among.protocol[:8]}: {quantify(len(ranks), 'configuration')}, "
    )
    text += f"{_seeds(ranks)}. "
    finished = ranks[ranks["mean"].notna()]
    if finished.empty:
        return text + f"None has a {among.measure}."
    first = finished.iloc[0]
    text += f"The highest {among.measure} is {100 * first['mean']:.1f} % by {named[first['row']]}"
    text += _joint_interval(first, several=len(finished) > 1)
    ranked = finished[finished["best"].notna()]
    if len(finished) == 1:
        return text.rstrip()
    if ranked.empty:
        return text + _explain_untested(finished)
    leaders = ranked[ranked["best"] == 1]
    untested = len(finished) - len(ranked)
    if len(leaders) == 1 and leaders["worst"].iloc[0] == 1:
        text += (
            f"It is significantly better than {_others(len(ranked) - 1)} that could be tested."
            if leaders["row"].iloc[0] == first["row"]
            else f"Of those that could be tested, {named[leaders['row'].iloc[0]]} is the best."
        )
    else:
        names = [named[row] for row in leaders["row"].head(_NAMED)]
        more = f" and {len(leaders) - _NAMED} more" if len(leaders) > _NAMED else ""
        text += f"{_all(len(leaders), len(ranked))} may be the best, for nothing is significantly better than them: "
        text += f"{', '.join(names)}{more}."
    text += f" {untested} could not be tested." if untested else ""
    rows = dict.fromkeys([first["row"], *leaders["row"].head(_NAMED)])
    return text + "".join(_describe_lost(cells[cells["row"] == row], named[row], among.metric, cells) for row in rows)


def _explain_untested(finished: pd.DataFrame) -> str:
    if finished["interval"].str.endswith(compare.SAME).any():
        why = "a seed changes nothing but all alike, and records do not say of how many test images an accuracy is."
    else:
        why = "that takes two seeds or more that configurations share."
    return f"Nothing can be tested: {why}"


def _others(number: int) -> str:
    return "the other" if number == 1 else f"each of the {number} others"


def _joint_interval(first: pd.Series, several: bool) -> str:
    """The interval of the highest mean, which was chosen for being it, so that the interval must hold for all."""
    if math.isnan(first["joint_low"]):
        return ". "
    ends = f"{100 * first['joint_low']:.1f} to {100 * first['joint_high']:.1f}"
    images = " for other test images and the same weights" if first["interval"].startswith(compare.IMAGES) else ""
    return f" ({ends}{images}{', by an interval that holds for all of them at once' if several else ''}). "


def _describe_lost(own: pd.DataFrame, name: str, metric: str, cells: pd.DataFrame) -> str:
    """A sentence on the seeds that one of the best lost, and its mean if they had been at chance; or nothing."""
    finished = own[own["status"] == "finished"]
    lost = own[~own["seed"].isin(finished["seed"])].drop_duplicates("seed").sort_values("seed")
    if lost.empty or finished.empty:
        return ""
    seeds = ", ".join(f"{seed:g}" for seed in lost["seed"])
    text = f" {name} lost {'seed' if len(lost) == 1 else 'seeds'} {seeds} ({' and '.join(sorted(set(lost['status'])))})"
    guess, values = layout.chance(cells), finished.groupby("seed")[f"metrics.{metric}"].mean()
    if math.isnan(guess):
        return f"{text}."
    worst = (values.sum() + guess * len(lost)) / (len(values) + len(lost))
    return f"{text}; at chance there, {100 * guess:.1f} %, its mean would be {100 * worst:.1f}."


def _all(number: int, whole: int) -> str:
    return f"All {whole}" if number == whole else f"{number} of {whole}"


def _seeds(ranks: pd.DataFrame) -> str:
    least, most = int(ranks["n"].min()), int(ranks["n"].max())
    return f"{quantify(most, 'seed')} each" if least == most else f"{least} to {most} seeds each"
