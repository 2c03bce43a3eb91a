"""The bed does what the tests of the launcher rely on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import PATIENCE

from slurm.testbed import Testbed, TestbedError, missing_packages

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).parents[2]


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slurm.testbed", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def list_units(bed: Testbed, name: str) -> set[str]:
    return {process.name for process in bed.processes() if process.node == name}


def run(bed: Testbed, script: str, *options: str) -> str:
    """A job's output, without what SLURM writes into that of a very short job now and then: 'no task list created'."""
    job = bed.submit(script, *options)
    bed.wait(job, "COMPLETED")
    lines = bed.output(job).splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("slurmstepd"))


def test_a_job_on_each_node_and_one_on_both(bed: Testbed) -> None:
    for name in bed.nodes:
        assert run(bed, "echo $SLURMD_NODENAME", f"--nodelist={name}") == f"{name}\n"
    assert sorted(run(bed, "srun printenv SLURMD_NODENAME", "--nodes=2").split()) == ["n1", "n2"]


def test_an_array(bed: Testbed) -> None:
    array = bed.submit("echo $SLURM_ARRAY_TASK_ID", "--array=0-2")
    for index in range(3):
        bed.wait(f"{array}_{index}", "COMPLETED")
        assert bed.output(f"{array}_{index}") == f"{index}\n"


def test_gpus_are_counted_and_named(bed: Testbed) -> None:
    both = bed.submit("echo $CUDA_VISIBLE_DEVICES; sleep 60", "--gpus-per-node=2", "--nodelist=n1")
    bed.wait(both, "RUNNING")
    waiting = bed.submit("true", "--gpus-per-node=1", "--nodelist=n1")
    assert run(bed, "echo $CUDA_VISIBLE_DEVICES", "--gpus-per-node=1", "--nodelist=n2") in ("0\n", "1\n")
    assert run(bed, "echo ${CUDA_VISIBLE_DEVICES:-none}") in ("none\n", "\n")
    assert bed.output(both) == "0,1\n"
    assert bed.job(waiting)["JobState"] == "PENDING"
    with pytest.raises(TestbedError, match=r"cannot be satisfied|not available"):
        bed.submit("true", "--gpus-per-node=3")


def test_requeue_counts(bed: Testbed) -> None:
    job = bed.submit("echo restart ${SLURM_RESTART_COUNT:-0}; sleep 60", "--open-mode=append")
    bed.wait(job, "RUNNING")
    wait_for_output(bed, job, "restart 0\n")
    bed.requeue(job)
    wait_for_output(bed, job, "restart 0\nrestart 1\n")


def test_preemption_signals_and_requeues(bed: Testbed) -> None:
    script = "trap 'echo told; exec sleep 60' USR2; echo start; while true; do sleep 0.2; done"
    options = ("--partition=low", "--nodelist=n1", "--open-mode=append", "--signal=B:USR2@60")
    low = bed.submit(script, *options)
    calm = bed.submit("sleep 60", "--partition=debug", "--nodelist=n2")
    wait_for_output(bed, low, "start\n")
    bed.wait(calm, "RUNNING")
    high = bed.preempt("n1")
    bed.wait(high, "COMPLETED")
    assert bed.wait(low, "RUNNING")["Restarts"] == "1"
    wait_for_output(bed, low, "start\ntold\nstart\n")
    assert bed.job(calm)["JobState"] == "RUNNING"


def test_node_death_requeues_on_the_other(bed: Testbed) -> None:
    job = bed.submit("sleep 300")
    node = bed.wait(job, "RUNNING")["NodeList"]
    bed.kill_node(node)
    assert not [process for process in bed.processes() if process.node == node]
    second = bed.wait(job, "PENDING")
    assert second["Restarts"] == "1"
    other = bed.wait(job, "RUNNING")["NodeList"]
    assert {node, other} == set(bed.nodes)
    bed.start_node(node)


def test_a_dead_slurmd_leaves_its_job(bed: Testbed) -> None:
    job = bed.submit("sleep 300", "--nodelist=n1")
    bed.wait(job, "RUNNING")
    until = time.monotonic() + PATIENCE
    while "job" not in list_units(bed, "n1") and time.monotonic() < until:  # it runs before its script has begun
        time.sleep(0.1)
    bed.kill_node("n1", jobs=False)
    assert list_units(bed, "n1") == {"slurmstepd", "job"}
    bed.start_node("n1")
    assert bed.job(job)["JobState"] == "RUNNING"


def test_a_controllers_restart_leaves_a_job_alone(bed: Testbed) -> None:
    job = bed.submit("sleep 2; echo done")
    bed.wait(job, "RUNNING")
    bed.restart_controller()
    assert bed.job(job)["JobState"] == "RUNNING"
    assert bed.wait(job, "COMPLETED")["Restarts"] == "0"
    assert bed.output(job) == "done\n"


def test_a_dead_controller_answers_nothing_until_restarted(bed: Testbed) -> None:
    bed.kill_controller()
    with pytest.raises(TestbedError, match="no answer in 1 s"):
        bed.command("squeue", timeout=1)
    bed.restart_controller()
    bed.command("squeue")


def test_too_much_memory_is_killed(bed: Testbed) -> None:
    hungry = "import time; hold = bytearray(300 << 20); time.sleep(60)"
    job = bed.submit(f"{sys.executable} -c '{hungry}'", "--mem=100")
    assert bed.wait(job, "FAILED", "OUT_OF_MEMORY", timeout=PATIENCE)["ExitCode"] == "0:9"
    assert "exceeded memory limit" in bed.output(job)


