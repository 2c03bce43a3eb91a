"""A step taken under inspection: what in it would not be the same in a replay, and so keeps it from being recorded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.training.engine import Engine, Rows
from methods.method import Batch, Method, Progress
from methods.parts.chance import Make, drawing_by, send

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "bincount", "equal"}
WAITS |= {"_linalg_svd", "_linalg_check_errors"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}  # by a mask they wait


class RecordedProgress:
    """A `Progress` for `forward` and `loss` of a step that is recorded, which remembers what was read of it.

    The counters that `phase` reads are numbers, the same in all steps of the phase. `step`, where `phase` does not read
    it, is `number`, () int64 on the device, which a replay finds changed; with it a method can draw, and compute in
    whole numbers. `epoch` then keeps a step from being recorded.
    """

    def __init__(self, at: Progress, method: Method | None, number: Tensor | None) -> None:
        self.at, self.number, self.names = at, number, set[str]()
        self.explained: set[str] = set()
        if method is not None:
            reads = RecordedProgress(at, None, None)
            method.phase(reads)  # type: ignore[arg-type]
            self.explained = reads.names

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        if name == "step" and self.number is not None and name not in self.explained:
            return self.number
        return getattr(self.at, name)

    def __getitem__(self, place: int) -> Any:
        return getattr(self, Progress._fields[place])

    def __iter__(self) -> Iterator[Any]:
        return (getattr(self, name) for name in Progress._fields)

    @property
    def unexplained(self) -> list[str]:
        """What was read that is no longer so in another step of the phase."""
        constant = {"steps", "epochs"} | self.explained | ({"step"} if self.number is not None else set())
        return sorted(self.names - constant)


def inspect(engine: Engine, batch: Batch, at: Progress) -> tuple[Rows, dict[str, Tensor], str | None]:
    """A step's rows and scalars, with the gradients left in the parameters, and what in it cannot be recorded."""
    number = torch.zeros((), dtype=torch.int64, device=engine.device).fill_(at.step)
    reads = RecordedProgress(at, engine.method, number)
    engine.prepare(len(batch.index), at)
    # What a dispatch mode is around, torch 2.11 leaves uncompiled from then on.
    with engine.uncompiled(), _Inspector(engine.device, number) as inspector, drawing_by(inspector.draw):
        rows = engine.encode(engine.method, batch, reads)  # type: ignore[arg-type]
        engine.seed_loss(at)
        inspector.in_forward = False
        scalars = engine.loss(rows, reads)  # type: ignore[arg-type]
        scalars["loss"].backward()
    obstacle = inspector.obstacle
    if reads.unexplained:
        obstacle = f"forward or loss reads {_list(reads)}, and phase says nothing"
    elif any(value.device != scalars["loss"].device for value in scalars.values()):
        obstacle = obstacle or "loss returns a number that lies on the CPU"
    return (
        {name: row.detach() for name, row in rows.items()},
        {name: value.detach() for name, value in scalars.items()},
        obstacle,
    )


def inspect_after_step(engine: Engine, rows: Rows, at: Progress) -> str | None:
    """Run the hook behind a step, and say why it cannot be recorded, or need not be."""
    reads = RecordedProgress(at, None, None)  # of hooks `phase` says nothing
    engine.seed_after_step(at)
    with torch.no_grad(), engine.uncompiled(), _Inspector(engine.device) as inspector, drawing_by(inspector.draw):
        inspector.in_forward = False
        engine.method.after_step(rows, reads)  # type: ignore[arg-type]
    if reads.unexplained:
        return f"after_step reads {_list(reads)}"
    return inspector.obstacle if inspector.seen else "after_step does nothing"


def _list(reads: RecordedProgress) -> str:
    return " and ".join(f"at.{name}" for name in reads.unexplained)


class _Inspector(TorchDispatchMode):
    """Looks at every operation for what a graph would not repeat; `obstacle` is the first thing found."""

    def __init__(self, device: torch.device, number: Tensor | None = None) -> None:
        super().__init__()
        self.device = device
        self.obstacle: str | None = None
        self.in_forward = True  # where the device's own stream is replayed, as it was seeded for it
        self.drawing = self.sending = self.seen = False
        self.steps = [] if number is None else [number]  # the step, and whole numbers made of it

    def draw(self, make: Make, device: torch.device) -> Tensor:
        """As methods' `draw`."""
        if self.in_forward and self.obstacle is None:
            self.obstacle = "forward draws other numbers than Chance makes of at.step"
        self.drawing = True
        numbers = make()
        self.drawing, self.sending = False, True
        sent = send(lambda: numbers, device)
        self.sending = False
        return sent

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.seen = True
        if self.obstacle is None and not self.sending:
            self.obstacle = self._obstacle(func, args, kwargs or {}, result)
        return result

    def _obstacle(self, func: Any, args: Any, kwargs: Any, result: Any) -> str | None:
        name = func.name().removeprefix("aten::").partition(".")[0]
        tensors = [leaf for leaf in tree_leaves([args, kwargs]) if isinstance(leaf, Tensor)]
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors + results}
        if self.drawing:
            return f"{name}, in what is drawn, uses the device" if devices - {"cpu"} else None
        attends = "_attention" in name  # its seeds lie on the CPU unless it is recorded
        own = (self.in_forward and devices == {self.device.type}) or (attends and name.endswith("_backward"))
        if torch.Tag.nondeterministic_seeded in func.tags and not own and not _drops_nothing(func, args, kwargs):
            return f"{name} draws random numbers, and not by `draw`"
        masks = [
            tensor for tensor in tree_leaves(args[1:2]) if isinstance(tensor, Tensor) and tensor.dtype == torch.bool
        ]
        if self.device.type in devices and (name in WAITS or (name in INDEXING and masks)):
            return f"{name} waits for the device"
        if len(devices) > 1 and not attends:
            return f"{name} moves numbers between CPU and GPU"
        if tensors and all(any(tensor is step for step in self.steps) for tensor in tensors):
            if any(tensor.is_floating_point() for tensor in results):
                return f"{name} makes a fraction of at.step, and phase says nothing"  # float32 would round it
            self.steps += results
        return None


def _drops_nothing(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether it is dropout, or attention with it, whose probability is 0."""
    given = {
        argument.name: argument.default_value for argument in func._schema.arguments if argument.has_default_value()
    }
    given |= dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    return any(isinstance(given.get(name), (int, float)) and given[name] == 0 for name in ("p", "dropout_p"))
