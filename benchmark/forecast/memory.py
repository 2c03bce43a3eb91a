"""How much memory a process may have, and holding it to that: what does not fit says so before somebody is killed."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmark.settings.runtime import Runtime


class NoRoom(Exception):
    """It needs more memory than there is."""


def capacity(device: torch.device, runtime: Runtime, workers: int = 1) -> int:
    """Bytes that one process may have: of the GPU, or of this machine, the container or the job, and its share."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // runtime.per_device
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max"
            limits.append(int(Path(path).read_text()))
    if runtime.launcher == "slurm" and runtime.slurm.mem_gb:
        limits.append(runtime.slurm.mem_gb * 2**30 // max(1, runtime.slurm.gpus_per_node))
    return min(limits) // workers


@contextlib.contextmanager
def limit_memory(device: torch.device, room: int) -> Iterator[None]:
    """Raise `NoRoom` for what does not fit into `room` bytes, before the kernel has to kill somebody for it.

    On a CPU under Linux alone: elsewhere the system keeps no such limit.
    """
    before = resource.getrlimit(resource.RLIMIT_DATA)
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, room / total), device)
    elif sys.platform == "linux":  # what is asked for from now on, over what is there
        status = Path("/proc/self/status").read_text()
        sizes = {name: int(kib) * 1024 for name, kib in re.findall(r"^(VmData|VmRSS):\s+(\d+)", status, re.MULTILINE)}
        resource.setrlimit(resource.RLIMIT_DATA, (sizes["VmData"] + max(0, room - sizes["VmRSS"]), before[1]))
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise NoRoom from error
    except RuntimeError as error:  # the CPU allocator's, and oneDNN's, which say it in words only
        if not re.search(r"out of memory|can't allocate memory|bad_alloc|could not create a primitive", str(error)):
            raise
        raise NoRoom from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
        if device.type == "cuda":
            with contextlib.suppress(RuntimeError):  # after an error of its own
                torch.cuda.empty_cache()
