"""launcher=slurm on the real test bed: a sweep that is disturbed in every way ends like one that was not."""

from __future__ import annotations

import contextlib
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
from commandline import PATIENCE, run_in_process

from benchmark.cells import lease
from benchmark.launch import cluster
from slurm.testbed import Testbed

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]

CELLS = ["methods=held.moco", "moco.queue=64", "seeds=0,1,2", "epochs=4"]
WORDS = [
    "backbone=test_resnet",
    "dataset.limit=100",
    "view_size=16",
    "batch_size=32",
    "precision=fp32",
    "threads=1",
    "device=cpu",
    "checkpoint_every=0",
]
CLUSTER = ["launcher=slurm", "slurm.partition=low", "slurm.timeout_min=30", "slurm.mem_gb=3", "slurm.cpus_per_task=1"]
# Behind MoCo's own code: where `GATE` names a file, a cell goes on step by step from one start to the next, and to its
# end once that file exists, so that it is being trained when it is disturbed, on a machine of any speed.
HELD = """

import os, signal, time

update = MoCo.after_step


def wait(self, rows, at):
    update(self, rows, at)
    while at.step >= 2 and "GATE" in os.environ and not os.path.exists(os.environ["GATE"]):
        if signal.getsignal(signal.SIGUSR2).__self__.signal:  # the job's `Stop`
            return
        time.sleep(0.1)


MoCo.after_step = wait
"""
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
    """`python -m benchmark` in a folder of its own, talking to the bed; in this process, whose jobs are others."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def __call__(self, *words: str, code: int | None = 0) -> str:
        result = run_in_process(list(words), self.environment, self.folder)
        assert code is None or result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr

    def start(self, *words: str) -> subprocess.Popen[str]:
        """In a process of its own."""
        call, pipe = [sys.executable, "-m", "benchmark", *words], subprocess.PIPE
        return subprocess.Popen(call, cwd=self.folder, env=self.environment, stdout=pipe, text=True)

    def open_gate(self) -> None:
        Path(self.environment["GATE"]).touch()

    def records(self, out: str = "runs") -> dict[str, dict[str, Any]]:
        return {path.parent.name: json.loads(path.read_text()) for path in self.folder.glob(f"{out}/*/record.json")}

    def jobs(self) -> dict[str, str]:
        """Cell -> job."""
        lines = (self.folder / "runs/.slurm/jobs.jsonl").read_text().splitlines()
        return {cell: note["job"] for note in map(json.loads, lines) for cell in note["cells"]}


def wait_until(true: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    end = time.monotonic() + timeout
    while not (result := true()):
        assert time.monotonic() < end, f"not within {timeout:.0f} s: {what}"
        time.sleep(0.2)
    return result


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> dict[str, str]:
    """An environment that has methods of a user: two that fail, and MoCo, which waits for its gate."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "faulty").mkdir()
    (folder / "faulty/raises.py").write_text(BROKEN.format(does="raise RuntimeError('as it was told to')"))
    (folder / "faulty/hungry.py").write_text(BROKEN.format(does="self.eaten = [bytearray(2**30) for _ in range(4)]"))
    (folder / "held").mkdir()
    (folder / "held/moco.py").write_text((ROOT / "methods/moco.py").read_text(encoding="utf-8") + HELD)
    return environment | {"PYTHONPATH": f"{environment['PYTHONPATH']}:{folder}"}


