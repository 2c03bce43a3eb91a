"""Files of weights as they are on disk: read without running anything of theirs, as one flat list of tensors."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What a pickle may name beside tensors, in the format that torch wrote before 1.6 and cannot list the names of.
_USUAL = ("argparse.Namespace", "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")


class _Placeholder:
    """Stands for any object that is no tensor, such as the arguments of a training: nothing of its class is run."""

    def __new__(cls, *args: Any) -> _Placeholder:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """What it would hold is not kept."""


def _dict(*_: Any) -> dict[Any, Any]:
    """Stands for a defaultdict: the unpickler puts items into plain dictionaries alone."""
    return {}


def read(path: Path) -> Mapping[Any, Any]:
    """What the file holds, on the CPU; ValueError where that is not a dictionary, or torch refuses to read it.

    A pickle is read with `weights_only=True`, and whatever class it names that torch does not know is a placeholder.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    names = set(_USUAL)
    with contextlib.suppress(ValueError):
        names |= set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    dicts = {"collections.defaultdict"}
    stand_ins: list[Any] = [(_Placeholder, name) for name in names - dicts] + [(_dict, name) for name in names & dicts]
    try:
        with torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # many lines of advice, to run what the file says, around the reason
        lines = [line.strip() for line in str(error).splitlines()]
        reason = [line for line in lines if line and not line.startswith("Check the documentation")][-1]
        raise ValueError(reason.removeprefix("WeightsUnpickler error: ").partition(". ")[0]) from error
    if not isinstance(content, Mapping):
        raise ValueError("it holds no dictionary of tensors")
    return content


def find_tensors(content: Mapping[Any, Any], container: str = "") -> Iterator[tuple[str, Tensor]]:
    """(path, tensor) of all tensors in nested dictionaries: their names as they are, behind the names of the
    dictionaries that they are in, such as `state_dict/module.encoder_q.conv1.weight`.

    What is behind a number is an optimiser's, and left out.
    """
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, Mapping):
            yield from find_tensors(value, f"{container}{name}/")
        elif isinstance(name, str) and isinstance(value, Tensor):
            yield container + name, value
