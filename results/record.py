"""One cell's result on disk: `record.json`, written whole or not at all.

Standard library only, because the training side imports this file too. Accuracies in a record are fractions in
[0, 1], times are seconds, memory is bytes, `views` counts images seen in training.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results import files

SCHEMA = EVALUATION_SCHEMA = 1
PRUNED = "pruned"  # a trial that ended early, for the accuracies of those before it
STATUSES = ("finished", "failed", "collapsed", "stopped", PRUNED)
FILE_NAME = "record.json"
EVALUATION_NAME = "evaluation.json"  # what was measured later, beside the record, which stays as it is
LOOKS_NAME = "looks.json"  # what people look at beside the numbers, see benchmark/evaluate/gallery.py
TRIAL = "tune"  # the purpose of a record by which settings are chosen; others have none
# All that such a record may measure: nothing of test images.
TRIAL_METRICS = (
    "linear_validation_top1",
    "linear_strength",
    "linear_iterations",
    "effective_rank",
    "uniformity",
    "alignment",
)
# Of a record, where it has it: metric -> one bit a test image, in their order, 1 where it was right, as `pack` makes a
# text of them. In the record and no file beside it: so they are whole or absent, under its checksum, wherever it goes.
CORRECT = "correct"
VALIDATION = "knn20_validation_top1"  # a fraction, in the lines of log.jsonl that are evaluations, which have no loss

_LONGEST = 200  # characters of a method's name
_NUMBERS = ("seed", "view_size", "epochs", "batch_size", "microbatch", "learning_rate", "warmup", "weight_decay")
_ALLOWED: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "protocol": (str,),
    "status": (str,),
    "reason": (str, type(None)),
    "settings": (dict,),
    "metrics": (dict,),
    "cost": (dict,),
    "versions": (dict,),
    "commit": (str, type(None)),
    "dirty": (bool, type(None)),
    "started": (str,),
    "finished": (str,),
}


def now() -> str:
    """The time as records and notes have it: UTC, to the second, so that texts compare as times do."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write `record` to `folder/record.json` atomically, making the folder if need be.

    A record of the same key is replaced. A checksum goes with it, by which `read` knows that it is as it was written.
    Raises ValueError, and leaves what is there, when a field is missing or of the wrong type, a metric is neither a
    finite number nor None, or the folder holds another cell's record or a broken one.
    """
    path = Path(folder) / FILE_NAME
    if problem := _find_problem(record):
        raise ValueError(f"{path}: not written: {problem}")
    present = read(folder)
    if present is not None and present["key"] != record["key"]:
        raise ValueError(f"{path}: not written: holds the record of key {present['key']}, given {record['key']}")
    write_json(path, record | {"checksum": _compute_checksum(record)})


def read(folder: Path) -> dict[str, Any] | None:
    """The record in `folder`, or None when there is none.

    Raises ValueError with the file's path and the reason when the file is unreadable, broken, of another schema, of
    another cell than the one whose key ends the folder's name, or changed since it was written.
    """
    path = Path(folder) / FILE_NAME
    try:
        record = files.read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: unreadable record: {error}") from error
    if problem := _find_problem(record):
        raise ValueError(f"{path}: {problem}")
    if record.pop("checksum", None) not in (None, _compute_checksum(record)):  # older records have none
        raise ValueError(f"{path}: changed since it was written: its checksum is another")
    named = re.search(r"-([0-9a-f]{10})$", path.parent.name)
    if named and named[1] != record["key"]:
        raise ValueError(f"{path}: the record of another cell, {record['key']}")
    return record


def read_evaluations(folder: Path, key: str) -> dict[str, Any]:
    """What `evaluation.json` in the folder of cell `key` holds, evaluation -> protocol, settings, metrics, seconds and
    finished; nothing where there is none. Raises ValueError, as `read` does, for a broken file or another cell's."""
    path = Path(folder) / EVALUATION_NAME
    try:
        content = files.read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: unreadable evaluations: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != EVALUATION_SCHEMA:
        raise ValueError(f"{path}: not evaluations of schema {EVALUATION_SCHEMA}")
    if content.get("key") != key:
        raise ValueError(f"{path}: belongs to cell {content.get('key')}, not to {key}")
    evaluations = content.get("evaluations")
    if not isinstance(evaluations, dict):
        raise ValueError(f"{path}: field 'evaluations' must be an object")
    for name, evaluation in evaluations.items():
        if not (
            isinstance(evaluation, dict)
            and isinstance(evaluation.get("protocol"), str)
            and isinstance(evaluation.get("metrics"), dict)
        ):
            raise ValueError(f"{path}: evaluation {name!r} lacks its protocol or its metrics")
        if problem := _find_metrics_problem(evaluation["metrics"]):
            raise ValueError(f"{path}: evaluation {name!r}: {problem}")
    return evaluations


def write_evaluations(folder: Path, key: str, evaluations: dict[str, Any]) -> None:
    """Write all of them to `evaluation.json`, as `write_json` does."""
    content = {"schema": EVALUATION_SCHEMA, "key": key, "evaluations": evaluations}
    write_json(Path(folder) / EVALUATION_NAME, content)


def pack(bits: bytes) -> str:
    """Eight images a byte, the first in its highest bit, as text; without the sign by which paths are known."""
    return base64.urlsafe_b64encode(bits).decode()


