"""launcher=slurm on the real test bed: a sweep that is disturbed in every way ends like one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE

from slurm.testbed import Testbed

pytestmark = pytest.mark.slurm

CELLS = ["methods=simclr,moco", "seeds=0,1,2,3,4", "epochs=3"]
WORDS = [
    "backbone=test_resnet",
    "dataset.limit=400",
    "view_size=16",
    "batch_size=32",
    "precision=fp32",
    "threads=1",
    "device=cpu",
    "checkpoint_every=2",
]
CLUSTER = ["launcher=slurm", "slurm.partition=low", "slurm.timeout_min=30", "slurm.mem_gb=3", "slurm.cpus_per_task=1"]
BROKEN = '''"""A method that fails: No Paper."""

from methods.method import Method


class Broken(Method):
    views = ("crop",)

    def forward(self, batch, at):
        return {{"features": self.encoder(batch.views[0])}}

    def loss(self, rows, at):
        if at.step == 3:
            {does}
        return {{"loss": rows["features"].square().mean()}}
'''


class Sweep:
    """`python -m benchmark` in a folder of its own, talking to the bed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def __call__(self, *words: str, timeout: float = PATIENCE, code: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "benchmark", *words],
            cwd=self.folder,
            env=self.environment,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def records(self, out: str = "runs") -> dict[str, dict[str, Any]]:
        return {path.parent.name: json.loads(path.read_text()) for path in self.folder.glob(f"{out}/*/record.json")}

    def jobs(self) -> dict[str, str]:
        """Cell -> job."""
        lines = (self.folder / "runs/.slurm/jobs.jsonl").read_text().splitlines()
        return {cell: note["job"] for note in map(json.loads, lines) for cell in note["cells"]}


