"""A finished cell on disk without its training: random weights in its checkpoint, and a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.cells.run import start_record
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.training import build, checkpoint
from benchmark.words import cell_words
from methods.method import Method
from results import record

STATISTICS = {"pixel_mean": [0.5, 0.4, 0.3], "pixel_std": [0.2, 0.25, 0.3]}
IMAGES, CLASSES = 180, 10


def write(out: Path, words: Sequence[str]) -> Path:
    """The folder below `out` of the cell that these words of `run` are."""
    (settings,) = cell_words.read(list(words)).cells
    folder = out / address.name_folder(settings)
    folder.mkdir(parents=True)
    resolved = {"images": IMAGES, "test": {"images": 50, "classes": CLASSES}} | STATISTICS
    method, stem = build.build_method_for(settings, IMAGES, CLASSES, torch.device("cpu"))
    if method.trains:
        _randomise(method, settings.view_size)
        state = {"key": address.hash_cell(settings), "step": 1, "method": method.state_dict()} | STATISTICS
        checkpoint.save(folder, state)
    _record(folder, settings, resolved | {"stem": stem})
    return folder


def _randomise(method: Method, size: int) -> None:
    """Also what starts at 0, and the statistics of batch norms, so that none can be lost unnoticed."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
        for module in method.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        method.encoder.train()(torch.randn(16, 3, size, size, generator=generator))


def _record(folder: Path, settings: Settings, resolved: dict[str, object]) -> None:
    from dataclasses import asdict

    record.write_json(folder / "settings.json", asdict(settings))
    content = start_record(settings) | {
        "metrics": {"linear_top1": 0.5, "effective_rank": 3.0},
        "finished": record.now(),
    }
    record.write(folder, content | {"resolved": content["resolved"] | resolved})
