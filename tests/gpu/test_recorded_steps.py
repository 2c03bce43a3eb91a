"""A step recorded as a CUDA graph beside the same step launched kernel by kernel."""

import json
from pathlib import Path

import pytest
import torch

import methods
from benchmark.cells.validation_curve import METRIC, ValidationCurve
from benchmark.contract import short_training
from benchmark.display.progress import ProgressDisplay
from benchmark.settings.address import hash_cell
from benchmark.settings.runtime import Runtime
from benchmark.training import build, optim
from benchmark.training import train as loop
from benchmark.training.distributed import World
from benchmark.training.embed import embed
from benchmark.training.recorded.step import Recorder
from benchmark.training.recorded.views import RecordedViews, can_record
from benchmark.training.stop import Stop
from methods.method import Progress

pytestmark = pytest.mark.gpu
TRAINED = [name for name in methods.names() if methods.describe(name).trains]
NOT_RECORDED = {"mmcr": "_linalg_svd", "wmse": "_linalg_check_errors"}  # and why
# 25 epochs of the small task: what happens at an epoch's start happens between recorded steps.
STEPS = 50
# By how much weights that differ in the last digit of float64 move a loss, on a CPU: in ten steps by less than 1e-10,
# in fifty by less than 1e-8, but for those here.
FEWER_STEPS = {"barlow_twins": 10, "corinfomax": 10, "mmcr": 10, "vibcreg": 10, "visreg": 10}


