"""The engine and the command line: one cell from its settings to its record. In Python: `benchmark.run(...)` and the
names below, which are those of `benchmark.api` and imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.api import compare, features, figures, load_encoder, records, report, run, summarise
    from benchmark.errors import UsageError

__all__ = [
    "UsageError",
    "compare",
    "features",
    "figures",
    "load_encoder",
    "records",
    "report",
    "run",
    "summarise",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from benchmark import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
