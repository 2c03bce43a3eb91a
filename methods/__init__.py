"""The registry: which methods there are, what each one's options are, and how to load it.

The registry is the folder. `load("moco")` imports `methods/moco.py` and takes the one `Method` class in it. A name from
an installed package's entry point (group `contrastive_benchmark.methods`), a dotted module path (`my_pkg.my_method`) or
the name of a file of the folder one is in (`my_method`) loads a plugin from outside. The contract that they all keep is
in `methods/method.py`.

Importing this module does not import torch. `describe` reads a method's paper and options from its source, so the
command line can list, parse and refuse words before the second or two that torch takes.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import typing
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from methods import sources

ENTRY_POINTS = "contrastive_benchmark.methods"
FOLDER = Path(__file__).parent
NOT_METHODS = {"__init__", "method", "sources"}
OPTION_TYPES = (int, float, bool, str)  # of a method's options, besides Literal: what a word can say
# What a method's signal comes from, in the order of tables.
FAMILIES = (
    "end_to_end",
    "memory_bank",
    "momentum",
    "clustering",
    "no_negatives",
    "pretext",
    "reconstruction",
    "energy",
    "reference",
)
# Class attributes that `describe` reads.
DECLARED = (
    "family",
    "views",
    "trains",
    "supervised",
    "multicrop",
    "tokens",
    "momentum_encoder",
    "sized",
    "ignores",
    "recommends",
    "search_space",
    "counts",
    "read_with",
    "younger",
    "variants",
    "version",
)


_trusted: set[str] = set()  # module paths that the user's words name; a file may name any module


class BrokenMethod(Exception):
    """A method that cannot be read or loaded. The message names the method and the reason in one line."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What the source of a method says, without running it."""

    name: str
    title: str  # first line of the module's docstring: the paper and its arXiv id
    about: str  # the rest of it: what the method does, its equations, and what differs from the paper or its code
    Config: type[Any]  # the method's frozen dataclass of options
    help: dict[str, str]  # option -> the comment behind it
    family: str  # one of FAMILIES; empty for a plugin that says none
    views: tuple[str, ...]  # the views it wants, by name
    trains: bool  # False for reference points that are evaluated as they start
    supervised: bool  # True where labels are given to it
    multicrop: bool  # True where small crops may be given to it
    tokens: bool  # True where its backbone must be a vision transformer
    momentum_encoder: str  # its attribute that is a momentum copy of the encoder; empty where it has none
    sized: bool  # True where it is told the pixels of a view
    ignores: tuple[str, ...]  # run settings that cannot change its result
    recommends: dict[str, str]  # run settings that its paper prescribes
    search_space: dict[str, tuple[Any, ...]]  # option -> what `tune` tries: the ends of a range, or words
    counts: dict[str, str]  # option -> what it counts: `keys`, `codes` or `clusters`
    read_with: dict[str, tuple[str, ...]]  # option -> another one, and the values with which alone it is read
    younger: tuple[str, ...]  # options that at their default are in no key
    variants: dict[str, str]  # name that papers give to it with an option -> the words
    version: int  # raised when a change to its code alters its numbers


def names() -> list[str]:
    """Every method that has a short name: the files of this folder, then plugins by entry point."""
    files = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NOT_METHODS)
    return files + sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - set(files))


def variants() -> dict[str, str]:
    """Names that papers give to methods with an option -> the words that say it, such as `methods=byol ...`."""
    return {
        variant: f"methods={name} {words}"
        for name in names()
        if is_own(name)
        for variant, words in describe(name).variants.items()
    }


