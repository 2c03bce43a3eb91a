"""The learning rate at the steps that matter, the forms of LARS against plain loops, and which parameters decay."""

import copy
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.optim.lars import Lars
from torch import Tensor, nn

from benchmark.contract import short_training
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.training import optim

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


def test_the_step_schedule_falls_to_a_tenth_twice() -> None:
    settings = replace(BASE, schedule="step", warmup=0.0)
    for steps in (5, 200, 200 * 390):  # MoCo v1's and InstDisc's epochs 120 and 160 of 200, and what 0.6 x 5 rounds to
        first, second = 3 * steps // 5, 4 * steps // 5
        falls = {0: 0.3, first - 1: 0.3, first: 0.03, second - 1: 0.03, second: 0.003, steps - 1: 0.003}
        for step, rate in falls.items():
            assert optim.learning_rate(step, steps, settings) == pytest.approx(rate, rel=1e-12)
    warm = replace(settings, warmup=0.1)
    assert optim.learning_rate(5, 100, warm) == pytest.approx(0.15)
    assert [optim.learning_rate(s, 100, warm) for s in (10, 59, 60)] == pytest.approx([0.3, 0.3, 0.03])
    assert optim.learning_rate(70, 100, replace(warm, warmup=0.75)) == pytest.approx(0.28), "warm-up comes first"
    assert optim.learning_rate(75, 100, replace(warm, warmup=0.75)) == pytest.approx(0.03)


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
    def compute_peak(rule: str, base: float) -> float:
        return optim.peak_learning_rate(
            replace(BASE, batch_size=batch, learning_rate=base, learning_rate_rule=rule)  # type: ignore[arg-type]
        )

    assert compute_peak("linear", 0.3) == pytest.approx(0.3 * batch / 256)
    assert compute_peak("sqrt", 1.2) == pytest.approx(0.075 * math.sqrt(batch)), "SimCLR, appendix B.1"
    assert compute_peak("none", 0.3) == pytest.approx(0.3)
    if batch == 4096:
        assert compute_peak("linear", 0.3) == pytest.approx(compute_peak("sqrt", 1.2)), "where SimCLR's two rules meet"


Flat = list[list[float]]
FORMS = ("lars", "lars_fb", "larc")


def transcribe(
    form: str, weights: list[Tensor], gradients: list[list[Tensor | None]], rates: list[float], decay: float
) -> tuple[Flat, Flat]:
    """Weights and momenta (of 0.9), number by number; each form as METHODS 1.4 and its authors' code have it."""
    flat = [[float(x) for x in w.flatten()] for w in weights]
    velocity = [[0.0] * len(w) for w in flat]
    for lr, step in zip(rates, gradients, strict=True):
        for i, (w, gradient) in enumerate(zip(flat, step, strict=True)):
            if gradient is None:
                continue
            g, v, matrix = [float(x) for x in gradient.flatten()], velocity[i], weights[i].ndim > 1
            if form != "larc" and matrix:
                g = [x + decay * y for x, y in zip(g, w, strict=True)]
            norm_w, norm_g = math.sqrt(sum(x * x for x in w)), math.sqrt(sum(x * x for x in g))
            if norm_w > 0 and norm_g > 0:
                if form == "larc":
                    t = 0.001 * norm_w / (norm_g + decay * norm_w + 1e-8)
                    g = [t * (x + decay * y) for x, y in zip(g, w, strict=True)]
                elif matrix:
                    g = [0.001 * norm_w / norm_g * x for x in g]
            for j in range(len(w)):
                if form == "lars":
                    v[j] = 0.9 * v[j] + lr * g[j]
                    w[j] -= v[j]
                else:
                    v[j] = 0.9 * v[j] + g[j]
                    w[j] -= lr * v[j]
    return flat, velocity


def make_network() -> nn.Sequential:
    """With a matrix and a bias that start at 0."""
    torch.manual_seed(0)
    last = nn.Linear(12, 4)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), last).double()


def follow(
    net: nn.Module, optimiser: torch.optim.Optimizer, gradients: list[list[Tensor | None]], rates: list[float]
) -> None:
    for rate, step in zip(rates, gradients, strict=True):
        for group in optimiser.param_groups:
            group["lr"] = rate
        for p, gradient in zip(net.parameters(), step, strict=True):
            p.grad = None if gradient is None else gradient.clone()
        optimiser.step()


def random_gradients(net: nn.Module, steps: int) -> list[list[Tensor | None]]:
    return [[torch.randn_like(p) for p in net.parameters()] for _ in range(steps)]


