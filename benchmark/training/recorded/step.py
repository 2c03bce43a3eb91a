"""The gradient of a step as one CUDA graph: what forward, loss and backward launch is recorded once and then replayed.

A small network's step is some eight hundred kernels. Launching them one by one keeps the host busy for longer than a
fast GPU needs to run them; a replay is one launch. The kernels and their order are those of the step without it. The
hook behind the optimiser is a second graph, where it can be.

The first steps run as usual, the last of them under inspection. A step can be recorded if it does the same operations
on the same memory every time, so a method is not recorded whose `forward` or `loss`

- reads `at.epoch` without saying in `Method.phase` what it makes of it, or makes a fraction of `at.step`,
- takes a number or tensor from the CPU, or waits for one from the GPU,
- draws random numbers in another way than by `methods.parts.chance`; a backbone may drop out.

Nor is anything with micro-batches or on several processes. Such a cell runs step by step, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark.errors import UsageError, explain
from benchmark.training.engine import Engine, Rows
from benchmark.training.recorded.graph import Graph, capture, rehearse
from benchmark.training.recorded.inspection import RecordedProgress, inspect, inspect_after_step
from methods.method import Batch, Progress

WARM_UP = 3  # steps of a phase that run as usual: they choose kernels and ask for memory; the last is inspected


class Recorder:
    """Takes the steps of one training: as the engine does, or by replaying what was recorded.

    `mode` is `auto`, `on` (a gradient that cannot be recorded is an error) or `off`. `say` is told, once, why nothing
    is recorded.
    """

    def __init__(self, engine: Engine, mode: str, say: Callable[[str], None]) -> None:
        self.engine, self.mode, self.say = engine, mode, say
        self.recording: Recording | None = None
        self.phase: Hashable = None
        self.warm_up = 1 if engine.rehearses else WARM_UP
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
        if self.recording is None and self.taken == self.warm_up:
            self._record(batch, at)
        if self.recording is not None:
            return self.recording.replay(batch, at)
        if self.obstacle:
            return self.engine.gradient(batch, at)
        self.taken += 1
        if self.taken < self.warm_up:
            return self.engine.gradient(batch, at)
        state = {name: buffer.clone() for name, buffer in self.engine.method.named_buffers()}
        try:
            rows, scalars, obstacle = inspect(self.engine, batch, at)
        except Exception as error:  # noqa: BLE001 - such as of a plugin that wants a number for at.step
            self.engine.method.load_state_dict(state, strict=False)  # batch norm has counted
            self.engine.method.zero_grad(set_to_none=True)
            self._give_up(explain(error))
            return self.engine.gradient(batch, at)
        if obstacle:
            self._give_up(obstacle)
        return rows, scalars

    def after_step(self, rows: Rows, at: Progress) -> None:
        """As `Engine.after_step`, of the rows that `gradient` gave."""
        if self.recording is None:
            self.engine.after_step(rows, at)
        else:
            self.recording.after_step(at)

    def _record(self, batch: Batch, at: Progress) -> None:
        try:
            self.recording = Recording(self.engine, batch, at)
        except RuntimeError as error:  # what inspection does not know
            if self.engine.rehearses:
                raise
            self.engine.method.zero_grad(set_to_none=True)  # a capture leaves memory that nothing was written to
            self._give_up(explain(error))

    def _give_up(self, obstacle: str) -> None:
        self.obstacle = obstacle
        if self.mode == "on":
            raise UsageError(f"record=on: {obstacle}")
        if self.engine.device.type == "cuda":
            self.say(f"steps are not recorded as a CUDA graph: {obstacle}")


class Recording:
    """One recorded step: its graphs, the memory they read a batch from, and the memory they leave results in."""

    def __init__(self, engine: Engine, batch: Batch, at: Progress) -> None:
        self.engine = engine
        self.batch = batch  # where views are recorded too, the next ones lie there already
        self.number = torch.zeros((), dtype=torch.int64, device=engine.device)
        self.at = RecordedProgress(at, engine.method, self.number)
        self.places = [(holder, name, tensor.data_ptr()) for holder, name, tensor in _state(engine.method)]
        for parameter in engine.method.parameters():
            parameter.grad = None  # so that the graph's own memory holds the gradients
        engine.prepare(len(batch.index), at)
        self.record = partial(rehearse, method=engine.method) if engine.rehearses else capture
        self.graph = Graph(self._take_gradient, self.record)
        self.hook: Graph | None = None
        self.hook_is_known, self.hook_obstacle = False, ""

    def _take_gradient(self) -> None:
        rows = self.engine.encode(self.engine.method, self.batch, self.at)  # type: ignore[arg-type]
        scalars = self.engine.loss(rows, self.at)  # type: ignore[arg-type]
        scalars["loss"].backward()
        self.rows = {name: row.detach() for name, row in rows.items()}
        self.names, self.scalars = list(scalars), torch.stack([value.detach().double() for value in scalars.values()])
        self.gradients = [(p, p.grad) for p in self.engine.method.parameters() if p.grad is not None]

    def fits(self, batch: Batch) -> bool:
        """Whether `batch` has the recorded shapes, and the method's state lies where it lay."""
        recorded, new = _tensors(self.batch), _tensors(batch)
        alike = len(recorded) == len(new) and all(a.shape == b.shape for a, b in zip(recorded, new, strict=True))
        return alike and all(holder[name].data_ptr() == pointer for holder, name, pointer in self.places)

    def replay(self, batch: Batch, at: Progress) -> tuple[Rows, dict[str, Tensor]]:
        """As `Engine.gradient`; the rows lie in memory that the next replay writes over."""
        for recorded, new in zip(_tensors(self.batch), _tensors(batch), strict=True):
            if recorded.data_ptr() != new.data_ptr():
                recorded.copy_(new)
        if "step" in self.at.names:
            self.number.fill_(at.step)
        if self.graph.drawn:
            self.engine.seed_loss(at)
            self.graph.draw()
        self.engine.prepare(len(batch.index), at)  # seeds the device for `forward`, which may drop out
        self.graph.launch()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        # The loop keeps scalars until the next line of the log, which is behind the next replay.
        return self.rows, dict(zip(self.names, self.scalars.clone().unbind(), strict=True))

    def after_step(self, at: Progress) -> None:
        """As `Engine.after_step`: by a graph, if the first time has shown that it can be."""
        if not self.hook_is_known:
            self.hook_obstacle, self.hook_is_known = inspect_after_step(self.engine, self.rows, at) or "", True
            return
        if self.hook is None and not self.hook_obstacle:
            try:
                self.hook = Graph(torch.no_grad()(lambda: self.engine.method.after_step(self.rows, at)), self.record)
            except RuntimeError as error:
                self.hook_obstacle = explain(error)
        if self.hook is None:
            self.engine.after_step(self.rows, at)
        else:
            if self.hook.drawn:
                self.engine.seed_after_step(at)
                self.hook.draw()
            self.hook.launch()


def _find_obstacle(engine: Engine) -> str | None:
    """Why nothing of this training could be recorded, whatever the method does."""
    if engine.device.type != "cuda" and not engine.rehearses:
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
