"""launcher=slurm against commands of SLURM that a test makes: what sbatch is given, and what it may do to us."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import PATIENCE, run_in_process

pytest.importorskip("submitit", reason="submitit is not installed")

from benchmark.words import cell_words, runtime_words

WORDS = ["methods=random", "launcher=slurm", "dataset.limit=60", "view_size=16", "backbone=test_resnet"]
COMMANDS = {
    "srun": "",
    "scontrol": "echo 'MaxArraySize = 1001'",
    "squeue": "ls {here}/submitted | sed 's/$/|FAILED|NodeFail/'",
    "sacct": "exit 1",
    "sbatch": "cd {here}; n=$(ls submitted | wc -l); touch submitted/$n; env > env; echo Submitted batch job $n",
}


@pytest.fixture
def cluster(tmp_path: Path, environment: dict[str, str]) -> Callable[..., dict[str, str]]:
    """Makes the commands, some of them otherwise; returns the environment in which they are found."""

    def make(**others: str) -> dict[str, str]:
        (tmp_path / "submitted").mkdir()
        (tmp_path / "bin").mkdir()
        for name, body in (COMMANDS | others).items():
            path = tmp_path / "bin" / name
            path.write_text(f"#!/bin/bash\n{body.format(here=shlex.quote(str(tmp_path)))}\n")
            path.chmod(0o755)
        return environment | {"PATH": f"{tmp_path / 'bin'}:{environment['PATH']}"}

    return make


def test_nothing_of_an_outer_job_reaches_a_new_one(tmp_path: Path, cluster: Callable[..., dict[str, str]]) -> None:
    outer = {"SLURM_JOB_ID": "1", "SLURM_CPU_BIND": "quiet", "SLURM_MEM_PER_CPU": "10", "SBATCH_EXPORT": "NONE"}
    group = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    own = {"SLURM_CONF": "/etc/slurm/own.conf", "MINE": "yes"}
    result = run_in_process(["run", *WORDS, f"out={tmp_path / 'runs'}"], cluster() | outer | group | own)
    assert result.returncode == 0, result.stderr
    variables = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert not (outer | group).keys() & variables.keys()
    assert {name: variables.get(name) for name in own} == own


def test_outside_of_a_job_the_user_s_own_defaults_stay(tmp_path: Path, cluster: Callable[..., dict[str, str]]) -> None:
    own = {"SBATCH_ACCOUNT": "physics", "SLURM_CLUSTERS": "big"}
    result = run_in_process(["run", *WORDS, f"out={tmp_path / 'runs'}"], cluster() | own)
    assert result.returncode == 0, result.stderr
    assert all(f"{name}={value}" in (tmp_path / "env").read_text().splitlines() for name, value in own.items())


def test_cells_whose_jobs_were_killed_are_submitted_once_more(
    tmp_path: Path, cluster: Callable[..., dict[str, str]]
) -> None:
    result = run_in_process(["run", "--wait", *WORDS, f"out={tmp_path / 'runs'}"], cluster())
    assert result.returncode == 1, result.stderr
    assert "submitted once more, as jobs were killed: 1 cell" in result.stderr
    assert len(list((tmp_path / "submitted").iterdir())) == 2
    assert "job 1 ended: failed (NodeFail)" in result.stderr


@pytest.mark.parametrize(
    "others",
    [
        {"scontrol": "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1"},
        {"sbatch": "echo 'sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying' >&2; exit 1"},
    ],
)
def test_a_controller_that_is_away_or_full_is_no_bad_input(
    others: dict[str, str], tmp_path: Path, cluster: Callable[..., dict[str, str]]
) -> None:
    result = run_in_process(["run", *WORDS, f"out={tmp_path / 'runs'}"], cluster(**others))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: SLURM does not answer: ")
    if "scontrol" in others:
        assert not list((tmp_path / "runs").glob("*/settings.json")), "no cell that a plain `resume` would train here"


def test_what_sbatch_refuses_is_bad_input(tmp_path: Path, cluster: Callable[..., dict[str, str]]) -> None:
    refuses = "echo 'sbatch: error: invalid partition specified: gpus' >&2; exit 1"
    result = run_in_process(["run", *WORDS, f"out={tmp_path / 'runs'}"], cluster(sbatch=refuses))
    assert result.returncode == 2
    assert "invalid partition specified: gpus" in result.stderr
    assert not list((tmp_path / "runs").glob("*-*")), "no cell that a plain `resume` would train here"


def test_of_two_arrays_the_one_that_sbatch_refuses_leaves_no_cells(
    tmp_path: Path, cluster: Callable[..., dict[str, str]]
) -> None:
    once = (
        'cd {here}; n=$(ls submitted | wc -l); if [ $n = 1 ]; then echo "sbatch: error: no more jobs" >&2; exit 1; fi; '
    )
    environment = cluster(
        scontrol="echo 'MaxArraySize = 3'", sbatch=once + COMMANDS["sbatch"].removeprefix("cd {here};")
    )
    result = run_in_process(["run", *WORDS, "seeds=0,1,2,3", f"out={tmp_path / 'runs'}"], environment)
    assert (result.returncode, "no more jobs" in result.stderr) == (2, True), result.stderr
    notes = [json.loads(line)["cells"] for line in (tmp_path / "runs/.slurm/jobs.jsonl").read_text().splitlines()]
    cells = sorted(path.name for path in (tmp_path / "runs").glob("*-*"))
    assert (len(cells), cells) == (2, sorted(name for names in notes for name in names))


def test_a_full_queue_is_said_and_ctrl_c_ends_the_wait(tmp_path: Path, cluster: Callable[..., dict[str, str]]) -> None:
    call = [sys.executable, "-m", "benchmark", "run", *WORDS, f"out={tmp_path / 'runs'}"]
    environment = cluster(sbatch="exec sleep 100000")
    process = subprocess.Popen(call, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "sbatch has not answered" in line)
    assert "where the queue is full" in line
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(PATIENCE) == 130, process.stderr.read()
    assert time.monotonic() - began < PATIENCE / 2
    assert not (tmp_path / "runs" / ".slurm" / "jobs.jsonl").exists()


def test_the_script_quotes_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.launch import cluster

    monkeypatch.setattr(sys, "executable", "/opt/my python/bin/python3")
    out = tmp_path / "runs of $HOME & mine"
    runtime = runtime_words.read_folder([f"out={out}", "launcher=slurm"])
    script = cluster.script(cell_words.read(["methods=random"]).cells, runtime)
    (command,) = [line for line in script.splitlines() if line.startswith("srun ")]
    words = shlex.split(command)
    assert words[-5:] == ["/opt/my python/bin/python3", "-u", "-m", "submitit.core._submit", f"{out}/.slurm/%j"]
    assert all(word.startswith(str(out)) for word in words if "_log." in word)