SCHEDULE = [optim.learning_rate(step, 8, replace(BASE, warmup=0.4)) for step in range(8)]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_its_definition_under_a_changing_learning_rate(form: str) -> None:
    net = make_network()
    start = [p.detach().clone() for p in net.parameters()]
    gradients = random_gradients(net, len(SCHEDULE))
    for norm in (0, 2, 3):  # of a conv, of a batch norm, of its bias: gradients of norm 0
        gradients[3][norm] = torch.zeros_like(start[norm])
    gradients[4][0] = gradients[5][4] = gradients[5][5] = None
    settings = replace(BASE, optimiser=form, weight_decay=0.1, sgd_momentum=0.9)  # type: ignore[arg-type]
    optimiser = optim.make(net, settings)
    follow(net, optimiser, gradients, SCHEDULE)
    weights, velocity = transcribe(form, start, gradients, SCHEDULE, decay=0.1)
    for p, flat, v in zip(net.parameters(), weights, velocity, strict=True):
        assert p.flatten().tolist() == pytest.approx(flat, rel=1e-12, abs=1e-14)
        assert optimiser.state[p]["momentum_buffer"].flatten().tolist() == pytest.approx(v, rel=1e-12, abs=1e-14)


def test_the_forms_differ_and_two_of_them_only_by_the_change_of_the_learning_rate() -> None:
    def train(form: str, rates: list[float]) -> Tensor:
        net = make_network()
        torch.manual_seed(1)
        gradients = random_gradients(net, len(rates))
        settings = replace(BASE, optimiser=form, weight_decay=0.1)  # type: ignore[arg-type]
        follow(net, optim.make(net, settings), gradients, rates)
        return net.get_parameter("0.weight").detach()

    def measure_difference(one: str, other: str, rates: list[float]) -> float:
        return float((train(one, rates) - train(other, rates)).abs().max())

    assert measure_difference("lars", "lars_fb", [0.3] * 8) < 1e-14
    for pair in (("lars", "lars_fb"), ("lars_fb", "larc"), ("lars", "larc")):
        assert measure_difference(*pair, SCHEDULE) > 1e-6, pair


@pytest.mark.parametrize("form", FORMS)
def test_where_a_norm_is_zero_a_gradient_moves_the_weight_unscaled(form: str) -> None:
    net = make_network()
    settings = replace(BASE, optimiser=form, weight_decay=0.1)  # type: ignore[arg-type]
    conv, last, bias = (net.get_parameter(name) for name in ("0.weight", "3.weight", "3.bias"))
    start = conv.detach().clone()
    ones: list[Tensor | None] = [torch.ones_like(p) for p in net.parameters()]
    ones[0] = torch.zeros_like(start)
    follow(net, optim.make(net, settings), [ones], [0.5])
    assert last.flatten().tolist() == [-0.5] * 48
    assert bias.flatten().tolist() == [-0.5] * 4
    if form == "larc":
        assert torch.equal(conv, start), "neither scaled nor decayed"
    else:  # g is b w alone
        torch.testing.assert_close(conv.detach(), start * (1 - 0.5 * 0.001), rtol=1e-12, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_a_parameter_without_gradient_is_left_alone(form: str) -> None:
    """Also in the middle of a training: no decay, and its momentum waits."""
    net = make_network()
    optimiser = optim.make(net, replace(BASE, optimiser=form, weight_decay=0.1))  # type: ignore[arg-type]
    follow(net, optimiser, random_gradients(net, 2), [0.3, 0.3])
    weights = [p.detach().clone() for p in net.parameters()]
    momenta = [optimiser.state[p]["momentum_buffer"].clone() for p in net.parameters()]
    step = random_gradients(net, 1)
    step[0][0] = step[0][1] = None
    follow(net, optimiser, step, [0.3])
    for i, p in enumerate(net.parameters()):
        assert torch.equal(p, weights[i]) == (i < 2)
        assert torch.equal(optimiser.state[p]["momentum_buffer"], momenta[i]) == (i < 2)
    follow(net, optimiser, [[None] * len(weights)], [0.3])
    assert torch.equal(net.get_parameter("0.weight"), weights[0])


def test_timms_lars_is_larc_where_there_is_decay_and_plain_sgd_where_there_is_none() -> None:
    """Why it is not offered. Where a gradient is 0, timm's form decays all the same."""
    for decay, same in ((0.1, True), (0.0, False)):
        one, other = make_network(), make_network()
        for net in (one, other):
            nn.init.normal_(net.get_parameter("3.weight"), generator=torch.Generator().manual_seed(1))
        torch.manual_seed(1)
        gradients = random_gradients(one, len(SCHEDULE))
        follow(one, optim.make(one, replace(BASE, optimiser="larc", weight_decay=decay)), gradients, SCHEDULE)
        timms = Lars(other.parameters(), lr=0.0, momentum=0.9, weight_decay=decay, trust_coeff=0.001, eps=1e-8)
        follow(other, timms, gradients, SCHEDULE)
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-12, atol=1e-14) == same


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.again = self.head  # shared: still one parameter
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


