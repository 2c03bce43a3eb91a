"""NT-Xent and InfoNCE, forward and backward: ours, in tiles, against the plain form that holds every logit.

Seconds are taken in turns in this process; growth of peak memory each in a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.cells.machine import read_peak_memory, reset_peak_memory
from benchmark.profiling.timing import CPU, alternate, ratio, show, spread
from methods.parts.losses import info_nce, nt_xent

WIDTH, TEMPERATURE = 128, 0.2
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of two views (B, WIDTH) and negatives (K, WIDTH)


def plain_nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """As papers' repositories write it: all 2B x 2B logits and a cross-entropy."""
    z = torch.cat([z1, z2])
    logits = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z1)))


def plain_info_nce(q: Tensor, k: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """MoCo's algorithm 1: the positive in the first column."""
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64))


LOSSES: dict[str, dict[str, Loss]] = {
    "NT-Xent": {
        "ours": lambda a, b, _: nt_xent(a, b, TEMPERATURE),
        "plain": lambda a, b, _: plain_nt_xent(a, b, TEMPERATURE),
    },
    "InfoNCE": {
        "ours": lambda a, b, negatives: info_nce(a, b, negatives, TEMPERATURE),
        "plain": lambda a, b, negatives: plain_info_nce(a, b, negatives, TEMPERATURE),
    },
}


def main(words: list[str] | None = None) -> list[list[str]]:
    """Print the table and return it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.profiling.losses", description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[2048, 8192], help="of NT-Xent")
    parser.add_argument("--batch", type=int, default=256, help="of InfoNCE")
    parser.add_argument("--queue", type=int, default=65536)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-memory", action="store_true", help="seconds only: starts no further process")
    parser.add_argument("--memory-of", nargs=4, metavar=("LOSS", "CONTESTANT", "BATCH", "QUEUE"), help="bytes only")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    if options.memory_of:
        loss, contestant, batch, queue = options.memory_of
        print(measure_growth(LOSSES[loss][contestant], int(batch), int(queue)))
        return []
    rows = [["loss", "batch", "queue", "ours s", "plain s", "faster", "ours MB", "plain MB", "loss ours", "loss plain"]]
    cases = [("NT-Xent", batch, 0) for batch in options.batches] + [("InfoNCE", options.batch, options.queue)]
    for loss, batch, queue in cases:
        timed, values = measure(loss, batch, queue, options.rounds)
        grown = ["-", "-"]
        if not options.no_memory:
            sizes = [measure_growth_in_child(loss, name, batch, queue, options.threads) for name in LOSSES[loss]]
            grown = [f"{size / 1e6:,.0f}" for size in sizes]
        rows.append([loss, str(batch), str(queue), *timed, *grown, *values])
    show(rows, f"width {WIDTH}, forward and backward; medians of {options.rounds} rounds; MB: growth of peak memory")
    return rows


def measure(loss: str, batch: int, queue: int, rounds: int) -> tuple[list[str], list[str]]:
    """Seconds of ours and of the plain form with their ratio; and the loss of each."""
    a, b, negatives = draw_rows(batch, queue)
    functions = LOSSES[loss]
    times = alternate({name: partial(step, function, a, b, negatives) for name, function in functions.items()}, rounds)
    timed = [f"{spread(times[name])[0]:.3f}" for name in functions] + [ratio(times["plain"], times["ours"])]
    with torch.no_grad():
        return timed, [f"{float(function(a, b, negatives)):.6f}" for function in functions.values()]


def draw_rows(batch: int, queue: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors: two views whose rows belong together, and a queue."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(batch, WIDTH, generator=generator)
    b = a + torch.randn(batch, WIDTH, generator=generator)
    negatives = torch.randn(queue, WIDTH, generator=generator)
    a, b, negatives = (F.normalize(x, dim=1) for x in (a, b, negatives))
    return a.requires_grad_(), b.requires_grad_(), negatives


def step(loss: Loss, a: Tensor, b: Tensor, negatives: Tensor) -> None:
    """The loss and its gradients of both views."""
    a.grad = b.grad = None
    loss(a, b, negatives).backward()


def measure_growth(loss: Loss, batch: int, queue: int) -> int:
    """Bytes by which two steps raise this process's peak, after a small one that loads what any step needs."""
    step(loss, *draw_rows(8, 8))
    inputs = draw_rows(batch, queue)
    reset_peak_memory(CPU)
    before = read_peak_memory(CPU)
    for _ in range(2):
        step(loss, *inputs)
    return read_peak_memory(CPU) - before


def measure_growth_in_child(loss: str, contestant: str, batch: int, queue: int, threads: int) -> int:
    """`measure_growth` in a process of its own: nothing that ran before has left room."""
    arguments = ["--threads", str(threads), "--memory-of", loss, contestant, str(batch), str(queue)]
    command = [sys.executable, "-m", "benchmark.profiling.losses", *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
