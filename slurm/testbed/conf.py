"""The bed's folder and its configuration files."""

from __future__ import annotations

import os
import pwd
import random
import socket
from dataclasses import dataclass
from pathlib import Path

MADE = "# Made by slurm.testbed."  # slurm.conf begins so
_LOOPBACK = """\
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
PropagateResourceLimits=NONE

# Loopback only: the default is every interface.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
"""
_SOON = """\
# Soon, where a real cluster takes minutes; a dead node is noticed after twice MessageTimeout and SlurmdTimeout.
MessageTimeout=5
KillWait=2
SlurmdTimeout=6
SlurmctldTimeout=5
ReturnToService=2
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=5
# A slurmstepd repeats its last message for 60 seconds while the controller is away; below that the node is drained.
UnkillableStepTimeout=180
# Finished jobs stay in squeue and scontrol.
MinJobAge=3600
"""
_PARTITIONS = """\
# low is preempted by high and requeued; debug is left alone. The signal of --signal comes at the start of GraceTime.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 MaxTime=INFINITE DefaultTime=60
PartitionName=debug Nodes=ALL PriorityTier=1 PreemptMode=OFF MaxTime=INFINITE DefaultTime=60 Default=YES
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE DefaultTime=60

# Memory is sampled every second and a step above its limit is killed. Daemonised children escape: cgroups would hold
# them, but those of several beds would share one name, and they are not writable everywhere.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
"""
_TASKS = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
"""


def write(
    folder: Path, nodes: tuple[str, ...], cpus: int, memory: int, gpus: int, max_array_size: int, accounting: bool
) -> None:
    """What the daemons need below `folder`: their configuration, on free ports, folders, fake GPUs and a munge key."""
    controller, database, *rest = free_ports(2 + len(nodes))
    ports = Ports(controller, database, tuple(rest))
    texts = {
        "slurm.conf": slurm(folder, nodes, ports, user(), cpus, memory, gpus, max_array_size, accounting),
        "gres.conf": gres(folder, nodes, gpus),
    }
    if accounting:
        texts["slurmdbd.conf"] = slurmdbd(folder, ports, user())
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o600 if name == "slurmdbd.conf" else 0o644)
    for name in ("run", "log", "state", "jobs", *(f"spool/{node}" for node in nodes)):
        (folder / name).mkdir(parents=True)
    for index in range(gpus):
        (folder / f"run/nvidia{index}").symlink_to("/dev/null")  # any character device will do
    with os.fdopen(os.open(folder / "run/munge.key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(os.urandom(128))


def user() -> str:
    """Who the daemons run as: whoever starts them."""
    return pwd.getpwuid(os.geteuid()).pw_name


@dataclass(frozen=True)
class Ports:
    """Loopback ports of the daemons."""

    controller: int
    accounting: int
    nodes: tuple[int, ...]


def slurm(
    folder: Path,
    nodes: tuple[str, ...],
    ports: Ports,
    user: str,
    cpus: int,
    memory: int,
    gpus: int,
    array: int,
    db: bool,
) -> str:
    """slurm.conf of a cluster below `folder`: `cpus`, `memory` (MB) and `gpus` are of each node."""
    host = socket.gethostname().split(".")[0]
    # Its password is the socket of munge: AuthInfo does not reach it.
    storage = {"Type": "accounting_storage/none"}
    if db:
        storage = {"Type": "accounting_storage/slurmdbd", "Host": "127.0.0.1", "Port": f"{ports.accounting}"}
        storage |= {"Pass": f"{folder}/run/munge.socket", "TRES": "gres/gpu"}
    accounting = "\n".join(f"AccountingStorage{key}={value}" for key, value in storage.items())
    gres = f" Gres=gpu:{gpus}" if gpus else ""
    machines = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory}{gres}"
        for name, port in zip(nodes, ports.nodes, strict=True)
    )
    return f"""{MADE}
ClusterName=bed
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports.controller}
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/%n.log
{_LOOPBACK}# Private munge. A requeued job is held for cred_expire + 1 seconds: two minutes by default.
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
CredType=cred/munge

{_SOON}MaxArraySize={array}

{_PARTITIONS}DefMemPerCPU={max(memory // cpus, 1)}
{_TASKS}{accounting}

# Virtual nodes may claim more than the machine has.
SlurmdParameters=config_overrides
{"GresTypes=gpu" if gpus else ""}
{machines}
"""


def gres(folder: Path, nodes: tuple[str, ...], gpus: int) -> str:
    """gres.conf: GPUs that are only names. CUDA_VISIBLE_DEVICES is set only where a character device stands."""
    lines = [f"NodeName={name} Name=gpu File={folder}/run/nvidia[0-{gpus - 1}] Flags=nvidia_gpu_env" for name in nodes]
    return "\n".join([MADE, "AutoDetect=off", *(lines if gpus else [])]) + "\n"


def slurmdbd(folder: Path, ports: Ports, user: str) -> str:
    """slurmdbd.conf: its database is reached through a socket below `folder` (MYSQL_UNIX_PORT)."""
    host = socket.gethostname().split(".")[0]
    return f"""{MADE}
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports.accounting}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
CommunicationParameters=NoInAddrAny
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on, below the range that outgoing connections take theirs from."""
    ports: list[int] = []
    for port in random.sample(range(10000, 20000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError("no free port between 10000 and 20000")