@pytest.mark.parametrize("name", ["sgd", "adamw", *FORMS])
@pytest.mark.parametrize("decay_all", [False, True])
def test_every_trainable_parameter_is_in_one_group_and_decays_by_the_setting(name: str, decay_all: bool) -> None:
    network = Small()
    settings = replace(BASE, optimiser=name, weight_decay=0.05, decay_all=decay_all)  # type: ignore[arg-type]
    optimiser = optim.make(network, settings)
    decay = [(id(p), group["weight_decay"]) for group in optimiser.param_groups for p in group["params"]]
    trainable = {id(p) for p in network.parameters() if p.requires_grad}
    assert len(decay) == len(trainable) == 6
    assert {p for p, _ in decay} == trainable
    unlike = [network.conv.bias, network.norm.weight, network.norm.bias, network.head.bias]
    for p, rate in decay:
        assert rate == (0.0 if p in map(id, unlike) and not decay_all and name != "larc" else 0.05)


def test_a_network_of_biases_only_has_an_optimiser() -> None:
    optimiser = optim.make(nn.BatchNorm1d(3), BASE)
    assert [len(group["params"]) for group in optimiser.param_groups] == [2]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW), *((form, optim.LARS) for form in FORMS)],
)
def test_the_optimiser_is_the_one_asked_for_and_survives_a_checkpoint(name: str, kind: type) -> None:
    def train(network: nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
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
    train(network, first, range(2))
    other.load_state_dict(network.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))  # torch would share the tensors
    train(network, first, range(2, 4))
    train(other, second, range(2, 4))
    assert torch.equal(network.weight, other.weight)
    assert torch.equal(network.bias, other.bias)


def test_the_decay_goes_to_its_end_by_half_a_cosine_for_what_decays(tmp_path: Path) -> None:
    """main_dino.py: cosine_scheduler(0.04, 0.4, ...), one value a step, for the first group alone."""
    end = replace(BASE, weight_decay=0.04, weight_decay_end=0.4)
    decays = [optim.weight_decay(step, 100, end) for step in range(100)]
    assert decays[0] == pytest.approx(0.04)
    assert decays[50] == pytest.approx(0.22)
    assert decays[99] == pytest.approx(0.4 - 0.36 * 0.5 * (1 + math.cos(math.pi * 0.99)))
    assert decays == sorted(decays)
    assert {optim.weight_decay(step, 100, replace(BASE, weight_decay=0.04)) for step in range(100)} == {0.04}

    def read_groups(*words: str) -> list[tuple[bool, float]]:
        cell = short_training.settings("simclr", "epochs=2", "optimiser=adamw", *words)
        folder = tmp_path / address.hash_cell(cell)
        folder.mkdir()
        short_training.train_briefly(cell, folder=folder)
        groups = torch.load(folder / "last.pt", weights_only=False)["optimiser"]["param_groups"]
        assert {group["betas"] for group in groups} == {(0.9, cell.adamw_beta2)}
        return [(group["decays"], round(group["weight_decay"], 6)) for group in groups]

    last = round(0.4 - 0.36 * 0.5 * (1 + math.cos(math.pi * 3 / 4)), 6)  # of four steps
    assert read_groups("weight_decay=0.04", "weight_decay_end=0.4", "adamw_beta2=0.95") == [(True, last), (False, 0.0)]
    assert read_groups("weight_decay=0.04") == [(True, 0.04), (False, 0.0)]


@pytest.mark.parametrize("decay_all", [False, True])
def test_unscheduled_modules_are_groups_of_their_own(decay_all: bool) -> None:
    """As SimSiam's predictor: marked, whole, and with the same decay as other parameters of their kind."""

    class Network(nn.Module):
        unscheduled = ("predictor",)

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.predictor = nn.Linear(3, 2), nn.Linear(2, 2)

    network = Network()
    optimiser = optim.make(network, replace(BASE, optimiser="sgd", weight_decay=0.1, decay_all=decay_all))
    of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 4
    for name, parameter in network.named_parameters():
        group = of[id(parameter)]
        assert group["scheduled"] == name.startswith("encoder")
        assert group["weight_decay"] == (0.1 if decay_all or name.endswith("weight") else 0.0)
