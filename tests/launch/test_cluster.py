"""launcher=slurm without a SLURM: what its commands say is put there by the test. The real one is in tests/slurm."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmark.cells import plan
from benchmark.launch import cluster, job_notes
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.words import cell_words, runtime_words
from results import record
from slurm import jobs

CELLS = cell_words.read(["methods=simclr", "seeds=0,1,2"]).cells


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three cells, each with a job of its own, of two people."""
    (tmp_path / job_notes.FOLDER).mkdir()
    for cell in CELLS:
        record.write_json(tmp_path / address.name_folder(cell) / "settings.json", asdict(cell))
    names = [address.name_folder(cell) for cell in CELLS]
    notes = [job_notes.Note(f"7_{i}", [name], record.now(), "me" if i < 2 else "you") for i, name in enumerate(names)]
    text = "".join(json.dumps(note._asdict()) + "\n" for note in notes)
    broken_lines = '[]\n{"job": "8"}\n{"job": "8", "cel'  # and a kill cut the last
    (tmp_path / job_notes.FOLDER / "jobs.jsonl").write_text(text + broken_lines)
    return tmp_path


@pytest.fixture
def answer_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Make squeue say these lines `id|state|reason`, of the users that it is asked for, and sacct what is given."""
    monkeypatch.setattr(cluster.time, "sleep", lambda seconds: None)

    def answer(squeue: str, sacct: str = "") -> None:
        def command(words: list[str]) -> str:
            if words[0] == "squeue":
                users = words[words.index("-u") + 1].split(",")
                return "\n".join(line.partition(" ")[2] for line in squeue.splitlines() if line.split()[0] in users)
            if words[0] == "sacct" and sacct:
                return sacct
            raise jobs.Unavailable(f"{words[0]} is not there")

        monkeypatch.setattr(jobs, "_command", command)

    return answer


def list_states(out: Path) -> list[str]:
    return [plan.read_state(out / address.name_folder(cell)).word for cell in CELLS]


def test_jobs_of_several_people_are_found_and_none_that_lives_is_given_up(
    out: Path, answer_as: Callable[[str, str], None]
) -> None:
    answer_as("me 7_0|RUNNING|None\nme 7_1|PENDING|Priority\nyou 7_2|A_STATE_OF_TOMORROW|None", "")
    states, news = cluster.describe_jobs(out)
    assert news == ""
    assert [states[address.name_folder(cell)] for cell in CELLS] == [
        ("7_0", "running", ""),
        ("7_1", "pending", "Priority"),
        ("7_2", "a_state_of_tomorrow", ""),
    ]
    assert list_states(out) == ["new", "new", "new"]


def test_a_job_that_ended_without_a_record_gets_one_that_says_why(
    out: Path, answer_as: Callable[[str, str], None]
) -> None:
    log = out / job_notes.FOLDER / "7_0" / "7_0_0_log.err"
    log.parent.mkdir()
    log.write_text("step 3\nslurmstepd: error: Step 7.0 exceeded memory limit")
    answer_as("me 7_0|FAILED|NonZeroExitCode\nme 7|CANCELLED|Priority\nyou 8|RUNNING|None", "7_2|TIMEOUT")
    cluster.describe_jobs(out)
    records = [record.read(out / address.name_folder(cell)) for cell in CELLS]
    assert [one and one["reason"] for one in records] == [
        "job 7_0 ended: out of memory",
        "job 7_1 ended: cancelled",
        "job 7_2 ended: cancelled",
    ]
    assert records[0] is not None
    assert records[0]["log"][-1].endswith("exceeded memory limit")
    assert records[0]["key"] == address.hash_cell(CELLS[0])


def test_what_the_controller_has_forgotten_the_accounting_knows(
    out: Path, answer_as: Callable[[str, str], None]
) -> None:
    answer_as("", "7_0|CANCELLED by 0\n7_1|RUNNING\n7_2|TIMEOUT")
    by_id = {job.id: job for job in cluster.find_jobs(out).values()}
    assert [by_id[f"7_{i}"].state for i in range(3)] == ["CANCELLED", "RUNNING", "TIMEOUT"]
    answer_as("")
    assert {job.state for job in cluster.find_jobs(out).values()} == {"gone"}


def test_a_failure_of_an_attempt_before_is_not_the_reason_of_this_one(
    out: Path, answer_as: Callable[[str, str], None]
) -> None:
    folder = out / address.name_folder(CELLS[0])
    cluster.record_failure(folder, "RuntimeError: of old")
    old = record.read(folder)
    assert old is not None
    record.write(folder, old | {"finished": "2001-01-01T00:00:00+00:00"})
    answer_as("me 7_0|TIMEOUT|None\nme 7_1|RUNNING|None\nyou 7_2|RUNNING|None", "")
    cluster.describe_jobs(out)
    new = record.read(folder)
    assert new is not None
    assert new["reason"] == "job 7_0 ended: the time limit"


def test_a_finished_record_is_never_written_over(out: Path) -> None:
    folder = out / address.name_folder(CELLS[0])
    cluster.record_failure(folder, "for now")
    content = record.read(folder)
    assert content is not None
    record.write(folder, content | {"status": "finished", "reason": None})
    cluster.record_failure(folder, "too late")
    assert plan.read_state(folder).word == "finished"


@pytest.mark.parametrize("text", ["{", '{"dataset": {"nmae": "digits"}}', "[]"])
def test_settings_that_cannot_be_read_hinder_no_other_cell(
    text: str, out: Path, answer_as: Callable[[str, str], None]
) -> None:
    path = out / address.name_folder(CELLS[0]) / "settings.json"
    path.write_text(text)
    cells, problems = plan.read_cells(out)
    assert sorted(cell.seed for cell in cells) == [1, 2]
    assert [problem.startswith(f"{path} cannot be read ") for problem in problems] == [True]
    answer_as("", "7_0|TIMEOUT\n7_1|TIMEOUT\n7_2|TIMEOUT")
    cluster.describe_jobs(out)
    assert list_states(out) == ["new", "failed", "failed"]


@pytest.fixture
def job(out: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """One start of a job of the first two cells: at each it is asked to stop, after `writes` wrote to its folder."""
    from benchmark.cells import run

    def start(minutes: int, restarts: int, writes: Callable[[Path], Any] = lambda folder: None) -> bool:
        def ask_to_stop(settings: Settings, place: run.RunContext, title: str) -> None:
            assert title == titles[address.name_folder(settings)]
            writes(out / address.name_folder(settings))
            os.kill(os.getpid(), signal.SIGUSR2)

        words = [f"out={out}", "device=cpu", "launcher=slurm", f"slurm.timeout_min={minutes}"]
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
        monkeypatch.setattr(run, "run", ask_to_stop)
        names = [address.name_folder(cell) for cell in CELLS[:2]]
        runtime = asdict(runtime_words.read_folder(words))
        titles = plan.write_titles(CELLS, short=True)
        argument = {"cells": names, "titles": titles, "runtime": runtime, "submitted": "2001-01-01T00:00:00+00:00"}
        return cluster.work(argument)

    return start


def test_a_job_that_needs_more_time_is_queued_again_while_that_brings_it_on(
    out: Path, job: Callable[..., bool]
) -> None:
    assert job(1, restarts=0)  # the first start may have had to prepare the data
    assert job(1, restarts=1, writes=lambda folder: (folder / "last.pt").touch())
    assert job(240, restarts=2)  # preempted, long before the time limit
    assert list_states(out) == ["interrupted", "new", "new"]


def test_a_cell_that_makes_no_step_in_all_the_time_of_a_job_is_given_up(out: Path, job: Callable[..., bool]) -> None:
    (out / address.name_folder(CELLS[0]) / "last.pt").touch()  # at the last step: its evaluation takes too long
    assert job(1, restarts=1)  # there is another cell
    assert list_states(out) == ["failed", "new", "new"]
    assert not job(1, restarts=2)
    assert list_states(out) == ["failed", "failed", "new"]
    content = record.read(out / address.name_folder(CELLS[0]))
    assert content is not None
    assert content["reason"] == "no step within slurm.timeout_min=1: give more time"
