"""The contract of `methods/method.py`, run on any method: ours in the tests, a user's by `check NAME`.

Each check trains the method for a few steps on the digits, through the same loop as `run`, and raises `Violation`
with what it saw. Checks that compare different orders of summation run in float64, where an error of the algorithm
is not mistaken for rounding.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

import methods
from benchmark.contract.short_training import (
    CPU,
    EXACT,
    FEWER,
    NORMLESS,
    ShortTraining,
    StopAt,
    in_two_processes,
    left_behind,
    prepare,
    settings,
    train_briefly,
)
from benchmark.display.progress import ProgressDisplay
from benchmark.evaluate import features, knn
from benchmark.settings.address import key
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training import build, optim, train
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.training.embed import embed
from benchmark.training.engine import Engine
from benchmark.training.stop import Stopped
from benchmark.words import cell_words
from methods.method import Method, Progress

CLEAR = 0.05  # of the neighbours: a lead of which no doubt is left


class Violation(Exception):
    """The method breaks the contract; the message says where."""


def reruns(name: str, *more: str) -> None:
    """The same settings give the same losses and the same bytes. `more`: words over those of the small task."""
    _require_same(_train_undisturbed(name, more, True), train_briefly(settings(name, *more)), "a rerun")


def resumes(name: str, *more: str) -> None:
    """Stopped in the middle of an epoch and gone on with, training ends in the same bytes as in one go."""
    cell = settings(name, *more)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            train_briefly(cell, stop=StopAt(5), folder=folder)
        except Stopped:
            pass
        else:
            raise Violation("training did not stop when it was asked to")
        _require_same(_train_undisturbed(name, more, True), train_briefly(cell, folder=folder), "a resumed run")


def micro_batches(name: str, *more: str) -> None:
    """Encoding 12 images at a time gives the gradient of the whole batch of 32 (batch norm replaced by group norm)."""
    whole = _train_undisturbed(name, (*NORMLESS, FEWER, *more), False)
    parts = train_briefly(settings(name, *NORMLESS, FEWER, *more, "microbatch=12"), norm=False)
    _require_close(whole, parts, "micro-batches")


def two_processes(names: list[str], timeout: float = 600.0) -> dict[str, str | None]:
    """For each method: None, or how 2 x 16 images differ from 1 x 32 in losses, weights and memories."""
    with tempfile.TemporaryDirectory() as scratch:
        if not in_two_processes(names, Path(scratch), timeout):
            return dict.fromkeys(names, f"the two processes did not end within {timeout:.0f} s")
        return {name: _two_processes_problem(name, Path(scratch)) for name in names}


def gradients(name: str) -> None:
    """Every trainable parameter gets a gradient, no other does, and the optimiser holds just those."""
    cell = settings(name)
    engine, batches = prepare(cell, World())
    engine.method.train()
    at = Progress(0, 20, 0, 4)
    engine.method.before_epoch(at, lambda f: embed(f, engine, batches))
    engine.gradient(batches.get(0, batches.order(0)), at)
    named = dict(engine.method.named_parameters())
    missing = [n for n, p in named.items() if p.requires_grad and p.grad is None]
    extra = [n for n, p in named.items() if not p.requires_grad and p.grad is not None]
    if missing or extra:
        raise Violation(
            f"no gradient: {', '.join(missing) or 'none'}; gradient on a target: {', '.join(extra) or 'none'}"
        )
    held = {id(p) for group in optim.make(engine.method, cell).param_groups for p in group["params"]}
    if held != {id(p) for p in named.values() if p.requires_grad}:
        raise Violation("the optimiser does not hold exactly the trainable parameters")


def reads(name: str) -> None:
    """`forward` and `loss` leave all buffers alone but batch norm's: what they write, a later row of them would see."""
    engine, batches = prepare(settings(name), World())
    engine.method.train()
    at = Progress(0, 20, 0, 4)
    engine.method.before_epoch(at, lambda f: embed(f, engine, batches))
    layers = [layer for layer in engine.method.modules() if isinstance(layer, _BatchNorm)]
    own = {id(buffer) for layer in layers for buffer in layer.buffers()}
    before = {n: (b, b.clone()) for n, b in engine.method.named_buffers() if id(b) not in own}
    engine.gradient(batches.get(0, batches.order(0)), at)
    written = [n for n, (buffer, kept) in before.items() if not torch.equal(buffer, kept)]
    if written:
        raise Violation(f"forward or loss writes {', '.join(written)}; only after_step and before_epoch may")


