"""What a record says of the machine: device, peak memory, versions, commit."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("contrastive-benchmark", "torch", "torchvision", "timm", "numpy")


def name_device(device: torch.device) -> str:
    """Such as 'NVIDIA H200' or 'Intel(R) Xeon(R) Processor @ 2.50GHz, 2 threads'."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.get_num_threads()} threads"


def reset_peak_memory(device: torch.device) -> None:
    """Start to measure anew: one process runs many cells. Where Linux refuses, the peak is the process's so far."""
    gc.collect()  # what the cell before left
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps what was freed for what is asked for next
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def read_peak_memory(device: torch.device) -> int:
    """Bytes since `reset_peak_memory`: allocated on the GPU, or resident in the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@cache
def read_versions() -> dict[str, str]:
    """Package -> its version, or "not installed"; with those of Python and, where there is one, cuDNN."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = "not installed"
    if torch.backends.cudnn.is_available():
        installed["cudnn"] = str(torch.backends.cudnn.version())
    return installed


@cache
def read_commit() -> dict[str, Any]:
    """{"commit", "dirty"} of the checkout that this code runs from; None where it is an installed copy.

    Where a copy runs that git does not know, on a machine without the repository, `BENCHMARK_COMMIT` names the commit.
    """
    if os.environ.get("BENCHMARK_COMMIT"):
        return {"commit": os.environ["BENCHMARK_COMMIT"], "dirty": None}
    code = Path(__file__).parent

    def run_git(*words: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=code, capture_output=True, text=True, check=True, timeout=10
        ).stdout

    try:
        run_git("ls-files", "--error-unmatch", Path(__file__).name)
        return {"commit": run_git("rev-parse", "HEAD").strip(), "dirty": bool(run_git("status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
