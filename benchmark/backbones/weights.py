"""Where a backbone starts, if not at random: timm's pretrained weights, or a file of them.

A file is a state dict of the backbone, as `torch.save` or safetensors write it, alone or as checkpoints hold it: below
`state_dict` or `model` (read by timm), or a `last.pt` of ours. Of what wraps a backbone only the backbone is taken, and
its classifier is left out. Torch and timm are imported where they are used: words are read without them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.backbones.library import library
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

TIMM = "timm"
_PARTS = ("encoder.", "backbone.")  # what a backbone may be called inside of what wraps it


class Weights(NamedTuple):
    """A backbone's weights, from a file."""

    path: Path
    state: dict[str, Any]  # name -> tensor
    ours: bool  # from a checkpoint of a cell


def pin(given: str) -> str:
    """Nothing, `timm`, or a file as PATH@HASH of its bytes. `UsageError` where there is no such file."""
    if given in ("", TIMM) or "@sha256:" in given:
        return given
    path = Path(given).expanduser()
    if not path.is_file():
        raise UsageError(f"weights={given}: no such file; allowed are timm and the path of a file of weights")
    return f"{path.absolute()}@{_hash(path)}"


def load(network: nn.Module, backbone: str, found: Weights) -> None:
    """Put them into `network`, which has no classifier. Raises `UsageError` where they are another network's."""
    classifier = _classifiers(network)
    state = {name: value for name, value in found.state.items() if not name.startswith(classifier)}
    problem = _misfit(network.state_dict(), state)
    if problem:
        raise UsageError(f"weights={found.path} does not fit backbone={backbone}: {problem}")
    network.load_state_dict(state, strict=False)


def pixels(backbone: str, weights: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation of the pixels, in [0, 1], that timm's weights were trained on; None for all others, which
    are given the statistics of the dataset at hand."""
    if weights != TIMM:
        return None
    found = library().get_pretrained_cfg(backbone)
    return (tuple(found.mean), tuple(found.std)) if found else None


def fetch(backbone: str) -> None:
    """Have timm's pretrained weights in its cache. `UsageError` where there are none, or none can be had."""
    from huggingface_hub.utils import logging

    timm = library()
    logging.set_verbosity_error()  # its five retries would be told one by one
    found = timm.get_pretrained_cfg(backbone)
    if found is None or not found.has_weights:
        raise UsageError(f"weights=timm: timm has no pretrained weights for backbone={backbone}")
    try:
        timm.create_model(backbone, pretrained=True)
    except Exception as error:  # a hub without a network has many ways to fail
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"weights=timm: the weights of backbone={backbone} cannot be fetched ({message}): "
            "a network is needed once, or weights=FILE"
        ) from error


def read(named: str) -> Weights:
    """The backbone's weights in a file that `pin` has pinned. `UsageError` for one that is gone, changed or no such
    file."""
    from timm.models import load_state_dict

    name, _, digest = named.rpartition("@")
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"weights={name}: no such file; the cell was asked for with it")
    if _hash(path) != digest:
        raise UsageError(f"weights={name}: not the file that the cell was asked for with, which had {digest}")
    try:
        found = load_state_dict(str(path))
        ours = "method" in found
        state = {key: value for key, value in found.get("method", found).items() if hasattr(value, "shape")}
    except Exception as error:  # whatever a file that is no state dict makes of the readers
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"weights={name}: torch and safetensors read no weights from it ({message})") from error
    for part in _PARTS:
        own = {key.removeprefix(part): value for key, value in state.items() if key.startswith(part)}
        if own:
            return Weights(path, own, ours)
    return Weights(path, state, ours)


def _classifiers(network: nn.Module) -> tuple[str, ...]:
    """How the names of the classifier's weights begin, in timm's model of this architecture."""
    found = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return tuple(f"{name}." for name in ([found] if isinstance(found, str) else found))


def _misfit(own: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """The first way in which `given` is not a state of the network whose state is `own`."""
    # Batch norm's counters of batches came after many checkpoints; no number depends on them here.
    missing = next((name for name in own if name not in given and not name.endswith("num_batches_tracked")), None)
    if missing:
        return f"{missing} is missing"
    unexpected = next((name for name in given if name not in own), None)
    if unexpected:
        return f"{unexpected} is unexpected"
    for name, value in given.items():
        if value.shape != own[name].shape:
            return f"{name} has shape {tuple(value.shape)}, not {tuple(own[name].shape)}"
    return None


def _hash(path: Path) -> str:
    found = os.stat(path)
    return _hash_of(path, found.st_mtime_ns, found.st_size)


@lru_cache
def _hash_of(path: Path, modified: int, size: int) -> str:
    """Of a file that has not changed meanwhile."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:10]}"
