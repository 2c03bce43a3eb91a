"""Words that say how to run, not which cell: `out=runs launcher=slurm slurm.partition=gpu`, or `cluster=NAME` for such.

Here too: what a word is, and the words of commands that take their cells from a folder.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from pathlib import Path

import methods
from benchmark.data.layout import is_utf8
from benchmark.errors import UsageError, nearest
from benchmark.settings import presets, schema
from benchmark.settings.presets import published
from benchmark.settings.runtime import (
    Runtime,
    Slurm,
    evaluation_interval,
    parse_trackers,
    require_device,
    stop_thresholds,
)
from benchmark.settings.values import parse_value
from benchmark.words import clusters

LEAST = {"log_every": 1, "checkpoint_every": 0, "threads": 0, "budget": 0, "workers": 0, "per_device": 1}
LEAST |= dict.fromkeys(("slurm.nodes", "slurm.timeout_min", "slurm.array_parallelism", "slurm.cells_per_job"), 1)
LEAST |= dict.fromkeys(("slurm.gpus_per_node", "slurm.cpus_per_task", "slurm.mem_gb"), 0)
PATHS = ("out", "dataset.root", "dataset.unlabelled", "dataset.cache_dir", "weights", "settings")
SETUP, EXTRA = "slurm.setup", "slurm.extra."
OF_LAUNCHER = dict.fromkeys(
    ("array", "error", "job-name", "ntasks", "ntasks-per-node", "open-mode", "output", "requeue", "signal", "wrap"),
    "the launcher sets it",
) | {
    option: f"slurm.{word}= is the word for it"
    for option, word in {
        "account": "account",
        "constraint": "constraint",
        "cpus-per-task": "cpus_per_task",
        "gpus-per-node": "gpus_per_node",
        "mem": "mem_gb",
        "nodes": "nodes",
        "partition": "partition",
        "qos": "qos",
        "time": "timeout_min",
    }.items()
}
UNSENDABLE = set("/\\#?%:")  # what W&B takes in no name of a project


def read_runtime(assigned: dict[str, list[str]]) -> Runtime:
    """How to run, from words that take one value each; those of `cluster=` lie below them."""
    assigned = _add_cluster(assigned)
    trusted = tuple(assigned.pop("trust", []))
    methods.trust(trusted)
    for key, values in assigned.items():
        if key.startswith("slurm.") or key in ("tracker", "stop_below"):  # a list is one value, to sbatch too
            assigned[key] = [",".join(values)]
        elif len(values) > 1:
            raise UsageError(f"{key}={','.join(values)}: one value is needed, {key} is not an axis")
    extra = _read_extra({key: assigned[key][0] for key in assigned if key.startswith(EXTRA)})
    types = schema.list_runtime_types()
    plain = {key: values[0] for key, values in assigned.items() if not key.startswith(EXTRA)}
    parsed = {key: parse_value(value, types[key], key) for key, value in plain.items()}
    slurm = Slurm(**{key.removeprefix("slurm."): parsed.pop(key) for key in list(parsed) if key.startswith("slurm.")})
    runtime = Runtime(**parsed, slurm=replace(slurm, extra=extra), trust=trusted)
    for key, least in LEAST.items():
        part = slurm if key.startswith("slurm.") else runtime
        if (value := getattr(part, key.removeprefix("slurm."))) < least:
            raise UsageError(f"{key}={value}: at least {least} is needed")
    if slurm.gpu_type and not slurm.gpus_per_node:
        raise UsageError(f"slurm.gpu_type={slurm.gpu_type}: how many? slurm.gpus_per_node= says it")
    require_device(runtime.device)
    evaluation_interval(runtime)
    stop_thresholds(runtime)
    parse_trackers(runtime)
    for key in ("workers", "per_device"):
        if key in assigned and runtime.launcher != "local":
            raise UsageError(f"{key}={assigned[key][0]} is for launcher=local, not for launcher={runtime.launcher}")
    stray = next((key for key in assigned if key.startswith("slurm.") and runtime.launcher != "slurm"), None)
    if stray:
        raise UsageError(f"{stray}={assigned[stray][0]} is for launcher=slurm, not for launcher={runtime.launcher}")
    if not runtime.wandb_project or set(runtime.wandb_project) & UNSENDABLE:
        raise UsageError(
            f"wandb_project={runtime.wandb_project}: a name without {' '.join(sorted(UNSENDABLE))} is needed"
        )
    presets.require(runtime.preset)
    published.require(runtime.like)
    other = next((key for key in ("preset", "settings") if key in assigned), None)
    if runtime.like and other:
        raise UsageError(f"{other}={assigned[other][0]} and like={runtime.like}: give one of them")
    return replace(runtime, preset="none") if runtime.like else runtime


def read_runtime_of(words: list[str]) -> Runtime:
    """How to run, by those of `words` that say it."""
    return read_runtime({key: values for key, values in split(words).items() if is_runtime_word(key)})


def read_folder(words: list[str]) -> Runtime:
    """How to run, of a command that takes its cells from a folder."""
    assigned = split(words)
    for key in assigned:
        if not is_runtime_word(key):
            raise UsageError(f"{key}= does not apply here: the cells are those of out=FOLDER, as they were asked for")
    return read_runtime(assigned)


def read_report(words: list[str]) -> tuple[Path, str | None, tuple[str, str] | None]:
    """The folder of `report`, its reference, and (entity, project) of W&B: `out=`, `reference=`, `wandb=`, no more."""
    assigned = split(words)
    for key, values in assigned.items():
        if key not in ("out", "reference", "wandb"):
            hint = nearest(key, ("out", "reference", "wandb"))
            raise UsageError(
                f"{key}= does not apply here; only out=FOLDER, reference=METHOD and wandb=ENTITY/PROJECT do{hint}"
            )
        require_single(key, values)
    target = None
    if "wandb" in assigned:
        entity, _, project = assigned["wandb"][0].partition("/")
        if not (entity and project) or set(entity + project) & UNSENDABLE:
            raise UsageError(
                f"wandb={assigned['wandb'][0]}: ENTITY/PROJECT is needed, such as wandb=my-team/{Runtime.wandb_project}"
            )
        target = (entity, project)
    return Path(assigned.get("out", [Runtime.out])[0]), assigned.get("reference", [None])[0], target


def read_out(words: list[str]) -> Runtime:
    """The runtime of a command that only reads a folder: `out=` and nothing else."""
    assigned = split(words)
    for key in assigned:
        if key != "out":
            raise UsageError(f"{key}= does not apply here; only out=FOLDER does")
    return read_runtime(assigned)


def read_serve(words: list[str]) -> tuple[Path, int]:
    """The folder of `serve` and its port, 0 for a free one: `out=`, `port=`, no more."""
    assigned = split(words)
    for key, values in assigned.items():
        if key not in ("out", "port"):
            raise UsageError(
                f"{key}= does not apply here; only out=FOLDER and port=NUMBER do{nearest(key, ('out', 'port'))}"
            )
        require_single(key, values)
    port = assigned.get("port", ["8123"])[0]
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise UsageError(f"port={port}: a whole number up to 65535 is needed; 0 takes a free port")
    return Path(assigned.get("out", [Runtime.out])[0]), int(port)


def _read_extra(words: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Options of sbatch that have no word here. Raises `UsageError` for one that has, or that the launcher sets."""
    for word, value in words.items():
        option = word.removeprefix(EXTRA)
        if not re.fullmatch(r"[a-z][a-z-]*", option):
            raise UsageError(f"{word}={value}: a long option of sbatch is needed, such as {EXTRA}mail-user=ADDRESS")
        if option in OF_LAUNCHER:
            raise UsageError(f"{word}={value}: {OF_LAUNCHER[option]}")
    return tuple((word.removeprefix(EXTRA), value) for word, value in words.items())


