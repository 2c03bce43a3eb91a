"""How a machine is shared out: which device and how many threads each process has. Imports no torch."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmark import environment
from benchmark.errors import UsageError
from benchmark.settings.runtime import Runtime

# Set where someone has shared the cores out: the user, torchrun, a cluster.
SHARED_OUT = ("OMP_NUM_THREADS", "RANK", "SLURM_JOB_ID")
SEEN = 0.2  # seconds for which the load of the cores is watched


def share_devices(runtime: Runtime, gpus: int) -> list[str]:
    """The device of each worker, on a machine with so many GPUs; first one on each, then the second ones."""
    device = runtime.device
    if device.startswith("cuda") or (device == "auto" and gpus):
        if runtime.workers:
            raise UsageError(
                f"workers={runtime.workers} is for CPUs; on GPUs there is one a GPU, or per_device={runtime.workers}"
            )
        names = [f"cuda:{i}" for i in range(gpus)] if device in ("auto", "cuda") else [device]
        return (names or [device]) * runtime.per_device
    if runtime.per_device > 1:
        raise UsageError(f"per_device={runtime.per_device} is for GPUs; workers=N makes N processes on a CPU")
    return ["cpu" if device == "auto" else device] * (runtime.workers or max(1, environment.cores() // 2))


def share_threads(runtime: Runtime, workers: int) -> int:
    """Of each worker; 0 is what the environment says.

    Among all workers, also where fewer cells are left than there are workers: what threads sum in another order comes
    out different, and a cell that is resumed should not.
    """
    return runtime.threads or (0 if "OMP_NUM_THREADS" in os.environ else max(1, environment.cores() // workers))


def spare_threads(runtime: Runtime) -> tuple[int, str]:
    """Threads of a process that trains on the CPU, 0 for torch's choice; and a note where others leave it fewer cores.

    A thread that has to wait for a core lets all the others wait, thousands of times a second: on two cores with two
    busy processes a small network trains a third as fast as alone by one thread, and a tenth by two.
    """
    if runtime.threads or any(name in os.environ for name in SHARED_OUT):
        return runtime.threads, ""
    cores, busy = environment.cores(), round(busy_cores())
    spare = max(1, cores - busy)
    if spare == cores:
        return 0, ""
    return spare, f"other work keeps {busy} of {cores} cores busy: threads={spare}; threads={cores} takes all"


def busy_cores() -> float:
    """How many of the cores that this process may use others keep busy, seen for `SEEN` seconds; 0 where it can't be
    told."""
    before = _read_ticks()
    time.sleep(SEEN)
    after = _read_ticks()
    shares = []
    for core, (total, idle) in after.items():
        passed = total - before[core][0]
        shares.append(1 - (idle - before[core][1]) / passed if passed else 0.0)
    return sum(shares)


def _read_ticks() -> dict[int, tuple[int, int]]:
    """(all, idle) ticks of each core of this process since the machine started, from Linux's /proc/stat."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    allowed = os.sched_getaffinity(0)
    numbers = {
        int(name[3:]): [int(n) for n in rest.split()]
        for name, _, rest in (line.partition(" ") for line in lines)
        if name.startswith("cpu") and name[3:].isdigit()
    }
    return {core: (sum(ticks[:8]), sum(ticks[3:5])) for core, ticks in numbers.items() if core in allowed}
