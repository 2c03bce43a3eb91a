"""The gradient of a step as one CUDA graph: what forward, loss and backward launch is recorded once and then replayed.

A small network's step is some eight hundred kernels. Launching them one by one keeps the host busy for longer than a
fast GPU needs to run them; a replay is one launch. The kernels and their order are those of the step without it.

The first steps run as usual, the last of them under inspection. A step can be recorded if it does the same operations
on the same memory every time, so a method is not recorded whose `forward` or `loss`

- reads `at.step` or `at.epoch` without saying in `Method.phase` what it makes of them,
- takes a number or tensor from the CPU, or waits for one from the GPU,
- draws random numbers, in the method or in a backbone with dropout.

Nor is anything with micro-batches or on several processes. Such a cell runs step by step, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.errors import UsageError, explain
from benchmark.training.engine import Engine, Rows
from methods.method import Batch, Progress

WARM_UP = 3  # steps of a phase that run as usual: they choose kernels and ask for memory; the last is inspected
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "bincount", "equal", "_linalg_svd")


class Recorder:
    """Takes gradients for one training: as the engine does, or by replaying what was recorded.

    `mode` is `auto`, `on` (what cannot be recorded is an error) or `off`. `say` is told, once, why nothing is recorded.
    """

    def __init__(self, engine: Engine, mode: str, say: Callable[[str], None]) -> None:
        self.engine, self.mode, self.say = engine, mode, say
        self.recording: Recording | None = None
        self.phase: Hashable = None
        self.taken = 0  # steps of this phase that ran as usual
        self.obstacle = "record=off" if mode == "off" else _find_obstacle(engine)
        if self.obstacle and mode == "on":
            raise UsageError(f"record=on: {self.obstacle}")

    def gradient(self, batch: Batch, at: Progress) -> tuple[Rows, dict[str, Tensor]]:
        """As `Engine.gradient`. The rows are good until the next call."""
        if self.obstacle:
            return self.engine.gradient(batch, at)
        phase = self.engine.method.phase(at)
        if phase != self.phase or (self.recording is not None and not self.recording.fits(batch)):
            self.recording, self.phase, self.taken = None, phase, 0
        if self.recording is None and self.taken == WARM_UP:
            self._record(batch, at)
        if self.recording is not None:
            return self.recording.replay(batch, at)
        self.taken += 1
        if self.taken < WARM_UP:
            return self.engine.gradient(batch, at)
        rows, scalars, obstacle = inspect(self.engine, batch, at)
        if obstacle:
            self._give_up(obstacle)
        return rows, scalars

    def _record(self, batch: Batch, at: Progress) -> None:
        try:
            self.recording = Recording(self.engine, batch, at)
        except RuntimeError as error:  # what inspection does not know
            self._give_up(explain(error))

    def _give_up(self, obstacle: str) -> None:
        self.obstacle = obstacle
        if self.mode == "on":
            raise UsageError(f"record=on: {obstacle}")
        if self.engine.device.type == "cuda":
            self.say(f"steps are not recorded as a CUDA graph: {obstacle}")


class Recording:
    """One recorded gradient: the graph, the memory it reads a batch from, and the memory it leaves its results in."""

    def __init__(self, engine: Engine, batch: Batch, at: Progress) -> None:
        self.engine = engine
        self.batch = Batch(
            [view.clone() for view in batch.views],
            batch.index.clone(),
            None if batch.labels is None else batch.labels.clone(),
        )
        self.places = [(holder, name, tensor.data_ptr()) for holder, name, tensor in _state(engine.method)]
        self.graph = torch.cuda.CUDAGraph()
        for parameter in engine.method.parameters():
            parameter.grad = None  # so that the graph's own memory holds the gradients
        engine.prepare(len(batch.index), at)
        with torch.cuda.graph(self.graph):
            rows = engine.encode(engine.method, self.batch, at)
            scalars = engine.loss(rows, at)
            scalars["loss"].backward()
        self.rows = {name: row.detach() for name, row in rows.items()}
        self.scalars = {name: value.detach() for name, value in scalars.items()}
        self.gradients = [(p, p.grad) for p in engine.method.parameters() if p.grad is not None]

    def fits(self, batch: Batch) -> bool:
        """Whether `batch` has the recorded shapes, and the method's state lies where it lay."""
        recorded, new = _tensors(self.batch), _tensors(batch)
        alike = len(recorded) == len(new) and all(a.shape == b.shape for a, b in zip(recorded, new, strict=True))
        return alike and all(holder[name].data_ptr() == pointer for holder, name, pointer in self.places)

    def replay(self, batch: Batch, at: Progress) -> tuple[Rows, dict[str, Tensor]]:
        """As `Engine.gradient`; the rows lie in memory that the next replay writes over."""
        for recorded, new in zip(_tensors(self.batch), _tensors(batch), strict=True):
            recorded.copy_(new)
        self.engine.prepare(len(batch.index), at)
        self.graph.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        # The loop keeps scalars until the next line of the log, which is behind the next replay.
        return self.rows, {name: value.clone() for name, value in self.scalars.items()}


