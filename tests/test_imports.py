"""The rooms: who may import whom, how large a folder, a file and a function may be. Read from syntax trees alone."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("benchmark", "methods", "results", "slurm")
# A room -> the rooms that it may import, from the top down: one may only import what stands below it here. A room is a
# folder of benchmark, results or slurm with all that is in it, a module at their root, or all of methods.
ROOMS: dict[str, tuple[str, ...]] = {
    "benchmark.__main__": ("benchmark.cli", "benchmark.start", "benchmark.environment", "benchmark.errors"),
    "benchmark": ("benchmark.api", "benchmark.errors"),
    "benchmark.api": (
        "benchmark.cli",
        "benchmark.inference",
        "benchmark.settings",
        "benchmark.data",
        "benchmark.start",
        "benchmark.environment",
        "benchmark.errors",
        "results.figures",
        "results.tables",
        "results.statistics",
        "results.frames",
    ),
    "benchmark.cli": (
        "benchmark.tuning",
        "benchmark.serve",
        "benchmark.forecast",
        "benchmark.launch",
        "benchmark.profiling",
        "benchmark.contract",
        "benchmark.inference",
        "benchmark.cells",
        "benchmark.training",
        "benchmark.tracking",
        "benchmark.words",
        "benchmark.settings",
        "benchmark.backbones",
        "benchmark.augment",
        "benchmark.data",
        "benchmark.display",
        "benchmark.environment",
        "benchmark.errors",
        "methods",
        "results.report",
        "results.published",
        "results.tables",
        "results.statistics",
        "results.frames",
        "results.files",
        "results.quantity",
    ),
    "benchmark.tuning": (
        "benchmark.cells",
        "benchmark.words",
        "benchmark.settings",
        "benchmark.display",
        "benchmark.errors",
        "results.record",
        "results.files",
        "results.quantity",
    ),
    "benchmark.serve": (
        "benchmark.launch",
        "benchmark.cells",
        "benchmark.settings",
        "benchmark.errors",
        "results.record",
        "results.files",
    ),
    "benchmark.forecast": (
        "benchmark.launch",
        "benchmark.profiling",
        "benchmark.cells",
        "benchmark.evaluate",
        "benchmark.training",
        "benchmark.settings",
        "benchmark.data",
        "benchmark.display",
        "benchmark.errors",
        "results.quantity",
    ),
    "benchmark.launch": (
        "benchmark.cells",
        "benchmark.training",
        "benchmark.settings",
        "benchmark.backbones",
        "benchmark.display",
        "benchmark.environment",
        "benchmark.errors",
        "slurm.jobs",
        "results.record",
        "results.files",
        "results.quantity",
    ),
    "benchmark.profiling": (
        "benchmark.cells",
        "benchmark.evaluate",
        "benchmark.training",
        "benchmark.words",
        "benchmark.settings",
        "benchmark.backbones",
        "benchmark.augment",
        "benchmark.data",
        "benchmark.display",
        "benchmark.errors",
        "methods",
    ),
    "benchmark.contract": (
        "benchmark.evaluate",
        "benchmark.training",
        "benchmark.words",
        "benchmark.settings",
        "benchmark.display",
        "benchmark.errors",
        "methods",
        "results.quantity",
    ),
    "benchmark.inference": (
        "benchmark.cells",
        "benchmark.training",
        "benchmark.settings",
        "benchmark.backbones",
        "benchmark.augment",
        "benchmark.data",
        "benchmark.display",
        "benchmark.errors",
        "methods",
        "results.record",
        "results.files",
        "results.quantity",
    ),
    "benchmark.cells": (
        "benchmark.evaluate",
        "benchmark.training",
        "benchmark.tracking",
        "benchmark.words",
        "benchmark.settings",
        "benchmark.augment",
        "benchmark.data",
        "benchmark.display",
        "benchmark.errors",
        "methods",
        "results.record",
        "results.files",
        "results.quantity",
    ),
    "benchmark.evaluate": (
        "benchmark.training",
        "benchmark.settings",
        "benchmark.backbones",
        "benchmark.augment",
        "benchmark.data",
        "benchmark.seeds",
        "methods",
        "results.record",
    ),
    "benchmark.training": (
        "benchmark.settings",
        "benchmark.backbones",
        "benchmark.augment",
        "benchmark.data",
        "benchmark.display",
        "benchmark.seeds",
        "benchmark.environment",
        "benchmark.errors",
        "methods",
        "results.record",
        "results.files",
    ),
    "benchmark.tracking": ("benchmark.settings", "benchmark.errors", "results.files", "results.record"),
    "benchmark.words": ("benchmark.settings", "benchmark.data", "benchmark.display", "benchmark.errors", "methods"),
    "benchmark.settings": (
        "benchmark.backbones",
        "benchmark.augment",
        "benchmark.data",
        "benchmark.environment",
        "benchmark.errors",
        "methods",
        "results.files",
        "results.quantity",
    ),
    "benchmark.backbones": ("benchmark.errors",),
    "benchmark.augment": ("benchmark.seeds", "benchmark.errors"),
    "benchmark.data": (
        "benchmark.display",
        "benchmark.environment",
        "benchmark.errors",
        "results.files",
        "results.record",
        "results.quantity",
    ),
    "benchmark.display": (
        "results.files",
        "results.quantity",
    ),
    "benchmark.start": ("benchmark.errors",),
    "benchmark.environment": ("benchmark.errors",),
    "benchmark.seeds": (),
    "benchmark.errors": (),
    "methods": (),
    "slurm.testbed": (),
    "slurm.jobs": (),
    "results.readme": ("results.report", "results.record", "results.quantity"),
    "results.report": (
        "results.figures",
        "results.published",
        "results.tables",
        "results.statistics",
        "results.frames",
        "results.record",
        "results.files",
        "results.quantity",
    ),
    "results.figures": ("results.statistics", "results.frames", "results.record", "results.files", "results.quantity"),
    "results.published": ("results.tables", "results.statistics", "results.frames", "results.quantity"),
    "results.tables": ("results.statistics", "results.frames", "results.quantity"),
    "results.statistics": ("results.frames",),
    "results.frames": ("results.record", "results.files", "results.quantity"),
    "results.record": ("results.files",),
    "results.files": (),
    "results.quantity": (),
}
TORCH = ("torch", "torchvision", "timm")
REGISTRY = "methods"  # the folder of equals, which may grow
MOST_FILES, MOST_LINES, MOST_LINES_OF_A_FUNCTION = 15, 300, 60


def list_modules() -> list[Path]:
    """Every Python file of ours, relative to the root."""
    paths = [path.relative_to(ROOT) for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 5
    return paths


def name_module(path: str) -> str:
    """`benchmark/cells/run.py` -> `benchmark.cells.run`; a folder's `__init__.py` is the folder."""
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def name_room(name: str) -> str:
    """The room of a module; the package itself where it is none, such as `benchmark`."""
    parts = name.split(".")
    return parts[0] if parts[0] == "methods" else ".".join(parts[:2])


