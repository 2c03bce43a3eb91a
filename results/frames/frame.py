"""Records on disk to one DataFrame, a row a record.

Columns: the record's own fields (`FIELDS`); its settings flattened with dots and without a prefix (`method`, `seed`,
`dataset.name`, `options.temperature`); `family`, the method's, which is no setting, "" where no record says it;
`metrics.*` as fractions; `cost.*` in seconds, bytes and images; `test.*`, the test set, where the record says it.

What `evaluate` measured later (`evaluation.json`) stands under `metrics.*` too. Where the cells hold an evaluation
under more than one protocol, its names end in `@` and six digits of the protocol: no mean is over two of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from results import record

FIELDS = ("key", "folder", "protocol", "status", "reason", "commit", "dirty", "started", "finished")
FAMILY = "family"  # of the method: what it is, not how it was set
# Columns that `summaries.summarise` adds and that are no setting either.
COUNTS = ("seeds", "fixed", "failed", "collapsed", "failed_reasons", "collapsed_reasons", "commits", "folders")
TEST_SET = ("images", "classes", "largest_class", "references")  # the largest class as a fraction
NOTES = "notes"  # JSON text of a list: what was found in the data, and what is to be known of the training
_NO_SETTINGS = ("metrics.", "cost.", "test.")
COSTS = ("views", "seconds", "evaluation_seconds", "images_per_second", "peak_memory_bytes", "processes")


def load(out: Path) -> tuple[pd.DataFrame, list[str]]:
    """All records below `out` as a frame, and a one-line problem for each that could not be used.

    A cell found twice under one protocol (a copied folder) is taken once, so that it can't count as two seeds.
    """
    rows: list[dict[str, Any]] = []
    later: list[dict[str, Any]] = []
    problems: list[str] = []
    seen: dict[tuple[str, str], Path] = {}
    if not Path(out).is_dir():
        problems.append(f"{out}: no such folder")
    for folder, found in record.find(out):
        if isinstance(found, ValueError):
            problems.append(" ".join(str(found).split()))
            continue
        first = seen.setdefault((found["key"], found["protocol"]), folder)
        if first != folder:
            problems.append(f"{folder}: same cell and protocol as {first}: ignored")
            continue
        rows.append(_row(folder, found))
        later.append({})
        try:
            later[-1] = record.read_evaluations(folder, found["key"])
        except ValueError as error:
            problems.append(" ".join(str(error).split()))
    for row, metrics in zip(rows, _later(later), strict=True):
        row |= {name: value for name, value in metrics.items() if name not in row}
    return _frame(rows), problems


def _later(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The columns of each cell's evaluations."""
    protocols: dict[str, set[str]] = {}
    for cell in found:
        for name, one in cell.items():
            protocols.setdefault(name, set()).add(one["protocol"])
    for cell in found:
        columns: dict[str, Any] = {}
        for name, one in cell.items():
            mark = f"@{one['protocol'][:6]}" if len(protocols[name]) > 1 else ""
            columns |= {f"metrics.{metric}{mark}": value for metric, value in one["metrics"].items()}
        yield columns


def setting_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of a loaded frame or of a summary that are settings, `seed` apart."""
    return [
        name
        for name in frame.columns
        if name not in ("seed", FAMILY, NOTES, *FIELDS, *COUNTS) and not name.startswith(_NO_SETTINGS)
    ]


def _row(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: found.get(name) for name in FIELDS}
    row["folder"] = str(folder)
    resolved = found.get("resolved")
    resolved = resolved if isinstance(resolved, Mapping) else {}
    family, test = resolved.get(FAMILY), resolved.get("test")
    row[NOTES] = json.dumps([*(resolved.get("data") or []), *(resolved.get("warnings") or [])])
    row[FAMILY] = family if isinstance(family, str) else ""
    row |= {f"test.{name}": test.get(name) for name in TEST_SET} if isinstance(test, Mapping) else {}
    for name, value in _flat(found["settings"]):
        reserved = name in (FAMILY, NOTES, *FIELDS, *COUNTS) or name.startswith(_NO_SETTINGS)
        row[f"settings.{name}" if reserved else name] = value
    row |= {f"metrics.{name}": value for name, value in found["metrics"].items()}
    row |= {f"cost.{name}": value for name, value in _flat(found["cost"])}
    return row


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, scalar) pairs. A list becomes its JSON text: one cell, hashable, the same in a CSV file."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value) if isinstance(value, list) else value


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a frame that has the columns every reader relies on, even when there are no rows."""
    costs, test = [f"cost.{name}" for name in COSTS], [f"test.{name}" for name in TEST_SET]
    frame = pd.DataFrame(rows)
    wanted = [*FIELDS, "method", FAMILY, "seed"]
    settings = [name for name in setting_columns(frame) if name not in wanted]
    metrics = sorted(name for name in frame.columns if name.startswith("metrics."))
    rest = [name for name in frame.columns if name.startswith("cost.") and name not in [*costs, "cost.device"]]
    frame = frame.reindex(columns=[*wanted, *settings, *metrics, *costs, "cost.device", *rest, *test, NOTES])
    # A column of nulls only is of type object, which has no mean.
    numbers = {name: pd.to_numeric(frame[name], errors="coerce").astype(float) for name in [*metrics, *costs, *test]}
    return frame.assign(**numbers, **{FAMILY: families(frame)})


def families(frame: pd.DataFrame) -> pd.Series:
    """Each row's family: one a method, as the newest of its records that names one does, so that an old record and a
    new one stand together."""
    named = frame[frame[FAMILY].fillna("").ne("")].sort_values("finished", kind="stable")
    newest = dict(zip(named["method"], named[FAMILY], strict=True))
    return frame["method"].map(lambda method: newest.get(method, "")).astype(object)
