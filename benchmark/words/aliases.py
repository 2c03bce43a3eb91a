"""What a word is called elsewhere: for hints and names of runs alone, because one setting has one name here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from benchmark.errors import nearest

ALIASES = {
    "amp": "precision",
    "arch": "backbone",
    "architecture": "backbone",
    "aug": "augmentation",
    "augment": "augmentation",
    "augmentations": "augmentation",
    "batch": "batch_size",
    "batchsize": "batch_size",
    "bf16": "precision",
    "bs": "batch_size",
    "checkpoint": "weights",
    "ckpt": "weights",
    "crop_size": "view_size",
    "data": "dataset",
    "data_dir": "dataset.root",
    "data_path": "dataset.root",
    "data_root": "dataset.root",
    "dir": "dataset.root",
    "ema": "momentum",
    "embedding_dim": "head_dim",
    "encoder": "backbone",
    "feature_dim": "head_dim",
    "folder": "dataset.root",
    "fp16": "precision",
    "gpu": "device",
    "gpus": "slurm.gpus_per_node",
    "hidden_dim": "head_hidden",
    "image_dir": "dataset.root",
    "image_folder": "dataset.root",
    "image_size": "view_size",
    "images": "dataset.root",
    "img_size": "view_size",
    "input_size": "view_size",
    "jobs": "workers",
    "log_dir": "out",
    "logdir": "out",
    "logger": "tracker",
    "lr": "learning_rate",
    "max_epochs": "epochs",
    "max_images": "dataset.limit",
    "mixed_precision": "precision",
    "model": "backbone",
    "n_images": "dataset.limit",
    "n_jobs": "workers",
    "network": "backbone",
    "num_workers": "threads",
    "opt": "optimiser",
    "optim": "optimiser",
    "optimizer": "optimiser",
    "out_dim": "head_dim",
    "outdir": "out",
    "output": "out",
    "output_dir": "out",
    "partition": "slurm.partition",
    "path": "dataset.root",
    "pretrained": "weights",
    "proj_dim": "head_dim",
    "projection_dim": "head_dim",
    "random_seed": "seeds",
    "report_to": "tracker",
    "resolution": "view_size",
    "root": "dataset.root",
    "save_dir": "out",
    "scheduler": "schedule",
    "subset": "dataset.limit",
    "t": "temperature",
    "tau": "temperature",
    "temp": "temperature",
    "transform": "augmentation",
    "transforms": "augmentation",
    "val_split": "dataset.validation",
    "validation": "dataset.validation",
    "wd": "weight_decay",
}
# What names of runs call a word. Another one gives the same cell another name in a tracker.
SHORT = {
    "augmentation": "aug",
    "backbone": "arch",
    "batch_size": "bs",
    "dataset": "data",
    "dataset.root": "root",
    "learning_rate": "lr",
    "optimiser": "opt",
    "slurm.gpus_per_node": "gpus",
    "slurm.partition": "partition",
    "temperature": "t",
    "tracker": "logger",
    "weight_decay": "wd",
}


def hint(key: str, owner: str = "") -> str:
    """'; here it is learning_rate=' for a usual name of another word, or nothing; `owner` is the method whose option
    the key may be, as moco of `moco.lr`."""
    prefix, _, name = key.rpartition(".")
    word = ALIASES.get(name.lower(), "")
    if prefix == "dataset" and word == "view_size":
        word = "dataset.side"
    if not owner:
        return f"; here it is {word}=" if word else ""
    one = word or name
    if "." in one or one in ("methods", "dataset", "out", "seeds", "threads", "workers", "device"):
        return f"; {one}= is one for all methods"
    return f"; here it is {owner}.{word}=" if word else ""


def shorten(word: str) -> str:
    """A word as names of runs have it: `t` for temperature, `bs` for batch_size."""
    return SHORT.get(word, word)


def suggest(key: str, name: str, allowed: Iterable[str]) -> str:
    """That hint, or the nearest to `name` of those that are allowed, or what the nearest usual name is called here.

    `name` is the key, or behind the name of the method whose option it is, such as `lr` of `moco.lr`.
    """
    owner = key.removesuffix(name).rstrip(".")
    bare, words = name.rpartition(".")[2], set(allowed)
    if bare != name and bare in words:  # another's group of settings, such as model.backbone
        return f"; here it is {bare}="
    usual = difflib.get_close_matches(bare.lower(), ALIASES, n=1)
    near = nearest(name, words) or nearest(bare, words)
    return hint(key, owner) or near or (f"; did you mean {ALIASES[usual[0]]!r}?" if usual else "")
