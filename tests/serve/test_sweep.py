"""What the live page is told of a folder: every state, logs as they grow, and that nothing is written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import sweep_folder
from commandline import wait_until

from benchmark.launch import job_notes
from benchmark.serve import jobs, logs
from benchmark.serve import sweep as sweeps
from benchmark.serve.sweep import Sweep
from results import record
from slurm import jobs as slurm_jobs


@pytest.fixture(autouse=True)
def every_look_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "FRESH", 0.0)


def list_rows(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """Method and label -> row."""
    text = json.dumps(sweep.state(), allow_nan=False)
    assert "0.4321" not in text, "no accuracy on test images while settings can still be changed"
    return {f"{row['method']} {row['label']}": row for row in json.loads(text)["cells"]}


def take_snapshot(out: Path) -> dict[str, tuple[int, int, int]]:
    """Every file and folder, whose time changes with what is in it."""
    paths = [out, *out.rglob("*")]
    return {str(path): (path.stat().st_ino, path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


def test_every_state_is_told_with_what_is_known_of_it(tmp_path: Path) -> None:
    folders = [sweep_folder.write_waiting(tmp_path, "simclr", seed) for seed in range(8)]
    _, running, evaluating, _, finished, failed, collapsed, stopped = folders
    for folder, steps in zip(folders[1:], (120, 200, 100, 200, 20, 200, 80), strict=True):
        sweep_folder.log(folder, steps)
    sweep_folder.hold(running, "gpu-07", "12_3")
    sweep_folder.hold(evaluating)
    sweep_folder.end(finished, accuracy=0.75)
    sweep_folder.end(failed, "failed", "out of memory")
    sweep_folder.end(collapsed, "collapsed", "effective rank 1.0")
    sweep_folder.end(stopped, "stopped", "validation kNN 12.0 % at epoch 4")
    broken = sweep_folder.write_waiting(tmp_path, "moco")
    (broken / "record.json").write_text("{")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    settings = {
        "method": ["<b>"],
        "options": 3,
        "dataset": {"name": None},
        "epochs": 10**90,
        "weights": 4,
        "view_size": {},
    }
    (stranger / "settings.json").write_text(json.dumps(settings))
    (stranger / "log.jsonl").write_text(
        '{"step": 1e99, "steps": 0, "epoch": "x", "loss": [], "images_per_second": 0}\n'
    )
    before = take_snapshot(tmp_path)
    by_name = list_rows(Sweep(tmp_path))
    assert take_snapshot(tmp_path) == before, "nothing was written"
    each = [by_name[f"simclr seed={seed}"] for seed in range(8)]
    words = ["new", "running", "running", "interrupted", "finished", "failed", "collapsed", "stopped"]
    assert [row["state"] for row in each] == words
    assert [row["name"] for row in each] == [folder.name for folder in folders]
    assert by_name["moco seed=0"]["state"] == "broken"
    assert "record.json" in by_name["moco seed=0"]["reason"]
    assert by_name["stranger "]["state"] == "interrupted", "what cannot be meant hinders no other cell"

    assert (each[0]["epoch"], each[0]["epochs"], each[0]["loss"], each[0]["knn"]) == (None, 10, None, None)
    assert (each[1]["epoch"], each[1]["where"]) == (6.0, "gpu-07, job 12_3")
    assert each[1]["loss"] == pytest.approx(2.1157, abs=1e-3)
    assert each[1]["knn"] == pytest.approx(0.8323, abs=1e-3)
    assert 0 <= each[1]["left"] <= 80, "80 steps of 64 images at 64 images a second"
    assert [row["evaluates"] for row in each] == [False, False, True, *[False] * 5]
    assert (each[2]["left"], each[3]["left"], each[3]["where"]) == (None, None, "")
    assert (each[4]["linear"], each[4]["took"]) == (0.75, 120)
    reasons = ["out of memory", "effective rank 1.0", "validation kNN 12.0 % at epoch 4"]
    assert [row["reason"] for row in each[5:]] == reasons
    assert Sweep(tmp_path).state()["left"] > 80, "cells that wait take their time too"


def test_a_torn_line_changes_nothing_until_it_is_whole(tmp_path: Path) -> None:
    folder = sweep_folder.write_waiting(tmp_path, "simclr")
    sweep_folder.log(folder, 40)
    sweep_folder.hold(folder)
    sweep = Sweep(tmp_path)
    before = sweep.state()["cells"][0]
    line = json.dumps({"step": 60, "steps": 200, "epoch": 2, "loss": 0.5, "images_per_second": 64.0})
    with (folder / "log.jsonl").open("a") as file:
        file.write(line[:30])
    torn = sweep.state()["cells"][0]
    assert (torn["loss"], torn["epoch"]) == (before["loss"], before["epoch"]) == (pytest.approx(4.0327, abs=1e-3), 2.0)
    assert len(sweep.curves([folder.name])[folder.name]["loss"]) == 2
    with (folder / "log.jsonl").open("a") as file:
        file.write(line[30:] + "\n")
    whole = sweep.state()["cells"][0]
    assert (whole["loss"], whole["epoch"], whole["knn"]) == (0.5, 3.0, before["knn"])
    assert sweep.curves([folder.name])[folder.name]["loss"][-1] == (3.0, 0.5)


def test_cells_come_and_go_and_end_while_it_looks(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    assert sweep.state()["cells"] == []
    first = sweep_folder.write_waiting(tmp_path, "simclr")
    assert list(list_rows(sweep)) == ["simclr "]
    second = sweep_folder.write_waiting(tmp_path, "simclr", 1)
    assert sorted(list_rows(sweep)) == ["simclr seed=0", "simclr seed=1"]
    sweep_folder.hold(first)
    assert list_rows(sweep)["simclr seed=0"]["state"] == "running"
    sweep_folder.end(first)
    assert list_rows(sweep)["simclr seed=0"]["state"] == "finished"
    (first / "record.json").unlink()  # as somebody does who wants it again
    assert list_rows(sweep)["simclr seed=0"]["state"] == "new"
    for path in (*second.iterdir(), second):
        path.unlink() if path.is_file() else path.rmdir()
    assert [row["name"] for row in sweep.state()["cells"]] == [first.name]
    assert sweep.curves([second.name, "../elsewhere"]) == {}


def test_what_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    folder = sweep_folder.write_waiting(tmp_path, "simclr")
    sweep_folder.end(folder)
    sweep = Sweep(tmp_path)
    assert sweep.state()["cells"][0]["state"] == "finished"
    path, text = folder / "record.json", (folder / "record.json").read_text()
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with path.open("r+") as file:
        file.write("x" * len(text))
    os.utime(path, ns=times)
    assert sweep.state()["cells"][0]["state"] == "finished"
    os.utime(path)
    assert sweep.state()["cells"][0]["state"] == "broken"


def test_a_log_that_is_written_anew_begins_its_curves_again(tmp_path: Path) -> None:
    folder = sweep_folder.write_waiting(tmp_path, "simclr")
    sweep_folder.log(folder, 200)
    sweep = Sweep(tmp_path)
    sweep.state()
    before = sweep.curves([folder.name])[folder.name]
    assert [at for at, _ in before["loss"]] == [float(epoch) for epoch in range(1, 11)]
    assert [at for at, _ in before["accuracy"]] == [2, 4, 6, 8, 10]
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    record.write_whole(folder / "log.jsonl", "".join(lines[:3]).encode())  # as a cell that is resumed does
    assert sweep.state()["cells"][0]["epoch"] == 2.0
    assert sweep.curves([folder.name])[folder.name] == {"loss": before["loss"][:2], "accuracy": before["accuracy"][:1]}


def test_long_curves_are_thinned_and_odd_values_are_left_out(tmp_path: Path) -> None:
    folder = sweep_folder.write_waiting(tmp_path, "simclr")
    lines = [{"step": step, "steps": 5000, "loss": 1 / step} for step in range(1, 4998)]
    others = [{"step": 4998, "steps": 5000, "loss": float("nan")}, {"step": [], "loss": "<b>"}, {"loss": 10**400}, []]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, *others]))
    sweep = Sweep(tmp_path)
    row = json.loads(json.dumps(sweep.state(), allow_nan=False))["cells"][0]
    assert (row["loss"], row["epoch"]) == (None, None), "of the last line with a loss"
    loss = sweep.curves([folder.name])[folder.name]["loss"]
    assert logs.POINTS < len(loss) <= 2 * logs.POINTS + 1
    assert loss[0] == (0.002, 1.0)
    assert loss[-1] == (9.994, pytest.approx(1 / 4997, rel=1e-5))
    assert loss == sorted(loss)


def test_the_clusters_jobs_are_told_and_no_record_is_written_of_one_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [sweep_folder.write_waiting(tmp_path, "simclr", seed) for seed in range(2)]
    notes = [job_notes.Note(f"7_{i}", [folder.name], record.now(), "me") for i, folder in enumerate(folders)]
    (tmp_path / job_notes.FOLDER).mkdir()
    (tmp_path / job_notes.FOLDER / "jobs.jsonl").write_text("".join(json.dumps(n._asdict()) + "\n" for n in notes))
    monkeypatch.setattr(slurm_jobs, "_command", lambda words: "7_0|PENDING|Priority\n7_1|TIMEOUT|None\n")
    monkeypatch.setattr(jobs, "ASKED", 0.0)
    sweep, before = Sweep(tmp_path), take_snapshot(tmp_path)
    wait_until(lambda: list_rows(sweep)["simclr seed=0"]["where"], "SLURM is not asked")
    assert list_rows(sweep)["simclr seed=0"]["where"] == "job 7_0 pending (Priority)"
    assert list_rows(sweep)["simclr seed=1"]["where"] == "job 7_1 timeout"
    assert take_snapshot(tmp_path) == before

    def fail(words: list[str]) -> str:
        raise slurm_jobs.Unavailable("the controller is away")

    monkeypatch.setattr(slurm_jobs, "_command", fail)
    wait_until(lambda: sweep.state()["news"], "no news of SLURM")
    assert sweep.state()["news"] == "SLURM does not answer (the controller is away)"
    assert list_rows(sweep)["simclr seed=0"]["where"] == "job 7_0"