def find_imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of each import at any depth, relative ones resolved."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = Path(path).parts[:-1]
            above = list(folder[: len(folder) - node.level + 1]) if node.level else []
            for alias in node.names:
                name = ".".join([*above, node.module or "", alias.name])
                yield node.lineno, ".".join(part for part in name.split(".") if part)


def find_violations(path: str, source: str) -> list[str]:
    """`file:line: what` for each import in `source` that the file at `path`, relative to the root, may not make."""
    folder, own = Path(path).parts[0], name_room(name_module(path))
    lines = [f"{path}:1: no module is named utils"] if "utils" in Path(path).with_suffix("").parts else []
    if folder in OURS and own not in ROOMS and own != folder:
        lines.append(f"{path}:1: {own} is no room; give it a place in the table of tests/test_imports.py")
    for line, name in find_imports(path, source):
        top = name.split(".")[0]
        if top == "tests":
            lines.append(f"{path}:{line}: imports {name}; nothing imports the tests")
        elif folder in OURS and top in OURS and name_room(name) not in (own, *ROOMS.get(own, ())):
            lines.append(f"{path}:{line}: imports {name}; {own} may import only {', '.join(ROOMS.get(own, ()))}")
        elif folder == "methods" and top not in (*OURS, "torch") and top not in sys.stdlib_module_names:
            lines.append(f"{path}:{line}: imports {name}; methods may import of third parties only torch")
        elif folder == "results" and top in TORCH:
            lines.append(f"{path}:{line}: imports {name}; results never imports torch")
    return lines


def read_imports(paths: Iterable[Path]) -> dict[str, set[str]]:
    """Module of ours -> the modules of ours that it imports, somewhere in it."""
    names = {name_module(path.as_posix()) for path in paths}
    modules: dict[str, set[str]] = {name: set() for name in names}
    for path in paths:
        own = name_module(path.as_posix())
        for _, name in find_imports(path.as_posix(), (ROOT / path).read_text(encoding="utf-8")):
            target = name
            while target and target not in names:  # a name in a module
                target = target.rpartition(".")[0]
            modules[own] |= {target} - {"", own}
    return modules