def inspect(engine: Engine, batch: Batch, at: Progress) -> tuple[Rows, dict[str, Tensor], str | None]:
    """A step's rows and scalars, with the gradients left in the parameters, and what in it cannot be recorded."""
    reads = _ProgressReads(at)
    engine.prepare(len(batch.index), at)
    # What a dispatch mode is around, torch 2.11 leaves uncompiled from then on.
    with engine.uncompiled(), _Inspector(engine.device) as inspector:
        rows = engine.encode(engine.method, batch, reads)  # type: ignore[arg-type]
        scalars = engine.loss(rows, reads)  # type: ignore[arg-type]
        scalars["loss"].backward()
    obstacle = inspector.obstacle
    counters = sorted({"step", "epoch"} & reads.names)
    if counters and engine.method.phase(at) is None:
        obstacle = f"forward or loss reads {' and '.join(f'at.{name}' for name in counters)}, and phase says nothing"
    return (
        {name: row.detach() for name, row in rows.items()},
        {name: value.detach() for name, value in scalars.items()},
        obstacle,
    )


class _ProgressReads:
    """A `Progress` that remembers which of its fields were read."""

    def __init__(self, at: Progress) -> None:
        self.at, self.names = at, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self.at, name)


class _Inspector(TorchDispatchMode):
    """Looks at every operation for what a graph would not repeat; `obstacle` is the first thing found."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.obstacle: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.obstacle is None:
            self.obstacle = self._obstacle(func, [args, kwargs], result)
        return result

    def _obstacle(self, func: Any, arguments: Any, result: Any) -> str | None:
        name = func.name().removeprefix("aten::").partition(".")[0]
        devices = {leaf.device.type for leaf in tree_leaves([arguments, result]) if isinstance(leaf, Tensor)}
        if torch.Tag.nondeterministic_seeded in func.tags:
            return f"{name} draws random numbers"
        if name in WAITS and self.device.type in devices:
            return f"{name} waits for the device"
        if len(devices) > 1:
            return f"{name} moves numbers between CPU and GPU"
        return None


def _find_obstacle(engine: Engine) -> str | None:
    """Why nothing of this training could be recorded, whatever the method does."""
    if engine.device.type != "cuda":
        return f"a CUDA graph needs a GPU, and this is {engine.device}"
    if engine.world.size > 1:
        return f"{engine.world.size} processes wait for one another within a step"
    if engine.microbatch:
        return f"microbatch={engine.microbatch}"
    return None


def _tensors(batch: Batch) -> list[Tensor]:
    return [*batch.views, batch.index, *([] if batch.labels is None else [batch.labels])]


def _state(network: torch.nn.Module) -> list[tuple[dict[str, Any], str, Tensor]]:
    """(holder, name, tensor) of every parameter and buffer: where a module would put another tensor in its place."""
    holders = [holder for module in network.modules() for holder in (module._parameters, module._buffers)]
    return [(holder, name, tensor) for holder in holders for name, tensor in holder.items() if tensor is not None]
