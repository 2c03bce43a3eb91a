"""The contract of `methods/method.py`, run on any method: ours in the tests, a user's by `check NAME`.

Each check trains the method for a few steps on the digits, through the same loop as `run`, and raises `Violation`
with what it saw. Checks that compare different orders of summation run in float64, where an error of the algorithm
is not mistaken for rounding.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

import methods
from benchmark.contract.comparison import Violation, require_close, require_same
from benchmark.contract.learning import check_learning
from benchmark.contract.short_training import (
    CPU,
    FEWER,
    SYNC,
    StopAt,
    prepare,
    settings,
    train_briefly,
    train_undisturbed,
)
from benchmark.contract.two_processes import check_two_processes
from benchmark.errors import explain
from benchmark.settings.cell import Settings
from benchmark.training import build, optim
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.training.embed import embed
from benchmark.training.engine import Engine
from benchmark.training.stop import Stopped
from methods.method import Progress


def check_rerun(name: str, *more: str) -> None:
    """The same settings give the same losses and the same bytes. `more`: words over those of the small task."""
    require_same(train_undisturbed(name, more, True), train_briefly(settings(name, *more)), "a rerun")


def check_resume(name: str, *more: str) -> None:
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
        require_same(train_undisturbed(name, more, True), train_briefly(cell, folder=folder), "a resumed run")


def check_recording(name: str, *more: str) -> None:
    """A step that a GPU records and replays gives what it gives when it is launched anew: `phase` and `draw` see to it.

    Without a GPU: what would be recorded is run again, on the same memory, as it was told of the step it began with.
    """
    rehearsed = train_briefly(settings(name, *more), rehearses=True)
    require_same(train_undisturbed(name, more, True), rehearsed, "a recorded step")


def check_micro_batches(name: str, *more: str) -> None:
    """Encoding 12 images at a time gives the gradient of the whole batch of 32 (batch norm replaced by group norm)."""
    whole = train_undisturbed(name, (*SYNC, *FEWER, *more), False)
    parts = train_briefly(settings(name, *SYNC, *FEWER, *more, "microbatch=12"), norm=False)
    require_close(whole, parts, "micro-batches")


def check_gradients(name: str) -> None:
    """Every trainable parameter gets a gradient, no other does, and the optimiser holds just those."""
    cell = settings(name)
    engine, batches, at = _begin(cell)
    engine.gradient(batches.get(0, batches.order(0)), at)
    parameters = dict(engine.method.named_parameters())
    missing = [n for n, p in parameters.items() if p.requires_grad and p.grad is None]
    extra = [n for n, p in parameters.items() if not p.requires_grad and p.grad is not None]
    if missing or extra:
        raise Violation(
            f"no gradient: {', '.join(missing) or 'none'}; gradient on a target: {', '.join(extra) or 'none'}"
        )
    optimised = {id(p) for group in optim.make(engine.method, cell).param_groups for p in group["params"]}
    if optimised != {id(p) for p in parameters.values() if p.requires_grad}:
        raise Violation("the optimiser does not hold exactly the trainable parameters")


def check_reads(name: str) -> None:
    """`forward` and `loss` leave all buffers alone but batch norm's: what they write, a later row of them would see."""
    engine, batches, at = _begin(settings(name))
    layers = [layer for layer in engine.method.modules() if isinstance(layer, _BatchNorm)]
    statistics = {id(buffer) for layer in layers for buffer in layer.buffers()}
    before = {n: (b, b.clone()) for n, b in engine.method.named_buffers() if id(b) not in statistics}
    engine.gradient(batches.get(0, batches.order(0)), at)
    names = [n for n, (buffer, copy) in before.items() if not torch.equal(buffer, copy)]
    if names:
        raise Violation(f"forward or loss writes {', '.join(names)}; only after_step and before_epoch may")


def check_state(name: str) -> None:
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


def check_device(name: str) -> None:
    """A step runs on the GPU; where there is none, every tensor follows `to` (checked on torch's meta device)."""
    if not torch.cuda.is_available():
        engine, _ = prepare(settings(name), World())
        engine.method.to("meta")
        stayed = [n for n, value in engine.method.state_dict().items() if value.device.type != "meta"]
        if stayed:
            raise Violation(f"does not move to another device: {', '.join(stayed)}")
        return
    engine, batches, at = _begin(settings(name, "precision=fp32"), torch.device("cuda", 0))
    rows, scalars = engine.gradient(batches.get(0, batches.order(0)), at)
    engine.method.after_step(rows, at)
    if not torch.isfinite(scalars["loss"]):
        raise Violation("the loss of the first step on the GPU is not finite")


CHECKS: dict[str, Callable[[str], None]] = {
    "reruns bit for bit": check_rerun,
    "resumes in mid-epoch bit for bit": check_resume,
    "recorded steps are the usual ones": check_recording,
    "micro-batches give the whole batch's gradient": check_micro_batches,
    "gradients where they belong": check_gradients,
    "forward and loss only read": check_reads,
    "state is in checkpoints": check_state,
    "moves to another device": check_device,
    "learns": check_learning,
}


def check(name: str) -> bool:
    """Run the contract on the method `name` and print a line a check. Returns whether all hold."""
    print(f"{name}: {methods.describe(name).title}")
    if not methods.describe(name).trains:
        method, _ = build.build_method(settings(name), build.load_dataset(settings(name).dataset), CPU)
        print(f"  ok    makes features (it does not train: nothing else to check), {type(method).__name__}")
        return True
    problems: list[str] = []
    for title, function in [*CHECKS.items(), ("two processes agree with one", check_two_processes)]:
        problem = _problem(function, name)
        words = "" if problem is None else ": the same" if problem in problems else f": {problem}"
        print(f"  {'ok  ' if problem is None else 'FAIL'}  {title}{words}", flush=True)
        problems += [] if problem is None else [problem]
    return not problems


def _begin(cell: Settings, device: torch.device = CPU) -> tuple[Engine, Batches, Progress]:
    """The method of the cell before its first step, behind what it does before an epoch."""
    engine, batches = prepare(cell, World(), device)
    engine.method.train()
    at = Progress(0, 20, 0, 4)
    engine.method.before_epoch(at, lambda f: embed(f, engine, batches))
    return engine, batches, at


def _problem(function: Callable[[str], None], name: str) -> str | None:
    try:
        function(name)
    except Violation as violation:
        return str(violation)
    except Exception as error:  # noqa: BLE001 - a method under test may raise anything; it is what the check reports
        return explain(error) + _place(error, methods.source(name))
    return None


def _place(error: Exception, path: Path) -> str:
    """The line of the method's own file in which the error arose, or from which what raised it was called."""
    lines = [
        line for line in traceback.extract_tb(error.__traceback__) if Path(line.filename).resolve() == path.resolve()
    ]
    return f" (line {lines[-1].lineno} of {path.name}: {lines[-1].line})" if lines else ""