def state(name: str) -> None:
    """All tensors of the method are parameters or persistent buffers: checkpoints hold them and `to` moves them."""
    engine, _ = prepare(settings(name), World())
    saved = set(engine.method.state_dict())
    lost = [n for n, _ in engine.method.named_buffers() if n not in saved]
    loose = [
        f"{path}.{attribute}".lstrip(".")
        for path, module in engine.method.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, Tensor)
    ]
    if lost or loose:
        raise Violation(f"not in checkpoints: {', '.join(lost + loose)}; use register_buffer with persistent=True")


def device(name: str) -> None:
    """A step runs on the GPU; where there is none, every tensor follows `to` (checked on torch's meta device)."""
    if not torch.cuda.is_available():
        engine, _ = prepare(settings(name), World())
        engine.method.to("meta")
        stayed = [n for n, value in engine.method.state_dict().items() if value.device.type != "meta"]
        if stayed:
            raise Violation(f"does not move to another device: {', '.join(stayed)}")
        return
    cell = settings(name, "precision=fp32")
    engine, batches = prepare(cell, World(), torch.device("cuda", 0))
    engine.method.train()
    at = Progress(0, 20, 0, 4)
    engine.method.before_epoch(at, lambda f: embed(f, engine, batches))
    rows, scalars = engine.gradient(batches.get(0, batches.order(0)), at)
    engine.method.after_step(rows, at)
    if not torch.isfinite(scalars["loss"]):
        raise Violation("the loss of the first step on the GPU is not finite")


def learns(name: str) -> None:
    """A short training on the digits, with their preset but a small backbone, finds better neighbours than its random
    start had.

    Batch norm's statistics settle in any training; that alone improves neighbours, and is not learning. So the start
    is measured with settled statistics, and the end has to be better both with such and with those that training
    left, which are what `run` evaluates. Whoever is ahead by `CLEAR` behind an epoch need not go on.
    """
    small = ["backbone=test_resnet", "stem=native", "epochs=4", "precision=fp32"]
    cell = cell_words.read([f"methods={name}", "dataset=digits", *small]).cells[0]
    engine, batches = prepare(cell, World())
    _settle(engine, batches)
    before = after = _neighbours(engine.method, cell, batches)
    with tempfile.TemporaryDirectory() as scratch:
        for epoch in range(cell.epochs or 0):
            with contextlib.suppress(Stopped):
                stop, display = StopAt(batches.per_epoch - 1), ProgressDisplay(1, shown=False)
                train.train(engine, batches, cell, Runtime(), key(cell), Path(scratch), stop, display)
            left = _neighbours(engine.method, cell, batches)
            if left <= before + CLEAR and epoch + 1 != cell.epochs:
                continue
            trained = {name: value.clone() for name, value in engine.method.state_dict().items()}
            _settle(engine, batches)
            after = min(left, _neighbours(engine.method, cell, batches))
            engine.method.load_state_dict(trained)
            if after > before + CLEAR:
                return
    if not after > before:
        raise Violation(f"20 nearest neighbours: {after:.1%} right after training, {before:.1%} before")


CHECKS: dict[str, Callable[[str], None]] = {
    "reruns bit for bit": reruns,
    "resumes in mid-epoch bit for bit": resumes,
    "micro-batches give the whole batch's gradient": micro_batches,
    "gradients where they belong": gradients,
    "forward and loss only read": reads,
    "state is in checkpoints": state,
    "moves to another device": device,
    "learns": learns,
}


