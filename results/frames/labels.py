"""How a setting, its value and a configuration are written, the same in every table and figure; nothing else is here.

A configuration is a row of `summaries.summarise`. Its name is its method and what tells it from the others of its
method, dataset and protocol: `moco queue=4096`. A figure may have room for part of a name only, and then says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from results.frames.frame import setting_columns

# Settings that are changed along with another one: where that is told, they are not, and they split no curve.
FOLLOWS = {"batch_size": ("microbatch",)}
NONE = "–"
_LONG = 40  # characters: in figures a longer name leaves usual values out, and a longer value is cut


def setting(name: str) -> str:
    """A setting's column without the prefix of a method's own options."""
    return name.removeprefix("options.")


def headers(names: Sequence[str]) -> dict[str, str]:
    """Column -> what heads it: an option that is named like a setting of all methods keeps its prefix."""
    return {name: name if setting(name) in names else setting(name) for name in names}


@lru_cache(maxsize=2**16, typed=True)  # a few values stand in thousands of rows; True is not 1
def value(raw: Any) -> str:
    """A setting as the command line takes it; a whole number may stand in a column of floats. Null does not apply."""
    if pd.isna(raw):
        return NONE
    if isinstance(raw, bool | np.bool_):
        return str(bool(raw)).lower()
    if isinstance(raw, float):
        return str(int(raw)) if raw.is_integer() and abs(raw) < 1e15 else f"{raw:.6g}"
    return " ".join(str(raw).split())


def label(method: str, settings: Mapping[str, str]) -> str:
    """A method, and settings that are texts already."""
    return " ".join([method, *(f"{head}={settings[name]}" for name, head in headers(list(settings)).items())])


def append_data(name: str, dataset: str, protocol: str) -> str:
    """A name where those of several datasets or protocols stand under each other and no column says which is whose."""
    return f"{name} ({dataset}, protocol {protocol[:8]})"


def find_differences(groups: Sequence[Hashable], rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Of each row's settings those that tell it from the others of its group, and what follows them only where
    nothing else does. All rows have the same settings, as texts."""
    together: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        together.setdefault(group, []).append(place)
    differences: list[dict[str, str]] = [{} for _ in rows]
    for places in together.values():
        differing = [name for name in rows[places[0]] if len({rows[place][name] for place in places}) > 1]
        followers = {follower for name in differing for follower in FOLLOWS.get(name, ())}
        leading = [name for name in differing if name not in followers]
        for names in (leading, differing):
            for place in places:
                differences[place] = {name: rows[place][name] for name in names}
            if len({tuple(differences[place].values()) for place in places}) == len(places):
                break
    return differences


def names(table: pd.DataFrame) -> list[str]:
    """The name of each configuration: a text for each row of `table`, whose columns are as `summaries.summarise` has
    them. No two of a dataset and protocol are equal."""
    data, each = _name_parts(table)
    texts = [label(*parts) for parts in zip(table["method"], each, strict=True)]
    return _number_repeats_within(data, texts)


def abbreviate(table: pd.DataFrame) -> tuple[list[str], str]:
    """`names` of one dataset and protocol as a figure has room for them: where some are long, without the values that
    are usual for the method. And a sentence for the caption that says what is left out, "" where nothing is."""
    _, each = _name_parts(table)
    methods = table["method"].tolist()
    each = [{name: brief(text) for name, text in parts.items()} for parts in each]
    whole = [label(*pair) for pair in zip(methods, each, strict=True)]
    if max(map(len, whole), default=0) <= _LONG:
        return number_repeats(whole), ""
    usual: dict[str, dict[str, str]] = {}
    for method in dict.fromkeys(methods):
        own = [parts for owner, parts in zip(methods, each, strict=True) if owner == method]
        counts = {name: Counter(parts[name] for parts in own) for name in own[0]}
        usual[method] = {name: max(sorted(count), key=count.__getitem__) for name, count in counts.items()}
    short = []
    for method, parts in zip(methods, each, strict=True):
        short.append(label(method, {name: text for name, text in parts.items() if text != usual[method][name]}))
    if len(set(short)) < len(short):
        return number_repeats(whole), ""
    shared: dict[str, list[str]] = {}
    for method, settings in usual.items():
        known = {name: text for name, text in settings.items() if text != NONE}
        shared.setdefault(label("", known).strip(), []).append(method)
    words = "; ".join(f"{', '.join(methods)}: {text}" for text, methods in shared.items() if text)
    return short, f" Labels name what differs from the usual ({words})."


def number_repeats(texts: Sequence[str]) -> list[str]:
    """Texts as they are; equal ones, which would share a row or a file, with a number."""
    return _number_repeats_within([None] * len(texts), texts)


def _number_repeats_within(groups: Sequence[Hashable], texts: Sequence[str]) -> list[str]:
    counts: Counter[tuple[Hashable, str]] = Counter()
    distinct_texts = []
    for group, text in zip(groups, texts, strict=True):
        counts[group, text] += 1
        distinct_texts.append(text if counts[group, text] == 1 else f"{text} #{counts[group, text]}")
    return distinct_texts


def _name_parts(table: pd.DataFrame) -> tuple[list[Hashable], list[dict[str, str]]]:
    """Of each row its dataset and protocol, and the settings that its name tells."""
    columns = {name: list(map(value, table[name])) for name in setting_columns(table) if name != "method"}
    blank = [NONE] * len(table)
    data = list(zip(columns.get("dataset.name", blank), table.get("protocol", blank), strict=True))
    rows = [dict(zip(columns, texts, strict=True)) for texts in zip(*columns.values(), strict=True)]
    groups = list(zip(data, table["method"], strict=True))
    return list(data), find_differences(groups, rows or [{} for _ in blank])


def brief(text: str) -> str:
    """A value as a figure has room for it."""
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
