"""Where a training step's time goes, and what the encoder alone would take for the same passes, in one process.

Methods take turns, step by step, and each step is followed by its encoder alone: a machine that slows down does so
for all of them, and the ratio is formed within a turn. Medians are compared, with their quartiles. On a GPU, where
a recorded step keeps its memory, one cell follows the other, and a block of steps in a flow its encoder's.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.cells import machine, past_costs
from benchmark.errors import UsageError
from benchmark.profiling.flow import BLOCK, Flow, Pass, run_encoders
from benchmark.profiling.flow import WARM_UP as FLOW_WARM_UP
from benchmark.profiling.timing import spread, synchronise, time_call
from benchmark.settings import address
from benchmark.settings.cell import Settings, seeded_dataset
from benchmark.training import build, optim
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.training.embed import embed
from benchmark.training.engine import Engine, encoders, resolve_precision
from methods.method import Method, Progress

STEPS = 30  # that are counted, of each cell
BLOCKS = 6  # of steps, that are counted on a GPU
WARM_UP = 3  # that are not
PARTS = ("data", "augmentation", "forward", "loss", "backward", "optimiser", "hooks")

Lap = Callable[[str], None]  # told at the end of each part
Spread = tuple[float, float, float]  # median, lower and upper quartile


class Stopwatch:
    """Seconds by part. Waits for a GPU when it starts and ends; if `each`, at the end of every part."""

    def __init__(self, device: torch.device, each: bool = False) -> None:
        self.device, self.each, self.parts = device, each, dict.fromkeys(PARTS, 0.0)
        synchronise(device)
        self.began = self.last = time.perf_counter()

    def lap(self, part: str) -> None:
        """A part has ended: the time since the last one is its."""
        if self.each:
            synchronise(self.device)
        now = time.perf_counter()
        self.parts[part] += now - self.last
        self.last = now

    def total(self) -> float:
        """Seconds since the start."""
        synchronise(self.device)
        return time.perf_counter() - self.began


@dataclass
class ProfiledCell:
    """One cell under measurement."""

    cell: Settings
    engine: Engine
    batches: Batches
    optimiser: torch.optim.Optimizer
    order: Tensor  # of the epoch's images
    epoch_start: float = 0.0  # seconds of the order and `before_epoch`: clustering, and what it embeds
    embedded: int = 0  # images that are embedded then, as often as they go into all; their time counts so often; 0: all
    growth: int = 0  # bytes that a step takes over what rests between steps
    passes: list[Pass] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what of it a GPU does not record, and why
    # Step by step, of the whole step, of the encoder alone, and of each part.
    seconds: dict[str, list[float]] = field(default_factory=lambda: {n: [] for n in ("step", "encoder", *PARTS)})

    @property
    def ratio(self) -> Spread:
        """Step over encoder alone, formed turn by turn."""
        return spread([s / e for s, e in zip(self.seconds["step"], self.seconds["encoder"], strict=True)])

    @property
    def images_per_second(self) -> Spread:
        return spread([self.batches.batch_size / seconds for seconds in self.seconds["step"]])

    @property
    def shares(self) -> dict[str, float]:
        """Of the medians of the parts; they add up to 1."""
        medians = {part: self.median(part) for part in PARTS}
        return {part: median / sum(medians.values()) for part, median in medians.items()}

    @property
    def epoch_share(self) -> float:
        """Of the epoch's start, over the epoch's steps."""
        return self.epoch_start / (self.batches.per_epoch * self.median("step"))

    @property
    def state(self) -> int:
        """Bytes of weights, buffers (memories among them) and the optimiser's state, without the data set."""
        tensors = [*self.engine.method.parameters(), *self.engine.method.buffers()]
        tensors += [v for state in self.optimiser.state.values() for v in state.values() if isinstance(v, Tensor)]
        return sum(tensor.nbytes for tensor in tensors)

    def add_parts(self, stopwatch: Stopwatch) -> None:
        """Of a further step."""
        for part, seconds in stopwatch.parts.items():
            self.seconds[part].append(seconds)

    def median(self, name: str) -> float:
        """Seconds of `step`, `encoder` or a part, over the steps."""
        return statistics.median(self.seconds[name])


