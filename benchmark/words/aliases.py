"""What a word is called elsewhere: for hints and names of runs alone, because one setting has one name here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from benchmark.errors import nearest

ALIASES = {
    "arch": "backbone",
    "aug": "augmentation",
    "bs": "batch_size",
    "data": "dataset",
    "encoder": "backbone",
    "gpus": "slurm.gpus_per_node",
    "logger": "tracker",
    "lr": "learning_rate",
    "max_epochs": "epochs",
    "model": "backbone",
    "network": "backbone",
    "num_workers": "threads",
    "opt": "optimiser",
    "optim": "optimiser",
    "optimizer": "optimiser",
    "output": "out",
    "output_dir": "out",
    "partition": "slurm.partition",
    "random_seed": "seeds",
    "report_to": "tracker",
    "root": "dataset.root",
    "scheduler": "schedule",
    "t": "temperature",
    "tau": "temperature",
    "temp": "temperature",
    "wd": "weight_decay",
}


def hint(key: str) -> str:
    """'; here it is learning_rate=' for a usual name of another word, `moco.lr` too, or nothing."""
    prefix, dot, name = key.rpartition(".")
    word = ALIASES.get(name.lower())
    is_shared = prefix and word in ("methods", "dataset", "out", "seeds", "dataset.root", "threads")
    return f"; here it is {prefix}{dot}{word}=" if word and not is_shared else ""


def shorten(word: str) -> str:
    """The shortest usual name of a word: `t` for temperature, `bs` for batch_size."""
    return min((*(alias for alias, target in ALIASES.items() if target == word), word), key=len)


def suggest(key: str, name: str, allowed: Iterable[str]) -> str:
    """That hint, or the nearest to `name` of those that are allowed, or what the nearest usual name is called here."""
    usual = difflib.get_close_matches(name.lower(), ALIASES, n=1)
    return hint(key) or nearest(name, allowed) or (f"; did you mean {ALIASES[usual[0]]!r}?" if usual else "")