def find_circle(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """The modules of a circle of imports, if there is one."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def find_too_long(path: str, source: str) -> Iterator[str]:
    """What exceeds the lines that a file and a function may have."""
    lines = len(source.splitlines())
    if lines > MOST_LINES:
        yield f"{path}: {lines} lines, at most {MOST_LINES}"
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION:
                yield f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {MOST_LINES_OF_A_FUNCTION}"


def test_rooms_import_what_the_table_allows() -> None:
    lines = []
    for path in [*list_modules(), *(path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("*.py")))]:
        lines += find_violations(path.as_posix(), (ROOT / path).read_text(encoding="utf-8"))
    assert not lines, "\n" + "\n".join(lines)


def test_the_table_goes_down_and_allows_nothing_that_is_not_used() -> None:
    order = list(ROOMS)
    upwards = [f"{a} -> {b}" for a, below in ROOMS.items() for b in below if order.index(b) <= order.index(a)]
    assert not upwards
    arrows = {
        (name_room(own), name_room(other)) for own, others in read_imports(list_modules()).items() for other in others
    }
    idle = [f"{a} -> {b}" for a, below in ROOMS.items() for b in below if (a, b) not in arrows]
    assert not idle, "the table allows what nobody needs"
    assert set(ROOMS) == {name_room(name) for name in read_imports(list_modules())} - {"results", "slurm"}


def test_no_file_imports_itself_through_others() -> None:
    assert find_circle(read_imports(list_modules())) == []


def test_folders_files_and_functions_are_small() -> None:
    lines = []
    for folder in {path.parent for path in list_modules()} - {Path(REGISTRY)}:
        files = [path for path in (ROOT / folder).iterdir() if path.is_file() and not path.name.startswith(".")]
        lines += [f"{folder}: {len(files)} files, at most {MOST_FILES}"] if len(files) > MOST_FILES else []
    for path in list_modules():
        lines += find_too_long(path.as_posix(), (ROOT / path).read_text(encoding="utf-8"))
    assert not lines, "\n" + "\n".join(lines)


def test_every_room_says_what_it_is_and_is_installed() -> None:
    folders = sorted({path.parent for path in list_modules()})
    for folder in folders:
        source = (ROOT / folder / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(source)), f"{folder}/__init__.py has no sentence"
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert packages == [".".join(folder.parts) for folder in folders]


def test_scripts_in_tests_import_modules_that_exist() -> None:
    """What a test runs in another process would be looked for in an installed copy, if there is one."""
    modules = set(read_imports(list_modules()))
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for line in str(node.value).splitlines() if isinstance(node, ast.Constant) else ():
                words = line.replace(",", " ").replace(";", " ").split()
                if words[:1] in (["import"], ["from"]) and words[1:] and words[1].split(".")[0] in OURS:
                    names = words[1:] if words[0] == "import" else words[1:2]
                    missing = {name for name in names if name.split(".")[0] in OURS} - modules
                    assert not missing, f"{path.name}: {line}"


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("methods/moco.py", "import timm"),
        ("methods/moco.py", "def f():\n    from benchmark.training import engine"),
        ("methods/parts/heads.py", "from ...benchmark.training import engine"),
        ("results/frames/frame.py", "import torch.nn"),
        ("results/frames/frame.py", "from benchmark.settings.cell import Settings"),
        ("results/frames/frame.py", "from results.statistics import summaries"),
        ("slurm/jobs.py", "from results.record import read"),
        ("benchmark/cells/run.py", "from results.frames import frame"),
        ("benchmark/cells/run.py", "import results"),
        ("benchmark/cells/run.py", "import slurm"),
        ("benchmark/cells/run.py", "import slurm.jobs"),
        ("benchmark/training/train.py", "from benchmark.evaluate import linear"),
        ("benchmark/data/folder.py", "def f():\n    from benchmark.settings.cell import Settings"),
        ("benchmark/settings/presets/cifar.py", "from benchmark.words import cell_words"),
        ("benchmark/errors.py", "from benchmark import seeds"),
        ("benchmark/data/__init__.py", "from tests import helpers"),
        ("benchmark/__main__.py", "import tests.helpers"),
        ("benchmark/words/utils.py", ""),
        ("benchmark/attic/old.py", ""),
        ("methods/utils/heads.py", ""),
    ],
)
def test_each_rule_bites(path: str, source: str) -> None:
    line = source.count("\n") + 1
    assert [text.startswith(f"{path}:{line}: ") for text in find_violations(path, source)] == [True]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("methods/moco.py", "import math\nimport torch.nn as nn\nfrom methods.parts.memory import Queue"),
        ("methods/parts/heads.py", "from . import losses\nfrom .. import Method"),
        ("results/frames/frame.py", "import pandas\nfrom results import record"),
        ("slurm/testbed/conf.py", "import submitit\nfrom slurm.testbed import processes"),
        (
            "benchmark/cells/run.py",
            "import timm, torch, torch.utils.data\nfrom methods import load\nfrom results import record",
        ),
        ("benchmark/cells/run.py", "import results.record\nfrom results.record import write"),
        ("benchmark/launch/cluster.py", "from slurm import jobs"),
        ("benchmark/cli/reporting.py", "from results.tables import formats"),
        ("tests/test_report.py", "from results.tables import formats\nimport slurm"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert find_violations(path, source) == []


def test_a_circle_is_seen() -> None:
    assert set(find_circle({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]})) == {"a", "b", "c"}
    assert find_circle({"a": ["b", "c"], "b": ["c"]}) == []


def test_what_is_too_long_is_seen() -> None:
    long = "def f():\n" + "    pass\n" * MOST_LINES_OF_A_FUNCTION
    assert list(find_too_long("a.py", long)) == ["a.py:1: f has 61 lines, at most 60"]
    assert list(find_too_long("a.py", "x = 1\n" * (MOST_LINES + 1))) == ["a.py: 301 lines, at most 300"]
    assert list(find_too_long("a.py", "x = 1\n" * MOST_LINES)) == []