def profile(cells: list[Settings], device: torch.device, compiled: bool, mode: str = "auto") -> list[ProfiledCell]:
    """Measure steps of each cell, in turns, on a GPU under `record=mode`. Raises `UsageError` for a cell that cannot
    run."""
    distinct = {past_costs.build_cost_key(address.identify(cell)): cell for cell in cells if cell.epochs is not None}
    if not distinct:
        raise UsageError("profile needs a method that trains")
    for cell in distinct.values():
        if cell.microbatch:
            raise UsageError(f"microbatch={cell.microbatch}: profile measures whole batches")
        build.check(cell, World(), device)
    profiled_cells = [prepare(cell, device, compiled) for cell in distinct.values()]
    for profiled in profiled_cells:
        profiled.passes = _record_passes(profiled)
    for number in range(WARM_UP):
        for profiled in profiled_cells:
            step(profiled, number)
            _time_encoders(profiled, device)
    for profiled in profiled_cells:  # with the memories that training would have by its last epoch
        start_epoch(profiled, WARM_UP, device)
        profiled.growth = _measure_growth(profiled, WARM_UP, device)
    if device.type == "cuda":
        for profiled in profiled_cells:
            _measure_flow(profiled, mode, device)
        return profiled_cells
    for number in range(WARM_UP, WARM_UP + STEPS):
        for profiled in profiled_cells:
            stopwatch = Stopwatch(device)
            step(profiled, number, stopwatch.lap)
            profiled.seconds["step"].append(stopwatch.total())
            profiled.seconds["encoder"].append(_time_encoders(profiled, device))
            profiled.add_parts(stopwatch)
    return profiled_cells


def _measure_flow(profiled: ProfiledCell, mode: str, device: torch.device) -> None:
    """Blocks of steps on a GPU, each behind one of the encoder alone, and into which a clock can't see: steps that wait
    behind each part. One cell after the other, as a recorded step keeps all its memory."""
    cell, engine, batches, optimiser = profiled.cell, profiled.engine, profiled.batches, profiled.optimiser
    flow = Flow(cell, engine, batches, optimiser, mode, partial(run_encoders, engine, profiled.passes))
    steps = list_steps(profiled, WARM_UP)
    flow.take(list(islice(steps, FLOW_WARM_UP)), profiled.order)
    flow.record_passes()
    for number in range(WARM_UP, WARM_UP + BLOCKS):
        profiled.seconds["encoder"].append(time_call(flow.take_passes, device) / BLOCK)
        block = list(islice(steps, BLOCK))
        profiled.seconds["step"].append(time_call(partial(flow.take, block, profiled.order), device) / BLOCK)
        stopwatch = Stopwatch(device, each=True)
        step(profiled, number, stopwatch.lap)
        profiled.add_parts(stopwatch)
    profiled.notes = flow.notes
    del flow
    gc.collect()  # a graph's memory is freed with it
    optimiser.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()


def prepare(cell: Settings, device: torch.device, compiled: bool, embedded: int = 0) -> ProfiledCell:
    """The cell as `run` would make it, at the start of its first epoch."""
    world, data = World(), build.load_dataset(seeded_dataset(cell))
    method, _ = build.build_method(cell, data, device)
    precision = resolve_precision(cell.precision or "fp32", device)
    batches = build.build_batches(cell, method, data, world, device, precision)
    engine = build.build_engine(cell, method, world, device, precision)
    if compiled:
        engine.compile()
    method.train()
    profiled = ProfiledCell(cell, engine, batches, optim.make(method, cell), batches.order(0), embedded=embedded)
    start_epoch(profiled, 0, device)
    return profiled


