"""Who works on a cell: the lease between machines, as seen by two processes that do not share a lock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from commandline import PATIENCE, run_in_process

from benchmark.cells import lease, plan, run
from benchmark.contract.short_training import CPU
from benchmark.display.progress import ProgressDisplay
from benchmark.settings import address
from benchmark.settings.runtime import Runtime
from benchmark.training import checkpoint
from benchmark.training.distributed import World
from benchmark.training.stop import Stop
from benchmark.words import cell_words

WORDS = [
    "methods=simclr",
    "dataset=digits",
    "dataset.limit=180",
    "backbone=test_resnet",
    "epochs=2",
    "batch_size=32",
    "precision=fp32",
    "view_size=16",
]


def write_lease(folder: Path, renewed: float = 0.0, **more: object) -> Path:
    """The lease of an attempt on another machine, last renewed so many seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lease.json"
    path.write_text(json.dumps({"id": "theirs", "host": "another", "job": "", "restart": 0} | more))
    then = time.time() - renewed
    os.utime(path, (then, then))
    return path


def test_a_lease_is_there_while_it_is_held(tmp_path: Path) -> None:
    with lease.hold(tmp_path) as mine:
        assert mine is not None
        mine.guard()
        assert lease.is_at_work(tmp_path)
        with lease.hold(tmp_path) as other:
            assert other is None
    assert not lease.is_at_work(tmp_path)
    assert not (tmp_path / "lease.json").exists()


def test_a_lease_of_another_machine_is_kept_while_it_is_renewed_and_void_after(tmp_path: Path) -> None:
    write_lease(tmp_path, renewed=lease.EXPIRES / 2)
    with lease.hold(tmp_path) as mine:
        assert mine is None
    assert plan.read_state(tmp_path).word == "running"
    write_lease(tmp_path, renewed=lease.EXPIRES + 5)
    assert plan.read_state(tmp_path).word == "new"
    with lease.hold(tmp_path) as mine:
        assert mine is not None


def test_a_restart_of_a_job_follows_its_earlier_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "812")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    write_lease(tmp_path, job="811")
    with lease.hold(tmp_path) as mine:
        assert mine is None, "of another job"
    write_lease(tmp_path, job="812", restart=2)
    with lease.hold(tmp_path) as mine:
        assert mine is None, "the earlier start comes back, and has lost"
    write_lease(tmp_path, job="812", restart="x")
    with lease.hold(tmp_path) as mine:
        assert mine is None, "what is no restart of ours"
    write_lease(tmp_path, job="812", restart=0)
    with lease.hold(tmp_path) as mine:
        assert mine is not None


def test_what_a_process_left_that_died_here_is_taken_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    code = f"""import os, pathlib
from benchmark.cells import lease
with lease.hold(pathlib.Path({str(tmp_path)!r})) as mine:
    assert mine is not None
    os._exit(9)"""
    subprocess.run([sys.executable, "-c", code], env=environment, timeout=PATIENCE, check=False)
    assert (tmp_path / "lease.json").exists()
    with lease.hold(tmp_path) as mine:
        assert mine is not None


def test_a_lease_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWED", 0.05)
    with lease.hold(tmp_path) as mine:
        assert mine is not None
        path = write_lease(tmp_path, renewed=500, id=mine.attempt.id)
        until = time.monotonic() + PATIENCE
        while time.time() - path.stat().st_mtime > 100:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_a_copy_that_was_taken_over_stops_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node thought dead comes back: its cell has been given to another one meanwhile."""
    cell = cell_words.read(WORDS).cells[0]
    folder = tmp_path / address.name_folder(cell)
    lines: list[str] = []

    class Watching(ProgressDisplay):
        def step(self, done: int, steps: int, loss: float) -> None:
            if done == 3:
                write_lease(folder)

        def say(self, line: str) -> None:
            lines.append(line)

    runtime = Runtime(out=str(tmp_path), log_every=1)
    place = run.RunContext(runtime, World(), CPU, Stop(), Watching(1, shown=False))
    assert run.run(cell, place) is None
    assert "taken over" in lines[-1]
    assert not (folder / "record.json").exists()
    assert not (folder / "last.pt").exists()
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
    assert json.loads((folder / "lease.json").read_text())["id"] == "theirs", "the other's lease is left alone"


def test_a_lease_that_cannot_be_read_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "WAITS", (0.2,) * int(5 * PATIENCE))
    aside = tmp_path / "aside"
    with lease.hold(tmp_path) as mine:
        assert mine is not None
        mine.path.rename(aside)
        mine.path.mkdir()  # an error of the file system to who reads it

        def mend() -> None:
            mine.path.rmdir()
            aside.rename(mine.path)

        timer = threading.Timer(0.3, mend)
        timer.start()
        mine.guard()
        timer.join()
        mine.path.rename(aside)
        with pytest.raises(lease.Lost, match="its lease is gone"):
            mine.guard()
        mine.path.mkdir()
        monkeypatch.setattr(lease, "WAITS", (0.0,))
        with pytest.raises(lease.Lost, match="its lease cannot be read"):
            mine.guard()
        assert lease.is_at_work(tmp_path)
        mend()


def test_a_cell_whose_folder_disappears_is_not_said_to_be_taken_over(tmp_path: Path) -> None:
    cell = cell_words.read(WORDS).cells[0]
    folder = tmp_path / address.name_folder(cell)
    lines: list[str] = []

    class Watching(ProgressDisplay):
        def step(self, done: int, steps: int, loss: float) -> None:
            if done == 3:
                shutil.rmtree(folder)

        def say(self, line: str) -> None:
            lines.append(line)

    place = run.RunContext(Runtime(out=str(tmp_path), log_every=1), World(), CPU, Stop(), Watching(1, shown=False))
    assert run.run(cell, place) is None
    assert lines[-1] == f"{folder.name}: its folder is gone; left as it is"
    assert not folder.exists()


def test_a_cell_that_is_left_to_another_has_an_exit_code_of_its_own(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ["run", *WORDS, f"out={tmp_path}", "device=cpu"]
    folder = tmp_path / address.name_folder(cell_words.read(WORDS).cells[0])
    write_lease(folder)
    result = run_in_process(words, environment)
    assert result.returncode == 3, result.stderr
    assert f"no record: {folder.name}: running" in result.stderr


def test_the_lease_is_asked_just_before_a_checkpoint_takes_the_place_of_the_last(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"key": "ours"}, lambda: None)

    def lose() -> None:
        raise lease.Lost("while the file was written")

    with pytest.raises(lease.Lost):
        checkpoint.save(tmp_path, {"key": "theirs"}, lose)
    assert checkpoint.load(tmp_path, "ours", CPU) == {"key": "ours"}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_what_the_killed_left_is_removed_by_who_has_the_cell_next(tmp_path: Path) -> None:
    old, leftovers = time.time() - lease.EXPIRES - 5, ("last.pt.tmp", ".record.json.0a.tmp", ".lease.0a", ".now.0a")
    for name in leftovers:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (old, old))
    (tmp_path / ".settings.json.0a.tmp").touch()  # somebody may be writing it
    with lease.hold(tmp_path):
        present = {path.name for path in tmp_path.iterdir()}
    assert present == {"lock", "lease.json", ".settings.json.0a.tmp"}
