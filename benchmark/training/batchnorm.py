"""Batch norm over chosen groups of the global batch: one device, all devices, or N imitated ones.

`sync` (default): statistics of the whole global batch. `local`: of each process's share. `split:N`: of each of N
contiguous parts of the global batch, as N devices would have them, on any number of processes. `shuffle:N`: the
same, and for momentum encoders the parts are drawn anew each step, so that a key's statistics do not tell which
query it belongs to (MoCo, section 3.3); `shuffle` takes one part a process.

What is possible where: all of them on CPU and GPU. Native batch norm serves `local`, and `sync` in one process;
torch's SyncBatchNorm serves `sync` on several GPUs. It refuses CPU tensors, so there, and for `split` and `shuffle`,
`GroupedBatchNorm` does it, more slowly. With micro-batches statistics are those of the micro-batch, which lies on one
rank: native batch norm serves them, and `rank_after_rank` the running statistics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark import seeds
from benchmark.settings.refusals import require_groups
from benchmark.settings.values import batch_norm_groups
from benchmark.training.distributed import AllReduceSum, World
from methods.parts.heads import MomentumCopy


class Grouping:
    """Which group each row of the present forward pass belongs to. Set by the engine before each pass."""

    def __init__(self, groups: int, seed: int, world: World) -> None:
        self.groups, self.seed, self.world = groups, seed, world
        nothing = torch.zeros(0, dtype=torch.int64)
        # Of each local image: its group where groups are contiguous, its group where they are drawn; and the order
        # that makes the drawn ones contiguous, and back.
        self.contiguous, self.drawn, self.to_groups, self.from_groups = nothing, nothing, nothing, nothing
        self.packed = nothing  # the four of them

    def set(self, count: int, step: int, device: torch.device) -> None:
        """For a pass over `count` local images of the global batch at `step`."""
        total = count * self.world.size
        ids = torch.arange(total) * self.groups // total
        order = torch.randperm(total, generator=seeds.generator(self.seed, "shuffle", step))
        share = self.world.share(total)
        values = (ids[share], ids[order][share], order.argsort(), order)
        packed, lengths = torch.cat(values), [len(value) for value in values]
        if self.packed.shape != packed.shape or self.packed.device != device:
            self.packed = torch.empty_like(packed, device=device)
            self.contiguous, self.drawn, self.to_groups, self.from_groups = self.packed.split(lengths)
        # In place: a recorded step reads it there.
        self.packed.copy_(packed.pin_memory() if device.type == "cuda" else packed, non_blocking=True)

    def is_one_view(self, rows: int) -> bool:
        """Whether so many rows are those of one view, whose groups then lie one after the other."""
        return rows == len(self.contiguous)

    def of(self, rows: int, shuffled: bool) -> Tensor:
        """(rows,) group of each row; rows are whole views one after the other, as `cat` of views makes them."""
        ids = self.drawn if shuffled else self.contiguous
        if rows % len(ids):
            raise ValueError(f"batch norm over groups: {rows} rows are not a multiple of the {len(ids)} images")
        return ids.repeat(rows // len(ids))


class GroupedBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of each row's group, over all ranks; any (n, C, ...) input.

    Running statistics follow the mean over groups of the groups' statistics.
    """

    def __init__(self, replaced: _BatchNorm, grouping: Grouping, shuffled: bool) -> None:
        super().__init__(replaced.num_features, replaced.eps, replaced.momentum, replaced.affine)
        self.grouping, self.shuffled = grouping, shuffled
        if replaced.affine:
            self.weight, self.bias = replaced.weight, replaced.bias
        self.running_mean, self.running_var = replaced.running_mean, replaced.running_var
        self.num_batches_tracked = replaced.num_batches_tracked
        self.train(replaced.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"at least 2 dimensions are needed, got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        if self.grouping.world.size == 1 and not self.shuffled and self.grouping.is_one_view(len(input)):
            if torch.compiler.is_compiling():
                return self._normalise_blocks(input)
            if input.is_cuda:
                return self._normalise_slices(input)
        x = input if input.dtype == torch.float64 else input.float()
        with torch.autocast(x.device.type, enabled=False):
            group = self.grouping.of(len(x), self.shuffled)
            space = tuple(range(2, x.dim()))
            count = x[:, 0].numel() * self.grouping.world.size / self.grouping.groups  # groups are of equal size
            mean = self._sum_by_group(x.sum(space) if space else x, group) / count  # (G, C)
            centred = x - self._spread(mean[group], x)
            squares = centred.square()
            variance = self._sum_by_group(squares.sum(space) if space else squares, group) / count
            y = centred * self._spread((variance + self.eps).rsqrt()[group], x)
            if self.affine:
                y = y * self._spread(self.weight[None], x) + self._spread(self.bias[None], x)
            self._update_running(mean, variance * (count / max(count - 1, 1)))
        return y.to(input.dtype)

    def _normalise_slices(self, x: Tensor) -> Tensor:
        """The same of contiguous groups in one process, by the device's own kernel for each group."""
        y, mean, inverse = _NormOfSlices.apply(x, self.weight, self.bias, self.grouping.groups, self.eps)
        count = x[:, 0].numel() / self.grouping.groups
        self._update_running(mean, (inverse.pow(-2) - self.eps) * (count / max(count - 1, 1)))
        return y

    def _normalise_blocks(self, input: Tensor) -> Tensor:
        """The same as plain sums, of which torch.compile makes one kernel for all groups."""
        blocks = input.unflatten(0, (self.grouping.groups, -1))  # (G, n / G, C, ...)
        x = blocks if input.dtype == torch.float64 else blocks.float()
        space = (1, *range(3, x.dim()))
        with torch.autocast(x.device.type, enabled=False):
            variance, mean = torch.var_mean(x, space, correction=0, keepdim=True)
            y = (x - mean) * (variance + self.eps).rsqrt()
            if self.affine:
                y = y * self._spread(self.weight[None, None], x) + self._spread(self.bias[None, None], x)
            count = x[0, :, 0].numel()
            self._update_running(mean.flatten(1), variance.flatten(1) * (count / max(count - 1, 1)))
        return y.flatten(0, 1).to(input.dtype)

    def _sum_by_group(self, per_row: Tensor, group: Tensor) -> Tensor:
        """(n, C) -> (G, C), over all ranks, differentiable."""
        total = per_row.new_zeros(self.grouping.groups, per_row.shape[1]).index_add(0, group, per_row)
        return AllReduceSum.apply(total) if self.grouping.world.size > 1 else total

    @staticmethod
    def _spread(values: Tensor, x: Tensor) -> Tensor:
        return values.reshape(*values.shape, *[1] * (x.dim() - values.dim()))

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.mean(dim=0).to(self.running_mean.dtype), rate)
        self.running_var.lerp_(variance.mean(dim=0).to(self.running_var.dtype), rate)


