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

from results.frames.frame import find_settings

# Settings that are changed along with another one: where that is told, they are not, and they split no curve.
FOLLOWS = {"batch_size": ("microbatch",)}
NONE = "–"
_LONG = 40  # characters: in figures a longer name leaves usual values out, and a longer value is cut


def strip_prefix(name: str) -> str:
    """A setting's column without the prefix of a method's own options."""
    return name.removeprefix("options.")


def choose_headers(names: Sequence[str]) -> dict[str, str]:
    """Column -> what heads it: an option that is named like a setting of all methods keeps its prefix."""
    return {name: name if strip_prefix(name) in names else strip_prefix(name) for name in names}


@lru_cache(maxsize=2**16, typed=True)  # a few values stand in thousands of rows; True is not 1
def format_value(raw: Any) -> str:
    """A setting as the command line takes it; a whole number may stand in a column of floats. Null does not apply."""
    if pd.isna(raw):
        return NONE
    if isinstance(raw, bool | np.bool_):
        return str(bool(raw)).lower()
    if isinstance(raw, float):
        return str(int(raw)) if raw.is_integer() and abs(raw) < 1e15 else f"{raw:.6g}"
    return " ".join(str(raw).split())


def format_label(method: str, settings: Mapping[str, str]) -> str:
    """A method, and settings that are texts already."""
    return " ".join([method, *(f"{head}={settings[name]}" for name, head in choose_headers(list(settings)).items())])


def append_data(name: str, dataset: str, protocol: str) -> str:
    """A name where those of several datasets or protocols stand under each other and no column says which is whose."""
    return f"{name} ({dataset}, protocol {protocol[:8]})"


def find_differences(groups: Sequence[Hashable], rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Of each row's settings those that tell it from the others of its group, and what follows them only where
    nothing else does. All rows have the same settings, as texts."""
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    differences: list[dict[str, str]] = [{} for _ in rows]
    for indices in members.values():
        differing = [name for name in rows[indices[0]] if len({rows[i][name] for i in indices}) > 1]
        followers = {follower for name in differing for follower in FOLLOWS.get(name, ())}
        leading = [name for name in differing if name not in followers]
        for names in (leading, differing):
            for i in indices:
                differences[i] = {name: rows[i][name] for name in names}
            if len({tuple(differences[i].values()) for i in indices}) == len(indices):
                break
    return differences


def name_configurations(table: pd.DataFrame) -> list[str]:
    """The name of each configuration: a text for each row of `table`, whose columns are as `summaries.summarise` has
    them. No two of a dataset and protocol are equal."""
    data, settings = _split_names(table)
    texts = [format_label(*parts) for parts in zip(table["method"], settings, strict=True)]
    return _number_repeats_within(data, texts)


def abbreviate(table: pd.DataFrame) -> tuple[list[str], str]:
    """`names` of one dataset and protocol as a figure has room for them: where some are long, without the values that
    are usual for the method. And a sentence for the caption that says what is left out, "" where nothing is."""
    _, settings = _split_names(table)
    methods = table["method"].tolist()
    settings = [{name: shorten(text) for name, text in parts.items()} for parts in settings]
    full = [format_label(*pair) for pair in zip(methods, settings, strict=True)]
    if max(map(len, full), default=0) <= _LONG:
        return number_repeats(full), ""
    usual: dict[str, dict[str, str]] = {}
    for method in dict.fromkeys(methods):
        of_method = [parts for owner, parts in zip(methods, settings, strict=True) if owner == method]
        counts = {name: Counter(parts[name] for parts in of_method) for name in of_method[0]}
        usual[method] = {name: max(sorted(count), key=count.__getitem__) for name, count in counts.items()}
    short = []
    for method, parts in zip(methods, settings, strict=True):
        short.append(format_label(method, {name: text for name, text in parts.items() if text != usual[method][name]}))
    if len(set(short)) < len(short):
        return number_repeats(full), ""
    methods_by_text: dict[str, list[str]] = {}
    for method, usual_of_method in usual.items():
        applicable = {name: text for name, text in usual_of_method.items() if text != NONE}
        methods_by_text.setdefault(format_label("", applicable).strip(), []).append(method)
    words = "; ".join(f"{', '.join(methods)}: {text}" for text, methods in methods_by_text.items() if text)
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


def _split_names(table: pd.DataFrame) -> tuple[list[Hashable], list[dict[str, str]]]:
    """Of each row its dataset and protocol, and the settings that its name tells."""
    columns = {name: list(map(format_value, table[name])) for name in find_settings(table) if name != "method"}
    blank = [NONE] * len(table)
    data = list(zip(columns.get("dataset.name", blank), table.get("protocol", blank), strict=True))
    rows = [dict(zip(columns, texts, strict=True)) for texts in zip(*columns.values(), strict=True)]
    groups = list(zip(data, table["method"], strict=True))
    return list(data), find_differences(groups, rows or [{} for _ in blank])


def shorten(text: str) -> str:
    """A value as a figure has room for it."""
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
