"""The direction of imports (DESIGN section 3), read from the syntax trees: nothing is imported."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("benchmark", "methods", "results", "slurm")
# What a folder may import of ours; a name allows all below it.
ALLOWED = {
    "methods": ("methods",),
    "results": ("results",),
    "slurm": ("slurm",),
    "benchmark": ("benchmark", "methods", "results.record"),
}
# What puts the folders together.
COMPOSE = ("benchmark/__main__.py", "benchmark/launch/cluster.py", "benchmark/cli/reporting.py")
TORCH = ("torch", "torchvision", "timm")


def imports(path: str, source: str) -> Iterator[tuple[int, str]]:
    """(line, full dotted name) of each import at any depth, relative ones resolved."""
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = Path(path).parts[:-1]
            above = list(folder[: len(folder) - node.level + 1]) if node.level else []
            yield from ((node.lineno, ".".join([*above, node.module or "", alias.name])) for alias in node.names)


def violations(path: str, source: str) -> list[str]:
    """`file:line: what` for each import in `source` that the file at `path`, relative to the root, may not make."""
    folder = Path(path).parts[0]
    found = [f"{path}:1: no module is named utils"] if "utils" in Path(path).with_suffix("").parts else []
    for line, raw in imports(path, source):
        name = ".".join(part for part in raw.split(".") if part)
        top = name.split(".")[0]
        allowed = any(name == one or name.startswith(one + ".") for one in ALLOWED.get(folder, OURS))
        if top == "tests":
            found.append(f"{path}:{line}: imports {name}; nothing imports the tests")
        elif top in OURS and not allowed and path not in COMPOSE:
            found.append(f"{path}:{line}: imports {name}; {folder} may import only {', '.join(ALLOWED[folder])}")
        elif folder == "methods" and top not in (*OURS, "torch") and top not in sys.stdlib_module_names:
            found.append(f"{path}:{line}: imports {name}; methods may import of third parties only torch")
        elif folder == "results" and top in TORCH:
            found.append(f"{path}:{line}: imports {name}; results never imports torch")
    return found


def test_imports_go_one_way() -> None:
    paths = [path for folder in (*OURS, "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 5
    found = []
    for path in paths:
        found += violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("methods/moco.py", "import timm"),
        ("methods/moco.py", "def f():\n    from benchmark import engine"),
        ("methods/parts/heads.py", "from ...benchmark import engine"),
        ("results/frame.py", "import torch.nn"),
        ("results/frame.py", "from benchmark.config import Cell"),
        ("slurm/jobs.py", "from results.record import read"),
        ("benchmark/run.py", "from results import frame"),
        ("benchmark/run.py", "import results"),
        ("benchmark/run.py", "import slurm"),
        ("benchmark/data/__init__.py", "from tests import helpers"),
        ("benchmark/__main__.py", "import tests.helpers"),
        ("benchmark/utils.py", ""),
        ("methods/utils/heads.py", ""),
    ],
)
def test_each_rule_bites(path: str, source: str) -> None:
    line = source.count("\n") + 1
    assert [text.startswith(f"{path}:{line}: ") for text in violations(path, source)] == [True]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("methods/moco.py", "import math\nimport torch.nn as nn\nfrom methods.parts.memory import Queue"),
        ("methods/parts/heads.py", "from . import losses\nfrom .. import Method"),
        ("results/frame.py", "import pandas\nfrom results import record"),
        ("slurm/jobs.py", "import submitit\nfrom slurm import arrays"),
        (
            "benchmark/run.py",
            "import timm, torch, torch.utils.data\nfrom methods import load\nfrom results import record",
        ),
        ("benchmark/run.py", "import results.record\nfrom results.record import write"),
        ("benchmark/__main__.py", "import slurm\nfrom results import tables"),
        ("tests/test_report.py", "from results import tables\nimport slurm"),
    ],
)
def test_what_is_allowed_passes(path: str, source: str) -> None:
    assert violations(path, source) == []
