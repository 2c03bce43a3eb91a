"""How and where a cell runs: nothing here changes its numbers, nor enters its key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import methods
from benchmark import environment
from benchmark.errors import UsageError, nearest, unknown

TRACKERS = ("wandb", "tensorboard", "trackio")


@dataclass(frozen=True)
class Slurm:
    """What jobs ask a cluster for, with launcher=slurm. Empty, or 0, is the cluster's own default."""

    partition: str = ""  # where jobs run; several are tried
    account: str = ""  # who pays
    qos: str = ""  # quality of service
    constraint: str = ""  # features a node must have
    nodes: int = 1  # of each job; with several, or several GPUs, one cell runs on all of them
    gpus_per_node: int = 0  # one process each
    gpu_type: str = ""  # which ones, as the cluster calls them, such as a100
    cpus_per_task: int = 0  # of each process
    mem_gb: int = 0  # of each node
    timeout_min: int = 240  # time limit of a job; a cell that needs more goes on in the next one
    array_parallelism: int = 16  # jobs that run at once
    cells_per_job: int = 1  # one after the other in one job
    setup: str = ""  # for the job's shell before Python starts, such as 'module load cuda'; given again, further lines
    # what else sbatch takes, a word each: slurm.extra.reservation=NAME, slurm.extra.exclude=NODES
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Runtime:
    """How and where to run. Nothing here enters a cell's key."""

    out: str = "runs"  # folder of the cells
    device: str = "auto"  # cpu, cuda, cuda:1; auto is a GPU if there is one
    threads: int = 0  # CPU threads of a process; 0 is torch's choice, or with launcher=local the cores shared out
    launcher: Literal["here", "local", "slurm"] = "here"  # one cell after the other; over this machine; on a cluster
    workers: int = 0  # processes of launcher=local on a CPU; 0 is one for every two cores (on GPUs it is one a GPU)
    per_device: int = 1  # cells that share a GPU with launcher=local
    budget: float = 0.0  # GPU-hours (of a process, on a CPU) that what would run may cost by its forecast; 0: any
    many: bool = False  # allow more than 10,000 cells
    compile: bool = False  # torch.compile the backbone
    deterministic: bool = False  # on a GPU, kernels that give the same bits each time, for some speed; a CPU's do
    record: Literal["auto", "on", "off"] = "auto"  # a step's gradient and small views as CUDA graphs; auto: if possible
    log_every: int = 20  # steps between two lines of log.jsonl
    checkpoint_every: float = 60.0  # seconds between two checkpoints
    evaluate_every: str = "auto"  # epochs between two kNN accuracies on the validation split; 0: none; auto: if cheap
    stop_below: str = ""  # 30@5,35@10 ends a cell whose validation kNN is below 30 % from epoch 5 or 35 % from epoch 10
    stop_collapsed: bool = False  # end a cell when a sign of collapse has lasted a tenth of its training; it stands
    preset: str = "auto"  # named settings that words override: auto (by dataset), none, or a name of presets/
    like: str = ""  # in place of a preset the words of a published protocol: a name that `published` lists
    settings: str = ""  # a file of settings over the preset, below your words; tuned: what `tune` chose below out=
    tracker: str = "auto"  # who is told: wandb, tensorboard, trackio, several, or none; auto is W&B as wandb= says
    wandb: Literal["auto", "online", "offline", "off"] = "auto"  # Weights & Biases; auto: online if a key is set up
    wandb_project: str = "contrastive-benchmark"  # where the runs go, in Trackio too
    wandb_entity: str = ""  # whose project; empty is the user's own
    trust: tuple[str, ...] = ()  # plugins' module paths that cells of a folder may import; those of methods= may anyway
    slurm: Slurm = field(default_factory=Slurm)


class Threshold(NamedTuple):
    """The accuracy, a fraction, that a cell needs once it has trained for so many epochs."""

    accuracy: float
    epochs: int


