"""A failure says why: whose reason a record keeps, which line of it, and what the environment says of processes."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from commandline import run_in_process, run_in_subprocess

from benchmark.errors import LONGEST, explain

FAILING = '''"""A method that fails in one of two processes."""
import os
from methods.method import Method

class Failing(Method):
    views = ("crop",)

    def forward(self, batch, at):
        if at.step == 1 and os.environ["RANK"] == "1":
            raise ValueError("Error(s) in loading state_dict for Head:\\n\\tsize mismatch for w: (8, 4) against (8, 2)")
        return {"features": self.encoder(batch.views[0])}

    def loss(self, rows, at):
        return {"loss": rows["features"].square().mean()}
'''
SMALL = ["dataset.limit=60", "view_size=16", "backbone=test_resnet", "stem=native", "batch_size=8", "epochs=1"]


@pytest.mark.slow
def test_the_reason_is_that_of_the_process_that_failed_first(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "failing.py").write_text(FAILING)
    both = environment | {"PYTHONPATH": f"{environment['PYTHONPATH']}:{tmp_path}"}
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    words = ["run", "methods=extra.failing", *SMALL, "augmentation=flip", "threads=1", f"out={tmp_path / 'runs'}"]
    result = run_in_subprocess(words, both, launcher=launcher)
    assert result.returncode == 1, result.stderr
    (path,) = tmp_path.glob("runs/*/record.json")
    reason = "ValueError: Error(s) in loading state_dict for Head: size mismatch for w: (8, 4) against (8, 2)"
    assert json.loads(path.read_text())["reason"] == reason
    assert "ValueError: Error(s)" in path.with_name("error.txt").read_text()


def test_of_a_long_error_both_ends_are_kept_and_one_without_words_says_where() -> None:
    text = explain(
        RuntimeError("while stepping\n" + "frame\n" * 1000 + "mat1 and mat2 cannot be multiplied (3x4, 5x6)")
    )
    assert text.startswith("RuntimeError: while stepping frame")
    assert text.endswith("cannot be multiplied (3x4, 5x6)")
    assert len(text) < LONGEST + 30
    with pytest.raises(AssertionError) as error:
        assert not text
    error.value.args = ()
    assert explain(error.value).startswith("AssertionError: assert not text (")
    assert "test_reasons.py:" in explain(error.value)


@pytest.mark.parametrize(
    ("variables", "parts"),
    [
        ({"RANK": "0"}, "RANK=0, and no WORLD_SIZE, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "8"}, "unset WORLD_SIZE"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "no MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "4", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK=4, WORLD_SIZE=4"),
        ({"RANK": "0", "WORLD_SIZE": "x"}, "WORLD_SIZE=x, and no MASTER_ADDR, MASTER_PORT"),
        ({"RANK": "x", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK=x"),
        ({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": ""}, "MASTER_PORT="),
    ],
)
def test_half_a_group_of_processes_is_one_sentence(
    variables: dict[str, str], parts: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    for command in (["run"], ["plan", "--quick"]):
        words = [*command, "methods=simclr", "batch_norm=local", f"out={tmp_path / 'runs'}"]
        result = run_in_process(words, environment | variables)
        assert result.returncode == 2
        assert result.stderr.splitlines()[-1].startswith("error: the environment has ")
        assert parts in result.stderr
        assert "for one process: unset " in result.stderr
    assert not (tmp_path / "runs").exists()


def test_processes_that_do_not_find_each_other_are_one_sentence(tmp_path: Path, environment: dict[str, str]) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        group = {
            "RANK": "0",
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(server.getsockname()[1]),
        }
        result = run_in_process(
            ["run", "methods=random", "device=cpu", f"out={tmp_path / 'runs'}"], environment | group
        )
    assert result.returncode == 2
    assert "note: RANK=0 of WORLD_SIZE=2 at 127.0.0.1:" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: RANK=0 of WORLD_SIZE=2 at 127.0.0.1:")
    assert "EADDRINUSE" in result.stderr


@pytest.mark.parametrize("variables", [{"RANK": "3"}, {"RANK": "3", "WORLD_SIZE": "8"}, {"MASTER_ADDR": "login1"}])
def test_what_nobody_launched_with_is_said_and_hinders_nothing(
    variables: dict[str, str], tmp_path: Path, environment: dict[str, str]
) -> None:
    words = ["evaluate", f"out={tmp_path}", "device=cpu"]
    result = run_in_process(words, environment | variables)
    assert result.returncode == 0, result.stderr
    assert "0 finished cells" in result.stderr
    assert all(f"{name}={value}" in result.stderr for name, value in variables.items())
    refusal = run_in_process(words, environment | variables | {"TORCHELASTIC_RUN_ID": "none"})
    assert (refusal.returncode, refusal.stderr) == (
        2,
        "error: evaluate is one process's work: run it without torchrun\n",
    )


def test_an_error_is_said_whatever_rank_a_shell_still_has(tmp_path: Path, environment: dict[str, str]) -> None:
    group = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    result = run_in_process(["report", f"out={tmp_path / 'none'}"], environment | group)
    assert (result.returncode, "no such folder" in result.stderr) == (2, True)