def load(name: str) -> type[Any]:
    """The `Method` class called `name`. Imports torch. Raises `BrokenMethod`."""
    from methods.method import Method

    module_name = _module(name)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise BrokenMethod(f"method {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    types = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    if len(types) != 1:
        raise BrokenMethod(f"method {name!r}: {module.__file__} must define one Method class, it defines {len(types)}")
    return types[0]


def trust(names: Iterable[str]) -> None:
    """Let those of these names that are module paths be imported: they are the user's own words."""
    _trusted.update(names)


def describe(name: str) -> Description:
    """Paper, options and declarations of the method `name`, read from its source. Raises `BrokenMethod`.

    The nested `Config` is run, and so is the `__init__.py` of a plugin's package; the rest of the file is not. A module
    path is looked for only where `trust` was told of it.
    """
    path = source(name)
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        node = _method_class(tree)
        config = next((n for n in node.body if isinstance(n, ast.ClassDef) and n.name == "Config"), None)
        declared = _declarations(node)
        title, _, about = (ast.get_docstring(tree) or name).partition("\n")
        return Description(
            name=name,
            title=title.rstrip("."),
            about=about.strip(),
            Config=_execute(config),
            help=sources.comments(text, config) if config else {},
            family=str(declared.get("family", "")),
            views=tuple(declared.get("views", ("crop", "crop"))),
            trains=bool(declared.get("trains", True)),
            supervised=bool(declared.get("supervised", False)),
            multicrop=bool(declared.get("multicrop", False)),
            tokens=bool(declared.get("tokens", False)),
            momentum_encoder=str(declared.get("momentum_encoder", "")),
            sized=bool(declared.get("sized", False)),
            ignores=tuple(declared.get("ignores", ())),
            recommends=dict(declared.get("recommends", {})),
            search_space=_tuples(declared, "search_space", "two numbers, or texts", int, float, str),
            counts=dict(declared.get("counts", {})),
            read_with=_tuples(declared, "read_with", "another option, and its values as texts", str),
            younger=tuple(declared.get("younger", ())),
            variants=dict(declared.get("variants", {})),
            version=int(declared.get("version", 1)),
        )
    except Exception as error:  # a plugin's Config may raise anything
        raise BrokenMethod(f"method {name!r} in {path}: {type(error).__name__}: {error}") from error


def version(name: str) -> str:
    """Which code the method `name` is: its declared version if it is ours, a digest of its source if it is a plugin.

    Raises as `describe` does.
    """
    module = _module(name)
    if module == f"methods.{name}":
        return str(describe(name).version)
    try:
        return sources.digest_package(module)
    except (OSError, SyntaxError, ValueError) as error:
        raise BrokenMethod(f"method {name!r} cannot be read: {type(error).__name__}: {error}") from error


def source(name: str) -> Path:
    """The file of the method `name`. Raises `LookupError` where there is none, and `BrokenMethod`."""
    module = _module(name)
    if module == f"methods.{name}":
        return FOLDER / f"{name}.py"
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if not missing or not f"{module}.".startswith(f"{missing}."):  # what its package imports, not the package
            raise BrokenMethod(f"method {name!r} cannot be found: {type(error).__name__}: {error}") from error
        spec = None
    if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
        return Path(spec.origin)
    if name != module:
        raise BrokenMethod(f"method {name!r}: its entry point names {module!r}, which has no Python source")
    raise LookupError(f"no module {module!r} with a Python source")


def is_own(name: str) -> bool:
    """Whether the method `name` is a file of this folder."""
    return name.isidentifier() and name not in NOT_METHODS and (FOLDER / f"{name}.py").is_file()


def is_module(name: str) -> bool:
    """Whether `name` is no short name but a module path: a dotted one, or a file of the folder one is in."""
    parts = name.split(".")
    ours = name in NOT_METHODS or (FOLDER / f"{name}.py").is_file()
    return all(part.isidentifier() for part in parts) and not ours and (len(parts) > 1 or Path(f"{name}.py").is_file())


def _module(name: str) -> str:
    if is_own(name):
        return f"methods.{name}"
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return point.module
    if is_module(name):
        if name not in _trusted:
            raise BrokenMethod(
                f"method {name!r} is a module that would be imported, and it is a file that names it: "
                f"if you know what it does, add trust={name}"
            )
        return name
    raise LookupError(f"no method {name!r}")


def _method_class(tree: ast.Module) -> ast.ClassDef:
    def is_method(base: ast.expr) -> bool:
        return (base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")) == "Method"

    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and any(is_method(base) for base in n.bases)]
    if len(classes) != 1:
        raise ValueError(f"one class derived from Method is needed, {len(classes)} found")
    return classes[0]


def _declarations(node: ast.ClassDef) -> dict[str, Any]:
    """What the class declares, such as `views = ("crop", "crop")`: plain literals, because they are read, not run."""
    declarations = {}
    for item in node.body:
        if not isinstance(item, ast.Assign | ast.AnnAssign) or item.value is None:
            continue
        target = item.targets[0] if isinstance(item, ast.Assign) else item.target
        if isinstance(target, ast.Name) and target.id in DECLARED:
            try:
                declarations[target.id] = ast.literal_eval(item.value)
            except ValueError as error:
                raise ValueError(f"{target.id} must be written out, as in views = ('crop', 'crop')") from error
    return declarations


def _tuples(declared: dict[str, Any], name: str, content: str, *types: type) -> dict[str, tuple[Any, ...]]:
    by_option: dict[str, tuple[Any, ...]] = declared.get(name, {})
    tuples = by_option.values() if isinstance(by_option, dict) else [()]
    if not all(isinstance(one, tuple) and one and all(isinstance(part, types) for part in one) for one in tuples):
        raise ValueError(f"{name} must have a tuple for each option: {content}")
    return by_option


def _execute(config: ast.ClassDef | None) -> type[Any]:
    if config is None:
        return dataclasses.make_dataclass("Config", [], frozen=True)
    space: dict[str, Any] = {
        "dataclass": dataclasses.dataclass,
        "dataclasses": dataclasses,
        "field": dataclasses.field,
        "Literal": typing.Literal,
        "__name__": __name__,
    }
    code = compile(ast.fix_missing_locations(ast.Module([config], [])), "<Config>", "exec", dont_inherit=True)
    exec(code, space)
    config_type: type[Any] = space["Config"]
    if not dataclasses.is_dataclass(config_type):
        raise ValueError("Config must be a dataclass")
    for option in dataclasses.fields(config_type):
        if option.default is dataclasses.MISSING:
            raise ValueError(f"option {option.name!r} needs a default")
        if option.type not in OPTION_TYPES and typing.get_origin(option.type) is not typing.Literal:
            raise ValueError(f"option {option.name!r} must be an int, a float, a bool, a str or a Literal")
    config_type()  # the defaults pass its own check
    return config_type
