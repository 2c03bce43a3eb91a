"""What `methods=` names: methods, all of a family (`family:clustering`), or `all`. Imports no torch."""

from __future__ import annotations

import methods
from benchmark.errors import UsageError, nearest
from benchmark.settings import schema

ALL, FAMILY = "all", "family:"


def choose(names: list[str]) -> list[str]:
    """The methods that the values of `methods=` name, each once, in their order; a family's as `families` has them.

    `all` and families leave out what is nothing without a word of its own: a method that is what its weights are.
    Raises `UsageError` for what is neither a method nor a family.
    """
    methods.trust(names)
    chosen: dict[str, None] = {}
    for name in names:
        if name == ALL or name.startswith(FAMILY):
            chosen |= dict.fromkeys(_select(name))
        else:
            schema.describe(name)
            chosen[name] = None
    return list(chosen)


def families() -> dict[str, list[str]]:
    """Family -> its registered methods by name, families in the order of tables; `other` for those that say none.

    A plugin that cannot be read is in none: who names it is told why.
    """
    known: dict[str, list[str]] = {family: [] for family in (*methods.FAMILIES, "other")}
    for name in methods.names():
        try:
            family = methods.describe(name).family
        except methods.BrokenMethod:
            continue
        known[family if family in methods.FAMILIES else "other"].append(name)
    return {family: names for family, names in known.items() if names}


def _select(word: str) -> list[str]:
    known = families()
    if word == ALL:
        names = [name for family in known.values() for name in family]
    else:
        family = word.removeprefix(FAMILY)
        if family not in known:
            raise UsageError(f"unknown family {family!r}{nearest(family, known)} (allowed: {', '.join(known)})")
        names = known[family]
    return [name for name in names if not schema.is_pretrained(name)]
