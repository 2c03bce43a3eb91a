"""The contract of `methods/method.py`, run on any method: ours in the tests, a user's by `check NAME`.

Each check trains the method for a few steps on the digits, through the same loop as `run`, and raises `Violation`
with what it saw. Checks that compare different orders of summation run in float64, where an error of the algorithm
is not mistaken for rounding.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, multiprocessing, nn
from torch.nn.modules.batchnorm import _BatchNorm

import methods
from benchmark import distributed, optim, run, train, words
from benchmark.board import Board
from benchmark.config import Runtime, Settings, key
from benchmark.distributed import World
from benchmark.engine import Engine
from benchmark.evaluate import features, knn
from benchmark.stop import Stop, Stopped
from methods.method import Method

# 162 training images, batches of 32: 5 steps an epoch, 20 in all.
TASK = ["dataset=digits", "dataset.limit=180", "view_size=16", "backbone=test_resnet", "stem=native", "batch_size=32",
        "epochs=4", "learning_rate=0.5", "seeds=3", "augmentation=crop+colour+grey", "precision=fp32"]  # fmt: skip
# Where sums are taken in another order: float64, and for micro-batches a backbone without batch norm.
EXACT = ["precision=fp64"]
NORMLESS = ["precision=fp64", "backbone=test_vit", "batch_norm=sync"]
CPU = torch.device("cpu")


class Violation(Exception):
    """The method breaks the contract; the message says where."""


@dataclass(frozen=True)
class Trace:
    """What a short training left behind."""

    losses: list[float]
    state: dict[str, Tensor]


def settings(name: str, *more: str) -> Settings:
    """The small task for the method `name`; `more` words come first."""
    keys = {word.partition("=")[0] for word in more}
    return words.read([f"methods={name}", *more, *(w for w in TASK if w.partition("=")[0] not in keys)]).cells[0]


def prepare(
    cell: Settings, world: World, device: torch.device = CPU, norm: bool = True
) -> tuple[Engine, train.Batches]:
    """The method as `run` would make it; `norm=False` replaces batch norm by group norm, which knows no batch."""
    data = run.dataset(cell.dataset)
    method, _ = run.build(cell, data, device)
    if not norm:
        without_batch_norm(method)
    precision = cell.precision if cell.precision in ("fp32", "bf16", "fp64") else "fp32"
    batches = run.make_batches(cell, method, data, world, device, precision)
    return run.make_engine(cell, method, world, device, precision), batches


def trace(cell: Settings, world: World | None = None, stop: Stop | None = None, folder: Path | None = None,
          norm: bool = True) -> Trace:  # fmt: skip
    """Train the small task to its end, or until `stop`; resumes where `folder` holds a checkpoint."""
    world = world or World()
    engine, batches = prepare(cell, world, norm=norm)
    with tempfile.TemporaryDirectory() as scratch:
        place = folder or Path(scratch)
        runtime = Runtime(log_every=1, checkpoint_every=1e9)
        train.train(engine, batches, cell, runtime, key(cell), place, stop or Stop(), Board(1, shown=False))
        lines = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()] if world.leads else []
    return Trace([line["loss"] for line in lines], {k: v.clone() for k, v in engine.method.state_dict().items()})


def reruns(name: str) -> None:
    """The same settings give the same losses and the same bytes."""
    _same(trace(settings(name)), trace(settings(name)), "a rerun")


def resumes(name: str) -> None:
    """Stopped in the middle of an epoch and gone on with, training ends in the same bytes as in one go."""
    cell = settings(name)
    whole = trace(cell)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            trace(cell, stop=StopAt(8), folder=folder)
        except Stopped:
            pass
        else:
            raise Violation("training did not stop when it was asked to")
        _same(whole, trace(cell, folder=folder), "a resumed run")


def micro_batches(name: str) -> None:
    """Encoding 12 images at a time gives the gradient of the whole batch of 32 (batch norm replaced by group norm)."""
    whole = trace(settings(name, *NORMLESS), norm=False)
    parts = trace(settings(name, *NORMLESS, "microbatch=12"), norm=False)
    _close(whole, parts, "micro-batches")


def two_processes(names: list[str], timeout: float = 600.0) -> dict[str, str | None]:
    """For each method: None, or how 2 x 16 images differ from 1 x 32 in losses, weights and memories.

    One pair of gloo processes serves all the names, because starting one costs more than a check.
    """
    with tempfile.TemporaryDirectory() as scratch:
        context = multiprocessing.spawn(_worker, (_free_port(), names, scratch), nprocs=2, join=False)
        if not _joined(context, timeout):
            return dict.fromkeys(names, f"the two processes did not end within {timeout:.0f} s")
        return {name: _two_processes_problem(name, Path(scratch)) for name in names}


def gradients(name: str) -> None:
    """Every trainable parameter gets a gradient, no other does, and the optimiser holds just those."""
    cell = settings(name)
    engine, batches = prepare(cell, World())
    engine.method.train()
    at = train.Progress(0, 20, 0, 4)
    engine.method.before_epoch(at, lambda f: train.embed(f, engine, batches))
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
    at = train.Progress(0, 20, 0, 4)
    engine.method.before_epoch(at, lambda f: train.embed(f, engine, batches))
    rows, scalars = engine.gradient(batches.get(0, batches.order(0)), at)
    engine.method.after_step(rows, at)
    if not torch.isfinite(scalars["loss"]):
        raise Violation("the loss of the first step on the GPU is not finite")


def learns(name: str) -> None:
    """A short training on the digits, with their preset, finds better neighbours than the random start had."""
    cell = words.read([f"methods={name}", "dataset=digits", "epochs=8", "precision=fp32"]).cells[0]
    engine, batches = prepare(cell, World())
    # Batch norm's statistics settle in any training; that alone improves neighbours, and is not learning.
    engine.method.train()
    order = batches.order(0)
    with torch.no_grad():
        for step in range(2 * batches.per_epoch):
            engine.method(batches.get(step, order), train.Progress(step, 1, 0, 1))
    before = _neighbours(engine.method, cell, batches)
    with tempfile.TemporaryDirectory() as scratch:
        board, runtime = Board(1, shown=False), Runtime()
        train.train(engine, batches, cell, runtime, key(cell), Path(scratch), Stop(), board)
    after = _neighbours(engine.method, cell, batches)
    if not after > before:
        raise Violation(f"20 nearest neighbours: {after:.1%} right after training, {before:.1%} before")


CHECKS: dict[str, Callable[[str], None]] = {
    "reruns bit for bit": reruns,
    "resumes in mid-epoch bit for bit": resumes,
    "micro-batches give the whole batch's gradient": micro_batches,
    "gradients where they belong": gradients,
    "state is in checkpoints": state,
    "moves to another device": device,
    "learns": learns,
}


def check(name: str) -> bool:
    """Run the contract on the method `name` and print a line a check. Returns whether all hold."""
    print(f"{name}: {methods.describe(name).title}")
    if not methods.describe(name).trains:
        method, _ = run.build(settings(name), run.dataset(settings(name).dataset), CPU)
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


class StopAt(Stop):
    """Asks to stop when the loop has looked `looks` times, which it does once a step."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        super().__init__()

    @property
    def asked(self) -> int:
        self.looks -= 1
        return 15 if self.looks < 0 else 0

    @asked.setter
    def asked(self, number: int) -> None: ...


