"""The evaluators against scikit-learn, plain loops and values known beforehand; and what the protocol's hash covers."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.data.catalogue import Dataset
from benchmark.evaluate import knn, linear, representation
from benchmark.evaluate.features import Features
from benchmark.evaluate.headline import hash_protocol
from benchmark.settings.cell import Settings

Problem = tuple[Tensor, Tensor]


def load_pixels(rows: int = 600) -> Problem:
    """Standardised pixels; those at the border are constant."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.data[:rows], dtype=torch.float32)
    return linear.standardise(x, *linear.moments(x)), torch.tensor(digits.target[:rows])


def make_ill_conditioned() -> Problem:
    """Standard deviations from 1 to 1e-3, mixed by a rotation, and labels that no line separates."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(30, 30, generator=generator))[0]
    hidden = torch.randn(500, 30, generator=generator)
    y = (hidden @ torch.randn(30, 4, generator=generator) + 2 * torch.randn(500, 4, generator=generator)).argmax(dim=1)
    return hidden * torch.logspace(0, -3, 30) @ rotation + 1.0, y


def make_wide() -> Problem:
    """More features than images, as raw pixels have."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(60, 90, generator=generator)
    y = (x[:, :3] + torch.randn(60, 3, generator=generator)).argmax(dim=1)
    return linear.standardise(x, *linear.moments(x)), y


def make_separable() -> Problem:
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(300) % 3
    return 5 * torch.eye(3, 8)[y] + 0.1 * torch.randn(300, 8, generator=generator), y


def draw_blobs(rows: int, seed: int, classes: int = 3) -> Problem:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % classes
    return torch.eye(classes, 6)[y] + 0.7 * torch.randn(rows, 6, generator=generator), y


def draw_features() -> Features:
    return Features(draw_blobs(90, 0), draw_blobs(45, 1), draw_blobs(60, 2), 3)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("problem", [load_pixels, make_ill_conditioned, make_separable, make_wide])
def test_the_probe_reaches_the_loss_of_scikit_learn_for_every_strength(problem: Callable[[], Problem]) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = problem()
    classes = int(y.max()) + 1
    strengths = torch.tensor(linear.STRENGTHS)
    fit = linear.fit(x, y, classes, strengths)
    assert fit.iterations < linear.ITERATIONS
    loss, _ = linear.objective(x.double(), y, fit.weights.double(), strengths.double())
    torch.testing.assert_close(fit.loss.double(), loss, atol=1e-5, rtol=0)
    for strength, ours in zip(linear.STRENGTHS, loss, strict=True):
        # scikit-learn's own L-BFGS stops 1e-3 above the least loss of the ill-conditioned problem
        model = LogisticRegression(C=1 / (len(x) * strength), solver="newton-cg", tol=1e-6, max_iter=1000)
        theirs = model.fit(x.double().numpy(), y)
        coefficients = torch.tensor(theirs.coef_)
        p = x.double() @ coefficients.T + torch.tensor(theirs.intercept_)
        best = F.cross_entropy(p, y) + strength / 2 * coefficients.square().sum()
        assert abs(float(ours - best)) < 1e-4, f"strength {strength}"


def test_the_gradient_is_that_of_autograd_in_one_block_and_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(700, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (700,), generator=generator)
    w = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    strengths = torch.tensor([0.0, 0.1, 2.0], dtype=torch.float64)
    expected = torch.stack(
        [
            F.cross_entropy(x @ v[:-1] + v[-1], y) + s / 2 * v[:-1].square().sum()
            for v, s in zip(w, strengths, strict=True)
        ]
    )
    slope = torch.autograd.grad(expected.sum(), w)[0]
    for logits_at_once in (linear.LOGITS_CPU, 1):  # all 700 rows, then blocks of 256, 256 and 188
        monkeypatch.setattr(linear, "LOGITS_CPU", logits_at_once)
        loss, gradient = linear.objective(x, y, w.detach(), strengths)
        torch.testing.assert_close(loss, expected.detach(), atol=1e-10, rtol=0)
        torch.testing.assert_close(gradient, slope, atol=1e-10, rtol=0)


def test_strengths_fitted_together_are_those_fitted_alone() -> None:
    x, y = draw_blobs(120, 0)
    together = linear.fit(x, y, 3, torch.tensor([1e-3, 1.0]))
    for i, strength in enumerate((1e-3, 1.0)):
        single = linear.fit(x, y, 3, torch.tensor([strength]))
        torch.testing.assert_close(together.loss[i], single.loss[0], atol=1e-5, rtol=0)


