"""The answer in words, before any table: what may be best, what the seeds cannot tell apart, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from results.quantity import quantify
from results.statistics import compare, layout
from results.statistics.comparable import Comparable
from results.statistics.summaries import number_configurations

_NAMED = 5


def conclude(
    frame: pd.DataFrame, comparables: Sequence[Comparable], ranks: pd.DataFrame, tests: pd.DataFrame | None = None
) -> list[str]:
    """A text on all of what `frames.frame.load` returned, and one on each of its comparables and their ranks.

    `ranks` is what `compare.rank_configurations` returned for their metric, and `tests` what `compare.compare_pairs`
    did with a reference, which the texts then name what is better than.
    """
    if frame.empty:
        return ["There are no records yet."]
    texts = [_describe_counts(frame)]
    cells = frame.reset_index(drop=True)
    cells = cells.assign(row=number_configurations(cells))
    for comparable in comparables:
        part = ranks[(ranks["protocol"] == comparable.protocol) & (ranks["dataset"] == comparable.dataset)]
        text = _describe_comparable(comparable, part, cells[cells["row"].isin(part["row"])])
        if tests is not None:
            of_part = tests["protocol"].eq(comparable.protocol) & tests["dataset"].eq(comparable.dataset)
            text += _describe_reference(tests[of_part])
        texts.append(text)
    if len(texts) > 2:
        texts.append("Numbers of different datasets or protocols are not compared.")
    return texts


def _describe_counts(frame: pd.DataFrame) -> str:
    counts = frame["status"].value_counts()
    words = ("finished", "failed", "collapsed", *(["stopped"] if "stopped" in counts else []))
    states = ", ".join(f"{counts.get(word, 0)} {word}" for word in words)
    devices = sorted({str(device) for device in frame["cost.device"].dropna()})
    devices_text = f" Trained on {', '.join(devices)}." if devices else ""
    return f"{quantify(len(frame), 'cell')} of {quantify(frame['method'].nunique(), 'method')}: {states}.{devices_text}"


def _describe_comparable(comparable: Comparable, ranks: pd.DataFrame, cells: pd.DataFrame) -> str:
    name_of = dict(zip(comparable.table["row"], comparable.table["configuration"], strict=True))
    text = f"{comparable.dataset or 'unnamed data'}, protocol {comparable.protocol[:8]}: "
    text += f"{quantify(len(ranks), 'configuration')}, {_describe_seeds(ranks)}. "
    finished = ranks[ranks["mean"].notna()]
    if finished.empty:
        return text + f"None has a {comparable.measure}."
    first = finished.iloc[0]
    text += f"The highest {comparable.measure} is {100 * first['mean']:.1f} % by {name_of[first['row']]}"
    text += _format_joint_interval(first, several=len(finished) > 1)
    ranked = finished[finished["best"].notna()]
    if len(finished) == 1:
        return text.rstrip()
    if ranked.empty:
        return text + _explain_untested(finished)
    leaders = ranked[ranked["best"] == 1]
    untested = len(finished) - len(ranked)
    if len(leaders) == 1 and leaders["worst"].iloc[0] == 1:
        text += (
            f"It is significantly better than {_name_others(len(ranked) - 1)} that could be tested."
            if leaders["row"].iloc[0] == first["row"]
            else f"Of those that could be tested, {name_of[leaders['row'].iloc[0]]} is the best."
        )
    else:
        text += f"{_format_share(len(leaders), len(ranked))} may be the best, for nothing is significantly better than "
        text += f"them: {_list_names([name_of[row] for row in leaders['row']])}."
    text += f" {untested} could not be tested." if untested else ""
    rows = dict.fromkeys([first["row"], *leaders["row"].head(_NAMED)])
    return text + "".join(
        _describe_lost(cells[cells["row"] == row], name_of[row], comparable.metric, cells) for row in rows
    )


def _describe_reference(tests: pd.DataFrame) -> str:
    """What is better than the reference, worse, and neither, by the tests with it alone; "" where it is not."""
    tested = tests[tests["p_adjusted"].notna()]
    if tested.empty:
        return ""
    higher = tested["difference"] > 0
    sets = {
        "significantly better": tested[tested["significant"] & higher],
        "significantly worse": tested[tested["significant"] & ~higher],
        "no significant difference": tested[~tested["significant"]],
    }
    texts = [f"{word}: {_list_names(part['configuration'].tolist())}" for word, part in sets.items() if len(part)]
    return f" Compared with {tested['reference'].iloc[0]} alone, {'; '.join(texts)}."


def _list_names(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _explain_untested(finished: pd.DataFrame) -> str:
    if finished["interval"].str.endswith(compare.SAME).any():
        reason = "a seed changes nothing but all alike, and records do not say of how many test images an accuracy is."
    else:
        reason = "that takes two seeds or more that configurations share."
    return f"Nothing can be tested: {reason}"


def _name_others(number: int) -> str:
    return "the other" if number == 1 else f"each of the {number} others"


def _format_joint_interval(first: pd.Series, several: bool) -> str:
    """The interval of the highest mean, which was chosen for being it, so that the interval must hold for all."""
    if math.isnan(first["joint_low"]):
        return ". "
    ends = f"{100 * first['joint_low']:.1f} to {100 * first['joint_high']:.1f}"
    images = " for other test images and the same weights" if first["interval"].startswith(compare.IMAGES) else ""
    return f" ({ends}{images}{', simultaneous for all of them' if several else ''}). "


def _describe_lost(runs: pd.DataFrame, name: str, metric: str, cells: pd.DataFrame) -> str:
    """A sentence on the seeds that one of the best lost, and its mean if they had been at chance; or nothing."""
    finished = runs[runs["status"] == "finished"]
    lost = runs[~runs["seed"].isin(finished["seed"])].drop_duplicates("seed").sort_values("seed")
    if lost.empty or finished.empty:
        return ""
    seeds = ", ".join(f"{seed:g}" for seed in lost["seed"])
    text = f" {name} lost {'seed' if len(lost) == 1 else 'seeds'} {seeds} ({' and '.join(sorted(set(lost['status'])))})"
    chance, values = layout.find_chance(cells), finished.groupby("seed")[f"metrics.{metric}"].mean()
    if math.isnan(chance):
        return f"{text}."
    worst = (values.sum() + chance * len(lost)) / (len(values) + len(lost))
    return f"{text}; at chance there, {100 * chance:.1f} %, its mean would be {100 * worst:.1f}."


def _format_share(number: int, whole: int) -> str:
    if number != whole:
        return f"{number} of {whole}"
    return "Both" if whole == 2 else f"All {whole}"


def _describe_seeds(ranks: pd.DataFrame) -> str:
    least, most = int(ranks["n"].min()), int(ranks["n"].max())
    return f"{quantify(most, 'seed')} each" if least == most else f"{least} to {most} seeds each"
