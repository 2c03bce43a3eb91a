"""The cluster's jobs of a folder, asked for beside what else is done: SLURM may take long to answer."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from benchmark.launch import cluster

ASKED = 30.0  # seconds between two questions to the controller, while somebody looks


class Jobs:
    """The jobs of the folder `out`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._known: dict[str, str] = {}
        self._news = ""
        self._due = 0.0
        self._lock = threading.Lock()

    def read(self) -> tuple[dict[str, str], str]:
        """Cell -> its job in words, and why SLURM could not be asked, if so: what was known last."""
        with self._lock:
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + ASKED
                threading.Thread(target=self._ask, name="jobs", daemon=True).start()
            return self._known, self._news

    def _ask(self) -> None:
        rows, news = cluster.describe_jobs(self.out, writes=False)
        words = {
            cell: f"job {job} {state}".rstrip() + f" ({reason})" * bool(reason)
            for cell, (job, state, reason) in rows.items()
        }
        with self._lock:
            self._known, self._news = words, news