def test_test_images_decide_nothing_but_the_test_accuracy() -> None:
    features = draw_features()
    before = dict(linear.evaluate(features))
    x, y = features.test
    after = dict(linear.evaluate(replace(features, test=(1e3 * x.flip(0) - 7, (y + 1) % 3))))
    for name in ("linear_top1", "linear_balanced"):
        assert before.pop(name) != after.pop(name)
    assert before == after


def test_validation_chooses_the_strength() -> None:
    """Labels of training and validation agree in the strong feature only; weak features fit the training noise."""
    generator = torch.Generator().manual_seed(0)

    def draw_split(rows: int) -> Problem:
        y = torch.arange(rows) % 2
        x = torch.randn(rows, 60, generator=generator)
        x[:, 0] += 2.0 * (2 * y - 1)
        return x, y

    features = Features(draw_split(60), draw_split(400), draw_split(400), 2)
    values = dict(linear.evaluate(features))
    mean, std = linear.moments(features.train[0])
    fits = linear.fit(
        linear.standardise(features.train[0], mean, std), features.train[1], 2, torch.tensor(linear.STRENGTHS)
    )
    scores = linear.logits(linear.standardise(features.validation[0], mean, std), fits.weights)
    accuracy = [linear.top1(s, features.validation[1]) for s in scores]
    assert values["linear_validation_top1"] == max(accuracy) > min(accuracy)
    assert accuracy[linear.STRENGTHS.index(values["linear_strength"])] == max(accuracy)
    assert values["linear_strength"] > linear.STRENGTHS[0]


def test_constant_and_repeated_features_are_harmless() -> None:
    features = draw_features()
    plain = dict(linear.evaluate(features))

    def pad(split: Problem) -> Problem:
        x, y = split
        return torch.cat([x, torch.full((len(x), 3), 0.1), torch.zeros(len(x), 2)], dim=1), y

    more = Features(pad(features.train), pad(features.validation), pad(features.test), 3)
    assert dict(linear.evaluate(more)) == pytest.approx(plain)
    empty = torch.full((30, 4), 0.3), torch.arange(30) % 3
    nothing = Features(empty, empty, empty, 3)
    assert dict(linear.evaluate(nothing))["linear_top1"] == pytest.approx(1 / 3)
    biased = linear.fit(torch.full((8, 4), 0.3), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]), 2, torch.tensor([0.1]))
    assert float(biased.loss) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=1e-5)
    x, y = features.train
    twice = linear.fit(torch.cat([x, x], dim=1), y, 3, torch.tensor([2e-2]))  # each copy takes half of the weight
    once = linear.fit(x, y, 3, torch.tensor([1e-2]))
    torch.testing.assert_close(twice.loss, once.loss, atol=1e-5, rtol=0)


def test_the_probe_is_deterministic() -> None:
    assert list(linear.evaluate(draw_features())) == list(linear.evaluate(draw_features()))


def test_knn_is_the_plain_loop_over_its_definition() -> None:
    (q, _), (r, labels) = draw_blobs(20, 0), draw_blobs(50, 1)
    for k in (1, 7, 50, 200):  # the last is more than there are
        votes = knn.vote(q, r, labels, 3, k, 0.07)
        for i in range(len(q)):
            similar = [float(q[i] @ r[j] / (q[i].norm() * r[j].norm())) for j in range(len(r))]
            expected = [0.0] * 3
            for j in sorted(range(len(r)), key=lambda j: -similar[j])[:k]:
                expected[int(labels[j])] += math.exp(similar[j] / 0.07)
            assert votes[i].tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("k", [1, 20])