def unpack(text: str) -> bytes:
    """The bits that `pack` made a text of. Raises ValueError."""
    try:
        return base64.b64decode(text.encode(), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(f"no packed bits: {error}") from error


def find(out: Path, name: str = "*") -> Iterator[tuple[Path, dict[str, Any] | ValueError]]:
    """Every record at any depth below `out`, in the order of its path, as (folder, record); of folders whose name fits.

    A broken file gives (folder, the ValueError that `read` raised), so that one bad file hides no other.
    """
    paths = sorted(Path(out).rglob(FILE_NAME if name == "*" else f"{name}/{FILE_NAME}"))
    return read_each(path.parent for path in paths)


def read_each(folders: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any] | ValueError]]:
    """The records that these folders themselves hold, as `find` gives them."""
    for folder in folders:
        try:
            if (record := read(folder)) is not None:
                yield folder, record
        except ValueError as error:
            yield folder, error


def name_sweep(out: Path) -> str:
    """What the cells of a folder are called together: its name."""
    return Path(out).absolute().name


def describe_outcome(record: dict[str, Any]) -> dict[str, Any]:
    """How a cell ended, as a tracker shows it: `status`, `reason`, `metrics/NAME`, `cost/NAME`, in one level."""
    columns = {name: record[name] for name in ("status", "reason")}
    for part in ("metrics", "cost"):
        columns |= {f"{part}/{name}": value for name, value in record[part].items()}
    return columns


def write_json(path: Path, data: Any, compact: bool = False) -> None:
    """Write `data` as JSON, keys in the order given; a reader sees the old file or the new one, never a part.

    Raises ValueError when `data` holds NaN, an infinity, or a value that JSON lacks.
    """
    path = Path(path)
    try:
        text = json.dumps(data, indent=None if compact else 2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: not written: {error}") from error
    write_whole(path, text.encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, making its folder if need be; a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replace(path) as file:
        file.write(content)


def _compute_checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _find_problem(record: Any) -> str | None:
    """What is wrong with `record`, in one line, or None."""
    if not isinstance(record, dict):
        return f"a record is an object, got {type(record).__name__}"
    # Before the fields: another schema may well have others.
    schema = record.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        return f"schema {schema!r}, this version reads and writes schema {SCHEMA}"
    for name, types in _ALLOWED.items():
        if name not in record:
            return f"field {name!r} is missing"
        if not isinstance(record[name], types):
            allowed = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            return f"field {name!r} is {type(record[name]).__name__}, must be {allowed}"
    if not record["key"] or not record["protocol"]:
        return "fields 'key' and 'protocol' must not be empty"
    if record["status"] not in STATUSES:
        return f"status {record['status']!r} (allowed: {', '.join(STATUSES)})"
    if record["status"] != "finished" and not record["reason"]:
        return f"a {record['status']} record must give its reason"
    return (
        _find_settings_problem(record["settings"])
        or _find_metrics_problem(record["metrics"])
        or _find_trial_problem(record)
        or (_find_correct_problem(record) if CORRECT in record else None)
    )


def is_trial(record: dict[str, Any]) -> bool:
    """Whether it is of a cell by which settings are chosen: it has no number of the test set, and is in no ranking."""
    return record.get("purpose") == TRIAL or bool(record["settings"].get("trial"))


def _find_trial_problem(record: dict[str, Any]) -> str | None:
    if not is_trial(record):
        return "status 'pruned' is a trial's alone" if record["status"] == PRUNED else None
    if record.get("purpose") != TRIAL or not isinstance(record["settings"].get("trial"), str):
        return f"a trial's record has purpose {TRIAL!r} and settings.trial, the study and its number"
    others = [name for name in record["metrics"] if name not in TRIAL_METRICS]
    if others:
        return f"a trial's record holds {', '.join(TRIAL_METRICS)} alone, it has {', '.join(others)}"
    return None


def _find_settings_problem(settings: dict[str, Any]) -> str | None:
    data = settings.get("dataset", {})
    if not isinstance(data, dict) or not isinstance(data.get("name", ""), str):
        return "settings.dataset.name must be a name"
    if not isinstance(settings.get("method"), str) or not 0 < len(settings["method"]) <= _LONGEST:
        return f"settings.method must be a name of at most {_LONGEST} characters"
    if isinstance(settings.get("seed"), float):
        return "settings.seed is float, must be a whole number or null"
    for name, value in [*((name, settings.get(name)) for name in _NUMBERS), ("dataset.limit", data.get("limit"))]:
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"settings.{name} is {type(value).__name__}, must be a number or null"
    return None


def _find_metrics_problem(metrics: dict[str, Any]) -> str | None:
    for name, value in metrics.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"metric {name!r} is {type(value).__name__}, must be a number or null"
        if not math.isfinite(value):
            return f"metric {name!r} is {value}, must be finite or null"
    return None


def _find_correct_problem(record: dict[str, Any]) -> str | None:
    """The bits are one an image, and their share is the metric's."""
    resolved, correct = record.get("resolved"), record[CORRECT]
    test = resolved.get("test") if isinstance(resolved, dict) else None
    images = test.get("images") if isinstance(test, dict) else None
    if not isinstance(images, int) or isinstance(images, bool) or images < 1:
        return f"field {CORRECT!r} needs the number of test images, resolved.test.images, beside it"
    if not isinstance(correct, dict):
        return f"field {CORRECT!r} is {type(correct).__name__}, must be an object"
    for name, text in correct.items():
        try:
            bits = unpack(text)
        except (ValueError, AttributeError):
            return f"{CORRECT}.{name} is no text of packed bits"
        number, unused = int.from_bytes(bits), -images % 8
        if 8 * len(bits) != images + unused or number % 2**unused:
            return f"{CORRECT}.{name} has {len(bits)} bytes, which are not one bit for each of {images} test images"
        metric = record["metrics"].get(name)
        if metric is None or abs(number.bit_count() / images - metric) > 1e-9:
            return (
                f"{CORRECT}.{name}: {number.bit_count()} of {images} images are right, and metric {name!r} is {metric}"
            )
    return None
