"""What can be told apart, as rows of text and the sentences that belong to them. Fractions become percentages here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from results.frames import labels
from results.statistics import compare, moderated
from results.statistics.significance import MOST_SEEDS

_SHARED = "the variance that configurations share"


def tabulate(
    frame: pd.DataFrame,
    reference: str | None = None,
    metric: str = "linear_top1",
    ranked: pd.DataFrame | None = None,
) -> list[list[str]]:
    """The comparison of an accuracy as rows of text under a header, in percent; none where there are no records.

    `ranked` is what `compare.rank_configurations` returned for the same metric, where it has been made already.
    `explain` says how the numbers were made.

    Ranks are corrected over all pairs, differences to the `reference` over the fewer comparisons with it: a
    difference can be significant while the ranks overlap.
    """
    table = compare.rank_configurations(frame, metric) if ranked is None else ranked
    if table.empty:
        return []
    cells: dict[str, Any] = {"dataset": table["dataset"], "protocol": table["protocol"].str[:8]}
    cells = {name: column for name, column in cells.items() if table[name].nunique() > 1}
    cells |= {"configuration": table["configuration"], "seeds": table["n"].astype(str)}
    cells |= {f"{metric} %": _format_percents(table, "mean")} | _split_intervals(table, "±") | {"rank": table["rank"]}
    own_texts = [
        f"its own seeds: {100 * own_texts:.1f}" * (abs(own_texts - mean) >= 5e-4)
        for own_texts, mean in _pick(table, "own", "mean")
    ]
    reasons = table["interval"].where(table["over"].eq(""), "").str.removeprefix(compare.NONE)
    notes = [reasons, own_texts, np.where(table["wide"], "spread over three times the median", ""), table["note"]]
    if reference is not None:
        keys = ["protocol", "dataset", "configuration"]
        tests = compare.compare_pairs(frame, reference, metric)
        needed = compare.count_seeds_needed(tests)[[*keys, "seeds", "least", "most"]]
        differences = table[keys].merge(tests, "left").merge(needed, "left")
        cells |= {f"minus {reference}": _format_percents(differences, "difference", "+")} | _split_intervals(
            differences, "difference ±"
        )
        cells["p"] = [_format(p, ".2g") for p in differences["p_adjusted"]]
        cells["p (Holm's t)"] = [_format(p, ".2g") for p in differences["p_holm"]]
        seeds = [
            [_format(count, ".0f").replace("inf", f">{MOST_SEEDS}") for count in differences[name]]
            for name in ("seeds", "least", "most")
        ]
        cells["seeds needed"] = [
            f"{count} ({least} to {most})" if count != labels.NONE else count
            for count, least, most in zip(*seeds, strict=True)
        ]
        notes += [differences["note"].fillna("")]
    cells["note"] = ["; ".join(dict.fromkeys(filter(None, texts))) for texts in zip(*notes, strict=True)]
    return [list(cells), *pd.DataFrame(cells).to_numpy().tolist()]


def explain(table: pd.DataFrame) -> list[str]:
    """Sentences on how the intervals and ranks that `compare.rank_configurations` returned were made, and what they
    assume."""
    kinds, tested = set(table["interval"]), table["over"] != ""
    images = table["by_images"].notna()
    if not tested.any() and not images.any():
        return []
    texts = [f"Intervals are over {_describe_source(tested, images)} and cut at 0 and 100."]
    if not images.any():
        texts.append("The part of the test images is missing: no record holds which of them were right.")
    elif (table["over"] == compare.BOTH).any():
        texts.append("A difference is claimed for new seeds and new test images.")
    without_images = table["configuration"][table["over"] == compare.SEEDS]
    if images.any() and len(without_images):
        names = ", ".join(without_images)
        texts.append(f"Over seeds alone, as differences from them, for records lack which images were right: {names}.")
    if table["interval"].str.startswith(compare.IMAGES).any():
        texts.append("Images only: for new test images and the same weights. No difference is claimed by these.")
    if not tested.any():
        return texts
    if ((table["own"] - table["mean"]).abs() >= 5e-4).any():
        texts.append("Where a configuration lacks seeds, its mean is on the footing of the others, by least squares.")
    has_two_seeds = compare.TWO_SEEDS in kinds
    if has_two_seeds or compare.SHARED in kinds:
        kind = "Intervals" if has_two_seeds else "95 % intervals"
        texts.append(f"{kind}, each of one mean, and ranks, corrected for all pairs, are by {_SHARED}.")
    if has_two_seeds:
        texts.append("Two seeds: intervals and ranks assume comparable spreads, which two seeds cannot show.")
    if "t" in kinds:
        texts.append("95 % intervals of one or two configurations are by their own seeds alone.")
    if table["wide"].any():
        names = ", ".join(table["configuration"][table["wide"]])
        texts.append(f"Variance over {moderated.WIDE} times the median: {names}.")
        texts.append("Differences from these are called significant in more than 5 % of studies of few seeds.")
    return texts


def _describe_source(tested: pd.Series, images: pd.Series) -> str:
    return "seeds and test images" if (tested & images).any() else "test images" if images.any() else "seeds"


def _split_intervals(table: pd.DataFrame, head: str) -> dict[str, list[str]]:
    """The columns of what seeds and test images make of an interval, each alone; none where no images are known."""
    if table["by_images"].isna().all():
        return {}
    return {f"{head} by {part}": [_format(100 * x, ".1f") for x in table[f"by_{part}"]] for part in ("seeds", "images")}


def _format_percents(table: pd.DataFrame, name: str, sign: str = "") -> list[str]:
    """Texts like `+1.2 (0.3 to 2.1)` of the fractions in the columns `name`, `low` and `high`."""
    triples = 100 * table[[name, "low", "high"]].to_numpy(dtype=float)
    return [
        _format(value, f"{sign}z.1f") + ("" if math.isnan(low) else f" ({low:z.1f} to {high:z.1f})")
        for value, low, high in triples
    ]


def _pick(table: pd.DataFrame, *names: str) -> list[list[float]]:
    return table[list(names)].to_numpy(dtype=float).tolist()


def _format(value: float, form: str) -> str:
    return labels.NONE if math.isnan(value) else format(value, form)
