"""Tables and figures of README and docs/ from records: `python -m results.readme` makes them, `--check` finds old ones.

Between a marker and `<!-- end of records -->` stands what records say, and nothing else:

    <!-- records: results/studies/NAME -->                        the command, the table, what can be told apart
    <!-- comparison: results/studies/NAME reference=random -->    what can be told apart, alone
    <!-- studies: results/studies -->                             the list of all studies

A picture `docs/results/NAME/FIGURE.svg` that a page shows is drawn as the study's report would draw it.

A study holds the records alone, in a folder a cell, and the command that made them. It is added, with a page
docs/results/NAME.md, by `python -m results.readme --keep runs/mine NAME --command 'python -m benchmark run ...'`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from results import record
from results.quantity import quantify
from results.report import study

STUDIES = Path("results/studies")
PAGES = Path("docs/results")
END = "<!-- end of records -->"
_START = re.compile(r"^<!-- (records|comparison|studies): *(\S+?)(?: +reference=(\S+))? *-->$")
_PICTURE = re.compile(r"(?:\]\(|src=\")([^)\s\"]+\.svg)")
NEW_PAGE = """# {name}

![Accuracy of each configuration, with intervals]({name}/accuracy.svg)

<!-- records: {folder} -->
{end}
"""


def update(page: Path, root: Path) -> str:
    """The text of a page with what stands between its markers made anew; the folders they name are relative to `root`.

    Raises ValueError for a folder without records, or a marker without its end.
    """
    text: list[str] = []
    open_marker = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        start = _START.match(line.strip())
        if start and open_marker:
            raise ValueError(f"{page}: line {number}: {line.strip()} before the end of {open_marker}")
        if line.strip() == END:
            if not open_marker:
                raise ValueError(f"{page}: line {number}: {END} without a beginning")
            open_marker = ""
        if not open_marker:
            text.append(line)
        if start:
            open_marker = line.strip()
            text.append(f"\n{_build_block(start[1], start[2], start[3], page, root)}\n")
    if open_marker:
        raise ValueError(f"{page}: {open_marker} has no {END}")
    return "".join(text)


def _build_block(kind: str, name: str, reference: str | None, page: Path, root: Path) -> str:
    if kind == "studies":
        return study.list_studies(_list_studies(root), root / PAGES, page.parent)
    if kind == "comparison":
        return study.compare_with(_find_study(root, name), reference)
    return study.render(_find_study(root, name))


def find_pictures(page: Path, root: Path) -> Iterator[tuple[Path, Path]]:
    """(study, file) of each figure of a study that the page shows; the file's name is the figure's."""
    for link in _PICTURE.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / link).resolve()
        folder = root / STUDIES / path.parent.name
        if path.parent.parent == (root / PAGES).resolve() and folder.is_dir():
            yield folder, path


def keep(runs: Path, folder: Path, command: str = "") -> int:
    """Copy the records below `runs`, what `tune` noted of its searches, and nothing else, to the study `folder`, beside
    those that are there.

    Returns how many. Raises ValueError, and copies nothing, where there are none, one cannot be read, or one, or the
    command, holds an absolute path.
    """
    cells = list(record.find(runs))
    if not cells:
        raise ValueError(f"{runs}: no records")
    checked: list[tuple[Path, dict[str, Any]]] = []
    for cell, cell_record in cells:
        if isinstance(cell_record, ValueError):
            raise ValueError(" ".join(str(cell_record).split()))
        path = next(_find_absolute_paths(cell_record), None)
        if path:
            raise ValueError(f"{cell}: its record holds the absolute path {path}, which means nothing elsewhere")
        checked.append((cell, cell_record))
    path = next(_find_absolute_paths(command), None)
    if path:
        raise ValueError(f"--command holds the absolute path {path}, which means nothing elsewhere: write DIR")
    notes = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(runs.glob("tuned/*.json"))]
    if path := next((path for _, note in notes for path in _find_absolute_paths(note)), None):
        raise ValueError(f"what `tune` noted holds the absolute path {path}, which means nothing elsewhere")
    for cell, cell_record in checked:
        record.write(folder / cell.relative_to(runs), cell_record)
    for note_path, note in notes:
        record.write_json(folder / note_path.relative_to(runs), note)
    if command:
        (folder / study.COMMAND).write_text(command.strip() + "\n", encoding="utf-8")
    return len(checked)


def _list_studies(root: Path) -> list[Path]:
    return sorted(path for path in (root / STUDIES).glob("*/") if path.is_dir())


def _find_study(root: Path, name: str) -> Path:
    folder = root / name
    if not folder.is_dir():
        names = [path.relative_to(root).as_posix() for path in _list_studies(root)]
        nearest = "".join(f"; nearest: {match}" for match in difflib.get_close_matches(name, names, 1))
        raise ValueError(f"no folder {name!r}; there are: {', '.join(names) or 'none'}{nearest}")
    return folder


def _find_absolute_paths(data: Any) -> Iterator[str]:
    """The absolute paths in the texts of plain data."""
    if isinstance(data, str):
        yield from re.findall(r"(?:^|(?<=[\s'\"(=]))(?:/|~/|[A-Za-z]:\\)[^\s'\")]+", data)
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _find_absolute_paths(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 1 where `--check` finds a difference, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m results.readme", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--root", type=Path, default=Path(), help="where README.md lies; by default here")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 with a diff if out of date")
    parser.add_argument("--keep", nargs=2, metavar=("RUNS", "NAME"), help="copy the records below RUNS to a study")
    parser.add_argument("--command", default="", help="with --keep: the command that made the records")
    options = parser.parse_args(arguments)
    try:
        if options.keep:
            _keep(options.root, Path(options.keep[0]), options.keep[1], options.command)
        return _check(options.root) if options.check else _write(options.root)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _keep(root: Path, runs: Path, name: str, command: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"study {name!r}: letters, digits, - and _ are allowed")
    count = keep(runs, root / STUDIES / name, command)
    print(
        f"{quantify(count, 'record')} in {STUDIES / name}; {PAGES / name}.md shows them: give it a title, "
        "and say what they say"
    )


def _write(root: Path) -> int:
    for folder in _list_studies(root):
        page = root / PAGES / f"{folder.name}.md"
        if not page.exists():
            page.parent.mkdir(parents=True, exist_ok=True)
            text = NEW_PAGE.format(name=folder.name, folder=(STUDIES / folder.name).as_posix(), end=END)
            page.write_text(text, encoding="utf-8")
    texts = {page: update(page, root) for page in _list_pages(root)}
    for page, text in texts.items():
        if page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
    for figures, path in _find_old_pictures(root):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(figures.draw(path.stem))
    return 0


def _check(root: Path) -> int:
    """Print what is out of date."""
    old = [
        f"{PAGES / folder.name}.md is missing"
        for folder in _list_studies(root)
        if not (root / PAGES / f"{folder.name}.md").exists()
    ]
    for page in _list_pages(root) if not old else ():
        text, new = page.read_text(encoding="utf-8"), update(page, root)
        old += difflib.unified_diff(text.splitlines(), new.splitlines(), str(page), "its records", lineterm="")
    old += [f"{path} is not drawn from the records that are there now" for _, path in _find_old_pictures(root)]
    for line in old:
        print(line)
    return int(bool(old))


def _list_pages(root: Path) -> list[Path]:
    return [*root.glob("README.md"), *sorted((root / "docs").rglob("*.md"))]


def _find_old_pictures(root: Path) -> Iterator[tuple[study.Figures, Path]]:
    """Each figure that a page shows and that is not there, or is of other records."""
    paths_of: dict[Path, set[Path]] = {}
    for page in _list_pages(root):
        for folder, path in find_pictures(page, root):
            paths_of.setdefault(folder, set()).add(path)
    for folder, paths in paths_of.items():
        figures = study.Figures(folder)
        yield from ((figures, path) for path in sorted(paths) if not figures.is_current(path.stem, path))


if __name__ == "__main__":
    sys.exit(main())
