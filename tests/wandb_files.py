"""Runs that the W&B client kept in folders, as its own reader shows them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from commandline import PATIENCE


def read_run(run: Path) -> dict[str, list[dict[str, Any]]]:
    """What the client wrote into the folder of a run, by the kind of record, in its order."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(run)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    records: dict[str, list[dict[str, Any]]] = {}
    for line in result.stdout.splitlines():
        kind = json.loads(line)["type"]
        records.setdefault(kind, []).append(json.loads(line)[kind])
    return records


def list_rows(records: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The lines of a history, without what the client adds."""
    items = [line["item"] for line in records.get("history", [])]
    return [{name: value for name, value in item.items() if not name.startswith("_")} for item in items]


def merge(records: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for record in records for name, value in record["update"].items()}
