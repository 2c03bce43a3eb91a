"""Jobs on a cluster, through submitit: a callable and a list of arguments as job arrays, and what became of them.

The callable runs in the job as `work(argument)`. It is asked to stop by SIGUSR2 (time limit near, or preemption where
the cluster says so) and SIGTERM, and answers True where there is more to do: the job then queues itself again. What it
has done it has to find on disk when it is called anew; nothing is taken from submitit's pickles. Standard library and
submitit only.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOTICE = 120  # seconds before the time limit at which a job is asked to stop
PATIENCE = 20  # seconds that a command of SLURM's may take; they wait long for a controller that is away
SLOW = 5  # seconds after which somebody is told that sbatch waits; it tries again for minutes
BUSY = r"unable to contact|timed out|temporarily (unable|disabled)|queue full|connection|zero bytes"  # said of no input
# States that a job does not leave any more. One that is not among them, of a newer SLURM perhaps, may live.
OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"}
OVER |= {"REVOKED", "TIMEOUT", "gone"}


class Unavailable(Exception):
    """SLURM does not answer: its commands are missing, its controller is away, or its queue is full."""


class Missing(Unavailable):
    """SLURM's commands, or submitit, are not installed here."""


class Refused(Exception):
    """SLURM does not take a job; the message is sbatch's."""


@dataclass(frozen=True)
class Job:
    """A job as SLURM has it: `state` in its words, `reason` why it waits or ended; `gone` where it knows none."""

    id: str
    state: str
    reason: str = ""

    @property
    def over(self) -> bool:
        return self.state in OVER


