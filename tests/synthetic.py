"""Synthetic records of a plausible study, for tests of what a report costs: `python tests/synthetic.py 2000 FOLDER`.

With a third word, such as 10000, they hold which of so many test images were right.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from results.record import pack

METHODS = ("simclr", "moco", "swav", "pirl", "instdisc")
OPERATIONS = ("crop", "cutout", "colour", "blur")
SEEDS = 3
USUAL = {"temperature": 0.2, "batch_size": 256, "augmentation": "crop+colour", "learning_rate_rule": "linear"}


def list_configurations() -> list[dict[str, Any]]:
    """One setting changed at a time first, then combinations: what a study of many ablations leaves behind."""
    pairs = ["+".join(pair) for pair in itertools.combinations(OPERATIONS, 2)]
    axes: dict[str, list[Any]] = {
        "temperature": [0.05, 0.1, 0.2, 0.5, 1.0],
        "augmentation": [*OPERATIONS, *pairs, "crop+colour+grey", "crop+colour+grey+blur"],
    }
    settings = [{**USUAL, name: value} for name, values in axes.items() for value in values]
    settings += [
        {**USUAL, "batch_size": size, "learning_rate_rule": rule}
        for size in (64, 128, 256, 512, 1024)
        for rule in ("linear", "sqrt")
    ]
    settings += [
        {**USUAL, "temperature": round(0.03 * step, 2), "batch_size": size}
        for step, size in itertools.product(range(1, 40), (64, 128, 512))
    ]
    return list({json.dumps(each): each for each in settings}.values())


def write(count: int, out: Path, methods: Sequence[str] = METHODS, images: int = 0) -> None:
    """`count` records of these methods below `out`, with logs and, of some cells, looks; the same each time. With
    `images` they hold which of so many were right."""
    hard = np.random.default_rng(1).normal(size=images)
    rng = np.random.default_rng(0)
    cells = itertools.product(list_configurations(), methods, range(SEEDS))
    for number, (settings, method, seed) in enumerate(itertools.islice(cells, count)):
        folder = out / f"{method}-digits-{number:010d}"
        folder.mkdir(parents=True)
        centre = 0.9 - 0.02 * METHODS.index(method) - 0.05 * abs(np.log10(settings["temperature"] / 0.3))
        centre += 0.01 * np.log2(settings["batch_size"] / 256) - 0.02 * (settings["augmentation"].count("+") != 1)
        lost = number % 97 == 96
        record = _record(method, seed, settings, f"{number:010d}", float(centre + rng.normal(0, 0.006)), lost)
        (folder / "record.json").write_text(json.dumps(_add_correct(record, hard, number) if images else record))
        losses = (5 + 2 * np.exp(-np.arange(30) / 8) + rng.normal(0, 0.03, 30)).tolist()
        lines = [json.dumps({"step": 20 * i, "epoch": i // 3, "loss": loss}) for i, loss in enumerate(losses, 1)]
        (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
        if seed == 0:
            (folder / "looks.json").write_text(json.dumps(_make_looks(rng)))


def write_families(out: Path, families: Mapping[str, str], seeds: int = SEEDS) -> None:
    """Records of these methods and their families, "" for none. The last seed's name no family."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(0.3, 0.9, len(families))
    for number, (method, family) in enumerate(families.items()):
        for seed in range(seeds):
            key = f"{number:05d}{seed:05d}"
            record = _record(method, seed, USUAL, key, float(centres[number] + rng.normal(0, 0.01)), False)
            free = method in ("random", "pixels", "frozen")
            record["cost"] |= {"seconds": 0.0 if free else 600.0 * (1 + number % 7)}
            record["cost"] |= {"views": 0 if free else 10**6 * (1 + number % 4)}
            folder = out / f"{method}-digits-{key}"
            folder.mkdir(parents=True)
            resolved = {"resolved": {"family": family}} if seed < seeds - 1 or seeds == 1 else {}
            (folder / "record.json").write_text(json.dumps(record | resolved))
            losses = 5 + 2 * np.exp(-np.arange(30) / 8) + rng.normal(0, 0.03, 30) - number / 10
            lines = [json.dumps({"step": 20 * i, "epoch": i // 3, "loss": loss}) for i, loss in enumerate(losses, 1)]
            (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


def _record(method: str, seed: int, varied: dict[str, Any], key: str, accuracy: float, lost: bool) -> dict[str, Any]:
    options = {"temperature": varied["temperature"], "head": "mlp", "head_dim": 128}
    settings = {"method": method, "options": options, "dataset": {"name": "digits", "limit": 0}, "seed": seed}
    settings |= {name: varied[name] for name in ("augmentation", "batch_size", "learning_rate_rule")}
    settings |= {"microbatch": 256 if varied["batch_size"] > 256 else 0, "epochs": 100, "optimiser": "sgd"}
    metrics = {"linear_top1": accuracy, "knn20_top1": accuracy - 0.03, "effective_rank": 40.0}
    cost = {
        "views": 2 * 100 * 50_000 * (1 + (METHODS.index(method) if method in METHODS else 0)),
        "seconds": 3600.0 + varied["batch_size"],
    }
    cost |= {"peak_memory_bytes": 2**30 + 2**22 * varied["batch_size"], "device": "synthetic", "processes": 1}
    cost |= {"images_per_second": 2000.0, "evaluation_seconds": 20.0}
    return {
        "schema": 1,
        "key": key,
        "protocol": "aaaaaaaaaaaa",
        "status": "collapsed" if lost else "finished",
        "reason": "effective rank 1.0" if lost else None,
        "settings": settings,
        "metrics": {} if lost else metrics,
        "cost": cost,
        "versions": {"torch": "2.8.0"},
        "commit": "0123456789abcdef",
        "dirty": False,
        "started": "2025-01-01T00:00:00+00:00",
        "finished": "2025-01-01T01:00:00+00:00",
    }


def _add_correct(record: dict[str, Any], hard: np.ndarray, seed: int) -> dict[str, Any]:
    """The record with which images were right, about as many as its accuracies say, and these as they then are."""
    rng, metrics, correct = np.random.default_rng([2, seed]), dict(record["metrics"]), {}
    for name in set(metrics) & {"linear_top1", "knn20_top1"}:
        latent = hard + rng.normal(size=len(hard))
        right = latent > np.quantile(latent, 1 - min(1.0, metrics[name]))
        metrics[name], correct[name] = float(right.mean()), pack(np.packbits(right).tobytes())
    test = {"images": len(hard), "order": "0123456789", "classes": 10, "largest_class": 0.1, "references": 1000}
    return record | {"metrics": metrics, "resolved": {"test": test}} | ({"correct": correct} if correct else {})


def _make_looks(rng: np.random.Generator) -> dict[str, Any]:
    label = rng.integers(0, 10, 120)
    x, y = (np.array([np.cos(label), np.sin(label)]) * 5 + rng.normal(0, 0.8, (2, 120))).tolist()
    projection = {"kind": "tsne", "x": x, "y": y, "label": label.tolist()}
    neighbours = {"png": _make_png(rng), "queries": [3, 5], "neighbours": [[3, 3, 8], [5, 5, 5]]}
    return {"projection": projection, "classes": [str(i) for i in range(10)], "neighbours": neighbours}


def _make_png(rng: np.random.Generator) -> str:
    """32 x 16 grey pixels as a PNG in base64."""
    rows = b"".join(b"\0" + rng.integers(0, 255, 32, dtype=np.uint8).tobytes() for _ in range(16))

    def make_chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 32, 16, 8, 0, 0, 0, 0)
    whole = (
        b"\x89PNG\r\n\x1a\n"
        + make_chunk(b"IHDR", header)
        + make_chunk(b"IDAT", zlib.compress(rows))
        + make_chunk(b"IEND", b"")
    )
    return base64.b64encode(whole).decode()


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]), images=int((*sys.argv, "0")[3]))
