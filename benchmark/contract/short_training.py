"""A method trained for a few steps on the digits: what the checks look at."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from signal import SIGTERM

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import methods
from benchmark.display.progress import ProgressDisplay
from benchmark.settings.address import hash_cell
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.settings.schema import describe
from benchmark.training import build, train
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.training.engine import Engine
from benchmark.training.stop import Stop
from benchmark.words import cell_words

# 70 training images, batches of 32: 2 steps an epoch, 8 in all; what happens at an epoch's start happens four times,
# and as many rows pass as the longest memory of the digits' presets holds.
TASK = [
    "dataset=digits",
    "dataset.limit=80",
    "view_size=16",
    "batch_size=32",
    "epochs=4",
    "optimiser=sgd",
    "learning_rate=0.1",
    "seeds=3",
    "augmentation=crop+colour+grey",
    "precision=fp32",
]
# Where sums are taken in another order: float64, and for micro-batches no batch norm that needs the whole batch.
EXACT = ["precision=fp64"]
SYNC = ["precision=fp64", "batch_norm=sync"]
FEWER = ["epochs=2"]  # where a step's gradient is all that is looked at; with fewer images, clusters tie
CPU = torch.device("cpu")


@dataclass(frozen=True)
class ShortTraining:
    """What a short training left behind."""

    losses: list[float]
    state: dict[str, Tensor]


def settings(name: str, *more: str) -> Settings:
    """The small task for the method `name`; `more` words come first."""
    words, keys = [*TASK, *small_backbone(name)], {word.partition("=")[0] for word in more}
    return cell_words.read([f"methods={name}", *more, *(w for w in words if w.partition("=")[0] not in keys)]).cells[0]


def small_backbone(name: str) -> list[str]:
    """Words for the smallest network that the method can be had with: convolutions, or patches of 4 pixels."""
    methods.trust([name])  # as the words do that name it
    return ["backbone=test_vit", "stem=small"] if describe(name).tokens else ["backbone=test_resnet", "stem=native"]


def prepare(cell: Settings, world: World, device: torch.device = CPU, norm: bool = True) -> tuple[Engine, Batches]:
    """The method as `run` would make it; `norm=False` replaces batch norm by group norm, which knows no batch."""
    data = build.load_dataset(cell.dataset)
    method, _ = build.build_method(cell, data, device)
    if not norm:
        replace_batch_norm(method)
    precision = cell.precision if cell.precision in ("fp32", "bf16", "fp64") else "fp32"
    batches = build.build_batches(cell, method, data, world, device, precision)
    return build.build_engine(cell, method, world, device, precision), batches


def train_briefly(
    cell: Settings,
    world: World | None = None,
    stop: Stop | None = None,
    folder: Path | None = None,
    norm: bool = True,
    rehearses: bool = False,
) -> ShortTraining:
    """Train the small task to its end, or until `stop`; resumes where `folder` holds a checkpoint."""
    world = world or World()
    engine, batches = prepare(cell, world, norm=norm)
    engine.rehearses = rehearses
    with tempfile.TemporaryDirectory() as scratch:
        run_folder = folder or Path(scratch)
        runtime = Runtime(log_every=1, checkpoint_every=1e9)
        train.train(
            engine, batches, cell, runtime, hash_cell(cell), run_folder, stop or Stop(), ProgressDisplay(1, shown=False)
        )
        lines = (
            [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()] if world.is_main else []
        )
    return ShortTraining(
        [line["loss"] for line in lines], {k: v.clone() for k, v in engine.method.state_dict().items()}
    )


@lru_cache(maxsize=128)
def train_undisturbed(name: str, more: tuple[str, ...], norm: bool) -> ShortTraining:
    """The undisturbed training that several checks compare with."""
    return train_briefly(settings(name, *more), norm=norm)


class StopAt(Stop):
    """As SIGTERM behind `steps` steps: the loop asks for a signal once a step."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        super().__init__()

    @property
    def signal(self) -> int:
        self.steps -= 1
        return SIGTERM if self.steps < 0 else 0

    @signal.setter
    def signal(self, number: int) -> None: ...


def replace_batch_norm(network: nn.Module) -> None:
    """Replace every batch norm by a group norm of one group, in place, keeping its scale and shift."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            norm = nn.GroupNorm(1, child.num_features, child.eps, affine=child.affine)
            if child.affine:
                norm.weight, norm.bias = child.weight, child.bias
            setattr(network, name, norm)
        else:
            replace_batch_norm(child)
