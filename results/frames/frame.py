"""Records on disk to one DataFrame, a row a record.

Columns: the record's own fields (`FIELDS`); its settings flattened with dots and without a prefix (`method`, `seed`,
`dataset.name`, `options.temperature`), with what the machine made of them (`RESOLVED`); `family`, the method's, which
is no setting, "" where no record says it; `metrics.*` as fractions; `cost.*` in seconds, bytes and images; `test.*`,
the test set, where the record says it; `correct.*`, which of its images were right, as `record.unpack` reads it;
`like`, the published protocol that the cell follows, "" for none.

What `evaluate` measured later (`evaluation.json`) stands under `metrics.*` too. Where the cells hold an evaluation
under more than one protocol, its names end in `@` and six digits of the protocol: no mean is over two of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from results import files, record

FIELDS = ("key", "folder", "protocol", "status", "reason", "commit", "dirty", "started", "finished")
FAMILY = "family"  # of the method: what it is, not how it was set
NOT_FINISHED = tuple(status for status in record.STATUSES if status not in ("finished", record.PRUNED))
# Columns that `summaries.summarise` adds and that are no setting either.
COUNTS = ("seeds", "fixed", *NOT_FINISHED, *(f"{status}_reasons" for status in NOT_FINISHED), "commits", "folders")
TEST_SET = ("images", "classes", "largest_class", "references")  # the largest class as a fraction
ORDER = "test.order"  # of the test images: only of one order are they compared
VERSIONS = "versions"  # text: of the packages that compute
LIKE = "like"  # the published protocol that the settings follow: none of them itself
NOTES = "notes"  # JSON text of a list: what was found in the data, and what is to be known of the training
# What a record says of how its numbers came about, beyond what was asked for: those of two kinds are never averaged. A
# record that does not say is of a kind of its own; all that say no version are of the first.
RESOLVED = ("results_version", "method_version", "precision", "compile", "tf32")
_PACKAGES = ("torch", "timm", "cudnn")
CORRECT = "correct."
_NO_SETTINGS = ("metrics.", "cost.", "test.", CORRECT)
COSTS = (
    "views",
    "seconds",
    "seconds_to_90",  # until 90 % of the last accuracy, where it was measured while the cell trained
    "evaluation_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "processes",
)


def load(out: Path) -> tuple[pd.DataFrame, list[str]]:
    """All records below `out` as a frame, and a one-line problem for each that could not be used. Texts are of one
    line, without what a terminal would obey, but for `folder`, the path.

    A cell found twice under one protocol (a copied folder) is taken once, so that it can't count as two seeds. Trials
    of `tune`, which have no test accuracy, are left to `load_trials`.
    """
    loaded, problems = _load(record.find(out), trials=False)
    return loaded, problems if Path(out).is_dir() else [f"{out}: no such folder", *problems]


def load_folders(folders: Iterable[Path]) -> pd.DataFrame:
    """The records in these folders as such a frame, whatever copies of them lie elsewhere; what cannot be used is left
    out."""
    return _load(record.read_each(folders), trials=False)[0]


def load_trials(out: Path) -> pd.DataFrame:
    """The trials below `out` as such a frame. What cannot be used is among the problems of `load`."""
    return _load(record.find(out, "*-trial[0-9]*"), trials=True)[0]


def _load(records: Iterable[tuple[Path, dict[str, Any] | ValueError]], trials: bool) -> tuple[pd.DataFrame, list[str]]:
    rows: list[dict[str, Any]] = []
    evaluations: list[dict[str, Any]] = []
    problems: list[str] = []
    folders: dict[tuple[str, str], Path] = {}
    for folder, cell in records:
        if isinstance(cell, ValueError):
            problems.append(files.make_printable(str(cell)))
            continue
        if record.is_trial(cell) is not trials:
            continue
        first = folders.setdefault((cell["key"], cell["protocol"]), folder)
        if first != folder:
            problems.append(files.make_printable(f"{folder}: same cell and protocol as {first}: ignored"))
            continue
        rows.append(_build_row(folder, cell))
        evaluations.append({})
        try:
            evaluations[-1] = record.read_evaluations(folder, cell["key"])
        except ValueError as error:
            problems.append(files.make_printable(str(error)))
    for row, metrics in zip(rows, _tabulate_evaluations(evaluations), strict=True):
        row |= {name: value for name, value in metrics.items() if name not in row}
    return _build_frame(rows), problems


def _tabulate_evaluations(cells: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The columns of each cell's evaluations."""
    protocols: dict[str, set[str]] = {}
    for cell in cells:
        for name, evaluation in cell.items():
            protocols.setdefault(name, set()).add(evaluation["protocol"])
    for cell in cells:
        columns: dict[str, Any] = {}
        for name, evaluation in cell.items():
            mark = f"@{evaluation['protocol'][:6]}" if len(protocols[name]) > 1 else ""
            columns |= {
                f"metrics.{files.make_printable(metric)}{mark}": value
                for metric, value in evaluation["metrics"].items()
            }
        yield columns


def unpack(bits: Iterable[str], images: int) -> np.ndarray:
    """(n, images) float32, 1 for an image that was right, of the texts in a column `correct.*`."""
    rows = [np.frombuffer(record.unpack(text), dtype=np.uint8) for text in bits]
    return np.unpackbits(np.stack(rows), axis=1, count=images).astype(np.float32)


