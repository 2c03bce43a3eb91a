"""How a value is written: text as the declared type, and a declared type as text."""

from __future__ import annotations

import math
import operator
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from types import NoneType
from typing import Any, Literal

from benchmark.errors import UsageError, nearest
from results import files

# Values that go by another name elsewhere, or are not offered and have a counterpart: for hints alone.
USUAL = {
    "16": "bf16",
    "16-mixed": "bf16",
    "32": "fp32",
    "64": "fp64",
    "adam": "adamw",
    "amp": "bf16",
    "double": "fp64",
    "float": "fp32",
    "float16": "bf16",
    "float32": "fp32",
    "float64": "fp64",
    "fp16": "bf16",
    "half": "bf16",
}


def parse_value(text: str, kind: Any, key: str) -> Any:
    """`text` as the declared type `kind`. Raises `UsageError` naming key, value and what is allowed."""
    kind, allowed = _split_words(_without_none(kind))
    if text in map(str, allowed):
        return next(word for word in allowed if str(word) == text)
    if kind is None:
        raise UsageError(f"{key}={text}: allowed are {', '.join(map(str, allowed))}{_hint(text, allowed)}")
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise UsageError(f"{key}={text}: true or false is needed")
    needed = {int: "a whole number", float: "a finite number"}.get(kind, f"a value of type {kind}")
    needed = " or ".join([needed, *allowed])
    try:
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError
    except ValueError:
        hint = _write_whole(text) if kind is int else ""
        raise UsageError(f"{key}={text}: {needed} is needed{hint or nearest(text, allowed)}") from None
    if kind in (int, float) and abs(value) > files.LARGEST:
        raise UsageError(f"{key}={text}: no record can hold a number beyond {files.LARGEST:.0e}")
    return round_number(value) if kind is float else value


def _hint(text: str, allowed: tuple[Any, ...]) -> str:
    """'; did you mean bf16?' for `fp16`, of which `fp64` is the nearest in letters alone."""
    usual = USUAL.get(text.lower(), text)
    return nearest(usual if usual in allowed else text, allowed)


def _write_whole(text: str) -> str:
    """'; did you mean 1000?' for a whole number that is written as another, such as 1e3 and 5.0, or nothing."""
    try:
        value = float(text)
    except ValueError:
        return ""
    return f"; did you mean {int(value)}?" if value.is_integer() and abs(value) < 1e12 else ""


def round_number(value: float) -> float:
    """To 12 digits: 0.6 and what 3 x 0.2 is in binary are one setting, and so are 0 and -0."""
    return float(f"{value:.12g}") + 0.0


def describe_type(kind: Any) -> str:
    """A declared type as a reader would say it."""
    kind, allowed = _split_words(_without_none(kind))
    names = {int: "whole number", float: "number", bool: "true, false", str: "text"}
    return ", ".join([*([names.get(kind, str(kind))] if kind else []), *map(str, allowed)])


def _split_words(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A declared type as the type of its values, if they have one, and the words that it allows: `int | Literal["a"]`
    as `int` and `a`."""
    if typing.get_origin(kind) is Literal:
        return None, typing.get_args(kind)
    for part in typing.get_args(kind):
        if typing.get_origin(part) is Literal:
            return next(other for other in typing.get_args(kind) if other is not part), typing.get_args(part)
    return kind, ()


def _without_none(kind: Any) -> Any:
    parts = typing.get_args(kind)
    return reduce(operator.or_, (part for part in parts if part is not NoneType)) if NoneType in parts else kind


def count_microbatches(batch_size: int, microbatch: int) -> int:
    """How many micro-batches the global batch is cut into."""
    return math.ceil(batch_size / microbatch) if 0 < microbatch < batch_size else 1


def batch_norm_groups(mode: str, processes: int) -> tuple[int, bool]:
    """(groups of the global batch that share statistics, whether the momentum encoder's are drawn at random)."""
    kind, _, count = mode.partition(":")
    if count and kind in ("split", "shuffle") and count.isdigit() and int(count) > 0:
        return int(count), kind == "shuffle"
    if mode in ("sync", "local", "shuffle"):
        return (1 if mode == "sync" else processes), mode == "shuffle"
    allowed = ("sync", "local", "shuffle", "shuffle:N", "split:N")
    raise UsageError(f"batch_norm={mode}: allowed are {', '.join(allowed)} with N at least 1{nearest(mode, allowed)}")


def list_range(texts: list[str], most: int) -> list[str]:
    """`0-4` as the whole numbers from 0 to 4, among other seeds as they are. Raises `UsageError` for over `most`, and
    for a range that is written otherwise."""
    numbers: list[str] = []
    for text in texts:
        ends = re.fullmatch(r"(\d{1,9})-(\d{1,9})", text)
        first, last = (int(ends[1]), int(ends[2])) if ends else (0, 0)
        if first > last:
            raise UsageError(f"seeds={text}: the first of a range is the smaller one, as in seeds={last}-{first}")
        if last - first > most:
            raise UsageError(f"seeds={text}: more than {most:,} seeds")
        if not ends and re.search(r"\d\W+\d|[\[\](){}]", text):
            raise UsageError(f"seeds={text}: whole numbers are needed, such as seeds=0,1,2 or, the same, seeds=0-2")
        numbers += map(str, range(first, last + 1)) if ends else [text]
    return numbers


def warn_of_one(seeds: Sequence[object]) -> list[str]:
    """What `seeds=3` may not have been meant to be, as a note or none."""
    if len(seeds) != 1 or not isinstance(one := seeds[0], int) or not 1 < one < 21:
        return []
    return [f"seeds={one} is one seed, the number {one}; {one} seeds are seeds=0-{one - 1}"]


@dataclass(frozen=True)
class Times:
    """So many times what a setting is without the word."""

    factor: float
    whole: bool  # rounded, and no less than 1 where there is any

    def of(self, value: float) -> float:
        return max(min(value, 1), round(self.factor * value)) if self.whole else round_number(self.factor * value)
