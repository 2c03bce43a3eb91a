"""README's tables from records: `python -m results.readme` writes them, `--check` fails where one is out of date.

Between `<!-- records: results/studies/NAME -->` and `<!-- end of records -->` stands what the records of that study
say, and nothing else. A study holds the records alone, in a folder a cell, and the command that made them if one was
given: `python -m results.readme --keep runs/mine NAME --command 'python -m benchmark run ...'`.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from results import record
from results.frames.frame import load
from results.published import comparison
from results.statistics import compare
from results.statistics.summaries import summarise
from results.tables import formats

STUDIES = Path("results/studies")
COMMAND = "command.txt"
END = "<!-- end of records -->"
_START = re.compile(r"^<!-- records: *(\S+) *-->$")


def render(folder: Path) -> str:
    """The markdown of a study: its command, its table, what can be told apart, and what is published beside it.

    Raises ValueError where the folder is missing, has no records, or has one that cannot be read.
    """
    frame, problems = load(folder)
    if problems or frame.empty:
        raise ValueError(problems[0] if problems else f"{folder}: no records")
    summary = summarise(frame)
    parts = [formats.to_markdown(summary)]
    if summary["seeds"].max() > 1:
        parts.append(formats.pipes(compare.rows(frame)))
    parts.append(formats.pipes(comparison.rows(comparison.beside(frame))))
    command = folder / COMMAND
    if command.exists():
        parts.insert(0, f"```bash\n{command.read_text(encoding='utf-8').strip()}\n```\n")
    return "\n".join(filter(None, parts))


def updated(text: str, root: Path) -> str:
    """`text` with what stands between its markers made anew; the folders that they name are relative to `root`.

    Raises ValueError for a folder without records, or a marker without its end.
    """
    made: list[str] = []
    open_marker = ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        start = _START.match(line.strip())
        if start and open_marker:
            raise ValueError(f"line {number}: {line.strip()} before the end of {open_marker}")
        if line.strip() == END:
            if not open_marker:
                raise ValueError(f"line {number}: {END} without a beginning")
            open_marker = ""
        if not open_marker:
            made.append(line)
        if start:
            open_marker = line.strip()
            made.append(f"\n{render(_study(root, start[1]))}\n")
    if open_marker:
        raise ValueError(f"{open_marker} has no {END}")
    return "".join(made)


def keep(runs: Path, study: Path, command: str = "") -> int:
    """Copy the records below `runs`, and nothing else, to `study`, beside those that are there. Returns how many.

    Raises ValueError, and copies nothing, where there are none, one cannot be read, or one holds an absolute path.
    """
    found = list(record.find(runs))
    if not found:
        raise ValueError(f"{runs}: no records")
    good: list[tuple[Path, dict[str, Any]]] = []
    for folder, one in found:
        if isinstance(one, ValueError):
            raise ValueError(" ".join(str(one).split()))
        path = next(_absolute(one), None)
        if path:
            raise ValueError(f"{folder}: its record holds the absolute path {path}, which means nothing elsewhere")
        good.append((folder, one))
    for folder, one in good:
        record.write(study / folder.relative_to(runs), one)
    if command:
        (study / COMMAND).write_text(command.strip() + "\n", encoding="utf-8")
    return len(good)


def _study(root: Path, name: str) -> Path:
    folder = root / name
    if not folder.is_dir():
        known = [path.relative_to(root).as_posix() for path in sorted((root / STUDIES).glob("*/"))]
        near = "".join(f"; nearest: {one}" for one in difflib.get_close_matches(name, known, 1))
        raise ValueError(f"no folder {name!r}; there are: {', '.join(known) or 'none'}{near}")
    return folder


def _absolute(data: Any) -> Iterator[str]:
    """The absolute paths in the texts of plain data."""
    if isinstance(data, str):
        yield from re.findall(r"(?:^|(?<=[\s'\"(=]))(?:/|~/|[A-Za-z]:\\)[^\s'\")]+", data)
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _absolute(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 where `--check` finds a difference, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m results.readme", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("readme", nargs="?", type=Path, default=Path("README.md"), help="by default README.md")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 with a diff if out of date")
    parser.add_argument("--keep", nargs=2, metavar=("RUNS", "NAME"), help="copy the records below RUNS to a study")
    parser.add_argument("--command", default="", help="with --keep: the command that made the records")
    given = parser.parse_args(arguments)
    try:
        if given.keep:
            runs, name = given.keep
            return _keep(given.readme.parent, Path(runs), name, given.command)
        return _update(given.readme, given.check)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _keep(root: Path, runs: Path, name: str, command: str) -> int:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"study {name!r}: letters, digits, - and _ are allowed")
    count = keep(runs, root / STUDIES / name, command)
    print(
        f"{count} records in {STUDIES / name}; README shows them between <!-- records: {STUDIES / name} --> and {END}"
    )
    return 0


def _update(readme: Path, check: bool) -> int:
    text = readme.read_text(encoding="utf-8")
    new = updated(text, readme.parent)
    if check:
        lines = difflib.unified_diff(text.splitlines(), new.splitlines(), str(readme), "its records", lineterm="")
        for line in lines:
            print(line)
        return int(text != new)
    if text != new:
        readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
