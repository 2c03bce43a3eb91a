"""What `methods=` names: methods, all of a family (`family:clustering`), or `all`. Imports no torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import methods
from benchmark.errors import UsageError, nearest
from benchmark.settings import schema

ALL, FAMILY = "all", "family:"


def accept(names: list[str]) -> list[str]:
    """Methods as the user's own words name them: `my_method.py` and `sub/my_method.py`, files below the folder one is
    in, become the modules that they are, and modules are trusted. Raises `UsageError` for a file that cannot be one."""
    accepted = [_module_of(name) if name.endswith(".py") else name for name in names]
    if any(map(methods.is_module, accepted)) and not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    methods.trust(accepted)
    return accepted


def _module_of(file: str) -> str:
    path = Path(os.path.relpath(file))
    name = ".".join(path.with_suffix("").parts)
    if not path.is_file():
        raise UsageError(f"{file}: no such file")
    if not methods.is_module(name):
        reason = "a method of ours has its name" if path.stem in methods.names() else "its path is no module's"
        raise UsageError(f"{file}: {reason}; letters, digits and _, below the folder that you are in, are one")
    return name


def choose(names: list[str]) -> list[str]:
    """The methods that the values of `methods=` name, each once, in their order; a family's as `families` has them.

    `all` and families leave out what is nothing without a word of its own: a method that is what its weights are.
    Raises `UsageError` for what is neither a method nor a family.
    """
    names = accept(names)
    chosen: dict[str, None] = {}
    for name in names:
        if name == ALL or name.startswith(FAMILY):
            chosen |= dict.fromkeys(_select(name))
        elif ":" in name:
            every = [FAMILY + family for family in group_families()]
            raise UsageError(f"unknown family {name!r}{nearest(name, every)} (allowed: {', '.join(every)})")
        else:
            schema.describe(name)
            chosen[name] = None
    return list(chosen)


def group_families() -> dict[str, list[str]]:
    """Family -> its registered methods by name, families in the order of tables; `other` for those that say none.

    A plugin that cannot be read is in none: who names it is told why.
    """
    names_of: dict[str, list[str]] = {family: [] for family in (*methods.FAMILIES, "other")}
    for name in methods.names():
        try:
            family = methods.describe(name).family
        except methods.BrokenMethod:
            continue
        names_of[family if family in methods.FAMILIES else "other"].append(name)
    return {family: names for family, names in names_of.items() if names}


def _select(word: str) -> list[str]:
    names_of = group_families()
    if word == ALL:
        names = [name for family in names_of.values() for name in family]
    else:
        family = word.removeprefix(FAMILY)
        if family not in names_of:
            raise UsageError(f"unknown family {family!r}{nearest(family, names_of)} (allowed: {', '.join(names_of)})")
        names = names_of[family]
    return [name for name in names if not schema.is_pretrained(name)]
