"""Finds the processes of a bed, whoever started them: /proc is asked, no pid is remembered, so that a bed whose owner
crashed is found too."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

DAEMONS = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "slurmstepd")


@dataclass(frozen=True)
class Process:
    """A process of the bed. `name` is the daemon's, or "job"; `node` is empty where it belongs to none."""

    pid: int
    name: str
    node: str


def find(folder: Path, nodes: tuple[str, ...]) -> list[Process]:
    """The daemons that have a file open below `folder`, and the processes of the jobs of its cluster."""
    daemons: dict[int, Process] = {}
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parents[int(entry.name)] = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            process = _look(entry, folder, nodes)
        except (OSError, ValueError):
            continue  # gone, a zombie, or another user's
        if process:
            daemons[process.pid] = process
    for pid in parents:
        above = _ancestors(pid, parents)
        step = next((daemons[p] for p in above if p in daemons and daemons[p].name in ("slurmstepd", "job")), None)
        if step and pid not in daemons:
            daemons[pid] = Process(pid, "job", step.node)
    spared = {os.getpid(), *_ancestors(os.getpid(), parents)}
    return [process for process in daemons.values() if process.pid not in spared]


def send(processes: list[Process], number: signal.Signals) -> None:
    """A signal to each of them that still is."""
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


def wait_gone(processes: list[Process], timeout: float) -> bool:
    """Whether all have ended (zombies count as ended) within `timeout` seconds."""
    until = time.monotonic() + timeout
    while any(_alive(process.pid) for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def _look(entry: Path, folder: Path, nodes: tuple[str, ...]) -> Process | None:
    name = Path(os.readlink(entry / "exe").removesuffix(" (deleted)")).name.partition("-")[0]  # Debian: slurmd-wlm
    pid = int(entry.name)
    if name in DAEMONS:
        files = [_target(link) for link in (entry / "fd").iterdir()]
        if not any(file.startswith(f"{folder}/") for file in files):
            return None
        return Process(pid, name, next((node for node in nodes if f"{folder}/log/{node}.log" in files), ""))
    environment = (entry / "environ").read_bytes().split(b"\0")
    if os.fsencode(f"SLURM_CONF={folder}/slurm.conf") not in environment:
        return None
    values = dict(pair.split(b"=", 1) for pair in environment if b"=" in pair)
    if b"SLURM_JOB_ID" not in values or b"SLURMD_NODENAME" not in values:
        return None  # a shell that uses the bed
    return Process(pid, "job", values[b"SLURMD_NODENAME"].decode())


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    chain: list[int] = []
    while (pid := parents.get(pid, 0)) and pid not in chain:
        chain.append(pid)
    return chain


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
