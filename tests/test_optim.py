"""The learning rate at the steps that matter, LARS against a transcription, and which parameters decay."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmark import optim
from benchmark.config import Settings

BASE = Settings(learning_rate=0.3, batch_size=256, warmup=0.1, schedule="cosine")


def test_warm_up_starts_at_zero_and_ends_at_the_peak() -> None:
    for schedule in ("cosine", "constant"):
        settings = replace(BASE, schedule=schedule)
        assert optim.learning_rate(0, 100, settings) == 0
        assert optim.learning_rate(5, 100, settings) == pytest.approx(0.15)
        assert optim.learning_rate(10, 100, settings) == pytest.approx(0.3)
        assert optim.learning_rate(9, 100, settings) < optim.learning_rate(10, 100, settings)
        assert optim.learning_rate(0, 100, replace(settings, warmup=0.0)) == pytest.approx(0.3)


def test_the_cosine_falls_by_half_in_the_middle_and_to_nearly_nothing_at_the_end() -> None:
    assert optim.learning_rate(55, 100, BASE) == pytest.approx(0.15)
    last = optim.learning_rate(99, 100, BASE)
    assert last == pytest.approx(0.3 * 0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert 0 < last < 1e-3 * 0.3
    rates = [optim.learning_rate(step, 100, BASE) for step in range(10, 100)]
    assert rates == sorted(rates, reverse=True)
    assert optim.learning_rate(99, 100, replace(BASE, schedule="constant")) == pytest.approx(0.3)


def test_the_shortest_trainings_have_a_learning_rate() -> None:
    assert optim.learning_rate(0, 1, replace(BASE, warmup=0.0)) == pytest.approx(0.3)
    assert all(0 <= optim.learning_rate(s, 3, replace(BASE, warmup=1.0)) <= 0.3 for s in range(3))


def test_the_learning_rate_depends_on_nothing_but_its_arguments() -> None:
    steps = [7, 99, 0, 42, 7]
    first = [optim.learning_rate(step, 100, BASE) for step in steps]
    torch.manual_seed(3)
    assert [optim.learning_rate(step, 100, replace(BASE, seed=9)) for step in steps] == first
    assert first[0] == first[-1]


@pytest.mark.parametrize("batch", [64, 256, 512, 4096])
def test_the_rules_of_the_batch_size(batch: int) -> None:
    def peak(rule: str, base: float) -> float:
        return optim.peak_learning_rate(
            replace(BASE, batch_size=batch, learning_rate=base, learning_rate_rule=rule)  # type: ignore[arg-type]
        )

    assert peak("linear", 0.3) == pytest.approx(0.3 * batch / 256)
    assert peak("sqrt", 1.2) == pytest.approx(0.075 * math.sqrt(batch)), "SimCLR, appendix B.1"
    assert peak("none", 0.3) == pytest.approx(0.3)
    if batch == 4096:
        assert peak("linear", 0.3) == pytest.approx(peak("sqrt", 1.2)), "where SimCLR's two rules meet"


def transcription(
    weights: list[Tensor], gradients: list[list[Tensor]], rates: list[float], decay: float, momentum: float
) -> list[list[float]]:
    """The `simclr` form, number by number: g <- g + b w; t = e |w| / |g|; v <- m v + lr t g; w <- w - v."""
    flat = [[float(x) for x in w.flatten()] for w in weights]
    velocity = [[0.0] * len(w) for w in flat]
    for lr, step in zip(rates, gradients, strict=True):
        for i, (w, gradient) in enumerate(zip(flat, step, strict=True)):
            matrix = weights[i].ndim > 1
            g = [float(x) + (decay * w[j] if matrix else 0.0) for j, x in enumerate(gradient.flatten())]
            norm_w, norm_g = math.sqrt(sum(x * x for x in w)), math.sqrt(sum(x * x for x in g))
            t = 0.001 * norm_w / norm_g if matrix and norm_w > 0 and norm_g > 0 else 1.0
            for j in range(len(w)):
                velocity[i][j] = momentum * velocity[i][j] + lr * t * g[j]
                w[j] -= velocity[i][j]
    return flat


def test_lars_is_its_definition_under_a_changing_learning_rate() -> None:
    torch.manual_seed(0)
    last = nn.Linear(12, 4)
    nn.init.zeros_(last.weight)  # of norm 0: moves all the same
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), last).double()
    settings = replace(BASE, optimiser="lars", weight_decay=0.1, sgd_momentum=0.9)
    optimiser = optim.make(network, settings)
    start = [p.detach().clone() for p in network.parameters()]
    rates = [optim.learning_rate(step, 6, replace(settings, warmup=0.4)) for step in range(6)]
    gradients = [[torch.randn_like(p) for p in start] for _ in rates]
    gradients[3][0].zero_()
    for rate, step in zip(rates, gradients, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate
        for p, gradient in zip(network.parameters(), step, strict=True):
            p.grad = gradient.clone()
        optimiser.step()
    expected = transcription(start, gradients, rates, decay=0.1, momentum=0.9)
    for p, flat in zip(network.parameters(), expected, strict=True):
        assert p.flatten().tolist() == pytest.approx(flat, rel=1e-10, abs=1e-14)
    assert last.weight.abs().min() > 0


def test_lars_leaves_a_parameter_without_gradient_alone() -> None:
    network = nn.Linear(3, 2)
    before = network.weight.detach().clone()
    optimiser = optim.make(network, replace(BASE, optimiser="lars"))
    optimiser.param_groups[0]["lr"] = optimiser.param_groups[1]["lr"] = 1.0
    network.bias.grad = torch.ones(2)
    start = network.bias.detach().clone()
    optimiser.step()
    assert torch.equal(network.weight, before)
    torch.testing.assert_close(network.bias, start - 1.0, msg="biases are neither adapted nor decayed")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.again = self.head  # shared: still one parameter
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw", "lars"])
@pytest.mark.parametrize("decay_all", [False, True])
def test_every_trainable_parameter_is_in_one_group_and_decays_by_the_setting(optimiser: str, decay_all: bool) -> None:
    network = Small()
    settings = replace(BASE, optimiser=optimiser, weight_decay=0.05, decay_all=decay_all)  # type: ignore[arg-type]
    made = optim.make(network, settings)
    decay = [(id(p), group["weight_decay"]) for group in made.param_groups for p in group["params"]]
    trainable = {id(p) for p in network.parameters() if p.requires_grad}
    assert len(decay) == len(trainable) == 6
    assert {p for p, _ in decay} == trainable
    unlike = [network.conv.bias, network.norm.weight, network.norm.bias, network.head.bias]
    for p, rate in decay:
        assert rate == (0.0 if p in map(id, unlike) and not decay_all else 0.05)


def test_a_network_of_biases_only_has_an_optimiser() -> None:
    made = optim.make(nn.BatchNorm1d(3), BASE)
    assert [len(group["params"]) for group in made.param_groups] == [2]


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW), ("lars", optim.LARS)]
)
def test_the_optimiser_is_the_one_asked_for_and_survives_a_checkpoint(name: str, kind: type) -> None:
    def trained(network: nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            for group in optimiser.param_groups:
                group["lr"] = 0.1 * (1 + step)
            optimiser.zero_grad()
            network(torch.full((2, 3), 1.0 + step)).square().sum().backward()
            optimiser.step()

    settings = replace(BASE, optimiser=name)  # type: ignore[arg-type]
    network, other = nn.Linear(3, 2), nn.Linear(3, 2)
    first, second = optim.make(network, settings), optim.make(other, settings)
    assert type(first) is kind
    trained(network, first, range(2))
    other.load_state_dict(network.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # torch would share the tensors
    trained(network, first, range(2, 4))
    trained(other, second, range(2, 4))
    assert torch.equal(network.weight, other.weight)
    assert torch.equal(network.bias, other.bias)
