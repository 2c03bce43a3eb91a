"""Where `tune` looks: what each optimiser's rate and decay may be, for all methods alike, and what a method declares.

Two decades about the value that papers use are enough for a rate to be wrong by ten either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmark.errors import UsageError, nearest
from benchmark.settings.cell import Settings
from benchmark.settings.schema import describe, list_inapplicable, list_options
from benchmark.settings.values import describe_type, parse_value


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, on a logarithmic scale."""

    low: float
    high: float


Dimension = Range | tuple[str, ...]  # or choices, as words are written
Space = dict[str, Dimension]  # setting or option -> what may be tried

_LARS: Space = {
    "learning_rate": Range(0.03, 3.0),  # about 0.3 for 256 images (SimCLR, appendix B; SwAV's and MoCo v3's code)
    "weight_decay": Range(1e-7, 1e-4),  # about 1e-6 (SimCLR, SwAV) and 1.5e-6 (BYOL, MoCo v3), up to solo-learn's 1e-4
}
COMMON: dict[str, Space] = {
    "sgd": {
        "learning_rate": Range(0.01, 1.0),  # about 0.03 (MoCo), 0.05 (SimSiam) and 0.12 (lightly on CIFAR)
        "weight_decay": Range(1e-5, 1e-3),  # about 1e-4 (MoCo, SimSiam) and 5e-4 (both on CIFAR)
    },
    "adamw": {
        "learning_rate": Range(1e-4, 1e-2),  # about 1e-3, the default of its authors (arXiv:1711.05101)
        "weight_decay": Range(1e-4, 1e-1),  # up to 0.1 (MoCo v3, DINO at its start: 0.04)
    },
    "lars": _LARS,
    "lars_fb": _LARS,
    "larc": _LARS,
}


def of(cell: Settings) -> Space:
    """What `tune` tries for the method and the optimiser of `cell`, the common settings first; nothing where the method
    does not train. `UsageError` for a space that a plugin cannot mean."""
    method = cell.method
    if not describe(method).trains:
        return {}
    common = {n: d for n, d in COMMON[cell.optimiser or "sgd"].items() if n not in list_inapplicable(method)}
    return common | {name: _read(method, name, ends) for name, ends in describe(method).search_space.items()}


def _read(method: str, name: str, values: tuple[Any, ...]) -> Dimension:
    types = list_options(method)
    if name not in types:
        raise UsageError(f"{method}: search_space has {name!r}, no option of it{nearest(name, types)}")
    if len(values) > 1 and all(isinstance(value, str) for value in values):
        for value in values:
            if not value.startswith("x"):
                parse_value(value, types[name], f"{method}.{name}")
        return values
    if describe_type(types[name]) in ("number", "whole number") and len(values) == 2 and 0 < values[0] < values[1]:
        return Range(*map(float, values))
    raise UsageError(
        f"{method}: search_space[{name!r}] is {values}: two numbers, 0 < low < high, or several texts are needed"
    )
