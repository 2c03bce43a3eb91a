"""The loop, readable in one sitting: resume, step, hooks, log line, checkpoint."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmark import seeds
from benchmark.display.progress import ProgressDisplay
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime
from benchmark.training import checkpoint, optim
from benchmark.training.batches import Batches
from benchmark.training.collapse import CollapseWatch
from benchmark.training.embed import embed
from benchmark.training.engine import Engine, Rows
from benchmark.training.log import Log
from benchmark.training.recorded.step import Recorder
from benchmark.training.recorded.views import augmenter
from benchmark.training.stop import Stop, Stopped
from methods.method import Batch, Progress


class Outcome(NamedTuple):
    """How training ended: `reason` is None, or why the run collapsed, or why it ended for its validation accuracy.

    Not `whole`: it ended at once, and there is nothing to evaluate. Whole and yet with a reason: at its last step a
    sign of collapse still lasted; what was trained is evaluated all the same.
    """

    reason: str | None
    whole: bool
    signs: list[str]  # what is no collapse, and yet has to be said
    views: int  # augmented image views seen, over all devices
    seconds: float  # over all attempts, but for steps that a kill threw away
    images_per_second: float
    status: str = ""  # stopped or pruned, where it ended for its validation accuracy


class Validation(NamedTuple):
    """What was measured at an epoch's end: numbers for the log, with the `evaluation_seconds` that they took, or none;
    and why the cell should end there, if it should, and the `status` that its record then has. Where it is `pruned` no
    checkpoint is written: killed before its record is, it must be judged there again."""

    numbers: dict[str, float]
    stop: str | None = None
    status: str = ""


@dataclass
class Clock:
    """Training time over all attempts, and what has not been logged yet."""

    seconds: float = 0.0
    pending: list[dict[str, Tensor]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def total(self) -> float:
        """Seconds until now."""
        return self.seconds + time.perf_counter() - self.started


def train(
    engine: Engine,
    batches: Batches,
    settings: Settings,
    runtime: Runtime,
    key: str,
    folder: Path,
    stop: Stop,
    display: ProgressDisplay,
    guard: Callable[[], None] = lambda: None,
    report_line: Callable[[dict[str, Any]], None] = lambda line: None,
    measure: Callable[[int], Validation] = lambda epoch: Validation({}),
) -> Outcome:
    """Train `engine.method` in place, from the checkpoint in `folder` if there is one.

    `guard` is called before each write, and raises where another process has the cell; `report_line` gets each line
    that is logged; every process asks `measure` at each epoch's end. Raises `Stopped` behind a checkpoint.
    """
    method, world = engine.method, engine.world
    assert settings.epochs is not None
    steps = settings.epochs * batches.per_epoch
    optimiser, recorder = optim.make(method, settings), Recorder(engine, runtime.record, display.say)
    clock, collapse = Clock(), CollapseWatch(method, steps, world)
    start = _resume(folder, key, engine, optimiser, clock, collapse)
    log = Log(folder / "log.jsonl", start, world.is_main, guard, report_line)
    method.train()
    saved, augment = time.perf_counter(), augmenter(batches, runtime.record, engine.compiled, display.say)
    with stop.defer(), contextlib.closing(batches.feed(start, steps, augment)) as feed:
        for step in range(start, steps):
            at = Progress(step, steps, step // batches.per_epoch, settings.epochs)
            if step % batches.per_epoch == 0:
                _begin_epoch(engine, batches, at)
            rows, scalars = take_step(recorder, optimiser, next(feed), at, settings)
            clock.pending.append(scalars)
            done = step + 1
            collapse.update(step, scalars, rows, method.phase(at))
            validation = _validate(measure, done, batches, clock, log)
            reason = validation.stop or (collapse.verdict if runtime.stop_collapsed else None)
            ends = reason is not None and done < steps
            stopping, due = world.any_rank(stop.signal > 0, time.perf_counter() - saved >= runtime.checkpoint_every)
            logs = done % runtime.log_every == 0 or done == steps or ends
            if logs or stopping or due:
                line, bad_step = _read_back(clock.pending, done)
                if bad_step is not None:
                    return _outcome(f"non-finite loss at step {bad_step}", False, collapse, done, batches, clock)
                display.step(done, steps, line["loss"])
            if logs:
                rate, speed = optim.learning_rate(step, steps, settings), done * batches.batch_size / clock.total()
                line |= {"learning_rate": rate, "images_per_second": speed}
                log.write({"step": done, "steps": steps, "epoch": at.epoch} | line)
                clock.pending.clear()
            if done == steps or ((stopping or due or ends) and validation.status != "pruned"):
                _save(folder, key, done, engine, batches, optimiser, clock, collapse, guard)
                saved = time.perf_counter()
            if ends:
                return _outcome(reason, False, collapse, done, batches, clock)._replace(status=validation.status)
            if stopping:
                world.any_rank(False)  # none leaves before the checkpoint is whole: torchrun would end its writer
                raise Stopped(stop.signal or signal.SIGTERM)
    return _outcome(collapse.verdict, True, collapse, steps, batches, clock)


def _begin_epoch(engine: Engine, batches: Batches, at: Progress) -> None:
    """What the method does before an epoch, such as clustering."""
    torch.manual_seed(seeds.mix(batches.seed, "epoch", at.epoch))
    with torch.no_grad():
        engine.method.before_epoch(at, lambda f: embed(f, engine, batches))


def take_step(
    recorder: Recorder, optimiser: torch.optim.Optimizer, batch: Batch, at: Progress, settings: Settings
) -> tuple[Rows, dict[str, Tensor]]:
    """One step of the optimiser and the method's hooks around it. Returns the gathered rows and the scalars to log."""
    method = recorder.engine.method
    rate, decay = (schedule(at.step, at.steps, settings) for schedule in (optim.learning_rate, optim.weight_decay))
    for group in optimiser.param_groups:
        group["lr"] = rate if group.get("scheduled", True) else optim.peak_learning_rate(settings)
        if group.get("decays", False):  # a checkpoint of before there was an end of the decay has none
            group["weight_decay"] = decay
    optimiser.zero_grad(set_to_none=True)
    rows, scalars = recorder.gradient(batch, at)
    with torch.no_grad():
        method.after_backward(at)
    optimiser.step()
    recorder.after_step(rows, at)
    return rows, scalars


