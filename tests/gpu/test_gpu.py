"""What only a GPU can show. Skipped without one; `python -m pytest -m gpu` runs just these."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import methods
from benchmark.cells import run
from benchmark.contract import short_training
from benchmark.contract.short_training import StopAt
from benchmark.display.progress import ProgressDisplay
from benchmark.settings.address import hash_cell
from benchmark.settings.runtime import Runtime
from benchmark.training import batchnorm, optim
from benchmark.training import train as loop
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.training.embed import embed
from benchmark.training.engine import Engine, resolve_device, resolve_precision
from benchmark.training.recorded.step import Recorder
from benchmark.training.recorded.views import augmenter
from benchmark.training.stop import Stop, Stopped
from methods.method import Batch, Progress
from methods.parts.losses import info_nce, nt_xent

pytestmark = pytest.mark.gpu
TRAINED = [name for name in methods.names() if methods.describe(name).trains]
WAITING = ("mmcr", "wmse")  # torch looks whether singular values, and a Cholesky factor, were found
GPU = "cuda:0"


def start_epoch(engine: Engine, batches: Batches, at: Progress) -> None:
    with torch.no_grad():
        engine.method.before_epoch(at, lambda f: embed(f, engine, batches))


def move(batch: Batch, device: torch.device) -> Batch:
    labels = None if batch.labels is None else batch.labels.to(device)
    return Batch([view.to(device) for view in batch.views], batch.index.to(device), labels)


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_in_float64_is_the_cpu_s(name: str) -> None:
    """Same weights, same views, made once: what is left is the order of sums and float32 noise of `Chance`."""
    at = Progress(0, 20, 0, 4)
    losses, slopes, batch = [], [], None
    for device in (torch.device("cpu"), torch.device(GPU)):
        engine, batches = short_training.prepare(short_training.settings(name, "precision=fp64"), World(), device)
        engine.method.train()
        start_epoch(engine, batches, at)
        batch = batch or batches.get(0, batches.order(0))
        _, scalars = engine.gradient(move(batch, device), at)
        losses.append(float(scalars["loss"]))
        slopes.append(torch.cat([p.grad.flatten().cpu() for p in engine.method.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert float((slopes[0] - slopes[1]).norm() / slopes[0].norm()) < 1e-5


@pytest.mark.parametrize("record", ["off", "auto"])
@pytest.mark.parametrize("name", [name for name in TRAINED if name not in WAITING])
def test_a_step_does_not_wait_for_the_host(name: str, record: str) -> None:
    """Between two log lines nothing is read back from the device."""
    cell = short_training.settings(name, "precision=bf16")
    engine, batches = short_training.prepare(cell, World(), torch.device(GPU))
    optimiser, recorder = optim.make(engine.method, cell), Recorder(engine, record, print)
    augment = augmenter(batches, record, compiled=False)
    engine.method.train()
    start_epoch(engine, batches, Progress(0, 20, 0, 4))
    order = batches.order(0)

    def step(number: int) -> None:
        at = Progress(number, 20, 0, 4)
        rows, _ = recorder.gradient(augment(batches.fetch(number % batches.per_epoch, order)), at)
        with torch.no_grad():
            engine.method.after_backward(at)
        optimiser.step()
        recorder.after_step(rows, at)

    for number in range(8):  # allocate, tune and record first
        step(number)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(8)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_automatic_device_and_precision() -> None:
    device = resolve_device("auto")
    assert device.type == "cuda"
    assert resolve_precision("auto", device) in ("bf16", "fp32")


def test_losses_agree_with_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    z1, z2, queue = (F.normalize(torch.randn(n, 64, generator=generator).double(), dim=1) for n in (300, 300, 5000))
    for tile in (None, 64):
        assert nt_xent(z1.cuda(), z2.cuda(), 0.1, tile).item() == pytest.approx(nt_xent(z1, z2, 0.1).item(), abs=1e-9)
        ours = info_nce(z1.cuda(), z2.cuda(), queue.cuda(), 0.1, tile=tile).item()
        assert ours == pytest.approx(info_nce(z1, z2, queue, 0.1).item(), abs=1e-9)


def test_sync_batch_norm_is_converted_for_several_processes() -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(4))
    batchnorm.convert(network, "sync", 0, World(rank=0, size=2), 32, "cuda")
    assert isinstance(network[0], torch.nn.SyncBatchNorm)


@pytest.mark.parametrize("name", ["simclr", "moco"])
def test_a_compiled_cell_stops_and_goes_on(name: str, tmp_path: Path) -> None:
    """To the losses of one that was not stopped, in float64."""
    cell, losses = short_training.settings(name, "precision=fp64"), []
    for stops in (False, True):
        folder = tmp_path / str(stops)
        folder.mkdir()
        for stop in (StopAt(5), Stop()) if stops else (Stop(),):
            engine, batches = short_training.prepare(cell, World(), torch.device(GPU))
            engine.compile()
            call = (engine, batches, cell, Runtime(log_every=1), hash_cell(cell), folder, stop, ProgressDisplay(1))
            with pytest.raises(Stopped) if isinstance(stop, StopAt) else nullcontext():
                loop.train(*call)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines])
    assert len(losses[0]) == 8
    assert losses[1] == pytest.approx(losses[0], rel=1e-8)


def test_cells_run_compiled(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(run.__file__).parents[2])}
    words = ["methods=simclr,moco", "backbone=resnet18", "epochs=2", f"out={tmp_path}", "compile=true"]
    call = [sys.executable, "-m", "benchmark", "run", *words]
    result = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr
    for path in tmp_path.glob("*/record.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "finished"
        assert record["cost"]["device"] == torch.cuda.get_device_name()


def test_deterministic_cells_repeat_their_bits(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(run.__file__).parents[2])}
    words = ["methods=simclr,pirl,moco,swav,deepcluster,byol", "backbone=resnet18", "epochs=2", "log_every=1"]
    numbers: list[dict[str, object]] = []
    for out in (tmp_path / "first", tmp_path / "second"):
        call = [sys.executable, "-m", "benchmark", "run", *words, f"out={out}", "deterministic=true"]
        result = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=500)
        assert result.returncode == 0, result.stderr
        numbers.append({})
        for path in sorted(out.glob("*/record.json")):
            lines = [json.loads(line) for line in (path.parent / "log.jsonl").read_text().splitlines()]
            record = json.loads(path.read_text())
            assert record["resolved"]["deterministic"]
            losses = [line["loss"] for line in lines if "loss" in line]
            numbers[-1][path.parent.name] = (losses, record["metrics"], record["correct"])
    assert len(numbers[0]) == 6
    assert numbers[0] == numbers[1]