def find_settings(frame: pd.DataFrame) -> list[str]:
    """The columns of a loaded frame or of a summary that are settings, `seed` apart."""
    return [
        name
        for name in frame.columns
        if name not in ("seed", FAMILY, LIKE, NOTES, VERSIONS, *FIELDS, *COUNTS) and not name.startswith(_NO_SETTINGS)
    ]


def _build_row(folder: Path, cell: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: cell.get(name) for name in FIELDS}
    resolved = cell.get("resolved")
    resolved = resolved if isinstance(resolved, Mapping) else {}
    test = resolved.get("test")
    notes = [note for name in ("data", "warnings") for note in _pick_texts(resolved.get(name))]
    row[NOTES] = json.dumps([*notes, *_note_path(cell["settings"].get("dataset"))])
    row |= {name: resolved[name] if isinstance(resolved.get(name), str) else "" for name in (FAMILY, LIKE)}
    row |= {f"test.{name}": test.get(name) for name in (*TEST_SET, "order")} if isinstance(test, Mapping) else {}
    for name, value in _flatten(cell["settings"]):
        reserved = name in (FAMILY, LIKE, NOTES, VERSIONS, *FIELDS, *COUNTS) or name.startswith(_NO_SETTINGS)
        row[f"settings.{name}" if reserved else name] = value
    row |= {name: resolved[name] for name in RESOLVED if _applies(name, resolved, row)}
    row = {"results_version": 1, "method_version": "1", "processes": 1} | row
    if _depends_on_processes(row, old="results_version" not in resolved):
        row["processes"] = cell["cost"].get("processes")
    row[VERSIONS] = ", ".join(f"{name} {cell['versions'][name]}" for name in _PACKAGES if name in cell["versions"])
    row |= {f"metrics.{name}": value for name, value in cell["metrics"].items()}
    row |= {f"cost.{name}": value for name, value in _flatten(cell["cost"])}
    row |= {f"{CORRECT}{name}": bits for name, bits in cell.get(record.CORRECT, {}).items()}
    texts = {name: files.make_printable(value) for name, value in row.items() if isinstance(value, str)}
    return {files.make_printable(name): value for name, value in (row | texts).items()} | {"folder": str(folder)}


def _note_path(dataset: Any) -> list[str]:
    """That the images are known by their path alone, of a record that is older than their fingerprint."""
    if not isinstance(dataset, Mapping) or "root" not in dataset or dataset.get("fingerprint"):
        return []
    root = files.make_printable(str(dataset["root"]))
    return [f"images known by their path {root} alone, as the record is older than their fingerprint"]


def _pick_texts(value: Any) -> list[str]:
    """The texts of what should be a list of texts."""
    return [files.make_printable(text) for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _applies(name: str, resolved: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether the record says it, of a cell that it means something for: what does not train has no precision."""
    return isinstance(resolved.get(name), str | int) and (name != "precision" or row.get(name) is not None)


def _depends_on_processes(row: Mapping[str, Any], old: bool) -> bool:
    """Whether batch norm's groups were the processes, of whose shares an `old` record's micro-batches were cut."""
    microbatch, batch = row.get("microbatch") or 0, row.get("batch_size") or 0
    has_microbatches = isinstance(microbatch, int) and isinstance(batch, int) and 0 < microbatch < batch
    return (old and has_microbatches) or (row.get("batch_norm") in ("local", "shuffle") and not has_microbatches)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, scalar) pairs. A list becomes its JSON text: one cell, hashable, the same in a CSV file."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value) if isinstance(value, list) else value


def _build_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a frame that has the columns every reader relies on, even when there are no rows."""
    costs, test = [f"cost.{name}" for name in COSTS], [f"test.{name}" for name in TEST_SET]
    # As they are: beside cells without one they would be floats, and large seeds the same.
    frame = pd.DataFrame(rows).assign(seed=pd.Series([row.get("seed") for row in rows], dtype=object))
    leading = [*FIELDS, "method", FAMILY, "seed"]
    settings = [name for name in find_settings(frame) if name not in leading]
    metrics = sorted(name for name in frame.columns if name.startswith("metrics."))
    if metrics and not any(name.endswith("_top1") for name in metrics):  # no cell had labels
        metrics = ["metrics.linear_top1", *metrics]
    other_costs = [name for name in frame.columns if name.startswith("cost.") and name not in [*costs, "cost.device"]]
    correct = [ORDER, *sorted(name for name in frame.columns if name.startswith(CORRECT))]
    columns = [
        *leading,
        *settings,
        *metrics,
        *costs,
        "cost.device",
        *other_costs,
        *test,
        *correct,
        VERSIONS,
        LIKE,
        NOTES,
    ]
    frame = frame.reindex(columns=columns)
    # A column of nulls only is of type object, which has no mean.
    numbers = {name: pd.to_numeric(frame[name], errors="coerce").astype(float) for name in [*metrics, *costs, *test]}
    # In one piece: pandas warns of adding a column to a frame of hundreds of them.
    return frame.assign(**numbers, **{FAMILY: find_families(frame)}).copy()


def find_families(frame: pd.DataFrame) -> pd.Series:
    """Each row's family: one a method, as the newest of its records that names one does, so that an old record and a
    new one stand together."""
    named = frame[frame[FAMILY].fillna("").ne("")].sort_values("finished", kind="stable")
    newest = dict(zip(named["method"], named[FAMILY], strict=True))
    return frame["method"].map(lambda method: newest.get(method, "")).astype(object)