class _NormOfSlices(torch.autograd.Function):
    """Batch norm of each of G equal slices of the rows; also returns the slices' means and 1 / deviations, (G, C)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        slices = x.chunk(groups)
        parts = [torch.native_batch_norm(part, weight, bias, None, None, True, 0.0, eps) for part in slices]
        means, inverses = ([part[i] for part in parts] for i in (1, 2))
        ctx.save_for_backward(x, weight, *means, *inverses)
        ctx.groups, ctx.eps = groups, eps
        mean, inverse = torch.stack(means), torch.stack(inverses)
        ctx.mark_non_differentiable(mean, inverse)
        return torch.cat([part[0] for part in parts]), mean, inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *unused: Any) -> tuple[Tensor | None, ...]:
        x, weight, *saved = ctx.saved_tensors
        mask = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
        slices = zip(
            upstream.chunk(ctx.groups), x.chunk(ctx.groups), saved[: ctx.groups], saved[ctx.groups :], strict=True
        )
        parts = [
            torch.ops.aten.native_batch_norm_backward(
                _dense(slope), part, weight, None, None, mean, inverse, True, ctx.eps, mask
            )
            for slope, part, mean, inverse in slices
        ]
        to_x = torch.cat([part[0] for part in parts]) if mask[0] else None
        to_weight, to_bias = (torch.stack([p[i] for p in parts]).sum(0) if mask[i] else None for i in (1, 2))
        return to_x, to_weight, to_bias, None, None


def _dense(x: Tensor) -> Tensor:
    """(n, C, H, W) channels last, (n, C) as it lies."""
    return x.contiguous(memory_format=torch.channels_last if x.dim() == 4 else torch.contiguous_format)


def _shuffle_around(copy: MomentumCopy, grouping: Grouping) -> None:
    """Let `copy` see the images of each drawn group side by side, and give its rows back in their own order.

    The images are moved once instead of the statistics of each layer being scattered over them.
    """

    def move(x: Tensor, order: Tensor) -> Tensor:
        if not copy.training:
            return x
        views = len(x) // len(order)
        return _dense(x.unflatten(0, (views, len(order)))[:, order].flatten(0, 1))

    copy.register_forward_pre_hook(lambda _, inputs: (move(inputs[0], grouping.to_groups),))
    copy.register_forward_hook(lambda _, inputs, rows: move(rows, grouping.from_groups))


def convert(network: nn.Module, mode: str, seed: int, world: World, batch_size: int, device: str) -> Grouping | None:
    """Give `network` the batch norm of `mode`, in place. Returns the grouping to set before each pass, if there is one.

    Raises `UsageError` where the mode cannot be had with this batch and number of processes.
    """
    groups, shuffled = batch_norm_groups(mode, world.size)
    if mode == "local" or (mode == "sync" and world.size == 1):
        return None
    if mode == "sync" and device.startswith("cuda"):
        from timm.layers import convert_sync_batchnorm  # torch's drops the activation inside timm's norms

        convert_sync_batchnorm(network)
        return None
    require_groups(mode, world.size, batch_size)
    grouping = Grouping(groups, seed, world)
    if shuffled and world.size == 1 and device.startswith("cuda"):
        for module in network.modules():
            if isinstance(module, MomentumCopy):
                _shuffle_around(module, grouping)
        shuffled = False  # within
    _replace(network, grouping, shuffled, inside_copy=False)
    return grouping


def _replace(module: nn.Module, grouping: Grouping, shuffled: bool, inside_copy: bool) -> None:
    inside_copy = inside_copy or isinstance(module, MomentumCopy)
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _group(child, grouping, shuffled and inside_copy))
        else:
            _replace(child, grouping, shuffled, inside_copy)


def _group(norm: _BatchNorm, grouping: Grouping, shuffled: bool) -> nn.Module:
    """The same norm over groups; timm's norms with an activation inside keep it behind the new one."""
    new = GroupedBatchNorm(norm, grouping, shuffled)
    behind = [m for m in (getattr(norm, "drop", None), getattr(norm, "act", None)) if isinstance(m, nn.Module)]
    return nn.Sequential(new, *behind) if behind else new


