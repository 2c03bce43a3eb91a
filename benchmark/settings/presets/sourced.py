"""A preset's values, each with where it has it from: a paper, code, or ourselves."""

from __future__ import annotations

from typing import NamedTuple

NOT_TUNED = "ours, not tuned"
BY_TRIALS = "ours, by trials with test numbers in sight"
BY_VALIDATION = "ours, by tuning on validation"


class Value(NamedTuple):
    """A word's value as a user would type it, and its source."""

    value: str
    source: str


Preset = dict[str, Value]  # word -> value


def cite(methods: str, source: str, /, **words: str) -> Preset:
    """`words` for each of `methods`, joined by commas, or for all of them where that is ""."""
    names = [f"{method}." for method in methods.split(",")] if methods else [""]
    return {name + word: Value(value, source) for name in names for word, value in words.items()}


def ours(why: str, kind: str = NOT_TUNED) -> str:
    """The source of a value of our own: how it was chosen, and why."""
    return f"{kind}: {why}"