@pytest.fixture
def sweep(tmp_path: Path, plugins: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[[Testbed], Sweep]:
    monkeypatch.setattr(cluster, "POLL", 1.0)  # nobody else asks this controller
    return lambda bed: Sweep(tmp_path, plugins | bed.environment() | {"GATE": str(tmp_path / "gate")})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, plugins: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The records of the same cells, trained one after the other in one process."""
    run = Sweep(tmp_path_factory.mktemp("undisturbed"), plugins)
    run("run", *CELLS, *WORDS)
    return run.records()


def disturb(bed: Testbed, sweep: Sweep) -> None:
    """A requeue, a kill -9, a node that dies and comes back, a preemption, a controller that restarts."""

    def training(without: str = "") -> str | None:
        """Another job than `without` that is being trained and has written a checkpoint."""
        for cell, job in sweep.jobs().items():
            folder = sweep.folder / "runs" / cell
            if job != without and (folder / "last.pt").exists() and lease.is_at_work(folder, writes=False):
                return job
        return None

    job = wait_until(training, "a cell is being trained")
    bed.requeue(job)
    job = wait_until(lambda: training(job), "another cell is being trained")
    for process in bed.processes():
        with contextlib.suppress(OSError):
            of_the_job = f"SLURM_ARRAY_TASK_ID={job.split('_')[1]}\0".encode()
            python = b"submitit" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if python and of_the_job in Path(f"/proc/{process.pid}/environ").read_bytes():
                os.kill(process.pid, signal.SIGKILL)
    bed.restart_controller()
    node = bed.job(wait_until(lambda: training(job), "a third cell is being trained"))["NodeList"]
    bed.kill_node(node)
    wait_until(lambda: bed.states()[node].startswith("down"), "the controller sees that the node is dead")
    bed.start_node(node, timeout=PATIENCE)
    wait_until(training, "a cell is being trained after the node's death")
    bed.wait(bed.preempt("n1", "n2", seconds=1), "COMPLETED", timeout=PATIENCE)
    sweep.open_gate()


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
    disturb(bed, run)
    run("run", *CELLS, *WORDS, *CLUSTER, "--wait", code=None)
    run("run", *CELLS, *WORDS, *CLUSTER, "--wait")  # what was killed -9 is tried again
    run("run", "methods=faulty.raises,faulty.hungry", "epochs=2", *WORDS, *CLUSTER, "--wait", code=1)
    records = run.records()
    assert len(undisturbed) == 3
    for cell, record in undisturbed.items():
        assert records[cell]["status"] == "finished"
        assert records[cell]["metrics"] == record["metrics"]
    failed = {record["settings"]["method"]: record for record in records.values() if record["status"] == "failed"}
    assert sorted(failed) == ["faulty.hungry", "faulty.raises"]
    assert failed["faulty.raises"]["reason"] == "RuntimeError: as it was told to"
    assert "out of memory" in failed["faulty.hungry"]["reason"]
    assert failed["faulty.hungry"]["log"]
    assert "3 finished" in run("status")


def test_what_is_under_way_is_not_submitted_twice_and_can_be_cancelled(
    bed: Testbed, sweep: Callable[[Testbed], Sweep]
) -> None:
    run = sweep(bed)
    both = [run.start("run", *CELLS, *WORDS, *CLUSTER) for _ in range(2)]
    submitted = sorted(process.communicate(timeout=PATIENCE)[0].split(" cells")[0] for process in both)
    assert submitted == ["0", "3"]
    assert "3 jobs cancelled" in run("cancel")
    wait_until(lambda: "cancelled" in run("status"), "the jobs are cancelled")
    assert {record["reason"].split(": ")[-1] for record in run.records().values()} == {"cancelled"}


def test_a_sweep_longer_than_an_array_is_submitted_once(bed: Testbed, sweep: Callable[[Testbed], Sweep]) -> None:
    run = sweep(bed)
    words = ["run", "methods=random", f"seeds={','.join(map(str, range(1500)))}", *WORDS, *CLUSTER]
    bed.command("scontrol", "update", "PartitionName=low", "State=DOWN")  # none is to begin
    try:
        assert run(*words).startswith("1,500 cells submitted")
        assert run(*words).startswith("0 cells submitted")
        queue = bed.command("squeue", "--noheader", "--array", "--format=%i").split()
        assert "1,500 jobs cancelled" in run("cancel")
    finally:
        bed.command("scontrol", "update", "PartitionName=low", "State=UP")
    notes = [json.loads(line) for line in (run.folder / "runs/.slurm/jobs.jsonl").read_text().splitlines()]
    assert len({cell for note in notes for cell in note["cells"]}) == 1500
    assert sorted(note["job"] for note in notes) == sorted(queue)
    assert sorted(Counter(job.split("_")[0] for job in queue).values()) == [500, 1000]  # MaxArraySize is 1001


@pytest.mark.timeout(8 * PATIENCE)
def test_two_nodes_give_the_record_of_one_process_and_so_they_do_after_a_requeue(
    bed: Testbed, sweep: Callable[[Testbed], Sweep], plugins: dict[str, str]
) -> None:
    words = ["methods=held.moco", "moco.queue=64", "epochs=4", *(w for w in WORDS if w != "precision=fp32")]
    words.append("precision=fp64")
    run = sweep(bed)
    Sweep(run.folder, plugins)("run", *words, "out=one")
    run("run", *words, *CLUSTER, "slurm.nodes=2")
    wait_until(lambda: list(run.folder.glob("runs/*/last.pt")), "the cell is being trained")
    (job,) = run.jobs().values()
    bed.requeue(job)
    assert bed.wait(job, "PENDING")["Restarts"] == "1"
    run.open_gate()
    run("run", *words, *CLUSTER, "slurm.nodes=2", "--wait")
    (one,), (two,) = run.records("one").values(), run.records().values()
    assert two["cost"]["processes"] == 2
    for name, value in one["metrics"].items():
        assert two["metrics"][name] == pytest.approx(value, abs=1e-6), name


def test_cells_that_share_a_job_and_status_while_the_controller_is_down(
    bed: Testbed, sweep: Callable[[Testbed], Sweep]
) -> None:
    run = sweep(bed)
    run("run", "methods=random", "seeds=0,1,2", *WORDS, *CLUSTER, "slurm.cells_per_job=2", "--wait")
    assert {record["status"] for record in run.records().values()} == {"finished"}
    assert sorted(Counter(run.jobs().values()).values()) == [1, 2]
    bed.kill_controller()
    assert "3 finished" in run("status")
    bed.restart_controller()


def test_what_the_cluster_does_not_take_is_one_line(bed: Testbed, sweep: Callable[[Testbed], Sweep]) -> None:
    run = sweep(bed)
    words = ["run", "methods=random", "launcher=slurm", "slurm.partition=nowhere"]
    result = run_in_process(words, run.environment, run.folder)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "invalid partition" in result.stderr


def test_a_study_is_tuned_by_jobs(bed: Testbed, sweep: Callable[[Testbed], Sweep]) -> None:
    """A launcher is killed while its jobs run, and the same command again: every trial once, then what was chosen."""
    run = sweep(bed)
    words = [*CLUSTER, *WORDS, "methods=simclr", "epochs=2", "trials=2", "at_once=2", "seeds=1"]
    first = run.start("tune", *words)
    notes = run.folder / "runs/.slurm/jobs.jsonl"
    wait_until(lambda: notes.exists() and len(notes.read_text().splitlines()) == 2, "two trials are submitted")
    first.kill()
    first.wait()
    printed = run("tune", *words)
    assert "Tuning: each method's budget" in printed
    records = run.records()
    trials = sorted(
        record["settings"]["trial"].partition("/")[::2] for name, record in records.items() if "-trial" in name
    )
    assert [number for _, number in trials] == ["1", "2"]
    assert {record["status"] for record in records.values()} == {"finished"}
    assert sorted(r["settings"]["method"] for r in records.values() if "purpose" not in r) == ["simclr"]
    assert len(notes.read_text().splitlines()) == 3, "no trial was submitted twice"