def start_epoch(profiled: ProfiledCell, number: int, device: torch.device) -> None:
    """What happens before the epoch of step `number`; `epoch_start` keeps the longest that it took."""
    engine, batches, at, stopwatch = profiled.engine, profiled.batches, _progress(profiled, number), Stopwatch(device)
    profiled.order = batches.order(at.epoch)
    total, extrapolated = len(batches.split), 0.0
    embedded = min(total, profiled.embedded or total)

    def embed_some(f: Callable[[Tensor], Tensor]) -> Tensor:
        nonlocal extrapolated
        synchronise(device)
        began = time.perf_counter()
        rows = embed(f, engine, batches, embedded)
        synchronise(device)
        extrapolated += (total / embedded - 1) * (time.perf_counter() - began)
        return rows[torch.arange(total) % embedded]

    with torch.no_grad():
        engine.method.before_epoch(at, embed_some)
    profiled.epoch_start = max(profiled.epoch_start, stopwatch.total() + extrapolated)


def _measure_growth(profiled: ProfiledCell, number: int, device: torch.device) -> int:
    """Bytes at the peak of a step over those before it. Not timed."""
    profiled.optimiser.zero_grad(set_to_none=True)  # what the step does first
    machine.reset_peak_memory(device)
    resting = machine.read_peak_memory(device)
    step(profiled, number)
    return max(0, machine.read_peak_memory(device) - resting)


def step(profiled: ProfiledCell, number: int, lap: Lap = lambda part: None) -> None:
    """What the loop of `train.train` does for a step, with `lap` called behind each part."""
    engine, batches, optimiser, at = profiled.engine, profiled.batches, profiled.optimiser, _progress(profiled, number)
    for group in optimiser.param_groups:
        group["lr"] = optim.learning_rate(at.step, at.steps, profiled.cell)
    optimiser.zero_grad(set_to_none=True)
    lap("optimiser")
    fetched = batches.fetch(at.step, profiled.order)
    lap("data")
    batch = batches.augment(fetched)
    lap("augmentation")
    with _insert_laps(engine.method, lap):
        rows, _ = engine.gradient(batch, at)
    lap("backward")
    with torch.no_grad():
        engine.method.after_backward(at)
    lap("hooks")
    optimiser.step()
    lap("optimiser")
    engine.after_step(rows, at)
    lap("hooks")


@contextlib.contextmanager
def _insert_laps(method: Method, lap: Lap) -> Iterator[None]:
    """Call `lap` where the engine has called `forward` and where it has called `loss`."""
    loss = method.loss

    def loss_with_lap(rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        scalars = loss(rows, at)
        lap("loss")
        return scalars

    hook = method.register_forward_hook(lambda *_: lap("forward"))
    method.loss = loss_with_lap  # type: ignore[method-assign]
    try:
        yield
    finally:
        hook.remove()
        del method.loss


def _record_passes(profiled: ProfiledCell) -> list[Pass]:
    """The encoder calls of one forward, with their inputs."""
    method, passes = profiled.engine.method, list[Pass]()

    def note(encoder: nn.Module, inputs: tuple[Any, ...]) -> None:
        passes.append(Pass(encoder, inputs[0].detach(), torch.is_grad_enabled()))

    hooks = [encoder.register_forward_pre_hook(note) for encoder in encoders(method)]
    profiled.engine.rows(method, profiled.batches.get(0, profiled.order), _progress(profiled, 0))
    for hook in hooks:
        hook.remove()
    return passes


def _time_encoders(profiled: ProfiledCell, device: torch.device) -> float:
    """Seconds of the step's encoder passes."""
    profiled.optimiser.zero_grad(set_to_none=True)
    return time_call(partial(run_encoders, profiled.engine, profiled.passes), device)


def list_steps(profiled: ProfiledCell, first: int) -> Iterator[Progress]:
    """The steps from `first` on, without end."""
    return (_progress(profiled, number) for number in count(first))


def _progress(profiled: ProfiledCell, number: int) -> Progress:
    """In the last epoch, where no method warms up any more and every memory takes part; but first at the start."""
    epochs, steps = profiled.cell.epochs or 1, profiled.batches.per_epoch
    if number < WARM_UP:
        return Progress(number, epochs * steps, 0, epochs)
    return Progress((epochs - 1) * steps + number % steps, epochs * steps, epochs - 1, epochs)
