"""Whether a cell is what a published protocol describes: all of its words, and the defaults of whatever they leave."""

from __future__ import annotations

from functools import cache
from typing import Any

from benchmark.settings import address, resolve
from benchmark.settings.cell import Settings
from benchmark.settings.presets.published import PROTOCOLS
from benchmark.settings.schema import PLURAL, describe, list_options, list_types
from benchmark.settings.values import parse_value

# What may differ: the draw, rounding, and how much of the training set is kept for choosing.
FREE = ("seed", "precision", "dataset.validation", "dataset.split_seed")


def find(settings: Settings) -> str:
    """The published protocol that the cell follows; "" where it follows none."""
    return next((name for name in PROTOCOLS if not differences(settings, name)), "")


def differences(settings: Settings, name: str) -> list[str]:
    """Texts such as `epochs=10 (100)`, ours before theirs, for what a cell has otherwise than the protocol `name`."""
    if settings.method not in PROTOCOLS[name].methods:
        return [f"methods={settings.method} ({','.join(PROTOCOLS[name].methods)})"]
    cells = settings, _build(name, settings.method)
    settings_of_cell, published = (address.flatten(address.identify(cell)) for cell in cells)
    differing = [
        key
        for key in settings_of_cell | published
        if key not in FREE and settings_of_cell.get(key) != published.get(key)
    ]
    return [f"{key.removeprefix('options.')}={settings_of_cell.get(key)} ({published.get(key)})" for key in differing]


def explain(settings: Settings, name: str) -> list[str]:
    """What is said of a cell that was asked to be like the protocol `name`, and is not."""
    if not name or not describe(settings.method).trains or not (against := differences(settings, name)):
        return []
    return [f"{settings.method} is not like={name}, and is not compared with it: {', '.join(against)}"]


@cache
def _build(name: str, method: str) -> Settings:
    """The protocol's cell."""
    words = describe(method).recommends | PROTOCOLS[name].words
    shared = {key: text for key, text in words.items() if key.partition(".")[0] not in PROTOCOLS[name].methods}
    of_method = {key.removeprefix(f"{method}."): text for key, text in words.items() if key.startswith(f"{method}.")}
    assigned: dict[str, Any] = {"method": method}
    for key, text in (shared | of_method).items():
        canonical = PLURAL.get(key, key)
        kind = list_types().get(canonical) or list_options(method)[key]
        assigned[canonical if canonical in list_types() else f"options.{key}"] = parse_value(text, kind, key)
    return resolve.build(assigned)
