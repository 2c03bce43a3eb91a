"""Between a method's `forward` and its `loss`: gather, micro-batches, precision, batch norm.

`gradient` leaves the exact full-batch gradient in the parameters of every rank, whatever the number of processes and
however small the micro-batches. It never steps an optimiser and knows no files.
"""

from __future__ import annotations

import itertools
import os
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from benchmark import seeds
from benchmark.errors import UsageError
from benchmark.settings.runtime import Runtime
from benchmark.settings.values import count_microbatches
from benchmark.training import batchnorm
from benchmark.training.distributed import World, average_gradients, gather
from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy
from methods.parts.statistics import frozen_statistics

Rows = dict[str, Tensor]


@dataclass
class Engine:
    """One method on one device of one world."""

    method: Method
    world: World
    device: torch.device
    precision: str  # fp32, bf16 or fp64: that of `forward`; `loss` is never below float32
    seed: int
    microbatch: int  # images encoded at once on a device; 0 is its whole share
    grouping: batchnorm.Grouping | None = None
    rehearses: bool = False  # on a CPU, for the checks: what a GPU would record and replay is taken again and again
    forward: nn.Module = field(init=False)
    compiled: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.forward = self.method
        if self.world.size > 1:
            ids = [self.device] if self.device.type == "cuda" else None
            # Memories are equal on all ranks by construction: broadcasting buffers would only hide that they are not.
            # Newer versions of torch warn of a new name for the argument; the versions we support share the old one.
            with warnings.catch_warnings(action="ignore", category=FutureWarning):
                self.forward = DistributedDataParallel(self.method, device_ids=ids, broadcast_buffers=False)

    def compile(self) -> None:
        """Let torch compile the encoder and its momentum copies, which changes their numbers.

        Not where groups of batch norm are spread over processes.
        """
        if self.grouping is not None and self.world.size > 1:
            return
        # Where sums of groups and of their channels are fused, torch fails ("512 v.s. 4096"; 2.11 to 2.14).
        failing = {"triton.mix_order_reduction"} & set(torch._inductor.list_options()) if self.grouping else ()
        torch._dynamo.reset()  # of a function it keeps eight forms, and then compiles no more: those of other cells too
        for network in encoders(self.method):
            network.compile(dynamic=False, options=dict.fromkeys(failing, False) or None)
        self.compiled = True

    def uncompiled(self) -> AbstractContextManager[object]:
        """What runs inside is not compiled: a pass that is looked into, or one that is not worth the wait."""
        return torch.compiler.set_stance("force_eager") if self.compiled else nullcontext()

    def gradient(self, batch: Batch, at: Progress) -> tuple[Rows, dict[str, Tensor]]:
        """Gradients of the global batch's loss, from this rank's share of it.

        Returns the gathered, detached rows and the scalars that `loss` returned, still on the device.
        """
        count = count_microbatches(len(batch.index) * self.world.size, self.microbatch)
        if count == 1:
            return self._whole_gradient(batch, at)
        local_count = count // self.world.size  # the same parts as in one process, of which each rank has as many
        with batchnorm.rank_after_rank(self.method, self.world):
            if local_count == 1:
                return self._whole_gradient(batch, at, self.world.rank)
            return self._cached_gradient(batch, at, local_count)

    def _whole_gradient(self, batch: Batch, at: Progress, part: int | None = None) -> tuple[Rows, dict[str, Tensor]]:
        """From this rank's share at once, which is a `part` of the global batch."""
        rows = gather(self.rows(self.forward, batch, at, part), self.world)
        self.seed_loss(at)
        scalars = self.loss(rows, at)
        scalars["loss"].backward()
        return _detach(rows), _detach(scalars)

    def _cached_gradient(self, batch: Batch, at: Progress, count: int) -> tuple[Rows, dict[str, Tensor]]:
        """Gradient caching: rows without a graph, the loss once on all of them, then each of this rank's `count`
        micro-batches replayed against the gradient of its rows (Gao et al., arXiv:2101.06983, section 3)."""
        first = self.world.rank * count
        # Nearly equal parts: a last one of a single image would have no batch-norm statistics.
        bounds = [i * len(batch.index) // count for i in range(count + 1)]
        cut = [_part(batch, slice(start, stop)) for start, stop in itertools.pairwise(bounds)]
        with torch.no_grad():
            pieces = [self.rows(self.method, piece, at, i) for i, piece in enumerate(cut, first)]
        leaves = {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}
        for leaf in leaves.values():
            leaf.requires_grad_(leaf.is_floating_point())
        rows = gather(leaves, self.world)
        self.seed_loss(at)
        scalars = self.loss(rows, at)
        scalars["loss"].backward()
        with frozen_statistics(self.method):  # a replay must not count twice
            for i, (start, piece) in enumerate(zip(bounds, cut, strict=False), first):
                replayed = self.rows(self.method, piece, at, i)
                outputs = [row for row in replayed.values() if row.requires_grad]
                slopes = [leaves[name].grad for name, row in replayed.items() if row.requires_grad]
                torch.autograd.backward(
                    outputs, [_slice(g, start, row) for g, row in zip(slopes, outputs, strict=True)]
                )
        if self.world.size > 1:
            average_gradients(list(self.method.parameters()), self.world)
        return _detach(rows), _detach(scalars)

    def rows(self, forward: nn.Module, batch: Batch, at: Progress, part: int | None = None) -> Rows:
        """What `forward` makes of some images, in float32 or float64: of this rank's share, or of the `part`-th
        micro-batch of the global batch."""
        self.prepare(len(batch.index), at, part)
        return self.encode(forward, batch, at)

    def prepare(self, count: int, at: Progress, part: int | None = None) -> None:
        """What a pass over `count` images of this step takes from the CPU: batch norm's groups and torch's seed."""
        if self.grouping is not None:
            self.grouping.set(count, at.step, self.device)
        pass_number = (self.world.rank, 0) if part is None else (0, part)
        torch.manual_seed(seeds.mix(self.seed, "forward", at.step, *pass_number))

    def encode(self, forward: nn.Module, batch: Batch, at: Progress) -> Rows:
        """`forward` in this engine's precision, its rows in float32 or float64."""
        with self.autocast():
            rows = forward(batch, at)
        return {
            name: row.float() if row.dtype in (torch.bfloat16, torch.float16) else row for name, row in rows.items()
        }

    def loss(self, rows: Rows, at: Progress) -> dict[str, Tensor]:
        """`loss` of the gathered rows, without autocast."""
        with torch.autocast(self.device.type, enabled=False):
            return self.method.loss(rows, at)

    def seed_loss(self, at: Progress) -> None:
        """The same on every rank: a loss that draws negatives draws the same ones everywhere."""
        torch.manual_seed(seeds.mix(self.seed, "loss", at.step))

    def seed_after_step(self, at: Progress) -> None:
        """For what the hook behind the optimiser's step draws."""
        torch.manual_seed(seeds.mix(self.seed, "after", at.step))

    def after_step(self, rows: Rows, at: Progress) -> None:
        """The method's hook behind the optimiser's step, from the gathered rows."""
        self.seed_after_step(at)
        with torch.no_grad():
            self.method.after_step(rows, at)

    def gather(self, rows: Rows) -> Rows:
        """The rows of all ranks, in rank order."""
        return gather(rows, self.world)

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 within, where that is the engine's precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def encoders(method: Method) -> list[nn.Module]:
    """The method's encoder, then the momentum copies of it."""
    names = [name for name, _ in method.encoder.named_parameters()]
    copies = [module.network for module in method.modules() if isinstance(module, MomentumCopy)]
    return [method.encoder, *(copy for copy in copies if [name for name, _ in copy.named_parameters()] == names)]


def resolve_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto`: a GPU if there is one, by local rank; else the CPU. Raises `UsageError` for what is not there."""
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = f"cuda:{local_rank % available}" if available else "cpu"
    elif name == "cuda":
        name = f"cuda:{local_rank % available}" if available else "cuda:0"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device={name}: allowed are auto, cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"device={name}: allowed are auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= available:
        raise UsageError(f"device={name}: this machine has {available} CUDA device(s)")
    return device


def configure_device(device: torch.device, deterministic: bool = False) -> None:
    """Make `device` the process's own, float32 mean float32 on it, and convolutions the fastest of cuDNN's kernels, or
    all kernels such as give the same bits each time (a CPU's do): torch then refuses what has none.

    What the environment may say against it, `benchmark.start` has taken out.
    """
    torch.set_float32_matmul_precision("highest")
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = not deterministic  # the fastest of one run need not be that of the next
        if deterministic:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when cuBLAS starts
            torch.use_deterministic_algorithms(True)
            torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # for finding faults


def has_tf32(device: torch.device) -> bool:
    """Whether products of float32 on `device` lose digits, as TF32's and bf16's do: tried, not read from a setting."""
    x, eye = torch.full((64, 64), 1 + 2**-12, device=device), torch.eye(64, device=device)
    convolved = F.conv2d(x.view(1, 64, 8, 8), eye.view(64, 64, 1, 1))
    return not (torch.equal(x @ eye, x) and torch.equal(convolved.view(64, 64), x))


def claim_device(runtime: Runtime, local_rank: int = 0) -> torch.device:
    """The device of this process, made its own, and the CPU threads that `runtime` gives it."""
    if runtime.threads:
        torch.set_num_threads(runtime.threads)
    device = resolve_device(runtime.device, local_rank)
    if runtime.record == "on" and device.type != "cuda":
        raise UsageError(f"record=on: a CUDA graph needs a GPU, and this is {device}; record=auto records where it can")
    configure_device(device, runtime.deterministic)
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """`auto`: bf16 where the hardware multiplies it, else fp32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    try:
        with open("/proc/cpuinfo") as file:
            flags = file.read()
    except OSError:
        return "fp32"
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def _part(batch: Batch, rows: slice) -> Batch:
    labels = None if batch.labels is None else batch.labels[rows]
    return Batch([view[rows] for view in batch.views], batch.index[rows], labels)


def _slice(gradient: Tensor | None, start: int, row: Tensor) -> Tensor:
    return torch.zeros_like(row) if gradient is None else gradient[start : start + len(row)].to(row.dtype)


def _detach(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in values.items()}
