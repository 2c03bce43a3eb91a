"""Folders of cells in every state, as a sweep leaves them, without a training."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmark.cells import plan, run
from benchmark.settings import address
from benchmark.settings.cell import Settings
from results import record

BASE = Settings(epochs=10, batch_size=64, backbone="resnet10t", view_size=8)
STEPS = 200


def write_waiting(out: Path, method: str, seed: int = 0, **options: Any) -> Path:
    """The folder of a cell that waits."""
    cell = replace(BASE, method=method, seed=seed, options=options)
    folder = out / address.name_folder(cell)
    record.write_json(folder / "settings.json", asdict(cell))
    return folder


def log(folder: Path, steps: int, evaluations: bool = True) -> None:
    """Append the lines of a training up to its step `steps` of `STEPS`, an evaluation every 40 steps."""
    path = folder / "log.jsonl"
    count = path.read_text().count('"loss"') if path.exists() else 0
    with path.open("a") as file:
        for step in range(20 * (count + 1), steps + 1, 20):
            at = {"step": step, "epoch": (step - 1) // 20, "loss": 5 * math.exp(-step / 80) + 1}
            if evaluations and step % 40 == 0:
                evaluation = {"step": step, "epoch": step // 20, "views": 1, "seconds": 1.0, "evaluation_seconds": 0.1}
                evaluation[record.VALIDATION] = 0.9 - math.exp(-step / 60) / 2
                file.write(json.dumps(evaluation) + "\n")
            file.write(json.dumps(at | {"steps": STEPS, "learning_rate": 0.1, "images_per_second": 64.0}) + "\n")


def hold(folder: Path, host: str = "gpu-07", job: str = "") -> None:
    """As a process on another machine does that is at work on it."""
    record.write_json(folder / "lease.json", {"id": "1", "host": host, "job": job, "restart": 0}, compact=True)


def end(folder: Path, status: str = "finished", reason: str | None = None, accuracy: float = 0.8) -> None:
    """Write its record, as its last process does."""
    (folder / "lease.json").unlink(missing_ok=True)
    metrics = {"linear_validation_top1": accuracy, "linear_top1": 0.4321} if status == "finished" else {}
    cost = {"seconds": 100.0, "evaluation_seconds": 20.0}
    result = run.start_record(plan.read_cell(folder)) | {"finished": record.now()}
    record.write(folder, result | {"status": status, "reason": reason, "metrics": metrics, "cost": cost})
