"""The families of methods, by where their signal comes from: their order, their words, and when they group rows."""

from __future__ import annotations

import pandas as pd

from results.frames.frame import FAMILY

# `methods.FAMILIES`, which nothing here may import; a test holds the two equal.
FAMILIES = (
    "end_to_end",
    "memory_bank",
    "momentum",
    "clustering",
    "no_negatives",
    "pretext",
    "reconstruction",
    "energy",
    "reference",
)
OTHER = "other"  # what a plugin is of that names none of them
MOST = 6  # methods that a reader takes in without groups


def are_grouped(table: pd.DataFrame) -> bool:
    """Whether rows are grouped: a dataset has more than `MOST` methods, and they are of several known families.

    `table` has a row a configuration, with its `method`, `family` and, where it is known, `dataset.name`.
    """
    declared = table[FAMILY].where(table[FAMILY].isin(FAMILIES))
    datasets = table.reindex(columns=["dataset.name"])["dataset.name"].map(str)
    methods, families = table["method"].groupby(datasets).nunique(), declared.groupby(datasets).nunique()
    return bool(((methods > MOST) & (families > 1)).any())


def find_order(family: str) -> int:
    """Where a family stands, by its name or in words: as in `FAMILIES`, and what is of none of them last."""
    name = family.replace(" ", "_")
    return FAMILIES.index(name) if name in FAMILIES else len(FAMILIES)


def to_words(family: str) -> str:
    """A family as a reader reads it: "end to end"."""
    return family.replace("_", " ") if family in FAMILIES else OTHER