def until(true: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    end = time.monotonic() + timeout
    while not (result := true()):
        assert time.monotonic() < end, f"not within {timeout:.0f} s: {what}"
        time.sleep(0.2)
    return result


@pytest.fixture
def sweep(tmp_path: Path, environment: dict[str, str]) -> Callable[[Testbed], Sweep]:
    (tmp_path / "plugins/faulty").mkdir(parents=True)
    (tmp_path / "plugins/faulty/raises.py").write_text(BROKEN.format(does="raise RuntimeError('as it was told to')"))
    (tmp_path / "plugins/faulty/hungry.py").write_text(
        BROKEN.format(does="self.eaten = [bytearray(2**30) for _ in range(8)]")
    )

    def made(bed: Testbed) -> Sweep:
        both = environment | bed.environment()
        both["PYTHONPATH"] = f"{environment['PYTHONPATH']}:{tmp_path / 'plugins'}"
        return Sweep(tmp_path, both)

    return made


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The records of the same cells, trained one after the other in one process."""
    run = Sweep(tmp_path_factory.mktemp("undisturbed"), environment)
    run("run", *CELLS, *WORDS)
    return run.records()


def disturb(bed: Testbed, sweep: Sweep) -> None:
    """A requeue, a kill -9, a node that dies and comes back, a preemption, a controller that restarts."""

    def running() -> set[str]:
        """Jobs that have written a checkpoint and no record."""
        folders = {job: sweep.folder / "runs" / cell for cell, job in sweep.jobs().items()}
        begun = {job: folder for job, folder in folders.items() if (folder / "last.pt").exists()}
        return {job for job, folder in begun.items() if not (folder / "record.json").exists()}

    job = next(iter(until(running, "a cell is being trained")))
    bed.requeue(job)
    job = next(iter(until(lambda: running() - {job}, "another cell is being trained")))
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            of_the_job = f"SLURM_ARRAY_TASK_ID={job.split('_')[1]}\0".encode() in process.read_bytes()
            python = b"submitit" in (process.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if of_the_job and python:
            os.kill(int(process.parent.name), signal.SIGKILL)
    bed.restart_controller()
    until(running, "a cell is being trained again")
    bed.kill_node("n2")
    until(lambda: bed.states()["n2"].startswith("down"), "the controller sees that the node is dead")
    bed.start_node("n2", timeout=PATIENCE)
    until(running, "a cell is being trained after the node's death")
    bed.preempt("n1", "n2", seconds=1)


@pytest.mark.timeout(8 * PATIENCE)
@pytest.mark.parametrize("accounting", [False, True], ids=["without accounting", "with accounting"])
def test_a_disturbed_sweep_ends_like_an_undisturbed_one(
    accounting: bool,
    request: pytest.FixtureRequest,
    sweep: Callable[[Testbed], Sweep],
    undisturbed: dict[str, dict[str, Any]],
) -> None:
    bed = request.getfixturevalue("bed_with_accounting" if accounting else "bed")
    run = sweep(bed)
    run("run", *CELLS, *WORDS, *CLUSTER)
    run("run", "methods=faulty.raises,faulty.hungry", "epochs=2", *WORDS, *CLUSTER)
    disturb(bed, run)
    run("run", *CELLS, *WORDS, *CLUSTER, "--wait", code=None)
    run("run", *CELLS, *WORDS, *CLUSTER, "--wait")  # what was killed -9 is tried again
    run("run", "methods=faulty.raises,faulty.hungry", "epochs=2", *WORDS, *CLUSTER, "--wait", code=1)
    found = run.records()
    assert len(undisturbed) == 10
    for cell, record in undisturbed.items():
        assert found[cell]["status"] == "finished"
        assert found[cell]["metrics"] == record["metrics"]
    failed = {record["settings"]["method"]: record for record in found.values() if record["status"] == "failed"}
    assert sorted(failed) == ["faulty.hungry", "faulty.raises"]
    assert failed["faulty.raises"]["reason"] == "RuntimeError: as it was told to"
    assert "out of memory" in failed["faulty.hungry"]["reason"]
    assert failed["faulty.hungry"]["log"]
    assert "10 finished" in run("status")


def test_what_is_under_way_is_not_submitted_twice_and_can_be_cancelled(
    bed: Testbed, sweep: Callable[[Testbed], Sweep]
) -> None:
    run = sweep(bed)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmark", "run", *CELLS, *WORDS, *CLUSTER],
            cwd=run.folder,
            env=run.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=PATIENCE)[0].split(" cells")[0] for process in both)
    assert said == ["0", "10"]
    assert "10 jobs cancelled" in run("cancel")
    until(lambda: "cancelled" in run("status"), "the jobs are cancelled")
    assert {record["reason"].split(": ")[-1] for record in run.records().values()} == {"cancelled"}


def test_a_sweep_longer_than_an_array_is_submitted_once(bed: Testbed, sweep: Callable[[Testbed], Sweep]) -> None:
    run = sweep(bed)
    words = ["run", "methods=random", f"seeds={','.join(map(str, range(1500)))}", *WORDS, *CLUSTER]
    bed.command("scontrol", "update", "PartitionName=low", "State=DOWN")  # none is to begin
    try:
        assert run(*words).startswith("1,500 cells submitted")
        assert run(*words).startswith("0 cells submitted")
        listed = bed.command("squeue", "--noheader", "--array", "--format=%i").split()
        assert "1,500 jobs cancelled" in run("cancel")
    finally:
        bed.command("scontrol", "update", "PartitionName=low", "State=UP")
    notes = [json.loads(line) for line in (run.folder / "runs/.slurm/jobs.jsonl").read_text().splitlines()]
    assert len({cell for note in notes for cell in note["cells"]}) == 1500
    assert sorted(note["job"] for note in notes) == sorted(listed)
    assert sorted(Counter(job.split("_")[0] for job in listed).values()) == [500, 1000]  # MaxArraySize is 1001


@pytest.mark.timeout(8 * PATIENCE)
def test_two_nodes_give_the_record_of_one_process_and_so_they_do_after_a_requeue(
    bed: Testbed, sweep: Callable[[Testbed], Sweep]
) -> None:
    run = sweep(bed)
    words = [*WORDS, "methods=moco", "epochs=4", "precision=fp64", "checkpoint_every=0"]
    for given in ("precision=fp32", "checkpoint_every=2"):
        words.remove(given)
    run("run", *words, "out=one")
    run("run", *words, *CLUSTER, "slurm.nodes=2")
    until(lambda: list(run.folder.glob("runs/*/last.pt")), "the cell is being trained")
    bed.requeue(next(iter(run.jobs().values())))
    run("run", *words, *CLUSTER, "slurm.nodes=2", "--wait")
    (one,), (two,) = run.records("one").values(), run.records().values()
    assert two["cost"]["processes"] == 2
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, abs=1e-6), name


def test_cells_that_share_a_job(bed: Testbed, sweep: Callable[[Testbed], Sweep]) -> None:
    run = sweep(bed)
    run("run", "methods=random", "seeds=0,1,2,3,4", *WORDS, *CLUSTER, "slurm.cells_per_job=2", "--wait")
    assert {record["status"] for record in run.records().values()} == {"finished"}
    assert sorted(Counter(run.jobs().values()).values()) == [1, 2, 2]


def test_status_answers_while_the_controller_is_down(bed: Testbed, sweep: Callable[[Testbed], Sweep]) -> None:
    run = sweep(bed)
    run("run", "methods=simclr", "epochs=2", *WORDS, *CLUSTER, "--wait")
    bed.kill_controller()
    assert "1 finished" in run("status")
    bed.restart_controller()


def test_what_the_cluster_does_not_take_is_one_line(bed: Testbed, sweep: Callable[[Testbed], Sweep]) -> None:
    run = sweep(bed)
    words = ["run", "methods=simclr", *WORDS, "launcher=slurm", "slurm.partition=nowhere"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *words],
        cwd=run.folder,
        env=run.environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "invalid partition" in done.stderr


def test_a_study_is_tuned_by_jobs(bed: Testbed, sweep: Callable[[Testbed], Sweep]) -> None:
    """A launcher is killed while its jobs run, and the same command again: every trial once, then what was chosen."""
    run = sweep(bed)
    words = [*CLUSTER, *WORDS, "methods=simclr,moco", "moco.queue=64", "epochs=2", "trials=2", "at_once=2", "seeds=1"]
    call = [sys.executable, "-m", "benchmark", "tune", *words]
    first = subprocess.Popen(call, cwd=run.folder, env=run.environment, stderr=subprocess.DEVNULL)
    notes = run.folder / "runs/.slurm/jobs.jsonl"
    until(lambda: notes.exists() and len(notes.read_text().splitlines()) == 4, "four trials are submitted")
    first.kill()
    first.wait()
    shown = run("tune", *words)
    assert "Tuning: each method's budget" in shown
    found = run.records()
    trials = sorted(
        record["settings"]["trial"].partition("/")[::2] for name, record in found.items() if "-trial" in name
    )
    assert [number for _, number in trials] == ["1", "2"] * 2
    assert {record["status"] for record in found.values()} == {"finished"}
    assert sorted(r["settings"]["method"] for r in found.values() if "purpose" not in r) == ["moco", "simclr"]
    assert len(notes.read_text().splitlines()) == 6, "no trial was submitted twice"
