"""What a cell is: frozen dataclasses of settings, the words that make them, and the key that a cell is found by.

A word is `key=value` or `key=value,value`; several values make an axis, and the cells are the product of the axes.
The declared type decides how a value is read. There is no interpolation, no environment variable, no config file.
Nothing here imports torch.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import math
import typing
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from types import NoneType
from typing import Any, Literal

import methods
from benchmark.augment import policies
from benchmark.backbones import weights
from benchmark.data import catalogue
from benchmark.errors import UsageError, nearest

# Raised when a change to the code alters the numbers that the same settings give; old records then stay, as others.
RESULTS_VERSION = 1

Optimiser = Literal["sgd", "adamw", "lars", "lars_fb", "larc"]


@dataclass(frozen=True)
class Dataset:
    """Which images, and how they are split."""

    name: str = "digits"  # a name from `python -m benchmark datasets`
    root: str = "data"  # folder that holds, or receives, its files
    download: bool = False  # fetch the files if they are not there
    limit: int = 0  # use a stratified subset of this many training images; 0 is all
    validation: float = 0.1  # share of the training set that is carved off for validation, never trained on
    split_seed: int = 0  # seed of that split, apart from the run's seed
    side: int = 0  # pixels at which the images of a folder are kept; 0 is 128
    cache: int = 0  # the same as dataset.side, kept in a file on disk that is made once, not in memory
    cache_dir: str = ""  # where that file lies; by default in dataset.root + ".cache"
    stream: bool = False  # decode a folder's images anew for every view, from their full size; nothing is kept


@dataclass(frozen=True)
class Settings:
    """One cell, resolved. Settings that cannot change the result of its method are None."""

    method: str = "simclr"  # name, plugin entry point or dotted module path
    options: dict[str, Any] = field(default_factory=dict)  # the method's own Config
    dataset: Dataset = field(default_factory=Dataset)
    seed: int | None = 0  # seed of weights, order and augmentation
    backbone: str | None = "resnet18"  # any timm name without a classifier
    weights: str | None = ""  # where the backbone starts: at random, timm (its pretrained ones) or a file of weights
    stem: Literal["auto", "small", "native"] | None = "auto"  # small: 3x3, stride 1, no pooling; auto: at 64 px or less
    view_size: int = 0  # pixels of a view, in training and evaluation; 0 is the dataset's own
    augmentation: str | None = "simclr"  # pieces joined by +, 6x96 for small crops; `python -m benchmark augmentations`
    epochs: int | None = 100  # passes over the training images
    batch_size: int | None = 256  # images of a step, over all devices
    microbatch: int | None = 0  # images encoded at once on a device, gradient still of the whole batch; 0 is all
    optimiser: Optimiser | None = "sgd"  # lars is SimCLR's form of it, lars_fb MoCo v3's and Barlow Twins', larc SwAV's
    learning_rate: float | None = 0.12  # for 256 images; the rule scales it to the batch size
    learning_rate_rule: Literal["linear", "sqrt", "none"] | None = "linear"  # how it grows with the batch size
    schedule: Literal["cosine", "constant", "step"] | None = "cosine"  # after warm-up; step: x 0.1 at 60 % and 80 %
    warmup: float | None = 0.1  # share of the training over which the learning rate grows linearly from 0
    weight_decay: float | None = 5e-4  # L2, or decoupled (adamw)
    decay_all: bool | None = False  # also decay biases and norms, as MoCo's authors do; larc always does
    sgd_momentum: float | None = 0.9  # of all but adamw
    batch_norm: str | None = "sync"  # sync, local, shuffle, shuffle:N or split:N (N imitated devices)
    precision: Literal["auto", "fp32", "bf16", "fp64"] | None = "auto"  # auto: bf16 where the hardware has it


@dataclass(frozen=True)
class Slurm:
    """What jobs ask a cluster for, with launcher=slurm. Empty, or 0, is the cluster's own default."""

    partition: str = ""  # where jobs run
    account: str = ""  # who pays
    qos: str = ""  # quality of service
    constraint: str = ""  # features a node must have
    nodes: int = 1  # of each job; with several, or several GPUs, one cell runs on all of them
    gpus_per_node: int = 0  # one process each
    cpus_per_task: int = 0  # of each process
    mem_gb: int = 0  # of each node
    timeout_min: int = 240  # time limit of a job; a cell that needs more goes on in the next one
    array_parallelism: int = 16  # jobs that run at once
    cells_per_job: int = 1  # one after the other in one job
    setup: str = ""  # a line for the job's shell before Python starts, such as 'module load cuda'


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
    compile: bool = False  # torch.compile the backbone
    record: Literal["auto", "on", "off"] = "auto"  # a step's gradient as one CUDA graph; auto: where it can be had
    log_every: int = 20  # steps between two lines of log.jsonl
    checkpoint_every: float = 60.0  # seconds between two checkpoints
    stop_collapsed: bool = False  # end a cell when a sign of collapse has lasted a tenth of its training; it stands
    preset: str = "auto"  # named settings that words override: auto (by dataset), none, or a name of presets/
    wandb: Literal["auto", "online", "offline", "off"] = "auto"  # Weights & Biases; auto: online if a key is set up
    wandb_project: str = "contrastive-benchmark"  # where the runs go
    wandb_entity: str = ""  # whose project; empty is the user's own
    slurm: Slurm = field(default_factory=Slurm)


