"""Where a backbone starts, if not at random: timm's pretrained weights, or a file of them.

A file is what torch.save or safetensors write: a state dict of the backbone, or a checkpoint with one in it, of the
projects in docs/protocol.md or of a cell (`last.pt`). `state_dicts` says which of its tensors are the backbone's. Torch
and timm are imported where they are used: words are read without them.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.backbones.library import library
from benchmark.errors import UsageError, explain, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

TIMM = "timm"
_OWN = "method/encoder."  # where a cell's checkpoint has the backbone that is evaluated
_TIMM_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm's save_for_hf names them, beside a config.json

PixelStatistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and deviation of each channel, of pixels in [0, 1]


class Weights(NamedTuple):
    """What is in a file of weights."""

    path: Path
    tensors: dict[str, Tensor]  # by their path in it, as `checkpoints.find_tensors` gives them
    ours: bool  # from a checkpoint of a cell
    pixel_statistics: PixelStatistics | None  # that they were trained on, where the file tells


def pin(text: str) -> str:
    """Nothing, `timm`, or a file as PATH@HASH of its bytes, and of the statistics of pixels that timm left beside it.

    `UsageError` where there is no such file.
    """
    if text in ("", TIMM) or "@sha256:" in text:
        return text
    path = Path(os.path.expanduser(text))
    if not path.is_file():
        hint = nearest(text, [TIMM])
        raise UsageError(f"weights={text}: no such file; allowed are timm and the path of a file of weights{hint}")
    return f"{path.absolute()}@{_hash(path, _statistics_beside(path))}"


def load(network: nn.Module, backbone: str, weights: Weights) -> str:
    """Put them into `network`, which has no classifier. Returns what was taken and what was left, in a line.

    Raises `UsageError` where they are another network's.
    """
    from benchmark.backbones import state_dicts

    tensors = weights.tensors
    try:
        copy_taken, other_copies = state_dicts.find(network, tensors, _OWN if weights.ours else None)
    except ValueError as error:
        raise UsageError(f"weights={weights.path} does not fit backbone={backbone}: {error}") from error
    network.load_state_dict({name: tensors[path] for name, path in copy_taken.paths.items()}, strict=False)
    where = f" below {copy_taken.prefix}" if copy_taken.prefix else ""
    if other_copies:
        where += f" (not {', '.join(copy.prefix or 'those without a prefix' for copy in other_copies)})"
    unused = len(tensors) - len(copy_taken.paths)
    left_out = f"left {unused} ({state_dicts.summarise(tensors, copy_taken)})" if unused else "left none"
    statistics = "those of their training" if weights.pixel_statistics else "this dataset's own, as the file holds none"
    return (
        f"weights={weights.path.name}: took {len(copy_taken.paths)} tensors{where}, {left_out}; "
        f"mean and deviation of the pixels are {statistics}"
    )


def pixel_statistics(backbone: str, weights: str) -> PixelStatistics | None:
    """Mean and deviation of the pixels, in [0, 1], that timm's weights were trained on, or a file's where it tells.

    None for all others, which are given the statistics of the dataset at hand.
    """
    if weights != TIMM:
        return _statistics_of(weights) if weights else None
    config = library().get_pretrained_cfg(backbone)
    return (tuple(config.mean), tuple(config.std)) if config else None


def fetch(backbone: str) -> None:
    """Have timm's pretrained weights in its cache. `UsageError` where there are none, or none can be had."""
    from huggingface_hub.utils import logging

    timm = library()
    logging.set_verbosity_error()  # its five retries would be told one by one
    config = timm.get_pretrained_cfg(backbone)
    if config is None or not config.has_weights:
        raise UsageError(f"weights=timm: timm has no pretrained weights for backbone={backbone}")
    try:
        timm.create_model(backbone, pretrained=True)
    except Exception as error:  # a hub without a network has many ways to fail
        raise UsageError(
            f"weights=timm: the weights of backbone={backbone} cannot be fetched ({explain(error)}): "
            "a network is needed once, or weights=FILE"
        ) from error


def read(pinned: str) -> Weights:
    """What is in a file that `pin` has pinned. `UsageError` for one that is gone, changed or no such file."""
    from benchmark.backbones import checkpoints

    name, _, digest = pinned.rpartition("@")
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"weights={name}: no such file; the cell was asked for with it")
    beside = _statistics_beside(path)
    if beside and digest == _hash(path, None):  # of a cell that is older than the use of such statistics
        beside = None
    elif digest != _hash(path, beside):
        raise UsageError(f"weights={name}: not the file that the cell was asked for with, which had {digest}")
    try:
        content = checkpoints.read(path)
        tensors = dict(checkpoints.find_tensors(content))
        if not tensors:
            raise ValueError("it holds no dictionary of tensors")
    except Exception as error:  # whatever a file that is no state dict makes of the readers
        message = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise UsageError(
            f"weights={name}: torch and safetensors read no weights from it ({message}); where you trust the file, "
            "load it and save the weights alone: torch.save(model.state_dict(), FILE)"
        ) from error
    is_checkpoint = {"key", "step", "method"} <= content.keys()
    return Weights(path, tensors, is_checkpoint, _statistics_in(content) if is_checkpoint else beside)


@lru_cache
def _statistics_of(pinned: str) -> PixelStatistics | None:
    return read(pinned).pixel_statistics


def _statistics_in(content: Mapping[str, Any]) -> PixelStatistics | None:
    """Those of a cell's checkpoint; the first ones hold none."""
    if "pixel_mean" not in content:
        return None
    return tuple(content["pixel_mean"]), tuple(content["pixel_std"])


def _statistics_beside(path: Path) -> PixelStatistics | None:
    """Those of the `config.json` that timm writes beside weights."""
    if path.name not in _TIMM_FILES:
        return None
    try:
        config = json.loads((path.parent / "config.json").read_text())["pretrained_cfg"]
        mean, std = ([float(value) for value in config[name]] for name in ("mean", "std"))
    except (OSError, ValueError, TypeError, LookupError):  # none, or another program's
        return None
    return (tuple(mean), tuple(std)) if len(mean) == len(std) == 3 else None


def _hash(path: Path, statistics: PixelStatistics | None) -> str:
    status = os.stat(path)
    return _hash_of(path, status.st_mtime_ns, status.st_size, statistics)


@lru_cache
def _hash_of(path: Path, modified: int, size: int, statistics: PixelStatistics | None) -> str:
    """Of a file that has not changed meanwhile."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if statistics:
        digest.update(json.dumps(statistics).encode())
    return f"sha256:{digest.hexdigest()[:10]}"
