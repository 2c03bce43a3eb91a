"""cluster=NAME: a user's file of words below those of the command."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmark.errors import UsageError
from benchmark.settings.runtime import restore_runtime
from benchmark.words import cell_words, runtime_words
from slurm import jobs

FILE = """# the cluster of our lab
launcher=slurm

slurm.partition=gpu
slurm.setup=module load cuda, gcc
threads=4
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """clusters/lab.txt, in the folder one is in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "clusters/lab.txt"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


def test_its_words_count_and_those_of_the_command_go_before(lab: Path) -> None:
    runtime = cell_words.read(["methods=simclr", "cluster=lab", "threads=2", "slurm.timeout_min=30"]).runtime
    assert (runtime.launcher, runtime.threads) == ("slurm", 2)
    assert (runtime.slurm.partition, runtime.slurm.timeout_min) == ("gpu", 30)
    assert runtime.slurm.setup == "module load cuda, gcc", "a comma is part of it"
    assert runtime_words.read_folder(["cluster=lab", "out=here"]).slurm.partition == "gpu"


@pytest.mark.parametrize("name", ["../lab", "/etc/lab", "lab/", ".."])
def test_its_name_is_no_path(lab: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a name is needed"):
        runtime_words.read_folder([f"cluster={name}"])


def test_it_does_not_change_which_cells_are_meant(lab: Path) -> None:
    assert cell_words.read(["methods=simclr", "cluster=lab"]).cells == cell_words.read(["methods=simclr"]).cells


def test_without_slurm_what_it_says_of_slurm_is_left(lab: Path) -> None:
    lab.write_text(FILE + "workers=4")
    runtime = cell_words.read(["methods=simclr", "cluster=lab", "launcher=here"]).runtime
    assert (runtime.launcher, runtime.slurm.partition, runtime.threads) == ("here", "", 4)


def test_the_users_own_folder_is_the_second_place(lab: Path) -> None:
    home = lab.parent.parent / "home/.config/contrastive-benchmark/clusters"
    home.mkdir(parents=True)
    (home / "lab.txt").write_text("threads=1")
    (home / "away.txt").write_text("threads=7")
    assert cell_words.read(["methods=simclr", "cluster=lab"]).runtime.threads == 4
    assert cell_words.read(["methods=simclr", "cluster=away"]).runtime.threads == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs=10", "cluster=lab has epochs=, which does not say how to run"),
        ("slurm.partion=gpu", "did you mean 'slurm.partition'"),
        ("launcher slurm", "'launcher slurm' is not key=value"),
        ("launcher=slrum", "launcher=slrum: allowed are here, local, slurm"),
    ],
)
def test_what_it_may_not_say_is_one_line(lab: Path, text: str, message: str) -> None:
    lab.write_text(text)
    with pytest.raises(UsageError, match=message):
        cell_words.read(["methods=simclr", "cluster=lab"])


def test_an_unknown_one_says_where_it_was_looked_for(lab: Path) -> None:
    with pytest.raises(UsageError, match=r"cluster=lap: no clusters/lap.txt, nor .*did you mean 'lab'"):
        cell_words.read(["methods=simclr", "cluster=lap"])


def test_lists_lines_and_sbatch_s_own_options(lab: Path) -> None:
    lab.write_text(FILE + "slurm.setup=source env, quietly\nslurm.extra.exclude=n1,n2\n")
    words = ["cluster=lab", "slurm.partition=a,b", "slurm.gpus_per_node=2", "slurm.gpu_type=a100"]
    runtime = runtime_words.read_folder([*words, "slurm.extra.exclusive=true"])
    assert runtime.slurm.partition == "a,b"
    assert runtime.slurm.setup == "module load cuda, gcc\nsource env, quietly"
    assert dict(runtime.slurm.extra) == {"exclude": "n1,n2", "exclusive": "true"}
    assert restore_runtime(json.loads(json.dumps(asdict(runtime)))).slurm == runtime.slurm
    lines = jobs.script(2, lab.parent, "benchmark", asdict(runtime.slurm)).splitlines()
    for line in ("--partition=a,b", "--gpus-per-node=a100:2", "--exclude=n1,n2", "--exclusive"):
        assert f"#SBATCH {line}" in lines
    assert not any("wckey" in line for line in lines)
    assert lines.index("module load cuda, gcc") + 1 == lines.index("source env, quietly")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("slurm.extra.array=0-3", "the launcher sets it"),
        ("slurm.extra.partition=gpu", "slurm.partition="),
        ("slurm.extra.-p=gpu", "a long option"),
        ("slurm.gpu_type=a100", "how many"),
    ],
)
def test_what_sbatch_would_misread_is_refused(word: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        runtime_words.read_folder(["launcher=slurm", word])
