"""What a method's code is, as a digest: two sources that differ in comments, docstrings and layout alone have one, and
so have two that differ in what `tune` tries.

Nothing is imported or run but the finders of Python, which say where a package lies.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def digest_package(module: str) -> str:
    """Ten hexadecimal digits of a module and of those of its package that it imports, in turn, by import statements;
    of a single file, of the single files beside it, but among installed packages.

    Data, compiled modules and other packages are not among them. Raises `SyntaxError` and `OSError` as they come.
    """
    trees: dict[str, Any] = {}
    _collect(module, trees)
    return _hash({name: outline(tree) for name, tree in trees.items()})


def digest_file(path: Path) -> str:
    """The same of one file."""
    return _hash(outline(ast.parse(path.read_text(encoding="utf-8"))))


def outline(node: Any) -> Any:
    """A syntax tree as plain data without docstrings, the same in every version of Python that reads the source."""
    if isinstance(node, list):
        return [outline(item) for item in node if not (_is_text_alone(item) or _is_search_space(item))]
    if isinstance(node, ast.AST):
        fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
        return [type(node).__name__, {name: outline(value) for name, value in fields.items()}]
    return repr(node)


def _hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:10]


def _is_text_alone(node: Any) -> bool:
    """A docstring, or a string that stands there like one."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_search_space(node: Any) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == "search_space" for target in targets)


def _collect(module: str, trees: dict[str, Any]) -> None:
    path = None if module in trees else _find(module)
    if path is None:
        return
    trees[module] = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    top = module.partition(".")[0]
    beside = path.parent if path.stem == module and "site-packages" not in path.parts else None
    for name in _imports(trees[module], package):
        parts = name.split(".")
        if parts[0] == top:  # what lies above it is imported with it
            for length in range(1, len(parts) + 1):
                _collect(".".join(parts[:length]), trees)
        elif beside and (beside / f"{parts[0]}.py").is_file() and _find(parts[0]) == beside / f"{parts[0]}.py":
            _collect(parts[0], trees)


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names that may be modules; where they are a module's content, nothing is found there."""
    yield package
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _find(module: str) -> Path | None:
    """The source of a module of a package, or None where there is none in Python."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top) if top else None
    if spec is None:
        return None
    if not rest:
        origins = [Path(spec.origin)] if spec.origin else []
    else:
        bases = [Path(folder, *rest) for folder in spec.submodule_search_locations or []]
        origins = [path for base in bases for path in (base / "__init__.py", base.with_name(f"{base.name}.py"))]
    return next((path for path in origins if path.suffix == ".py" and path.is_file()), None)


def raises_in_init(path: Path) -> bool:
    """Whether an `__init__` in this file raises an error of its own."""
    return any(
        isinstance(node, ast.Raise)
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
        for node in ast.walk(function)
    )


def comments(text: str, node: ast.ClassDef) -> dict[str, str]:
    """The comment behind each annotated field of a class: its help, written once, where the reader sees it."""
    lines = text.splitlines()
    texts = {}
    for field in node.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert field.end_lineno is not None
            behind = lines[field.end_lineno - 1].encode()[field.end_col_offset :].decode().strip()
            texts[field.target.id] = behind.lstrip("# ").rstrip()
    return texts