def evaluation_interval(runtime: Runtime) -> int | None:
    """Epochs between two accuracies of a cell that trains; 0 for none, None for `auto`. Raises `UsageError`."""
    if runtime.evaluate_every == "auto":
        return None
    if not re.fullmatch(r"\d{1,9}", runtime.evaluate_every, re.ASCII):
        near = nearest(runtime.evaluate_every, ["auto"])
        raise UsageError(f"evaluate_every={runtime.evaluate_every}: auto or a whole number of epochs is needed{near}")
    return int(runtime.evaluate_every)


def stop_thresholds(runtime: Runtime) -> list[Threshold]:
    """What `stop_below` says, by growing epochs. Raises `UsageError`."""
    try:
        thresholds = parse_thresholds(runtime.stop_below)
        if any(threshold.accuracy == 0 for threshold in thresholds):
            raise ValueError("nothing is below 0 %")
    except ValueError:
        raise UsageError(
            f"stop_below={runtime.stop_below}: PERCENT@EPOCHS is needed, such as 30@20, with a percentage above 0, at "
            "most 100, and at least 1 epoch; or several of other epochs, 30@20,35@40"
        ) from None
    if thresholds and evaluation_interval(runtime) == 0:
        raise UsageError(f"stop_below={runtime.stop_below} needs accuracies while cells train: not evaluate_every=0")
    return thresholds


def require_device(name: str) -> None:
    """Raise `UsageError` for what no device is called; whether it is there is another matter."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", name, re.ASCII):
        raise UsageError(f"device={name}: allowed are auto, cpu, cuda, cuda:N")


def parse_thresholds(text: str) -> list[Threshold]:
    """Those of `30@20,35@40`, by growing epochs. Raises ValueError."""
    by_epoch: dict[int, Threshold] = {}
    for part in text.split(",") if text else []:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)@(\d{1,9})", part, re.ASCII)
        if match is None or float(match[1]) > 100 or int(match[2]) < 1 or int(match[2]) in by_epoch:
            raise ValueError(f"{part!r} is no threshold")
        by_epoch[int(match[2])] = Threshold(float(match[1]) / 100, int(match[2]))
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def parse_trackers(runtime: Runtime) -> tuple[str, ...]:
    """The names of `tracker`; none of them for `none`. Raises `UsageError`."""
    names = tuple(dict.fromkeys(runtime.tracker.split(",")))
    for name in names:
        if name not in (*TRACKERS, "auto", "none"):
            raise unknown("tracker", name, [*TRACKERS, "auto", "none"])
    if names == ("none",):
        names = ()
    elif "none" in names:
        raise UsageError(f"tracker={runtime.tracker}: none stands alone")
    uses_wandb = "auto" in names or "wandb" in names
    if runtime.wandb in ("online", "offline") and not uses_wandb:
        raise UsageError(f"wandb={runtime.wandb} is for tracker=wandb, not for tracker={runtime.tracker}")
    if runtime.wandb == "off" and "wandb" in names:
        raise UsageError(f"tracker={runtime.tracker} and wandb=off: give one of them")
    return names


def count_processes(runtime: Runtime) -> int:
    """How many processes train a cell together: what a launcher of processes says of this one, or what a job is to
    start."""
    if runtime.launcher == "slurm":
        return runtime.slurm.nodes * max(1, runtime.slurm.gpus_per_node)
    return int(os.environ["WORLD_SIZE"]) if runtime.launcher == "here" and environment.is_group() else 1


def restore_runtime(values: dict[str, Any]) -> Runtime:
    """The runtime that `dataclasses.asdict`, and JSON after it, made `values` of, in a process that another of ours has
    started: what that one trusts is trusted."""
    extra = tuple((key, value) for key, value in values["slurm"].get("extra", ()))
    runtime = Runtime(**values | {"slurm": Slurm(**values["slurm"] | {"extra": extra})})
    adopt_trust(runtime)
    return runtime


def adopt_trust(runtime: Runtime) -> None:
    """Trust, in a process of ours, what the one that started it trusts."""
    methods.trust(runtime.trust)