class Task:
    """What submitit pickles: `work` on `argument`, in each process of the job."""

    def __init__(self, work: Callable[[Any], bool], argument: Any) -> None:
        self.work, self.argument = work, argument

    def __call__(self) -> None:
        # Children that are forked inherit submitit's handlers, and SLURM signals every process of a step.
        os.register_at_fork(after_in_child=_restore_signals)
        _export_processes()
        more = self.work(self.argument)
        if more and (os.environ.get("SLURM_PROCID") or "0") == "0":
            _command(["scontrol", "requeue", _own_id()])

    def checkpoint(self) -> Any:
        """submitit's own way to requeue, should its handler be reached before `work` listens to signals itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    work: Callable[[Any], bool], arguments: Sequence[Any], folder: Path, name: str, resources: Mapping[str, Any]
) -> list[str]:
    """One job for each of `arguments`, as one array of at most `longest_array` jobs; returns their ids, in order.

    `resources` as in the words `slurm.*`; logs go to a folder per job below `folder`. Raises `Unavailable`, `Refused`.
    """
    executor = _executor(folder, name, resources)
    from submitit.core.utils import FailedJobError

    line = f"sbatch has not answered for {SLOW} s; where the queue is full it tries for minutes, and Ctrl-C ends it"
    notice = threading.Timer(SLOW, print, [line], {"file": sys.stderr, "flush": True})
    notice.daemon = True
    notice.start()
    try:
        # sbatch's errors come again below.
        with contextlib.redirect_stderr(io.StringIO()), _outside_of_a_job(), executor.batch():
            jobs = [executor.submit(Task(work, argument)) for argument in arguments]
    except FailedJobError as error:
        message = " ".join(str(error).split())
        raise (Unavailable if re.search(BUSY, message, re.IGNORECASE) else Refused)(message) from error
    finally:
        notice.cancel()
    return [job.job_id for job in jobs]


@contextlib.contextmanager
def _outside_of_a_job() -> Iterator[None]:
    """The environment without the variables of a job, or of a group of processes, that this process is in.

    sbatch would obey them, and hand them on to the new job. Without such a job they are the user's own.
    """
    from submitit.helpers import clean_env

    prefixes = ("SLURM", "SRUN", "SBATCH") if "SLURM_JOB_ID" not in os.environ else ("SLURM_CONF",)
    variables = {name: value for name, value in os.environ.items() if name.startswith(prefixes)}
    with clean_env():
        os.environ |= variables
        yield


def script(count: int, folder: Path, name: str, resources: Mapping[str, Any]) -> str:
    """The script that `submit` hands to sbatch for an array of `count` jobs."""
    _require_submitit()
    from submitit.slurm.slurm import _make_sbatch_string

    array: dict[str, Any] = {"map_count": count} if count > 1 else {}
    command = shlex.join([sys.executable, "-u", "-m", "submitit.core._submit", f"{folder}/%j"])
    return _make_sbatch_string(command=command, folder=folder / "%j", **_parameters(name, resources), **array)


def _executor(folder: Path, name: str, resources: Mapping[str, Any]) -> Any:
    _require_submitit()
    from submitit.slurm.slurm import SlurmExecutor

    try:
        executor = SlurmExecutor(folder / "%j", max_num_timeout=1000)
    except RuntimeError as error:  # its word for a machine without srun
        raise Missing("SLURM is not installed here: launcher=slurm runs on a cluster's login node") from error
    executor.update_parameters(**_parameters(name, resources))
    return executor


def _require_submitit() -> None:
    if importlib.util.find_spec("submitit") is None:
        raise Missing("launcher=slurm needs submitit: pip install submitit")


def _parameters(name: str, resources: Mapping[str, Any]) -> dict[str, Any]:
    """In the words of submitit's SlurmExecutor."""
    parameters: dict[str, Any] = {"job_name": name, "time": resources["timeout_min"], "nodes": resources["nodes"]}
    parameters |= {"ntasks_per_node": max(1, resources["gpus_per_node"]), "signal_delay_s": NOTICE}
    parameters |= {"array_parallelism": resources["array_parallelism"], "additional_parameters": {"requeue": True}}
    optional = ("partition", "account", "qos", "constraint", "cpus_per_task", "gpus_per_node")
    parameters |= {word: resources[word] for word in optional if resources[word]}
    parameters["wckey"] = None  # of submitit's own, which a cluster may refuse
    if resources["gpu_type"]:
        parameters["gpus_per_node"] = f"{resources['gpu_type']}:{resources['gpus_per_node']}"
    parameters["additional_parameters"] |= {key: value == "true" or value for key, value in resources["extra"]}
    if resources["mem_gb"]:
        parameters["mem"] = f"{resources['mem_gb']}GB"
    setup = resources["setup"].splitlines()
    if resources["cpus_per_task"]:  # srun does not inherit it since SLURM 22.05
        setup.append("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
    return parameters | ({"setup": setup} if setup else {})


def longest_array() -> int:
    """How many jobs one array may have (MaxArraySize counts index 0)."""
    match = re.search(r"MaxArraySize\s*=\s*(\d+)", _command(["scontrol", "show", "config"]))
    return max(1, int(match[1]) - 1) if match else 1000


def read_states(ids: Collection[str], users: Collection[str]) -> dict[str, Job]:
    """Each job, of one of these users, as the controller has it; what it has forgotten, as the accounting has it."""
    listed, jobs = {}, {}
    words = ["squeue", "-u", ",".join(sorted(users)), "-h", "-r", "-t", "all", "-o", "%i|%T|%r"]
    for line in _command(words).splitlines():
        id, state, reason = line.split("|", 2)
        listed[id] = state, "" if reason == "None" else reason
    for id in ids:  # elements of an array that were cancelled before they began stand under the array's own id
        row = listed.get(id) or listed.get(id.partition("_")[0])
        if row:
            jobs[id] = Job(id, *row)
    missing = [id for id in ids if id not in jobs]
    if missing:
        jobs |= _read_accounting(missing)
    return {id: jobs.get(id, Job(id, "gone")) for id in ids}


def cancel(ids: Sequence[str], name: str, user: str) -> None:
    """Those of `ids` that are jobs of this name and user, in the queue."""
    # scancel's own filters do not know the waiting tasks of an array by their numbers.
    words = ["squeue", "-u", user, "-n", name, "-h", "-r", "-t", "all", "-o", "%i"]
    queued = set(_command(words).split()) if ids else set()
    chosen = [id for id in ids if id in queued]
    for start in range(0, len(chosen), 500):
        _command(["scancel", *chosen[start : start + 500]])


def describe_ending(job: Job, log: str) -> str:
    """How a job ended, in a few words. A step that the kernel killed for memory is FAILED to SLURM; its log tells."""
    if job.state == "OUT_OF_MEMORY" or re.search(r"oom.?kill|out of memory|exceeded memory limit", log, re.IGNORECASE):
        return "out of memory"
    texts = {"TIMEOUT": "the time limit", "CANCELLED": "cancelled", "gone": "SLURM no longer knows how"}
    if job.state in texts:  # whose reason, if any, is why the job waited
        return texts[job.state]
    return job.state.lower().replace("_", " ") + (f" ({job.reason})" if job.reason else "")


def log(folder: Path, id: str) -> str:
    """What the job's first process wrote, output and errors; empty before it starts."""
    parts = [folder / id / f"{id}_0_log.{kind}" for kind in ("out", "err")]
    return "\n".join(part.read_text(errors="replace").rstrip() for part in parts if part.exists())


def _read_accounting(ids: list[str]) -> dict[str, Job]:
    """From sacct; nothing where the cluster keeps no accounts."""
    jobs = {}
    for start in range(0, len(ids), 500):
        try:
            text = _command(["sacct", "-X", "-n", "-P", "-o", "JobID,State", "-j", ",".join(ids[start : start + 500])])
        except Unavailable:
            return {}
        for line in text.splitlines():
            id, state = line.split("|", 1)
            jobs[id] = Job(id, state.split(" ")[0])  # "CANCELLED by 0"
    return {id: job for id, job in jobs.items() if id in ids}


def _command(words: list[str]) -> str:
    try:
        process = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except FileNotFoundError as error:
        raise Missing(f"{words[0]} is not installed here: launcher=slurm runs on a cluster's login node") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{words[0]} does not answer within {PATIENCE} s") from error
    except subprocess.CalledProcessError as error:
        raise Unavailable(" ".join((error.stderr or error.stdout or f"{words[0]} failed").split())) from error
    return process.stdout


def _own_id() -> str:
    if os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def _restore_signals() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)


def _export_processes() -> None:
    """torchrun's variables, where the job has several processes."""
    if int(os.environ.get("SLURM_NTASKS") or 1) < 2:
        return
    import submitit

    environment = submitit.helpers.TorchDistributedEnvironment()
    # submitit takes the first node's name, which not every node can resolve.
    environment.master_addr = os.environ.get("SLURM_LAUNCH_NODE_IPADDR") or environment.master_addr
    environment.export(set_cuda_visible_devices=False)