def test_only_the_loopback_is_listened_on(bed: Testbed) -> None:
    job = bed.submit("srun sleep 60")
    bed.wait(job, "RUNNING")
    wait_until(lambda: any(process.name == "job" for process in bed.processes()), "no process of the job")
    addresses = list_listeners({process.pid for process in bed.processes()})
    assert len(addresses) >= 3
    assert set(addresses) == {"127.0.0.1"}


def test_sacct_answers(bed_with_accounting: Testbed) -> None:
    bed = bed_with_accounting
    assert set(list_listeners({process.pid for process in bed.processes()})) == {"127.0.0.1"}
    good, bad = bed.submit("true", "--gpus-per-node=2"), bed.submit("exit 3")
    bed.wait(good, "COMPLETED")
    bed.wait(bad, "FAILED")

    def list_rows() -> list[str]:
        words = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,ExitCode,AllocTRES")
        return bed.command(*words, f"--jobs={good},{bad}").split()

    wait_until(lambda: len(list_rows()) == 2 and "FAILED" in list_rows()[1], "no rows of the two jobs")
    assert list_rows()[0].startswith(f"{good}|COMPLETED|0:0|")
    assert "gres/gpu=2" in list_rows()[0]
    assert list_rows()[1].startswith(f"{bad}|FAILED|3:0|")


def test_up_twice_and_down_leaves_nothing(tmp_path: Path) -> None:
    needs_packages()
    bed = Testbed(tmp_path / "b")
    bed.up()
    job = bed.submit("setsid sleep 300 & sleep 300")
    bed.wait(job, "RUNNING")
    wait_until(lambda: sum(process.name == "job" for process in bed.processes()) == 3, "the job's processes")
    first = {process.pid for process in bed.processes()}
    Testbed(bed.folder, max_array_size=5).up()  # what an owner that crashed left is ended first
    assert not first & {process.pid for process in bed.processes()}
    assert bed.command("squeue", "--noheader") == ""
    with pytest.raises(TestbedError, match="Invalid job array"):
        bed.submit("true", "--array=0-5")
    (bed.folder / "mine").touch()
    bed.down()
    assert bed.processes() == []
    assert [path.name for path in bed.folder.iterdir()] == ["mine"]
    assert str(bed.folder) not in Path("/proc/mounts").read_text()


def test_another_folder_is_another_bed(bed: Testbed, tmp_path: Path) -> None:
    before = bed.processes()
    with Testbed(tmp_path / "b", gpus=0) as other:
        assert run(other, "echo here") == "here\n"
        assert bed.command("squeue", "--noheader") == ""
    assert bed.processes() == before


def test_the_command(tmp_path: Path) -> None:
    needs_packages()
    folder = f"folder={tmp_path}/b"
    up = command("up", folder, "cpus=3")
    assert (up.returncode, up.stderr) == (0, "")
    script = f"{up.stdout}\nsbatch --wrap 'sleep 60' --output=/dev/null"
    assert "Submitted batch job 1" in subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout
    assert command("up", folder).stdout == up.stdout
    assert "is up in" in command("up", folder, "cpus=2").stderr
    status = command("status", folder).stdout
    assert "n1 " in status
    assert "wrap" in status
    assert command("down", folder).returncode == 0
    assert not (tmp_path / "b").exists()
    assert command("status", folder).returncode == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["upp"], "did you mean 'up'?"),
        (["up", "acounting=true"], "did you mean 'accounting'?"),
        (["up", "accounting=yes"], "true or false"),
        (["up", "gpus=two"], "a whole number"),
        (["down", "gpus=1"], "allowed: folder"),
        (["up", "folder"], "not key=value"),
    ],
)
def test_bad_words(words: list[str], text: str) -> None:
    result = command(*words)
    assert result.returncode == 2
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm.testbed.packages.PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TestbedError, match=r"^programs are missing.* mariadb-server-core munge slurm-wlm slurmdbd$"):
        Testbed(tmp_path, accounting=True).up()


def test_a_folder_that_cannot_hold_a_bed(tmp_path: Path) -> None:
    needs_packages()
    with pytest.raises(TestbedError, match="at most"):
        Testbed(tmp_path / ("x" * 80)).up()
    (tmp_path / "state").mkdir()
    with pytest.raises(TestbedError, match="state that no bed made"):
        Testbed(tmp_path).up()
    Testbed(tmp_path).down()
    assert (tmp_path / "state").is_dir()


def test_a_wait_that_ends_says_what_the_daemon_logged(bed: Testbed) -> None:
    job = bed.submit("true", "--nodes=2", "--begin=now+1hour")
    with pytest.raises(TestbedError, match=r"(?s)job \d+ is PENDING, not RUNNING, after 1 s.*slurmctld: "):
        bed.wait(job, "RUNNING", timeout=1)


def needs_packages() -> None:
    if packages := missing_packages():
        pytest.skip(f"no SLURM here: {', '.join(packages)} missing")


def wait_for_output(bed: Testbed, job: str, text: str, timeout: float = PATIENCE) -> None:
    """Wait until that is what the job itself wrote: the lines of slurmstepd come and go between its own."""

    def same() -> bool:
        file = bed.folder / f"jobs/slurm-{job}.out"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if not line.startswith(("slurmstepd", "Terminated"))] == text.splitlines()

    wait_until(same, f"job {job} does not write {text!r}", timeout)


def wait_until(true: Callable[[], bool], complaint: str, timeout: float = PATIENCE) -> None:
    until = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < until, complaint
        time.sleep(0.1)


def list_listeners(pids: set[int]) -> list[str]:
    """Addresses on which those processes listen for TCP, version 4 and 6, read from /proc."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    addresses = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            fields = row.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                octets = bytes.fromhex(fields[1].partition(":")[0])
                addresses.append(".".join(map(str, reversed(octets))) if len(octets) == 4 else octets.hex())
    return addresses