# What only training reads, from `augmentation` on: it does not apply to a method that is evaluated as it starts.
_NAMES = [f.name for f in fields(Settings)]
TRAINING = tuple(_NAMES[_NAMES.index("augmentation") :])
NOT_READ_BY = {"adamw": {"sgd_momentum"}, "larc": {"decay_all"}}  # settings that an optimiser has no use for
PLURAL = {"methods": "method", "seeds": "seed", "dataset": "dataset.name"}
MACHINE = ("root", "download", "cache", "cache_dir")  # of a dataset: where its files lie changes no number


def identity(settings: Settings) -> dict[str, Any]:
    """All settings that can change the cell's numbers, as plain data: what is hashed, and what a record holds."""
    values = asdict(settings)
    for name in MACHINE:
        del values["dataset"][name]
    if settings.dataset.name == "folder":  # the path is what names the data
        values["dataset"]["root"] = settings.dataset.root
    if not settings.dataset.stream:  # younger than the first records, which have no such setting
        del values["dataset"]["stream"]
    if not settings.weights:  # the same
        del values["weights"]
    else:  # the bytes name a file, not its path
        values["weights"] = settings.weights.rpartition("@")[2]
    return values


def key(settings: Settings) -> str:
    """The cell's address: a hash of its identity."""
    return digest({"version": RESULTS_VERSION} | identity(settings))


def digest(values: dict[str, Any]) -> str:
    """Ten hexadecimal digits that plain data always gives, in any order of its names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def folder_name(settings: Settings) -> str:
    """The cell's folder below `out`, named to be read by people."""
    return f"{settings.method}-{settings.dataset.name}-{key(settings)}"


@cache
def describe(method: str) -> methods.Description:
    """The method's description, or the error that a typo deserves."""
    try:
        found = methods.describe(method)
    except LookupError as error:
        near = nearest(method, methods.names())
        raise UsageError(
            f"unknown method {method!r}{near} (allowed: {', '.join(methods.names())}, or a dotted module path)"
        ) from error
    except methods.BrokenMethod as error:
        raise UsageError(str(error)) from error
    clash = next((f.name for f in fields(found.Config) if f.name in declared() or f.name in PLURAL), None)
    if clash:
        raise UsageError(f"method {method!r}: option {clash!r} has the name of a setting; another name is needed")
    optional = [name for name, kind in declared().items() if NoneType in typing.get_args(kind)]
    wrong = next((name for name in found.ignores if name not in optional), None)
    if wrong:
        raise UsageError(f"method {method!r} ignores {wrong!r}; allowed are {', '.join(optional)}")
    return found


@cache
def declared() -> dict[str, Any]:
    """Every key of `Settings` and `Dataset`, dotted, with its declared type."""
    own = {k: t for k, t in typing.get_type_hints(Settings).items() if k not in ("options", "dataset")}
    return own | {f"dataset.{k}": t for k, t in typing.get_type_hints(Dataset).items()}


@cache
def runtime_types() -> dict[str, Any]:
    """Every key of `Runtime` and `Slurm`, dotted, with its declared type."""
    own = {k: t for k, t in typing.get_type_hints(Runtime).items() if k != "slurm"}
    return own | {f"slurm.{k}": t for k, t in typing.get_type_hints(Slurm).items()}


def help_of(cls: type[Any]) -> dict[str, str]:
    """Field -> the comment behind it in the source of a dataclass of this module."""
    text = inspect.getsource(cls)
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.ClassDef)
    return methods.comments(text, node)


@cache
def options_of(method: str) -> dict[str, Any]:
    """The method's options with their declared types."""
    return typing.get_type_hints(describe(method).Config)


def parse_value(text: str, kind: Any, key: str) -> Any:
    """`text` as the declared type `kind`. Raises `UsageError` naming key, value and what is allowed."""
    kind = _without_none(kind)
    if typing.get_origin(kind) is Literal:
        allowed = typing.get_args(kind)
        if text in map(str, allowed):
            return next(a for a in allowed if str(a) == text)
        raise UsageError(f"{key}={text}: allowed are {', '.join(map(str, allowed))}{nearest(text, allowed)}")
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise UsageError(f"{key}={text}: true or false is needed")
    wanted = {int: "a whole number", float: "a finite number"}.get(kind, f"a value of type {kind}")
    try:
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise ValueError
    except ValueError:
        raise UsageError(f"{key}={text}: {wanted} is needed") from None
    return value


def type_text(kind: Any) -> str:
    """A declared type as a reader would say it."""
    kind = _without_none(kind)
    if typing.get_origin(kind) is Literal:
        return ", ".join(map(str, typing.get_args(kind)))
    return {int: "whole number", float: "number", bool: "true, false", str: "text"}.get(kind, str(kind))


def _without_none(kind: Any) -> Any:
    parts = typing.get_args(kind)
    return next(part for part in parts if part is not NoneType) if NoneType in parts else kind


