"""What must be settled before torch or another of our folders is imported; needs the standard library only."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from benchmark.errors import UsageError

BESIDE = ("methods", "results", "slurm")  # our folders that lie beside this one
SPINS = 10_000
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # how OpenMP's threads wait for one another


def refuse_windows() -> None:
    """Raise `UsageError` where POSIX's locks, signals and process groups are missing."""
    if os.name == "nt":
        raise UsageError(
            "Windows has no fcntl and no POSIX signals, by which cells are locked and stopped: take Linux, macOS, or "
            "WSL (`wsl --install`)"
        )


def let_threads_sleep() -> None:
    """Let threads that wait for one another soon sleep, in this process and in all that it starts.

    By default they spin for milliseconds. Beside other work on the same cores the one that is waited for then gets no
    core to run on. To sleep at once costs a small network half its speed on a quiet machine; after `SPINS` turns, some
    microseconds, a tenth. What the user has set stays.
    """
    if not any(name in os.environ for name in WAITING):
        os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": str(SPINS)}


def promise_float32() -> None:
    """Take out of the environment what would make float32 something less, in torch, cuBLAS, cuDNN and oneDNN."""
    os.environ.pop("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", None)
    os.environ |= {"NVIDIA_TF32_OVERRIDE": "0", "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT"}


def refuse_namesakes() -> None:
    """Raise `UsageError` where a file of the user's would be imported in the place of one of our packages.

    `python -m` looks in the current folder first. A mere folder of the same name, such as one of results, is no
    package: ours then only have to be found before it.
    """
    own_folder = Path(__file__).resolve().parents[1]
    for name in BESIDE:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            sys.path.insert(0, str(own_folder))
        elif own_folder not in Path(spec.origin).resolve().parents:
            path = Path(spec.origin)
            raise UsageError(
                f"{path.parent if path.name == '__init__.py' else path} has the name of our package {name!r}, and "
                "Python would take it for that: rename it, work in another folder, or use the command "
                "contrastive-benchmark"
            )