def without_batch_norm(network: nn.Module) -> None:
    """Replace every batch norm by a group norm of one group, in place, keeping its scale and shift."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm):
            norm = nn.GroupNorm(1, child.num_features, child.eps, affine=child.affine)
            if child.affine:
                norm.weight, norm.bias = child.weight, child.bias
            setattr(network, name, norm)
        else:
            without_batch_norm(child)


def _worker(rank: int, port: int, names: list[str], scratch: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    world = distributed.start(CPU)
    for name in names:
        for norm in (True, False):
            more = EXACT if norm else [*NORMLESS, "microbatch=6"]
            result: Trace | str
            try:
                result = trace(settings(name, *more), world, norm=norm)
            except Exception as error:  # noqa: BLE001 - told to the parent
                result = f"{type(error).__name__}: {error}"
            saved = result if isinstance(result, str) else {"losses": result.losses, "state": result.state}
            torch.save(saved, Path(scratch) / f"{name}-{norm}-{rank}.pt")
    distributed.stop()


def _two_processes_problem(name: str, scratch: Path) -> str | None:
    for norm in (True, False):
        one = trace(settings(name, *(EXACT if norm else NORMLESS)), norm=norm)
        saved = [torch.load(scratch / f"{name}-{norm}-{rank}.pt") for rank in (0, 1)]
        errors = [text for text in saved if isinstance(text, str)]
        if errors:
            return errors[0]
        ranks = [Trace(values["losses"], values["state"]) for values in saved]
        what = "two processes" if norm else "two processes with micro-batches"
        try:
            _close(one, ranks[0], what)
        except Violation as violation:
            return str(violation)
        differ = [n for n, value in ranks[0].state.items() if not torch.equal(value, ranks[1].state[n])]
        if differ:
            return f"{what} hold different bytes of {', '.join(differ[:3])}"
    return None


def _joined(context: multiprocessing.ProcessContext, timeout: float) -> bool:
    """Whether both processes ended in time; otherwise they are killed."""
    waited = 0.0
    while waited < timeout:
        if context.join(timeout=1.0):
            return True
        waited += 1.0
    for process in context.processes:
        process.kill()
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _neighbours(method: Method, cell: Settings, batches: train.Batches) -> float:
    data = run.dataset(cell.dataset)
    single = replace(batches, dtype=torch.float32)
    found = features.extract(method.encoder, data, single.normalised, cell.view_size, CPU)
    votes = knn.vote(found.validation[0], *found.train, found.classes, 20, knn.TEMPERATURE)
    return knn.top1(votes, found.validation[1])


def _same(one: Trace, other: Trace, what: str) -> None:
    if one.losses != other.losses:
        step = next(i for i, (a, b) in enumerate(zip(one.losses, other.losses, strict=False)) if a != b)
        raise Violation(f"{what} differs in the loss of step {step}")
    differ = [name for name, value in one.state.items() if not torch.equal(value, other.state[name])]
    if differ:
        raise Violation(f"{what} differs in {', '.join(differ[:3])}")


def _close(one: Trace, other: Trace, what: str) -> None:
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
