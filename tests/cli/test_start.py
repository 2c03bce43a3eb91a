"""Files of the user's with our names, and how threads wait."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from commandline import run_in_subprocess

COMMAND = Path(sysconfig.get_path("scripts")) / "contrastive-benchmark"


@pytest.mark.parametrize("name", ["methods.py", "methods/__init__.py", "results/__init__.py", "slurm.py"])
def test_a_file_with_our_name_is_named(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    """`-P` aside, Python looks into the current folder before it looks anywhere else."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise SystemExit('the user own file was run')\n")
    result = run_in_subprocess(["methods"], environment, tmp_path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path / name.removesuffix("/__init__.py")) in result.stderr
    assert "rename it" in result.stderr
    assert "contrastive-benchmark" in result.stderr


def test_a_folder_of_results_is_in_nobody_s_way(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "table.csv").write_text("a,b\n")
    for path in (environment["PYTHONPATH"], ""):  # as a checkout, and as it is installed for these tests
        result = run_in_subprocess(["report", "out=runs"], environment | {"PYTHONPATH": path}, tmp_path)
        assert "no such folder" in result.stderr


@pytest.mark.skipif(not COMMAND.exists(), reason="the command is not installed")
def test_the_installed_command_looks_nowhere_else(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("methods", "benchmark", "results", "slurm"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the user own file was run')\n")
    result = subprocess.run([COMMAND, "methods"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "simclr" in result.stdout


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, ("passive", "10000", None)),
        ({"OMP_WAIT_POLICY": "active"}, ("active", None, None)),
        ({"GOMP_SPINCOUNT": "5"}, (None, "5", None)),
        ({"KMP_BLOCKTIME": "1"}, (None, None, "1")),
    ],
)
def test_threads_sleep_unless_the_user_says_otherwise(
    variables: dict[str, str], expected: tuple[str | None, ...]
) -> None:
    from benchmark import start

    before = dict(os.environ)
    try:
        for name in start.WAITING:
            os.environ.pop(name, None)
        os.environ |= variables
        start.let_threads_sleep()
        assert tuple(os.environ.get(name) for name in start.WAITING) == expected
    finally:
        os.environ.clear()
        os.environ |= before


def test_it_is_said_before_torch_is_imported() -> None:
    code = "import sys; from benchmark.__main__ import main; main(['methods']); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_float32_is_float32_whatever_the_environment_says(environment: dict[str, str], tmp_path: Path) -> None:
    code = """
import os
from benchmark.__main__ import main
main(["methods"])
import torch
from benchmark.training.engine import has_tf32, configure_device
torch.set_float32_matmul_precision("medium")  # as another package may
configure_device(torch.device("cpu"))
assert torch.get_float32_matmul_precision() == "highest"
assert not has_tf32(torch.device("cpu"))
assert (os.environ["NVIDIA_TF32_OVERRIDE"], os.environ["ONEDNN_DEFAULT_FPMATH_MODE"]) == ("0", "STRICT")
assert "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE" not in os.environ
"""
    wishes = {
        "NVIDIA_TF32_OVERRIDE": "1",
        "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    }
    call = [sys.executable, "-c", code]
    result = subprocess.run(call, env=environment | wishes, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_windows_is_told_what_is_missing(environment: dict[str, str]) -> None:
    script = """import sys; sys.modules["fcntl"] = sys.modules["resource"] = None
from benchmark.__main__ import main
import os; os.name = "nt"
sys.exit(main(["run", "methods=simclr"]))"""
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: Windows has no fcntl")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("deterministic", [False, True])
def test_kernels_of_a_gpu_are_the_fastest_or_such_as_repeat_their_bits(
    environment: dict[str, str], tmp_path: Path, deterministic: bool
) -> None:
    code = f"""
import os
import torch
from benchmark.training.engine import configure_device
torch.cuda.set_device = lambda device: None  # there need not be one
configure_device(torch.device("cuda:0"), {deterministic})
assert torch.backends.cudnn.benchmark is not {deterministic}
assert torch.are_deterministic_algorithms_enabled() is {deterministic}
assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is {deterministic}
"""
    environment.pop("CUBLAS_WORKSPACE_CONFIG", None)
    call = [sys.executable, "-c", code]
    result = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
