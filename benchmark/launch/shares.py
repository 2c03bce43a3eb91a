"""How launcher=local shares this machine out: which device and how many threads each worker has. Imports no torch."""

from __future__ import annotations

import os

from benchmark.errors import UsageError
from benchmark.settings.runtime import Runtime


def devices(runtime: Runtime, gpus: int) -> list[str]:
    """The device of each worker, on a machine with so many GPUs; first one on each, then the second ones."""
    wanted = runtime.device
    if wanted.startswith("cuda") or (wanted == "auto" and gpus):
        if runtime.workers:
            raise UsageError(
                f"workers={runtime.workers} is for CPUs; on GPUs there is one a GPU, or per_device={runtime.workers}"
            )
        each = [f"cuda:{i}" for i in range(gpus)] if wanted in ("auto", "cuda") else [wanted]
        return (each or [wanted]) * runtime.per_device
    if runtime.per_device > 1:
        raise UsageError(f"per_device={runtime.per_device} is for GPUs; workers=N makes N processes on a CPU")
    return ["cpu" if wanted == "auto" else wanted] * (runtime.workers or max(1, _cores() // 2))


def threads(runtime: Runtime, workers: int) -> int:
    """Of each worker; 0 is what the environment says.

    Among all workers, also where fewer cells are left than there are workers: what threads sum in another order comes
    out different, and a cell that is resumed should not.
    """
    return runtime.threads or (0 if "OMP_NUM_THREADS" in os.environ else max(1, _cores() // workers))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