def check(name: str) -> bool:
    """Run the contract on the method `name` and print a line a check. Returns whether all hold."""
    print(f"{name}: {methods.describe(name).title}")
    if not methods.describe(name).trains:
        method, _ = build.method(settings(name), build.dataset(settings(name).dataset), CPU)
        print(f"  ok    makes features (it does not train: nothing else to check), {type(method).__name__}")
        return True
    good = True
    for title, function in [*CHECKS.items(), ("two processes agree with one", _two)]:
        problem = _problem(function, name)
        print(f"  {'FAIL' if problem else 'ok  '}  {title}{': ' + problem if problem else ''}", flush=True)
        good = good and problem is None
    return good


def _two(name: str) -> None:
    problem = two_processes([name])[name]
    if problem:
        raise Violation(problem)


def _problem(function: Callable[[str], None], name: str) -> str | None:
    try:
        function(name)
    except Violation as violation:
        return str(violation)
    except Exception as error:  # noqa: BLE001 - a method under test may raise anything; it is what the check reports
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


@lru_cache(maxsize=128)
def _train_undisturbed(name: str, more: tuple[str, ...], norm: bool) -> ShortTraining:
    """The undisturbed training that several checks compare with."""
    return train_briefly(settings(name, *more), norm=norm)


def _two_processes_problem(name: str, scratch: Path) -> str | None:
    for norm in (True, False):
        one = _train_undisturbed(name, tuple(EXACT if norm else [*NORMLESS, FEWER]), norm)
        found = [left_behind(name, norm, rank, scratch) for rank in (0, 1)]
        ranks = [result for result in found if isinstance(result, ShortTraining)]
        if len(ranks) < 2:
            return next(text for text in found if isinstance(text, str))
        what = "two processes" if norm else "two processes with micro-batches"
        try:
            _require_close(one, ranks[0], what)
        except Violation as violation:
            return str(violation)
        differ = [n for n, value in ranks[0].state.items() if not torch.equal(value, ranks[1].state[n])]
        if differ:
            return f"{what} hold different bytes of {', '.join(differ[:3])}"
    return None


def _settle(engine: Engine, batches: Batches) -> None:
    """Make the running statistics of the encoder's batch norms the mean over an epoch; always the same epoch."""
    norms = [layer for layer in engine.method.encoder.modules() if isinstance(layer, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all that follows, instead of a moving one
    engine.method.train()
    with torch.no_grad():
        for step in range(batches.per_epoch):
            engine.rows(engine.method, batches.get(step, batches.order(0)), Progress(step, 1, 0, 1))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _neighbours(method: Method, cell: Settings, batches: Batches) -> float:
    data = build.dataset(cell.dataset)
    single = replace(batches, dtype=torch.float32)
    found = features.extract(method.encoder, data, single.normalise, cell.view_size, CPU)
    votes = knn.vote(found.validation[0], *found.train, found.classes, 20, knn.TEMPERATURE)
    return knn.top1(votes, found.validation[1])


def _require_same(one: ShortTraining, other: ShortTraining, what: str) -> None:
    if one.losses != other.losses:
        step = next(i for i, (a, b) in enumerate(zip(one.losses, other.losses, strict=False)) if a != b)
        raise Violation(f"{what} differs in the loss of step {step}")
    differ = [name for name, value in one.state.items() if not torch.equal(value, other.state[name])]
    if differ:
        raise Violation(f"{what} differs in {', '.join(differ[:3])}")


def _require_close(one: ShortTraining, other: ShortTraining, what: str) -> None:
    """Losses within 1e-5 relative, weights and memories within 1e-5."""
    if len(one.losses) != len(other.losses):
        raise Violation(f"{what}: {len(other.losses)} steps instead of {len(one.losses)}")
    for step, (a, b) in enumerate(zip(one.losses, other.losses, strict=True)):
        if not abs(a - b) <= 1e-5 * max(abs(a), abs(b)):
            raise Violation(f"{what}: the loss of step {step} is {b:.9g} instead of {a:.9g}")
    for name, value in one.state.items():
        gap = (value.double() - other.state[name].double()).abs().max() if value.numel() else torch.zeros(())
        if not float(gap) <= 1e-5:
            raise Violation(f"{what}: {name} differs by {float(gap):.2g}")