def test_knn_agrees_with_scikit_learn(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    x, y = load_pixels()
    theirs = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    expected = theirs.fit(x[:400], y[:400]).predict_proba(x[400:])
    for queries in (knn.QUERIES, 64):
        monkeypatch.setattr(knn, "QUERIES", queries)
        votes = knn.vote(x[400:], x[:400], y[:400], 10, k, 0.07)
        share = (votes / votes.sum(dim=1, keepdim=True)).double()
        torch.testing.assert_close(share, torch.tensor(expected).double(), atol=1e-4, rtol=0)


def test_ties_among_neighbours_are_harmless() -> None:
    labels = torch.arange(12) % 3
    votes = knn.vote(torch.ones(4, 2), torch.ones(12, 2), labels, 3, 12, 0.07)
    assert torch.isfinite(votes).all()
    torch.testing.assert_close(votes, votes[:, :1].expand(-1, 3))
    copies = knn.vote(torch.eye(3), torch.eye(3).repeat(10, 1), labels[:3].repeat(10), 3, 5, 0.07)
    assert copies.argmax(dim=1).tolist() == [0, 1, 2], "any five of ten equal neighbours of one class"


def test_knn_refers_to_training_and_validation_images() -> None:
    features = draw_features()
    names, values = zip(*knn.evaluate(features), strict=True)
    assert names == ("knn20_top1", "knn20_balanced", "knn200_top1", "knn200_balanced")
    joined = [torch.cat([features.train[i], features.validation[i]]) for i in (0, 1)]
    votes = knn.vote(features.test[0], joined[0], joined[1], 3, 20, knn.TEMPERATURE)
    assert values[0] == linear.top1(votes, features.test[1])


def test_balanced_accuracy_is_the_mean_recall_of_the_classes() -> None:
    labels = torch.tensor([0] * 8 + [1] * 2)
    always_the_largest = F.one_hot(torch.zeros(10, dtype=torch.long), 2)
    assert (linear.top1(always_the_largest, labels), linear.balanced_accuracy(always_the_largest, labels)) == (0.8, 0.5)
    predicted = torch.tensor([0] * 6 + [1] * 2 + [1, 0])  # recalls of 6/8 and 1/2
    assert linear.balanced_accuracy(F.one_hot(predicted, 2), labels) == pytest.approx(0.625)


@pytest.mark.parametrize("rank", [1, 2, 5, 16])
def test_the_effective_rank_counts_equal_directions(rank: int) -> None:
    directions = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0)))[0][:rank]
    x = torch.cat([directions, -directions]) + 3.0
    assert representation.effective_rank(x) == pytest.approx(rank, rel=1e-4)


def test_the_effective_rank_of_collapsed_features() -> None:
    generator = torch.Generator().manual_seed(0)
    constant = torch.randn(64, generator=generator).expand(300, -1)
    assert representation.effective_rank(constant) == 0
    assert representation.effective_rank(constant * (1 + 1e-7 * torch.randn(300, 1, generator=generator))) == 0, (
        "rounding"
    )
    line = torch.randn(300, 1, generator=generator) * constant[:1] + 1e-4 * torch.randn(300, 64, generator=generator)
    assert 1 < representation.effective_rank(line) < 1.1
    assert 50 < representation.effective_rank(torch.randn(300, 64, generator=generator)) < 64


def test_alignment_and_uniformity_of_known_points() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 3, generator=generator)
    assert representation.alignment(x, 5 * x) == pytest.approx(0, abs=1e-6)
    assert representation.alignment(x, -x) == pytest.approx(4, rel=1e-5)
    assert representation.alignment(torch.eye(2), torch.eye(2).flip(0)) == pytest.approx(2)
    assert representation.uniformity(torch.ones(10, 3)) == pytest.approx(0, abs=1e-6)
    assert representation.uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-8)
    # On the sphere in 3 dimensions d^2 = 2 - 2t with t uniform in [-1, 1]: E exp(-2 d^2) = (1 - exp(-8)) / 8.
    assert representation.uniformity(x) == pytest.approx(math.log((1 - math.exp(-8)) / 8), abs=0.05)


def test_the_protocol_is_data_split_and_view_size_and_nothing_of_the_method() -> None:
    base = Settings(view_size=32)
    same = [
        replace(base, method="moco", options={"queue": 7}),
        replace(base, seed=5, epochs=3, batch_size=8, learning_rate=1.0, optimiser="lars"),
        replace(base, backbone="resnet50", stem="native", augmentation="crop", batch_norm="local", precision="bf16"),
        replace(base, dataset=Dataset(root="elsewhere", download=True)),
    ]
    assert {hash_protocol(settings) for settings in same} == {hash_protocol(base)}
    other = [
        base,
        replace(base, view_size=64),
        *(replace(base, dataset=d) for d in (Dataset("cifar10"), Dataset(limit=100), Dataset(validation=0.2))),
        *(replace(base, dataset=d) for d in (Dataset(split_seed=1), Dataset(split_seed="seed"), Dataset(side=64))),
        *(replace(base, dataset=Dataset("folder", root=root)) for root in ("a", "b")),
    ]
    assert len({hash_protocol(settings) for settings in other}) == len(other)


def test_the_probe_says_where_its_search_met_an_end() -> None:
    assert linear.explain({"linear_strength": linear.STRENGTHS[3], "linear_iterations": 40}) == []
    assert "smallest" in linear.explain({"linear_strength": linear.STRENGTHS[0]})[0]
    both = linear.explain({"linear_strength": linear.STRENGTHS[-1], "linear_iterations": linear.ITERATIONS})
    assert ["largest" in both[0], "limit of 300 iterations" in both[1]] == [True, True]
