"""A folder that others may write to: what lies in the place of our files leads nowhere and holds nobody up."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
import synthetic
import torch
from commandline import run_in_process

from benchmark.cells import lease, past_costs
from benchmark.launch import job_notes, worker_process
from benchmark.settings import address
from benchmark.training import checkpoint
from benchmark.training.log import Log
from benchmark.words import cell_words
from results import files, record

WORDS = ["methods=random", "dataset=digits", "dataset.limit=60", "backbone=resnet10t", "device=cpu"]


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file outside of the shared folder, which must stay as it is."""
    path = tmp_path / "home/letter.txt"
    path.parent.mkdir()
    path.write_text("mine")
    return path


def write_checkpoint(folder: Path) -> None:
    checkpoint.save(folder, {"key": "a"})


def hold_lease(folder: Path) -> None:
    with lease.hold(folder):
        pass


def write_log(folder: Path) -> None:
    Log(folder / "log.jsonl", 0, True, lambda: None, print).write({"step": 1})


def start_worker(folder: Path) -> None:
    worker_process.WorkerProcess(folder / "worker-0.log").close()


def write_notes(folder: Path) -> None:
    with job_notes.lock(folder):
        job_notes.append(folder, ["1"], [{"cells": ["cell"]}])


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_checkpoint, "last.pt"),
        (write_checkpoint, "last.pt.tmp"),
        (hold_lease, "lock"),
        (hold_lease, "lease.json"),
        (write_log, "log.jsonl"),
        (start_worker, "worker-0.log"),
        (write_notes, ".slurm/jobs.jsonl"),
        (write_notes, ".slurm/lock"),
    ],
)
def test_a_link_in_the_place_of_a_file_changes_nothing_elsewhere(
    write: Callable[[Path], None], name: str, tmp_path: Path, victim: Path
) -> None:
    (tmp_path / "cell" / name).parent.mkdir(parents=True)
    (tmp_path / "cell" / name).symlink_to(victim)
    with contextlib.suppress(OSError):
        write(tmp_path / "cell")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("random-digits-KEY", ["run", *WORDS]),
        (".local", ["run", *WORDS, "launcher=local", "workers=1"]),
        ("report", ["report"]),
        ("report/figures", ["report"]),
    ],
)
def test_a_link_in_the_place_of_a_folder_leads_nowhere(
    name: str, words: list[str], tmp_path: Path, victim: Path, environment: Mapping[str, str]
) -> None:
    out = tmp_path / "out"
    synthetic.write(2, out)
    link = out / name.replace("KEY", address.hash_cell(cell_words.read(WORDS).cells[0]))
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(victim.parent)
    result = run_in_process([*words, f"out={out}"], environment)
    assert (result.returncode, "a link, which is not followed" in result.stderr) == (1, True)
    assert [path.name for path in victim.parent.iterdir()] == [victim.name]


def test_a_lock_is_not_emptied(tmp_path: Path) -> None:
    os.link(_write(tmp_path / "letter.txt", "mine"), tmp_path / "lock")
    hold_lease(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["record.json", "evaluation.json", "settings.json", "log.jsonl", "lock", "lease.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder"])
def test_what_is_no_file_is_never_waited_for(
    name: str, kind: str, tmp_path: Path, environment: Mapping[str, str]
) -> None:
    cell = cell_words.read(WORDS).cells[0]
    folder = tmp_path / address.name_folder(cell)
    record.write_json(folder / "settings.json", asdict(cell))
    (folder / name).unlink(missing_ok=True)
    make: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "device": lambda path: path.symlink_to("/dev/zero"),
        "link": lambda path: path.symlink_to(folder),
        "folder": Path.mkdir,
    }
    make[kind](folder / name)
    for command in ("status", "report"):
        assert run_in_process([command, f"out={tmp_path}"], environment).returncode == 0


def test_a_checkpoint_that_is_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "last.pt")
    with pytest.raises(ValueError, match="is no checkpoint"):
        checkpoint.load(tmp_path, "a", torch.device("cpu"))


def test_notes_on_jobs_are_their_users_alone_and_name_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_notes(tmp_path)
    assert stat.S_IMODE((tmp_path / ".slurm").stat().st_mode) == 0o700
    assert list(job_notes.read_latest(tmp_path)) == ["cell"]
    sound = job_notes.Note("7", ["other"], record.now(), "me")._asdict()
    bad = [{"cells": ["../home"]}, {"cells": [".."]}, {"cells": "x"}, {"job": "--me"}, {"job": 7}, {"user": "-M all"}]
    lines = [json.dumps(sound | one) for one in bad]
    _write(tmp_path / ".slurm/jobs.jsonl", "\n".join([*lines, json.dumps(sound), "[" * 10**5]))
    assert list(job_notes.read_latest(tmp_path)) == ["other"]
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert job_notes.read_latest(tmp_path) == {}, "another's notes are not ours to act on"
    assert job_notes.locate(tmp_path).name.startswith(".slurm-")


