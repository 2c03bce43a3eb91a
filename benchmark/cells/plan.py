"""Which cells exist, which would run: read from the folders alone. Imports no torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.cells import lease
from benchmark.data import catalogue
from benchmark.errors import UsageError, unknown
from benchmark.settings import address
from benchmark.settings.cell import Settings, restore
from benchmark.words import aliases
from results import files, record


@dataclass(frozen=True)
class State:
    """A cell's folder as it is now."""

    folder: Path
    word: str  # new, running, interrupted, finished, failed, collapsed, stopped, pruned or broken
    detail: str  # reason, or how far it is
    record: dict[str, Any] | None = None

    @property
    def runs(self) -> bool:
        """Whether `run` has something to do here."""
        return self.word in ("new", "interrupted", "failed", "running")


def read_state(folder: Path) -> State:
    """What `folder` holds."""
    word, reason, existing = classify(folder, record.read, lease.is_at_work)
    return State(folder, word, _progress(folder) if word in ("running", "interrupted") else reason, existing)


def classify(
    folder: Path, read: Callable[[Path], dict[str, Any] | None], is_at_work: Callable[[Path], bool]
) -> tuple[str, str, dict[str, Any] | None]:
    """The word of a cell's state, the reason that its record gives, and that record, where it says the end. `read` is
    as `record.read`, `is_at_work` as `lease.is_at_work`."""
    try:
        existing = read(folder)
    except ValueError as error:
        return "broken", str(error), None
    if existing is not None and existing["status"] != "failed":
        return existing["status"], existing["reason"] or "", existing
    if is_at_work(folder):
        return "running", "", None
    if existing is not None:
        return "failed", existing["reason"], existing
    if (folder / "last.pt").exists() or (folder / "log.jsonl").exists():
        return "interrupted", "", None
    return "new", "", None


def read_states(cells: list[Settings], out: Path) -> list[State]:
    """The state of each cell's folder below `out`."""
    return [read_state(out / address.name_folder(cell)) for cell in cells]


def list_folders(out: Path) -> Iterator[Path]:
    """Every cell's folder below `out`, by name; one that has lost its settings has its record."""
    return iter(sorted({path.parent for name in ("settings.json", record.FILE_NAME) for path in out.glob(f"*/{name}")}))


def find(out: Path, names: Sequence[str]) -> list[Path]:
    """The folders below `out` of the cells of these names, or keys. `UsageError` for one that no cell has."""
    by_name = {folder.name: folder for folder in list_folders(out)}
    if names and not by_name:
        raise UsageError(f"unknown cell {names[0]!r}: no cells below {out}; out=FOLDER says where they are")
    matches = []
    for name in names:
        hits = [folder for full, folder in by_name.items() if full == name or full.endswith(f"-{name}")]
        if not hits:
            raise unknown("cell", name, by_name)
        matches += hits
    return matches


def read_cell(folder: Path) -> Settings:
    """The cell whose folder it is. `UsageError` where its settings cannot be read."""
    path = folder / "settings.json"
    try:
        settings = restore(files.read_json(path))
        catalogue.entry(settings.dataset.name)  # an error for a dataset that there is not
        return settings
    except (OSError, ValueError, TypeError, LookupError, UsageError) as error:
        raise UsageError(f"{path} cannot be read ({error}); `run` with the cell's words writes it anew") from error


def read_cells(out: Path) -> tuple[list[Settings], list[str]]:
    """The cell of every folder below `out` whose settings can be read, and what is wrong with the others."""
    readable, problems = [], []
    for folder in list_folders(out):
        try:
            readable.append(read_cell(folder))
        except UsageError as error:
            problems.append(str(error))
    return readable, problems


def restore_settings(settings: Settings, folder: Path) -> None:
    """Write the settings of the cell in `folder` anew, where they cannot be read and the folder may be written."""
    try:
        read_cell(folder)
    except UsageError:
        with contextlib.suppress(OSError):
            record.write_json(folder / "settings.json", asdict(settings))


def write_titles(cells: Sequence[Settings], short: bool = False) -> dict[str, str]:
    """Folder's name -> what people call the cell: its method, what tells it from the method's other cells, its seed.

    Such as 'simclr temperature=0.2 seed=0', or in `short`, as trackers' runs are called, 'simclr t=0.2 s0'.
    """
    by_method: dict[str, list[Settings]] = {}
    for cell in cells:
        by_method.setdefault(cell.method, []).append(cell)
    by_folder = {}
    for method, siblings in by_method.items():
        names = [name for name in find_varying(siblings) if name not in ("seed", "trial")]
        for cell in siblings:
            values = address.identify(cell) | {"trial": cell.trial.rpartition("/")[2] or None}
            parts = [method, write_label(values, names, short)]
            for name, sign in (("trial", "trial"), ("seed", "s")):
                if values[name] is not None:
                    parts.append(f"{sign}{values[name]}" if short else f"{name}={values[name]}")
            by_folder[address.name_folder(cell)] = " ".join(filter(None, parts))
    return by_folder


def write_label(settings: dict[str, Any], names: list[str], short: bool = False) -> str:
    """Such as 'epochs=10 queue=4096': the dotted settings of `names` that apply; in `short` as 'bs=256 t=0.2'."""
    parts = []
    for name in names:
        value: Any = settings
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            word = name.removeprefix("options.")
            parts.append(f"{aliases.shorten(word.removesuffix('.name')) if short else word}={value}")
    return " ".join(parts)


def find_varying(cells: list[Settings]) -> list[str]:
    """The dotted names of the settings that tell the cells of a method from each other. That methods have other
    presets tells nothing of a cell."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        by_method.setdefault(cell.method, []).append(address.flatten(address.identify(cell)))
    names = dict.fromkeys(name for rows in by_method.values() for row in rows for name in row)

    def differs(rows: list[dict[str, Any]], name: str) -> bool:
        values = [row.get(name) for row in rows if row.get(name) is not None or name.startswith("options.")]
        return len({json.dumps(value) for value in values}) > 1

    return [name for name in names if any(differs(rows, name) for rows in by_method.values())]


def _progress(folder: Path) -> str:
    """How far the log says that training is."""
    try:
        *_, last = (line for line in files.read_lines(folder / "log.jsonl") if "loss" in line)
        return f"step {last['step']:d}, loss {last['loss']:.4f}"
    except (OSError, ValueError, LookupError, TypeError):
        return ""