def train(
    name: str, mode: str, *words: str, compiled: bool = False, steps: int = STEPS
) -> tuple[list[float], Recorder, list[str]]:
    """The losses of a short training, as `train.train` takes its steps."""
    cell = short_training.settings(name, f"epochs={steps // 2}", *words)
    engine, batches = short_training.prepare(cell, World(), torch.device("cuda:0"))
    if compiled:
        engine.compile()
    optimiser, notes, values = optim.make(engine.method, cell), [], []
    recorder = Recorder(engine, mode, notes.append)
    engine.method.train()
    for step in range(steps):
        at = Progress(step, steps, step // batches.per_epoch, steps // batches.per_epoch)
        if step % batches.per_epoch == 0:
            torch.manual_seed(at.epoch)
            with torch.no_grad():
                engine.method.before_epoch(at, lambda f: embed(f, engine, batches))
        for group in optimiser.param_groups:
            group["lr"] = optim.learning_rate(step, steps, cell)
        optimiser.zero_grad(set_to_none=True)
        rows, scalars = recorder.gradient(batches.get(step, batches.order(at.epoch)), at)
        with torch.no_grad():
            engine.method.after_backward(at)
        optimiser.step()
        recorder.after_step(rows, at)
        values.append(scalars["loss"])
    return torch.stack(values).tolist(), recorder, notes


@pytest.mark.parametrize("name", TRAINED)
def test_recorded_steps_are_the_same_steps(name: str) -> None:
    """In float64, where the order in which a kernel adds does not show."""
    steps = FEWER_STEPS.get(name, STEPS)
    usual, _, _ = train(name, "off", "precision=fp64", steps=steps)
    recorded, recorder, notes = train(name, "auto", "precision=fp64", steps=steps)
    assert recorded == pytest.approx(usual, rel=1e-8)
    if name in NOT_RECORDED:
        assert NOT_RECORDED[name] in str(recorder.obstacle)
        assert len(notes) == 1, "it is said once"
    else:
        assert recorder.recording is not None, recorder.obstacle


@pytest.mark.parametrize("name", ["simclr", "moco", "swav"])
def test_an_accuracy_between_recorded_steps_changes_no_loss(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses, device = [], torch.device("cuda:0")
    for every in ("0", "1"):
        cell, display, folder = short_training.settings(name, "precision=fp64"), ProgressDisplay(1), tmp_path / every
        engine, batches = short_training.prepare(cell, World(), device)
        runtime, data = Runtime(log_every=1, evaluate_every=every), build.load_dataset(cell.dataset)
        curve = ValidationCurve(cell, runtime, engine.method, data, batches, "fp64", folder, display)
        folder.mkdir()
        loop.train(engine, batches, cell, runtime, hash_cell(cell), folder, Stop(), display, measure=curve.ask)
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert sum(METRIC in line for line in lines) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-8)
    assert capsys.readouterr().err == "", "all is recorded, and evaluated"


VARIANTS = {
    "pcl behind its warm-up": ("pcl", "pcl.warmup_epochs=2", "pcl.negative_prototypes=8"),
    "swav with a queue": ("swav", "swav.queue=64", "swav.queue_start=1"),
    "a transformer": ("simclr", "backbone=test_vit", "stem=small"),
    "adamw": ("simclr", "optimiser=adamw", "learning_rate=0.001"),
    "lars": ("simclr", "optimiser=lars"),
    "prototypes frozen for an epoch": ("swav", "swav.freeze=1"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_recorded_steps_of_a_variant_are_the_same_steps(variant: str) -> None:
    name, *words = VARIANTS[variant]
    usual, _, _ = train(name, "off", "precision=fp64", *words)
    recorded, recorder, _ = train(name, "auto", "precision=fp64", *words)
    assert recorder.recording is not None, recorder.obstacle
    assert recorded == pytest.approx(usual, rel=1e-8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_transformer_is_recorded(precision: str) -> None:
    """By the kernels of attention that a run has there, other ones than in float64."""
    words = ("backbone=test_vit", "stem=small", f"precision={precision}")
    usual, _, _ = train("simclr", "off", *words, steps=10)
    recorded, recorder, _ = train("simclr", "auto", *words, steps=10)
    assert recorder.recording is not None, recorder.obstacle
    assert recorded == pytest.approx(usual, rel=0.1, abs=0.05)


@pytest.mark.parametrize("name", TRAINED)
def test_recorded_steps_in_bf16_are_near(name: str) -> None:
    usual, _, _ = train(name, "off", "precision=bf16", steps=10)
    recorded, _, _ = train(name, "auto", "precision=bf16", steps=10)
    assert recorded == pytest.approx(usual, rel=0.1, abs=0.05)


@pytest.mark.parametrize("name", ["simclr", "moco", "byol", "dino"])
def test_a_recorded_step_is_some_launches_of_the_host(name: str) -> None:
    """Gradient, optimiser and hooks; the views are one more, and one copy."""
    cell = short_training.settings(name)
    engine, batches = short_training.prepare(cell, World(), torch.device("cuda:0"))
    optimiser, recorder = optim.make(engine.method, cell), Recorder(engine, "on", print)
    batch = batches.get(0, batches.order(0))
    for step in range(8):
        at = Progress(step, 20, step // 2, 10)
        with torch.profiler.profile() as profiler:
            rows, _ = recorder.gradient(batch, at)
            optimiser.step()
            recorder.after_step(rows, at)
            torch.cuda.synchronize()
    launches = [event.name for event in profiler.events() if event.name.startswith(("cudaLaunch", "cudaGraphLaunch"))]
    assert 1 <= len(launches) <= 20, launches


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("name", "augmentation"),
    [
        ("swav", "simclr_cifar"),
        ("swav", "byol+rotate+sobel+noise+cutout"),
        ("swav", "swav+2x16"),
        ("pirl", "pirl"),
        ("jigsaw", "pirl"),
    ],
)
def test_recorded_views_are_the_usual_ones(name: str, augmentation: str, compiled: bool) -> None:
    """Up to rounding, which may put a pixel on the other side of solarisation's threshold."""
    cell = short_training.settings(name, f"augmentation={augmentation}")
    _, batches = short_training.prepare(cell, World(), torch.device("cuda:0"))
    assert can_record(batches)
    recorded, order = RecordedViews(batches, compiled), batches.order(0)
    for step in range(6):
        fetched = batches.fetch(step % batches.per_epoch, order)
        usual, batch = batches.augment(fetched), recorded(fetched)
        assert torch.equal(batch.index, usual.index)
        for own, view in zip(batch.views, usual.views, strict=True):
            assert own.stride() == view.stride()
            assert ((own - view).abs() < 1e-3).float().mean() > 0.999
    assert recorded.replay is not None


@pytest.mark.parametrize("name", ["simclr", "byol", "moco"])  # the last with batch norm over groups
def test_a_recorded_step_holds_what_was_compiled(name: str) -> None:
    """Kernels of the compiler are in the graph, and losses are those of the usual step."""
    usual, _, _ = train(name, "off", "precision=fp64", steps=10)
    compiled, recorder, _ = train(name, "auto", "precision=fp64", compiled=True, steps=10)
    assert compiled == pytest.approx(usual, rel=1e-8)
    assert recorder.recording is not None, recorder.obstacle
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        recorder.recording.graph.launch()
        torch.cuda.synchronize()
    assert any("triton" in event.name for event in profiler.events()), "nothing of it was compiled"
