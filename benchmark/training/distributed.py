"""The processes of one run: who I am, how rows are gathered with exact gradients, how all agree to stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from benchmark import environment
from benchmark.errors import UsageError, explain


@dataclass(frozen=True)
class World:
    """This process among those of the run. `control` is a gloo group for words between hosts, never for tensors."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    control: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        """Itself: a copy of what knows its world is in the same one."""
        return self

    @property
    def is_main(self) -> bool:
        """Whether this is the main process, which reads, writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's contiguous part of `count` global rows, so that gathering keeps the global order."""
        size = count // self.size
        return slice(self.rank * size, (self.rank + 1) * size)

    def any_rank(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process raises it."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=self.control)
        return [bool(flag) for flag in raised]

    def broadcast(self, make: Callable[[], Any]) -> Any:
        """What `make` returns in the main process; the others wait for it, however long it takes.

        If `make` raises, every process raises: the same `UsageError`, or for the others a `RuntimeError`.
        """
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        error: Exception | None = None
        if self.is_main:
            try:
                box[0] = make()
            except Exception as exception:  # noqa: BLE001 - raised again below, once the others know
                error = exception
                failed = RuntimeError(f"the main process failed: {explain(exception)}")
                box[1] = exception if isinstance(exception, UsageError) else failed
        dist.broadcast_object_list(box, src=0, group=self.control)
        if error is not None:
            raise error
        if box[1] is not None:
            raise box[1]
        return box[0]


def start(device: torch.device) -> World:
    """Join the group that the environment names; a world of one where there is none.

    NCCL on GPUs, gloo on CPUs. Waits on the control group may last as long as an evaluation does. Raises `UsageError`
    where the processes do not find each other.
    """
    if not environment.is_group():
        return World()
    if not dist.is_initialized():
        rank, size, host, port = (os.environ[name] for name in environment.GROUP)
        group = f"RANK={rank} of WORLD_SIZE={size} at {host}:{port}"
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=30))
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"{group}, says the environment, and the processes do not find each other ({explain(error)}); for one "
                f"process: unset {' '.join(environment.GROUP)}"
            ) from error
    control = dist.new_group(backend="gloo", timeout=timedelta(days=2))
    return World(dist.get_rank(), dist.get_world_size(), environment.local_rank(), control)


def stop() -> None:
    """Leave the group, if this process is in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def gather(rows: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """The rows of all ranks, in rank order: (n, ...) -> (n x ranks, ...), differentiable.

    `loss` is the same full-batch function on every rank, so each already holds the gradient of every row; backward
    hands back the own slice times the number of ranks, and the mean that DDP takes over ranks is then the full-batch
    gradient, for the encoder and for parameters used inside `loss` alike.
    """
    if world.size == 1:
        return rows
    return {name: _Gather.apply(row, world) for name, row in rows.items()}


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, row: Tensor, world: World) -> Tensor:
        ctx.world = world
        whole = row.new_empty(len(row) * world.size, *row.shape[1:])
        # The second is its name before torch 2.14, where that warns.
        all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        all_gather(whole, row.contiguous())
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.world.share(len(gradient))] * ctx.world.size, None


class AllReduceSum(torch.autograd.Function):
    """The sum over ranks of a tensor that takes part in every rank's graph; so is its gradient's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def average_gradients(parameters: list[Tensor], world: World) -> None:
    """Mean over ranks of all gradients, in one flat message per dtype; for steps that DDP does not see."""
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            by_dtype.setdefault(parameter.grad.dtype, []).append(parameter.grad)
    for gradients in by_dtype.values():
        flat = torch.cat([g.reshape(-1) for g in gradients]).div_(world.size)
        dist.all_reduce(flat)
        torch._foreach_copy_(gradients, [f.view_as(g) for f, g in zip(_split(flat, gradients), gradients, strict=True)])


def _split(flat: Tensor, like: list[Tensor]) -> tuple[Tensor, ...]:
    return flat.split([g.numel() for g in like])