def _validate(measure: Callable[[int], Validation], done: int, batches: Batches, clock: Clock, log: Log) -> Validation:
    """Measure at an epoch's end, on a line of the log of its own and off the clock."""
    epoch, steps = divmod(done, batches.per_epoch)
    validation = measure(epoch) if steps == 0 else Validation({})
    if validation.numbers:
        clock.started += validation.numbers["evaluation_seconds"]
        views = done * batches.batch_size * batches.views_per_image
        line = {"step": done, "epoch": epoch, "views": views, "seconds": round(clock.total(), 3)}
        log.write(line | validation.numbers)
    return validation


def _resume(
    folder: Path, key: str, engine: Engine, optimiser: torch.optim.Optimizer, clock: Clock, collapse: CollapseWatch
) -> int:
    """Load the checkpoint, if there is one, into all that has a state. Returns the step to go on from."""
    try:
        state = checkpoint.load(folder, key, engine.device)
    except ValueError as error:
        raise ValueError(f"{error}; remove it to begin anew") from error
    start = 0 if state is None else state["step"]
    if any(engine.world.any_rank(start != engine.world.broadcast(lambda: start))):
        raise ValueError(f"the processes do not see the same {folder / checkpoint.FILE_NAME}: out= must be shared")
    if state is not None:
        if state["precision"] != engine.precision:
            raise ValueError(
                f"{folder} was trained in {state['precision']}, this machine would go on in {engine.precision}"
            )
        if state.get("compiled", engine.compiled) != engine.compiled:
            raise ValueError(f"{folder} was trained with compile={str(state['compiled']).lower()}: go on with the same")
        engine.method.load_state_dict(state["method"])
        optimiser.load_state_dict(state["optimiser"])
        clock.seconds, clock.pending = state["seconds"], state["pending"]
        collapse.load_state_dict(state["watch"])
    return start


def _save(
    folder: Path,
    key: str,
    step: int,
    engine: Engine,
    batches: Batches,
    optimiser: torch.optim.Optimizer,
    clock: Clock,
    collapse: CollapseWatch,
    guard: Callable[[], None],
) -> None:
    """Write the checkpoint behind `step` steps, with all that has a state; one process does it for all."""
    if not engine.world.is_main:
        return
    guard()
    logged = [{name: value.cpu() for name, value in line.items()} for line in clock.pending]
    state: dict[str, Any] = {"key": key, "step": step, "precision": engine.precision, "seconds": clock.total()}
    state |= {"compiled": engine.compiled, "pending": logged, "watch": collapse.state_dict()} | batches.statistics()
    state |= {"method": engine.method.state_dict(), "optimiser": optimiser.state_dict()}
    checkpoint.save(folder, state, guard)


def _read_back(pending: list[dict[str, Tensor]], done: int) -> tuple[dict[str, float], int | None]:
    """Means of the interval's scalars, read from the device at once, and the first step whose loss is not finite."""
    device = pending[-1]["loss"].device
    flat = torch.stack([value.to(device).double() for line in pending for value in line.values()]).tolist()
    columns: dict[str, list[float]] = {}
    for name, value in zip((name for line in pending for name in line), flat, strict=True):
        columns.setdefault(name, []).append(value)
    bad = [i for i, loss in enumerate(columns["loss"]) if not math.isfinite(loss)]
    first = done - len(pending) + bad[0] if bad else None
    return {name: sum(values) / len(values) for name, values in columns.items()}, first


def _outcome(
    reason: str | None, whole: bool, collapse: CollapseWatch, done: int, batches: Batches, clock: Clock
) -> Outcome:
    images, seconds = done * batches.batch_size, clock.total()
    return Outcome(reason, whole, collapse.signs, images * batches.views_per_image, seconds, images / seconds)
