"""Folders of cells with hostile files, made from a seed: `python tests/fuzz_folders.py 2000 [FIRST]`, from the root.

Of each folder a few files are changed: values that no run writes, pieces of text, links, pipes. `status` and `report`
must then end in order, print nothing that a terminal obeys, and touch nothing outside of the folder. The figures of one
case in ten are drawn as files, because that takes most of the time.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import synthetic
from commandline import run_in_process

from benchmark.words import cell_words
from results.report import page, report

LINE = "\x1b]0;mine\x07\x1b[31m\r\n\\end{tabular} \\input{/etc/passwd} ](http://example.org) <script> \u202e \u2028"
TEXTS = [
    "",
    "x",
    LINE,
    "=1+1",
    "../../home",
    "/etc/passwd",
    "\ud800",
    "x" * 5000,
    "é" * 300,
    "moco",
    "antigravity.mine",
]
NUMBERS = [0, -1, 2**63, 2**64, 10**400, -(10**99), 1e308, 1e-308, -0.0, float("nan"), float("inf")]
LISTS: list[Any] = [[], {}, [[]], [None], ["x", 1], {"": {}}, {"x": {"y": [{"z": 1}]}}, [1, "x", None, LINE]]
VALUES: list[Any] = [None, True, *TEXTS, *NUMBERS, *LISTS]


def make_base(out: Path) -> None:
    """A few finished cells with all that may lie beside a record."""
    synthetic.write(6, out, ("simclr", "moco"))
    cell = asdict(cell_words.read(["methods=simclr"]).cells[0])
    forecasts = {}
    for folder in out.iterdir():
        key = json.loads((folder / "record.json").read_text())["key"]
        forecasts[key] = {"made": "2024-01-01T00:00:00+00:00", "seconds": 1.0, "device": "synthetic"}
        numbers = {"protocol": "p", "settings": {}, "metrics": {"knn_cosine_tuned_top1": 0.5}, "seconds": 1.0}
        content = {"schema": 1, "key": key, "evaluations": {"knn": numbers}}
        (folder / "evaluation.json").write_text(json.dumps(content))
        (folder / "settings.json").write_text(json.dumps(cell))
        (folder / "lease.json").write_text(json.dumps({"id": "a", "host": "elsewhere"}))
        (folder / "lock").touch()
    (out / "forecasts.json").write_text(json.dumps(forecasts))
    (out / ".slurm").mkdir(0o700)
    note = {"job": "7", "cells": [folder.name], "submitted": "2024-01-01T00:00:00+00:00", "user": "me"}
    (out / ".slurm/jobs.jsonl").write_text(json.dumps(note) + "\n")


def change_json(path: Path, draw: random.Random, victim: Path) -> None:
    """Put a value somewhere into a file of JSON, or of JSON lines, take one away, or give one a name."""
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    number = draw.randrange(len(lines))
    data = json.loads(lines[number])
    spot = data
    while draw.random() < 0.8 and (deeper := [v for v in _values(spot) if isinstance(v, dict | list) and v]):
        spot = draw.choice(deeper)
    place = draw.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
    action, value = draw.randrange(6), draw.choice(VALUES)
    if action == 0:
        del spot[place]
    elif action == 1 and isinstance(spot, dict):
        spot[draw.choice(TEXTS)] = value
    else:
        spot[place] = value
    lines[number] = json.dumps(data)
    path.write_text("\n".join(lines))


def _values(spot: Any) -> list[Any]:
    return list(spot.values()) if isinstance(spot, dict) else spot


def change_text(path: Path, draw: random.Random, victim: Path) -> None:
    """Cut a file, write noise into it, or replace all of it."""
    content = path.read_bytes() or b"x"
    at = draw.randrange(len(content))
    noise = [content[:at], content[:at] + draw.randbytes(9) + content[at:], b"", b"[" * 10**5, b"[]", b"7", b'"x"']
    path.write_bytes(draw.choice(noise))


def change_kind(path: Path, draw: random.Random, victim: Path) -> None:
    """A link, a pipe, a device or a folder in the place of a file."""
    path.unlink()
    target = draw.choice([victim, Path("/dev/zero"), path.with_name("nowhere"), path.parent, path])
    make: list[Callable[[Path], object]] = [os.mkfifo, Path.mkdir, lambda link: link.symlink_to(target)]
    draw.choice(make)(path)


def run_case(seed: int, base: Path, scratch: Path) -> None:
    """One folder, changed as `seed` says, through `status` and `report`. AssertionError, or whatever they raise."""
    draw, out, victim = random.Random(seed), scratch / "out", scratch / "home"
    shutil.copytree(base, out)
    victim.mkdir()
    (victim / "letter.txt").write_text("mine")
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path.stat().st_size)
    for path in draw.sample(paths, draw.randint(1, 4)):
        change = draw.choices((change_json, change_text, change_kind), (8, 2, 1))[0]
        change(path, draw, victim / "letter.txt")
    write = report._write_figures if seed % 10 == 0 else lambda folder, charts, styles: None
    with mock.patch.object(report, "_write_figures", write), mock.patch.object(page, "_read_plotly", return_value="0"):
        for command in ("status", "report"):
            result = run_in_process([command, f"out={out}"], os.environ)
            assert result.returncode in (0, 2), result.stderr
            bad = {sign for sign in result.stdout + result.stderr if not sign.isprintable()} - {"\n"}
            assert not bad, f"{command} prints {bad}"
    assert (out / "report/report.html").exists(), result.stderr
    assert [(path.name, path.read_text()) for path in victim.iterdir()] == [("letter.txt", "mine")]
    assert {path.name for path in scratch.iterdir()} == {"out", "home"}


def run_cases(seeds: range, folder: Path) -> None:
    make_base(folder / "base")
    for seed in seeds:
        try:
            run_case(seed, folder / "base", folder / str(seed) / "x")
        except BaseException as error:
            error.add_note(f"case {seed}")
            raise
        shutil.rmtree(folder / str(seed))


if __name__ == "__main__":
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as place:
        run_cases(range(first, first + int(sys.argv[1])), Path(place))
    print(f"{sys.argv[1]} folders: no traceback, nothing touched outside")
