"""`import benchmark`: what it offers, and that the page on it runs as it is written."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trained_cell
from PIL import Image

import benchmark

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/python.md"


def test_importing_it_imports_little(environment: dict[str, str]) -> None:
    code = "import sys, benchmark; dir(benchmark); print([n for n in ('torch', 'pandas', 'numpy') if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="nothing_of_ours"):
        _ = benchmark.nothing_of_ours


def test_what_cannot_be_meant_is_an_error_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(benchmark.UsageError, match="did you mean 'simclr'"):
        benchmark.run("methods=simclrr", out=tmp_path)
    with pytest.raises(benchmark.UsageError, match="learning_rate="):
        benchmark.run("methods=simclr", lr=0.1, out=tmp_path)
    with pytest.raises(benchmark.UsageError, match="no such folder"):
        benchmark.records(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_page_runs_as_it_is_written(tmp_path: Path, environment: dict[str, str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    small = 'import os\nos.environ["MPLBACKEND"] = "agg"\nimport benchmark\n'
    small += "run = benchmark.run\nbenchmark.run = lambda *words, **more: run(*words, **SMALL | more)\n"
    small += 'SMALL = dict(backbone="test_resnet", view_size=16, threads=1, wandb="off", **{"dataset.limit": 300})\n'
    script = tmp_path / "page.py"
    script.write_text(small + "\n".join(blocks))
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "accuracy.pdf").stat().st_size > 1000
    assert (tmp_path / "runs/report/report.html").exists()
    assert "linear_top1 %" in result.stdout


def test_an_encoder_and_its_transform_give_the_features_of_evaluation(tmp_path: Path) -> None:
    words = ["methods=simclr", "backbone=test_resnet", "view_size=16", "dataset=digits"]
    cell = trained_cell.write(tmp_path / "runs", words)
    photos = tmp_path / "photos"
    photos.mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(generator.integers(0, 255, (50, 40 + number, 3), dtype=np.uint8)).save(photos / f"{number}.png")
    rows = benchmark.features(cell, photos)
    encoder, transform = benchmark.load_encoder(cell)
    with torch.no_grad():
        own = encoder(torch.stack([transform(Image.open(photos / name)) for name in rows["name"]]))
    np.testing.assert_allclose(np.stack(rows["features"]), own.numpy(), atol=1e-5)
