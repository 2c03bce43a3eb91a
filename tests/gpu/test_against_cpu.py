"""What the GPU computes beside the CPU: clusters, probe, neighbours, measures, optimisers, micro-batches."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

import methods
from benchmark.contract import short_training
from benchmark.evaluate import knn, linear, representation
from benchmark.evaluate.features import Features
from benchmark.training import optim
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.training.embed import embed
from benchmark.training.engine import Engine
from methods.method import Progress
from methods.parts.kmeans import kmeans
from methods.parts.sinkhorn import sinkhorn

pytestmark = pytest.mark.gpu
TRAINED = [name for name in methods.names() if methods.describe(name).trains]
AT = Progress(0, 20, 0, 4)


def start_epoch(engine: Engine, batches: Batches) -> None:
    with torch.no_grad():
        engine.method.before_epoch(AT, lambda f: embed(f, engine, batches))


def draw_blobs(count: int, width: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows (count, width) float32 around a centre a class, and their labels (count,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=generator)
    centres = 2 * torch.randn(classes, width, generator=torch.Generator().manual_seed(100))
    return centres[labels] + torch.randn(count, width, generator=generator), labels


def draw_features(device: str) -> Features:
    parts = [draw_blobs(count, 64, 5, seed) for seed, count in enumerate((900, 150, 300))]
    return Features(*((x.to(device), y.to(device)) for x, y in parts), classes=5)


@pytest.mark.parametrize("spherical", [True, False])
def test_clusters_are_the_cpu_s(spherical: bool) -> None:
    x = draw_blobs(2000, 32, 10)[0].double()
    results = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        results.append(kmeans(x.to(device), 10, 10, spherical))
    torch.testing.assert_close(results[0][0], results[1][0].cpu(), rtol=0, atol=1e-9)
    assert torch.equal(results[0][1], results[1][1].cpu())


def test_clusters_are_the_same_bits_each_time() -> None:
    """Ranks must agree, so sums are taken in a fixed order."""
    x = draw_blobs(5000, 64, 20)[0].cuda()
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        results.append(kmeans(x, 20, 5, True))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_codes_are_the_cpu_s() -> None:
    scores = torch.randn(256, 100, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sinkhorn(scores, 0.05, 3), sinkhorn(scores.cuda(), 0.05, 3).cpu(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("evaluate", [linear.evaluate, knn.evaluate], ids=["linear", "knn"])
def test_an_evaluator_gives_the_cpu_s_numbers(evaluate: Callable[[Features], Iterator[tuple[str, float]]]) -> None:
    cpu, gpu = dict(evaluate(draw_features("cpu"))), dict(evaluate(draw_features("cuda")))
    assert cpu.keys() == gpu.keys()
    for name, value in cpu.items():
        assert gpu[name] == pytest.approx(value, abs=1 / 150 + 1e-9), name  # one image may lie on a boundary


def test_the_probe_s_loss_is_the_cpu_s() -> None:
    x, y = draw_blobs(1000, 32, 5)
    strengths = torch.tensor([1e-4, 1e-2, 1.0])
    cpu, gpu = linear.fit(x, y, 5, strengths), linear.fit(x.cuda(), y.cuda(), 5, strengths)
    torch.testing.assert_close(cpu.loss, gpu.loss.cpu(), rtol=0, atol=2e-5)


def test_measures_of_features_are_the_cpu_s() -> None:
    x, other = draw_blobs(300, 64, 5)[0], draw_blobs(300, 64, 5, seed=1)[0]
    assert representation.effective_rank(x.cuda()) == pytest.approx(representation.effective_rank(x), rel=1e-6)
    assert representation.uniformity(x.cuda()) == pytest.approx(representation.uniformity(x), rel=1e-5)
    assert representation.alignment(x.cuda(), other.cuda()) == pytest.approx(
        representation.alignment(x, other), rel=1e-5
    )
    assert representation.effective_rank(torch.ones(100, 8, device="cuda")) == 0


@pytest.mark.parametrize("kind", ["sgd", "lars", "lars_fb", "larc", "adamw"])
def test_an_optimiser_takes_the_cpu_s_steps(kind: str) -> None:
    cell = short_training.settings("simclr", f"optimiser={kind}", "weight_decay=0.01")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 8)).double()
    x = torch.randn(64, 16, dtype=torch.float64)
    weights = []
    for device in ("cpu", "cuda"):
        own = copy.deepcopy(network).to(device)
        optimiser = optim.make(own, cell)
        for step in range(5):
            for group in optimiser.param_groups:
                group["lr"] = 0.1 / (step + 1)
            optimiser.zero_grad(set_to_none=True)
            own(x.to(device)).square().sum().backward()
            optimiser.step()
        weights.append(torch.cat([p.detach().flatten().cpu() for p in own.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", TRAINED)
def test_micro_batches_give_the_whole_batch_s_gradient(name: str) -> None:
    """On the GPU in float64, by a backbone without batch norm."""
    losses, slopes = [], []
    for size in (0, 8):
        words = ("precision=fp64", "batch_norm=sync", f"microbatch={size}")
        engine, batches = short_training.prepare(
            short_training.settings(name, *words), World(), torch.device("cuda:0"), norm=False
        )
        engine.method.train()
        start_epoch(engine, batches)
        _, scalars = engine.gradient(batches.get(0, batches.order(0)), AT)
        losses.append(float(scalars["loss"]))
        slopes.append(torch.cat([p.grad.flatten() for p in engine.method.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert float((slopes[0] - slopes[1]).norm() / slopes[0].norm()) < 1e-7


@pytest.mark.parametrize("name", TRAINED)
def test_bf16_is_near_float32(name: str) -> None:
    """Mixed precision changes a first loss by a few per cent at most, and leaves no gradient that is not finite."""
    losses = []
    for precision in ("fp32", "bf16"):
        engine, batches = short_training.prepare(
            short_training.settings(name, f"precision={precision}"), World(), torch.device("cuda:0")
        )
        engine.method.train()
        start_epoch(engine, batches)
        _, scalars = engine.gradient(batches.get(0, batches.order(0)), AT)
        losses.append(float(scalars["loss"]))
        assert all(p.grad.isfinite().all() for p in engine.method.parameters() if p.grad is not None)
    assert losses[1] == pytest.approx(losses[0], rel=0.05, abs=0.02)