def is_runtime_word(key: str) -> bool:
    """Whether a word of this key says how to run, not which cell."""
    return key == "cluster" or key.startswith(EXTRA) or key in schema.list_runtime_types()


def _add_cluster(assigned: dict[str, list[str]]) -> dict[str, list[str]]:
    """`assigned` over the words of the cluster that it names, without those for a launcher that is not to be used."""
    if "cluster" not in assigned:
        return assigned
    name = ",".join(assigned["cluster"])
    below = {key: [",".join(values)] for key, values in split(clusters.read_cluster(name)).items()}
    stray = next((key for key in below if not is_runtime_word(key) or key == "cluster"), None)
    if stray:
        types = schema.list_runtime_types()
        raise UsageError(f"cluster={name} has {stray}=, which does not say how to run{nearest(stray, types)}")
    user_words = {key: values for key, values in assigned.items() if key != "cluster"}
    merged = below | user_words
    launcher = merged.get("launcher", ["here"])[0]

    def applies(key: str) -> bool:
        for_slurm, for_local = key.startswith("slurm."), key in ("workers", "per_device")
        return key in user_words or ((launcher == "slurm" or not for_slurm) and (launcher == "local" or not for_local))

    return {key: values for key, values in merged.items() if applies(key)}


def split(words: list[str]) -> dict[str, list[str]]:
    """Key -> values of each word; a comma after a backslash is one of the value, and `~` in a path the home folder.

    `@FILE` stands for the words in a file, one a line, which the others override.

    Raises `UsageError` for what is no `key=value,value`, is given twice, or is not UTF-8 text.
    """
    files = [word for word in words if word.startswith("@")]
    if "@" in files:
        raise UsageError("@ is the words in a file, such as @study.txt")
    if files:
        others = split([word for word in words if not word.startswith("@")])
        return (
            split([line for file in files for line in clusters.read_lines(Path(os.path.expanduser(file[1:])))]) | others
        )
    assigned: dict[str, list[str]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not is_utf8(word):
            raise UsageError(f"{os.fsencode(word)!r} is not UTF-8 text: rename the path, or give a link to it")
        if not equals or not key:
            hint = (
                f"a folder of cells is out={word}"
                if os.path.isdir(word)
                else "such as methods=simclr,moco or epochs=10"
            )
            raise UsageError(f"{word!r} is not key=value, {hint}")
        values = [text] if key == SETUP else [part.replace("\\,", ",") for part in re.split(r"(?<!\\),", text)]
        if "" in values:
            raise UsageError(f"{word!r} has an empty value")
        if key in PATHS and len(values) > 1 and _is_path(text) and not all(map(_is_path, values)):
            meant = text.replace(",", "\\,")
            raise UsageError(f"{word!r} is several values; for the path {text!r} type {shlex.quote(f'{key}={meant}')}")
        if key in PATHS:  # a shell expands the tilde of no word, or of `out=~/runs` alone
            values = [os.path.expanduser(value) for value in values]
        if key == SETUP and key in assigned:
            values = ["\n".join([*assigned[key], text])]
        elif key in assigned:
            raise UsageError(f"{key}= is given twice; several values are one word, {key}=A,B")
        assigned[key] = values
    return assigned


def require_single(key: str, values: list[str]) -> str:
    """The one value of a word. Raises `UsageError` where there are several."""
    if len(values) > 1:
        raise UsageError(f"{key}={','.join(values)}: one value is needed")
    return values[0]


def _is_path(text: str) -> bool:
    return os.path.exists(os.path.expanduser(text))
