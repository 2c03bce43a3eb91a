"""The commands of README and docs/: what they are, whether they can be meant, and, run as a script, whether they work.

```sh blocks are run, in order, in a scratch folder. ```bash blocks need time, a download, a cluster or a network: they
are only read, by the parser that would read them, and so are commands and words that stand in the text. A block with
title="PATH" is a file, which is written there first. `make` lines are CI's other steps.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import archives

import methods
from benchmark.cli import help
from benchmark.data import catalogue
from benchmark.errors import UsageError
from benchmark.settings import schema
from benchmark.words import cell_words, evaluate_words, inference_words, runtime_words, selection, tune_words

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
KINDS = ("sh", "bash", "python", "text")
WORD = re.compile(r"[a-z_0-9.]+=\S*")
PLACEHOLDER = re.compile(r"\b[A-Z]+\b|\.\.\.")  # of a reader's own: dataset.root=DIR, check NAME
OTHERS = ("git", "cd", "wandb", "tensorboard")  # programs that are not ours to read
# Of other commands.
FOLDER_WORDS = (
    "reference",
    "cells",
    "evaluations",
    "transfer",
    "format",
    "push",
    "head",
    "encoder",
    "tokens",
    "port",
)


def list_pages() -> list[Path]:
    """README and every page of docs/, README first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def find_blocks(text: str, kind: str) -> list[str]:
    """The command lines of the blocks of a kind."""
    bodies = [body for language, _, body in BLOCK.findall(text) if language == kind]
    lines = [line.strip() for body in bodies for line in body.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def find_files(text: str) -> dict[str, str]:
    """Path -> text of the blocks that are files."""
    return {title: body for _, title, body in BLOCK.findall(text) if title}


def find_spans(text: str) -> list[str]:
    """What stands in the text as code, on one line each."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", BLOCK.sub("", text))]


def is_command(span: str) -> bool:
    return span.startswith(("python -m ", "contrastive-benchmark ", "make ", "pip install ", "torchrun "))


def find_problems(text: str) -> list[str]:
    """What stands in a page that cannot be meant, with the reason."""
    problems = [
        f"a block is sh, bash, python or text, not {kind!r}" for kind, *_ in BLOCK.findall(text) if kind not in KINDS
    ]
    code = find_spans(text)
    commands = [*find_blocks(text, "sh"), *find_blocks(text, "bash"), *filter(is_command, code)]
    word_spans = [span for span in code if all(map(WORD.fullmatch, span.split()))]
    for reader, texts in ((read, commands), (read_words, word_spans)):
        for words in texts:
            try:
                reader(words)
            except UsageError as error:
                problems.append(f"{words}: {error}")
    return problems


def read(command: str) -> None:
    """Raise `UsageError` for a command that cannot be meant."""
    program, *rest = shlex.split(command)
    if program in OTHERS or (program == "." and rest == [".venv/bin/activate"]):
        return
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        _require([word for word in rest if "=" not in word], targets, "target")
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        _require([name for word in rest for name in re.findall(r"\[(.+)\]", word)], list(extras), "extra")
    elif program == "contrastive-benchmark":
        _read_ours(rest)
    elif program == "python" and rest[0].endswith(".py"):
        _require(rest, [path for page in list_pages() for path in find_files(page.read_text(encoding="utf-8"))], "file")
    elif program in ("python", "torchrun") and "-m" in rest:
        module, *options = rest[rest.index("-m") + 1 :]
        if module == "benchmark":
            _read_ours(options)
        elif not PLACEHOLDER.search(module) and importlib.util.find_spec(module) is None:
            raise UsageError(f"no module {module!r}")
    else:
        raise UsageError(f"{program!r} is no program of ours; allowed besides are {', '.join(OTHERS)}")


def read_words(span: str) -> None:
    """The same of words that stand alone; a value that is a reader's own, or not given, may be anything."""
    beside = _beside()
    for word in span.split():
        key, _, value = word.partition("=")
        if key in ("key", *FOLDER_WORDS):
            continue
        if key in tune_words.TYPES:
            tune_words.read([word, "methods=simclr"] if value else ["methods=simclr"])
            continue
        setting = "slurm.extra" if key.startswith(runtime_words.EXTRA) else key
        if setting not in beside:
            raise UsageError(f"unknown key {key!r}")
        if value and not PLACEHOLDER.search(value):
            root = ["dataset.root=DIR"] if word == "dataset=folder" else []
            cell_words.read([word, *beside[setting], *root])


@cache
def _beside() -> dict[str, tuple[str, ...]]:
    """Every key, and the words that it needs beside it: a method that has it, the launcher that it is for."""
    plural = {canonical: name for name, canonical in schema.PLURAL.items()}
    settings = [plural.get(name, name) for name in schema.list_types()]
    needs = dict.fromkeys((*settings, *schema.list_runtime_types(), "cluster", "ablation"), ("methods=simclr",))
    for method in methods.names():
        options = schema.list_options(method)
        own = (f"{method}.{name}" for name in (*options, *settings))
        needs |= dict.fromkeys((*options, *own), (f"methods={method}",))
    for key in needs:
        launcher = "slurm" if key.startswith("slurm.") else "local" if key in ("workers", "per_device") else ""
        needs[key] += (f"launcher={launcher}",) if launcher else ()
    needs["slurm.gpu_type"] += ("slurm.gpus_per_node=1",)
    return needs | {"methods": ()}


def _read_ours(arguments: list[str]) -> None:
    if arguments and PLACEHOLDER.fullmatch(arguments[0]):
        return
    parsed = help.parse([argument for argument in arguments if argument != "--help"])
    words = [word for word in parsed.words if not PLACEHOLDER.fullmatch(word)]
    if any(word.endswith("...") for word in words):
        return
    if parsed.command in ("run", "plan", "profile") and words:
        for cell in cell_words.read(words).cells:
            catalogue.require(cell.dataset)
    elif parsed.command == "evaluate":
        evaluate_words.read(words)
    elif parsed.command == "export" and words:
        inference_words.read_export(parsed.words)
    elif parsed.command == "features" and words:
        inference_words.read_features(parsed.words)
    elif parsed.command == "tune":
        tune_words.read(words)
    elif parsed.command == "report":
        runtime_words.read_report(words)
    elif parsed.command == "serve":
        runtime_words.read_serve(words)
    elif parsed.command == "resume":
        runtime_words.read_folder(words)
    elif parsed.command in ("status", "cancel"):
        runtime_words.read_out(words)
    elif parsed.command in ("check", "methods"):
        for name in selection.accept(words):
            schema.describe(name)


def _require(names: list[str], allowed: list[str], what: str) -> None:
    for name in names:
        if name not in allowed and not PLACEHOLDER.fullmatch(name):
            raise UsageError(f"no {what} {name!r}; there are {', '.join(allowed)}")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that has what a reader is told to have: images of their own, and, by name only, data and weights."""
    from PIL import Image
    from sklearn.datasets import load_digits

    with tempfile.TemporaryDirectory() as root:
        folder, digits = Path(root), load_digits()
        for label in range(3):
            (folder / f"my/images/class{label}").mkdir(parents=True)
            for number, pixels in enumerate(digits.images[digits.target == label][:40]):
                picture = Image.fromarray((pixels * 15.9).astype("uint8")).resize((64, 64))
                picture.save(folder / f"my/images/class{label}/{number:03}.png")
        for name in ("DIR/train", "my/plenty"):
            shutil.copytree(folder / "my/images", folder / name)
        archives.make_imagenet(folder / "imagenet")
        archives.make_imagenette(folder / "data")
        archives.make_tiny_imagenet(folder / "data")
        for entry in catalogue.CATALOGUE.values():
            for name in () if entry.image_files else entry.files:
                (folder / "data" / name).mkdir(parents=True)
                (folder / "DIR" / name).mkdir(parents=True, exist_ok=True)
        (folder / "FILE").write_bytes(b"weights")
        for out in ("runs", "tuning"):  # what `tune` has written there
            (folder / out / "tuned").mkdir(parents=True)
            (folder / out / "tuned/digits.txt").write_text("simclr.temperature=0.2\n")
        for page in list_pages():
            for path, body in find_files(page.read_text(encoding="utf-8")).items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(body, encoding="utf-8")
        yield folder


def main() -> int:
    count = 0
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with scratch() as folder:
        for page in list_pages():
            for command in find_blocks(page.read_text(encoding="utf-8"), "sh"):
                if command.startswith("make "):
                    continue
                print(f"\n{page.relative_to(ROOT)}: {command}", flush=True)
                start = time.monotonic()
                result = subprocess.run(command, shell=True, cwd=folder, env=os.environ | {"PATH": path}, timeout=1800)
                print(f"({time.monotonic() - start:.0f} s)", flush=True)
                if result.returncode != 0:
                    print(f"exit code {result.returncode}: {command}")
                    return 1
                count += 1
    assert count, "no page has a ```sh block"
    print(f"{count} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
