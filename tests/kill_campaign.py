"""A campaign of kill -9, by hand: `python tests/kill_campaign.py --kills 100 --later 20 --seed 0 --minutes 60`.

`run` is killed at its start, while it trains, just behind a checkpoint, while it evaluates and while it writes its
record, with launcher=here, launcher=local (the launcher or a worker) and with both racing on one folder; then
`evaluate` and `report` are. The same command goes on each time. Afterwards records, logs and metrics have to be those
of an undisturbed run, bit for bit, but for times. Exit code 1 where they are not; the seed draws the same campaign.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CELLS = ["methods=simclr,moco", "dataset.limit=90", "view_size=16", "backbone=test_resnet", "stem=native"]
CELLS += ["batch_size=32", "epochs=8", "log_every=1", "checkpoint_every=0.05", "threads=1", "device=cpu", "wandb=off"]
CELLS += ["evaluate_every=2"]
STEPS = 16 + 4  # lines of a whole log: of steps, and of evaluations
LAUNCHERS = {"here": [["launcher=here"]], "local": [["launcher=local", "workers=2"]]}
LAUNCHERS["both"] = [*LAUNCHERS["here"], *LAUNCHERS["local"]]
LATER = {"evaluate": ["evaluations=knn,heads", "device=cpu", "threads=1"], "report": []}
TIMES = ("seconds", "images_per_second", "evaluation_seconds", "peak_memory_bytes", "started", "finished")
TIMES += ("validation_seconds", "seconds_to_90")
TIMES += ("commit", "dirty", "checksum")  # somebody may commit meanwhile; the last is of all the others


class Campaign:
    def __init__(self, seed: int, root: Path, minutes: float) -> None:
        self.draw, self.root, self.until = random.Random(seed), root, time.monotonic() + 60 * minutes
        self.kills, self.problems = Counter[str](), list[str]()
        self.compared = 0

    def start(self, command: str, *words: str) -> subprocess.Popen[str]:
        call = [sys.executable, "-m", "benchmark", command, *words]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(call, cwd=self.root, env=environment, stdout=pipe, stderr=pipe, text=True)

    def end(self, process: subprocess.Popen[str], allowed: tuple[int, ...]) -> int:
        errors = process.communicate()[1]
        if process.returncode not in allowed or "Traceback" in errors:
            self.problems.append(f"{' '.join(process.args[3:])}: exit code {process.returncode}\n{errors}")
        return process.returncode

    def kill_in_run(self, out: Path, launcher: str, phase: str, startup: float) -> None:
        """Run the cells in `out`, and kill one process in `phase`, unless all ends before."""
        processes = [self.start("run", *CELLS, *words, f"out={out}") for words in LAUNCHERS[launcher]]
        reached, began = watch(phase, out, self.draw), time.monotonic()
        delay = self.draw.uniform(0, {"start": startup, "evaluation": 0.3}.get(phase, 0.002))
        while all(process.poll() is None for process in processes) and not reached():
            time.sleep(0.0005)
        time.sleep(max(0.0, delay - (time.monotonic() - began)) if phase == "start" else delay)
        victims = [process.pid for process in processes if process.poll() is None]
        if launcher == "local" and victims:
            victims += [pid for pid in find_workers(out) if Path(f"/proc/{pid}").exists()]
        if victims:
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.kill(self.draw.choice(victims), signal.SIGKILL)
                self.kills[f"{launcher} {phase}"] += 1
        for process in processes:
            self.end(process, (0, 1, 3, -signal.SIGKILL))

    def kill_later(self, whole: Path, command: str, seconds: float) -> None:
        """Kill `evaluate` or `report` at any moment of a copy of the undisturbed folder, and do it again."""
        out = self.root / "later"
        if not out.exists():
            shutil.copytree(whole, out)
        process = self.start(command, *LATER[command], f"out={out}")
        time.sleep(self.draw.uniform(0.2, 1) * seconds)
        if process.poll() is None:
            process.kill()
            self.kills[command] += 1
        self.end(process, (0, -signal.SIGKILL))

    def compare(self, out: Path, whole: Path) -> None:
        self.compared += 1
        content, expected = read(out), read(whole)
        for name in sorted(content.keys() | expected.keys()):
            if content.get(name) != expected.get(name):
                self.problems.append(f"{out / name} is not that of the undisturbed run")
        self.problems += [f"left behind: {path}" for path in out.glob("*/*.pt.tmp")]


def watch(phase: str, out: Path, draw: random.Random) -> Callable[[], bool]:
    """Tells whether the phase is reached, seen from the files alone."""
    steps, more = count_lines(out), draw.randint(1, 3 * STEPS)
    before_stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/last.pt")}
    draw_checkpoint = draw.randint(1, 10)
    stamps = set[int]()

    def is_reached() -> bool:
        if phase == "start":
            return True
        if phase == "training":
            return count_lines(out) >= steps + more
        folders = [path.parent for path in out.glob("*/log.jsonl") if not (path.parent / "record.json").exists()]
        if phase == "checkpoint":
            for folder in folders:
                try:
                    stamp = (folder / "last.pt").stat().st_mtime_ns
                except FileNotFoundError:
                    continue
                if before_stamps.get(folder / "last.pt") != stamp:
                    stamps.add(stamp)
            return len(stamps) >= draw_checkpoint
        if phase == "evaluation":
            return any((folder / "log.jsonl").read_bytes().count(b"\n") == STEPS for folder in folders)
        return any((folder / "looks.json").exists() for folder in folders)

    return is_reached


def count_lines(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*/log.jsonl"))


def find_workers(out: Path) -> list[int]:
    lines = [line for log in out.glob(".local*/worker-*.log") for line in log.read_text().splitlines()]
    return [int(line.split()[-1]) for line in lines if line.startswith("worker, process ")]


def read(out: Path) -> dict[str, Any]:
    """What has to be the same: records, logs, and evaluations, without times."""

    def strip_times(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip_times(part) for name, part in value.items() if name not in TIMES}
        return value

    content: dict[str, Any] = {}
    for name in ("record.json", "evaluation.json"):
        content |= {
            f"{path.parent.name}/{name}": strip_times(json.loads(path.read_text())) for path in out.glob(f"*/{name}")
        }
    for path in out.glob("*/log.jsonl"):
        content[f"{path.parent.name}/log.jsonl"] = [
            strip_times(json.loads(line)) for line in path.read_text().splitlines()
        ]
    return content


def run_campaign(campaign: Campaign, kills: int, later: int) -> None:
    whole, began = campaign.root / "whole", time.monotonic()
    process = campaign.start("run", *CELLS, "launcher=here", f"out={whole}")
    while not count_lines(whole) and process.poll() is None:
        time.sleep(0.01)
    startup = time.monotonic() - began
    campaign.end(process, (0,))
    phases = ["start", "training", "checkpoint", "evaluation", "record"]
    number, out = 0, campaign.root / "killed0"
    while sum(campaign.kills.values()) < kills and time.monotonic() < campaign.until:
        launcher, phase = campaign.draw.choice(list(LAUNCHERS)), campaign.draw.choice(phases)
        campaign.kill_in_run(out, launcher, phase, startup)
        print(f"{sum(campaign.kills.values())} kills; {launcher} {phase}", file=sys.stderr, flush=True)
        if len(list(out.glob("*/record.json"))) == 2:  # failed ones among them are tried again
            campaign.end(campaign.start("run", *CELLS, f"out={out}"), (0,))
            campaign.compare(out, whole)
            number += 1
            out = campaign.root / f"killed{number}"
    if out.exists():
        campaign.end(campaign.start("run", *CELLS, f"out={out}"), (0,))
        campaign.compare(out, whole)
    before = sum(campaign.kills.values())
    while sum(campaign.kills.values()) < before + later and time.monotonic() < campaign.until:
        campaign.kill_later(whole, campaign.draw.choice(list(LATER)), 2 * startup)
    if (campaign.root / "later").exists():
        for folder in (whole, campaign.root / "later"):
            for command, words in LATER.items():
                campaign.end(campaign.start(command, *words, f"out={folder}"), (0,))
        campaign.compare(campaign.root / "later", whole)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 100), ("later", 20), ("seed", 0), ("minutes", 60)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-campaign-") as folder:
        campaign = Campaign(arguments.seed, Path(folder), arguments.minutes)
        run_campaign(campaign, arguments.kills, arguments.later)
    for kind, count in sorted(campaign.kills.items()):
        print(f"{count:4d} {kind}")
    print(
        f"{sum(campaign.kills.values())} kills, {campaign.compared} folders compared, {len(campaign.problems)} problems"
    )
    for problem in campaign.problems:
        print(problem)
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    sys.exit(main())