@contextlib.contextmanager
def rank_after_rank(network: nn.Module, world: World) -> Iterator[None]:
    """Each rank's native norms see parts of the global batch inside; behind it the running statistics are, on every
    rank, as if one process had seen all parts in order."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    if world.size == 1 or not norms:
        yield
        return
    before = [[value.clone() for value in _running(norm)] for norm in norms]
    yield
    # Passes make `decay` x old + s of a statistic; those of all ranks `total_decay` x old and each s `weight` times.
    factors = [_factors(norm, count, world) for norm, (_, _, count) in zip(norms, before, strict=True)]
    olds = [old for values in before for old in values[:2]]
    present = [value for norm in norms for value in _running(norm)[:2]]
    factor_of_value = [factor for factor in factors for _ in range(2)]
    shares = [
        (now - decay * old) * weight
        for now, old, (decay, _, weight) in zip(present, olds, factor_of_value, strict=True)
    ]
    sums = AllReduceSum.apply(torch.cat(shares)).split([len(share) for share in shares])
    for now, old, (_, total_decay, _), total in zip(present, olds, factor_of_value, sums, strict=True):
        now.copy_(total_decay * old + total)
    for norm, (_, _, count) in zip(norms, before, strict=True):
        passes = _running(norm)[2] - count
        _running(norm)[2].add_(passes * (world.size - 1))


def _running(norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and the number of passes that they follow."""
    mean, variance, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert mean is not None
    assert variance is not None
    assert count is not None
    return mean, variance, count


def _factors(norm: _BatchNorm, count: Tensor, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """(own, kept, weight) of `rank_after_rank`, for a norm that had seen `count` passes before."""
    passes = (_running(norm)[2] - count).double()
    if norm.momentum is None:  # the mean of all passes
        whole = count + world.size * passes
        return count / (count + passes), count / whole, (count + passes) / whole
    decay = (1 - norm.momentum) ** passes
    return decay, decay**world.size, decay ** (world.size - 1 - world.rank)
