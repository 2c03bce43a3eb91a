"""Which tensors of a checkpoint are the network's: one rule for the files of all projects.

A copy of the network is a prefix, such as `state_dict/module.encoder_q.`, behind which the file has all names of the
network, with their shapes. Names are compared without the `module.` of DistributedDataParallel and the `_orig_mod.` of
torch.compile, wherever these stand. A child may also go by its number, as in an nn.Sequential of a network's children:
`4.0.conv1.weight` is `layer1.0.conv1.weight` of a ResNet.

Behind the prefix a file may have more, such as a classifier or a projection head, but nothing that belongs to a part
that the network has: a ResNet-34 has every name of a ResNet-18, and is none.

Of several copies that differ, one comes first by the words in its prefix: a teacher, or timm's moving average of a
training (`state_dict_ema`, `model_ema`), then all others, and behind them what a method trains against: a momentum,
target or key encoder, or a student. Where two come first, neither is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

_WRAPPERS = re.compile(r"(?<![^./])(?:module|_orig_mod)\.")
_FIRST = {"teacher"}
_FIRST_CONTAINERS = ("state_dict_ema/", "model_ema/")
_LAST = {"momentum", "target", "key", "k", "student"}


class Copy(NamedTuple):
    """The tensors of a network in a file."""

    prefix: str  # of their paths
    paths: dict[str, str]  # the network's own name -> path


def find(network: nn.Module, tensors: Mapping[str, Tensor], only: str | None = None) -> tuple[Copy, list[Copy]]:
    """The copy to take, and those that fit as well; behind the prefix `only`, if there is one.

    Raises ValueError, with a line that says what is missing, mis-shaped or too much at the prefix that is nearest, or
    which two copies could be meant.
    """
    copies = _find_candidates(network, tensors)
    if only is not None:
        copies = [copy for copy in copies if copy.prefix == only]
    fits = [copy for copy in copies if _find_misfit(network, tensors, copy) is None]
    if not fits:
        raise ValueError(_describe_nearest(network, tensors, copies))
    fits.sort(key=lambda copy: _rank(copy.prefix))
    first, *others = fits
    rivals = [copy for copy in others if _rank(copy.prefix) == _rank(first.prefix) and _differ(tensors, first, copy)]
    if rivals:
        raise ValueError(
            f"two copies of it fit, {_describe_place(first)} and {_describe_place(rivals[0])}, and no word in "
            "their names prefers one: keep the one that is meant in a file of its own"
        )
    return first, [copy for copy in others if _differ(tensors, first, copy)]


def summarise(tensors: Mapping[str, Tensor], copy: Copy) -> str:
    """Such as `fc, encoder_k, queue`: what is not taken, each by the first part in which its path is another one."""
    prefix_parts = _split_path(copy.prefix)
    labels = set[str]()
    for path in tensors.keys() - set(copy.paths.values()):
        parts = _split_path(path)
        same = next((i for i, (a, b) in enumerate(zip(prefix_parts, parts, strict=False)) if a != b), len(prefix_parts))
        labels.add((parts[same:] or [path])[0])
    names = sorted(labels)
    return ", ".join(names[:6] + [f"{len(names) - 6} more"] * (len(names) > 6))


def _split_path(path: str) -> list[str]:
    return [part for part in re.split(r"[./]", _WRAPPERS.sub("", path)) if part]


def _describe_place(copy: Copy) -> str:
    return copy.prefix or "names without a prefix"


def _find_candidates(network: nn.Module, tensors: Mapping[str, Tensor]) -> list[Copy]:
    """Every prefix behind which there is a name of the network, with what of it is there."""
    numbers = {child_name: str(number) for number, (child_name, _) in enumerate(network.named_children())}
    names = dict[str, str]()
    for state_name in network.state_dict():
        child, dot, rest = state_name.partition(".")
        names[f"{numbers.get(child, child)}{dot}{rest}"] = state_name
        names[_WRAPPERS.sub("", state_name)] = state_name
    copies = dict[str, Copy]()
    for path in tensors:
        for cut in [0, *(match.end() for match in re.finditer(r"[./]", path))]:
            child_name = _WRAPPERS.sub("", path[cut:])
            if child_name in names:
                paths = copies.setdefault(path[:cut], Copy(path[:cut], {})).paths
                if names[child_name] not in paths or child_name == path[cut:]:  # one without wrappers comes first
                    paths[names[child_name]] = path
    # A prefix with the wrappers that are behind it is the same copy; the longer one comes later.
    distinct = {tuple(sorted(copy.paths.values())): copy for copy in copies.values()}
    return list(distinct.values())


def _find_misfit(network: nn.Module, tensors: Mapping[str, Tensor], copy: Copy) -> str | None:
    """The first way in which the copy is not a state of the network."""
    state = network.state_dict()
    for state_name in state:
        # Batch norm's counters of batches came after many checkpoints; no number depends on them here.
        if state_name not in copy.paths and not state_name.endswith("num_batches_tracked"):
            return f"{state_name} is missing"
    for state_name, path in copy.paths.items():
        if tensors[path].shape != state[state_name].shape:
            return f"{state_name} has shape {tuple(tensors[path].shape)}, not {tuple(state[state_name].shape)}"
    return next((f"{name} is unexpected" for name in _more(network, tensors, copy)), None)


def _more(network: nn.Module, tensors: Mapping[str, Tensor], copy: Copy) -> list[str]:
    """What else the file has behind the prefix, of parts that the network has, its classifier apart."""
    classifiers = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    children = dict(enumerate(name for name, _ in network.named_children()))
    names = list[str]()
    for path in tensors.keys() - set(copy.paths.values()):
        rest = path.removeprefix(copy.prefix)
        if not path.startswith(copy.prefix) or "/" in rest:
            continue
        child, dot, rest = _WRAPPERS.sub("", rest).partition(".")
        child = children.get(int(child), child) if child.isdigit() else child
        name = f"{child}{dot}{rest}"
        if hasattr(network, child) and not name.startswith(tuple(f"{classifier}." for classifier in classifiers)):
            names.append(name)
    return sorted(names)


def _describe_nearest(network: nn.Module, tensors: Mapping[str, Tensor], copies: list[Copy]) -> str:
    """Why the file does not fit: at its nearest prefix, and its first names, for what is none at all."""
    state, names = network.state_dict(), ", ".join(list(tensors)[:3])
    if not copies:
        return f"none of the {len(state)} names of the network is in it; its first names are {names}"

    def count(copy: Copy) -> tuple[int, int]:
        equal = sum(tensors[path].shape == state[name].shape for name, path in copy.paths.items())
        return equal, len(copy.paths)

    nearest = max(copies, key=count)
    problem = _find_misfit(network, tensors, nearest)
    return (
        f"{problem} at {_describe_place(nearest)}, where {count(nearest)[0]} of its {len(state)} tensors are; "
        f"the file's first names are {names}"
    )


def _rank(prefix: str) -> tuple[bool, bool]:
    """Less comes first."""
    words = set(re.split(r"[./_]", prefix))
    return not (words & _FIRST or prefix.startswith(_FIRST_CONTAINERS)), bool(words & _LAST)


def _differ(tensors: Mapping[str, Tensor], one: Copy, other: Copy) -> bool:
    pairs = [(tensors[one.paths[name]], tensors[other.paths[name]]) for name in one.paths.keys() & other.paths.keys()]
    return any(a.dtype != b.dtype or not torch.equal(a, b) for a, b in pairs)
