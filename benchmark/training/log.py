"""`log.jsonl`, what a training tells while it runs: JSON lines that only grow, in step with the checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import files, record


class Log:
    """`log.jsonl`: one JSON line an interval, and one an evaluation. A resumed run drops the lines behind its
    checkpoint."""

    def __init__(
        self,
        path: Path,
        start: int,
        writes: bool,
        guard: Callable[[], None],
        report_line: Callable[[dict[str, Any]], None],
    ) -> None:
        self.path, self.writes, self.guard, self.report_line = path, writes, guard, report_line
        if writes:
            lines = [line for line in _lines(path) if line["step"] <= start]
            record.write_whole(path, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def write(self, line: dict[str, Any]) -> None:
        """Append a line, and report it to the trackers."""
        self.guard()
        if self.writes:
            with files.open_log(self.path) as file:
                file.write((json.dumps(line) + "\n").encode())
        self.report_line(line)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log, by growing step; a kill may have left a part of one, and a disk's failure anything.
    Of one step the evaluation's line, which has no loss, comes first."""
    lines: list[dict[str, Any]] = []
    last = (-1, False)
    for line in files.read_lines(path):
        step = line.get("step")
        if not isinstance(step, int) or (step, "loss" in line) <= last:
            break
        lines.append(line)
        last = step, "loss" in line
    return lines