def build(assigned: dict[str, Any]) -> Settings:
    """Settings from dotted assignments (`options.x` for the method's own); everything else is the default."""
    options = asdict(describe(assigned["method"]).Config())
    for name, kind in options_of(assigned["method"]).items():
        if kind is float:  # a default of 1 and a word that says 1 are the same cell
            options[name] = float(options[name])
    options |= {k.removeprefix("options."): v for k, v in assigned.items() if k.startswith("options.")}
    dataset = Dataset(**{k.removeprefix("dataset."): v for k, v in assigned.items() if k.startswith("dataset.")})
    own = {k: v for k, v in assigned.items() if "." not in k}
    settings = Settings(**own, options=options, dataset=dataset)
    size = settings.view_size or catalogue.entry(dataset.name).view
    settings = replace(settings, view_size=size, dataset=_with_side(dataset, size))
    validate(settings)
    settings = replace(settings, weights=weights.named(settings.weights or ""))
    unread = inapplicable(settings.method) | NOT_READ_BY.get(settings.optimiser or "", set())
    nothing: dict[str, Any] = dict.fromkeys(unread, None)
    return replace(settings, **nothing)


def restore(values: dict[str, Any]) -> Settings:
    """The cell that `dataclasses.asdict`, and JSON after it, made `values` of."""
    return Settings(**values | {"dataset": Dataset(**values["dataset"])})


def restore_runtime(values: dict[str, Any]) -> Runtime:
    """The same, for how to run."""
    return Runtime(**values | {"slurm": Slurm(**values["slurm"])})


def _with_side(dataset: Dataset, view_size: int) -> Dataset:
    """The pixels at which images are kept, if a cache or a stream says it."""
    side, name = dataset.cache or dataset.side, "cache"
    if dataset.stream:  # they are kept nowhere: evaluation sees squares of the view's size
        side, name = view_size, "stream"
    if dataset.side not in (0, side):
        raise UsageError(f"dataset.side={dataset.side} and dataset.{name}={getattr(dataset, name)}: give one of them")
    return replace(dataset, side=side)


def validate(settings: Settings) -> None:
    """Raise `UsageError` for values that no run can have."""
    described = describe(settings.method).Config
    try:
        described(**settings.options)
    except Exception as error:  # whatever a plugin's own check raises
        usual = asdict(described())
        given = ", ".join(f"{name}={value}" for name, value in settings.options.items() if value != usual[name])
        raise UsageError(f"{settings.method} with {given}: {error}") from error
    _validate_augmentation(settings.method, settings.augmentation or "none")
    batch_norm_groups(settings.batch_norm or "sync", 1)
    at_least: dict[str, float] = {"epochs": 1, "batch_size": 2, "microbatch": 0, "view_size": 4, "seed": 0}
    at_least |= dict.fromkeys(("learning_rate", "weight_decay", "warmup", "sgd_momentum"), 0)
    for name, smallest in at_least.items():
        value = getattr(settings, name)
        if value is not None and value < smallest:
            raise UsageError(f"{name}={value}: at least {smallest} is needed")
    for name in ("warmup", "sgd_momentum"):
        if (getattr(settings, name) or 0) > 1:
            raise UsageError(f"{name}={getattr(settings, name)}: a share between 0 and 1 is needed")
    microbatch, batch = settings.microbatch or 0, settings.batch_size or 0
    if 0 < microbatch < batch and settings.batch_norm not in ("sync", "local"):
        raise UsageError(
            f"batch_norm={settings.batch_norm} needs the whole batch at once; microbatch={microbatch} alone already "
            f"gives each {microbatch} images their own batch-norm statistics (batch_norm=sync)"
        )


def _validate_augmentation(method: str, text: str) -> None:
    small = policies.parse(text).small
    if small and "augmentation" not in inapplicable(method) and not describe(method).multicrop:
        raise UsageError(
            f"{method} takes no small crops: augmentation={text}; give it its own with "
            f"{method}.augmentation={policies.without_small(text)}"
        )


def batch_norm_groups(mode: str, processes: int) -> tuple[int, bool]:
    """(groups of the global batch that share statistics, whether the momentum encoder's are drawn at random)."""
    kind, _, count = mode.partition(":")
    if count and kind in ("split", "shuffle") and count.isdigit() and int(count) > 0:
        return int(count), kind == "shuffle"
    if mode in ("sync", "local", "shuffle"):
        return (1 if mode == "sync" else processes), mode == "shuffle"
    allowed = ("sync", "local", "shuffle", "shuffle:N", "split:N")
    raise UsageError(f"batch_norm={mode}: allowed are {', '.join(allowed)} with N at least 1{nearest(mode, allowed)}")


def pretrained(method: str) -> bool:
    """Whether the method is what its weights are: a backbone that neither a training nor a seed decides on."""
    unread = inapplicable(method)
    return not describe(method).trains and "seed" in unread and not unread & {"backbone", "weights"}


def inapplicable(method: str) -> set[str]:
    """The settings that cannot change the result of `method`."""
    description = describe(method)
    return set(description.ignores) | (set() if description.trains else set(TRAINING))
