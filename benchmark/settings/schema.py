"""What may be set: the keys of the dataclasses and of each method, their types and help, and what a method ignores.

The declared type decides how a value is read. There is no interpolation, no environment variable, no config file.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from dataclasses import fields
from functools import cache
from types import NoneType
from typing import Any

import methods
from benchmark.data.catalogue import RUN, Dataset
from benchmark.errors import UsageError, nearest
from benchmark.settings.cell import TRAINING, Settings
from benchmark.settings.runtime import Runtime, Slurm
from methods import sources

# Settings that an optimiser has no use for.
NOT_READ_BY = {"adamw": {"sgd_momentum"}, "larc": {"decay_all", "adamw_beta2"}}
NOT_READ_BY |= {name: {"adamw_beta2"} for name in ("sgd", "lars", "lars_fb")}
UNSPOKEN = ("options", "dataset", "method_version", "processes", "trial", "prune_below")  # of `Settings`: no words
PLURAL = {"methods": "method", "seeds": "seed", "dataset": "dataset.name"}


@cache
def describe(method: str) -> methods.Description:
    """The method's description, or the error that a typo deserves."""
    try:
        description = methods.describe(method)
    except LookupError as error:
        names = methods.names()
        near = _nearest_method(method, names, methods.variants())
        raise UsageError(
            f"unknown method {method!r}{near} (allowed: {', '.join(names)}, or a dotted module path)"
        ) from error
    except methods.BrokenMethod as error:
        raise UsageError(str(error)) from error
    clash = next((f.name for f in fields(description.Config) if f.name in list_types() or f.name in PLURAL), None)
    if clash:
        raise UsageError(f"method {method!r}: option {clash!r} has the name of a setting; another name is needed")
    optional = [name for name, kind in list_types().items() if NoneType in typing.get_args(kind)]
    wrong = next((name for name in description.ignores if name not in optional), None)
    if wrong:
        raise UsageError(f"method {method!r} ignores {wrong!r}; allowed are {', '.join(optional)}")
    return description


def _nearest_method(name: str, names: list[str], variants: dict[str, str]) -> str:
    """The words of a variant; '; did you mean X?' for another spelling of a name (`MoCo-v3`), else for the name without
    its version (`moco_v2` is `moco`), else for the nearest."""
    plain = {re.sub(r"[\W_]", "", known): known for known in [*names, *variants]}
    spelt = re.sub(r"[\W_]", "", name.lower())
    same = plain.get(spelt) or plain.get(re.sub(r"v\d+$", "", spelt))
    if same in variants:
        return f": it is {variants[same]}"
    return f"; did you mean {same!r}?" if same else nearest(name, [*names, *variants])


@cache
def method_version(method: str) -> str:
    """What `Settings.method_version` is with the present code."""
    describe(method)
    version = methods.version(method)
    return "" if version == "1" else version


@cache
def list_types() -> dict[str, Any]:
    """Every key of `Settings` and `Dataset` that a word can set, dotted, with its declared type."""
    types = {k: t for k, t in typing.get_type_hints(Settings).items() if k not in UNSPOKEN}
    return types | {f"dataset.{k}": t for k, t in typing.get_type_hints(Dataset).items() if k != "fingerprint"}


@cache
def list_runtime_types() -> dict[str, Any]:
    """Every key of `Runtime` and `Slurm`, dotted, with its declared type."""
    types = {k: t for k, t in typing.get_type_hints(Runtime).items() if k != "slurm"}
    return types | {f"slurm.{k}": t for k, t in typing.get_type_hints(Slurm).items()}


def read_help(cls: type[Any]) -> dict[str, str]:
    """Field -> the comment behind it in the source of a dataclass."""
    text = inspect.getsource(cls)
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.ClassDef)
    return sources.comments(text, node)


@cache
def list_options(method: str) -> dict[str, Any]:
    """The method's options with their declared types."""
    return typing.get_type_hints(describe(method).Config)


def list_inapplicable(method: str, *split_seeds: object) -> set[str]:
    """The settings that cannot change the result of `method`. The seed can, whatever the method, where the split is by
    it: where it is among these values of `dataset.split_seed`."""
    description = describe(method)
    unread = set(description.ignores) | (set() if description.trains else set(TRAINING))
    unread |= {"pool"} if "backbone" in unread else set()  # which came later than methods without a backbone
    return unread - {"seed"} if RUN in split_seeds else unread


@cache
def may_refuse(method: str) -> bool:
    """Whether the method has to be asked what it refuses: one of ours that is told the size of its views, or whose
    `__init__` raises errors; and any plugin."""
    own = describe(method).sized or sources.raises_in_init(methods.source(method))
    return own or not methods.is_own(method)


def is_pretrained(method: str) -> bool:
    """Whether the method is what its weights are: a backbone that neither a training nor a seed decides on."""
    unread = list_inapplicable(method)
    return not describe(method).trains and "seed" in unread and not unread & {"backbone", "weights"}