def test_cells_are_listed_though_the_notes_on_jobs_cannot_be_read(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    """What acts on jobs says so and does nothing."""
    synthetic.write(1, tmp_path)
    write_notes(tmp_path)
    notes = tmp_path / ".slurm/jobs.jsonl"
    notes.unlink()
    os.mkfifo(notes)
    listing = run_in_process(["status", f"out={tmp_path}"], environment)
    assert (listing.returncode, "finished" in listing.stdout) == (0, True)
    assert f"which jobs there are cannot be read (no regular file: {notes})" in listing.stderr
    refusal = run_in_process(["cancel", f"out={tmp_path}"], environment)
    assert (refusal.returncode, refusal.stderr) == (1, f"error: [Errno 22] no regular file: '{notes}'\n")


def test_a_folder_cannot_name_what_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]
) -> None:
    package = tmp_path / "stranger"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    (package / "mine.py").write_text("from methods.method import Method\n\n\nclass Mine(Method):\n    trains = False\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    out = tmp_path / "out"
    synthetic.write(1, out)
    (path,) = out.glob("*/record.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"settings": content["settings"] | {"method": "stranger.mine"}}))
    cell = asdict(cell_words.read(WORDS).cells[0]) | {"method": "stranger.mine"}
    record.write_json(out / "stranger.mine-digits-1" / "settings.json", cell)
    for command in (["status"], ["report"], ["resume"], ["resume", "launcher=local"]):
        result = run_in_process([*command, f"out={out}"], environment)
        assert result.returncode == 2 * (command[0] == "resume"), result.stderr
        assert ("add trust=stranger.mine" in result.stderr) == (command[0] == "resume")
    assert past_costs.read(out) == []
    assert not (tmp_path / "imported").exists()
    result = run_in_process(["resume", f"out={out}", "trust=stranger.mine"], environment)
    assert "trust=" not in result.stderr
    assert (tmp_path / "imported").exists()


def test_a_file_is_replaced_whole_under_a_name_that_cannot_be_guessed(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        with files.replace(tmp_path / "a") as file:
            file.write(b"whole")
            names += [path.name for path in tmp_path.glob(".a.*.tmp")]
    assert len(set(names)) == 2
    with pytest.raises(TypeError), files.replace(tmp_path / "a") as file:
        file.write("part")  # type: ignore[arg-type]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "whole")]


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_same_words_again_show_the_table_though_a_copy_lies_before_it_or_say_why_there_is_none(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """As a second person types them where all is finished, or all is another's work."""
    out = tmp_path / "runs"
    words = ["run", "methods=pixels", "dataset.limit=60", "device=cpu", f"out={out}"]
    cell = address.name_folder(cell_words.read(words[1:]).cells[0])
    with lease.hold(out / cell):
        result = run_in_process(words, environment, tmp_path)
    assert (result.returncode, result.stdout.startswith("no table: none of these cells has a record yet")) == (3, True)
    assert f"no record: {cell}: running" in result.stderr
    assert run_in_process(words, environment, tmp_path).returncode == 0
    shutil.copytree(out / cell, out / "a copy" / cell)
    second = run_in_process(words, environment, tmp_path)
    assert (second.returncode, "top-1" in second.stdout, "pixels" in second.stdout) == (0, True, True)
    assert "[1/" not in second.stderr


def test_another_user_s_unfinished_cell_is_said_and_the_others_run(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", *WORDS, "seeds=0,1", f"out={tmp_path}"]
    theirs, own = (address.name_folder(cell) for cell in cell_words.read(words[1:]).cells)
    open_lock = files.open_lock

    def refuse(path: Path) -> object:  # root may write anywhere
        if path.parent.name == theirs:
            raise PermissionError(13, "Permission denied", str(path))
        return open_lock(path)

    monkeypatch.setattr(files, "open_lock", refuse)
    result = run_in_process(words, environment, tmp_path)
    assert result.returncode == 3, result.stderr
    assert f"{theirs}/lock cannot be written to (Permission denied); left as it is" in result.stderr
    assert f"no record: {theirs}: new" in result.stderr
    assert (tmp_path / own / "record.json").exists()
