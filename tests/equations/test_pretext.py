"""Pretext tasks as plain loops: rotation (arXiv:1803.07728), jigsaw (1603.09246), context prediction (1505.05192), Deep
InfoMax (1808.06670)."""

import hashlib
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.jigsaw import permutations
from methods.parts.chance import Chance

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4]]


def turn(image: Tensor, turns: int) -> Tensor:
    """Counter-clockwise by quarter turns, pixel by pixel."""
    side = image.shape[-1]
    for _ in range(turns):
        rows = [[image[:, j, side - 1 - i] for j in range(side)] for i in range(side)]
        image = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)
    return image


def test_rotation(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """-1/4 sum_y log F^y(g(x | y)): all four turns of each image in one batch, and in one batch's statistics."""
    method = tiny.build("rotation", 6)
    w, batches = paper.start(method), tiny.batches(BATCHES, (4,))
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        turns = [y for y in range(4) for _ in batch.index]
        x = torch.stack([turn(image, y) for y in range(4) for image in batch.views[0]])
        logits = paper.linear(w, "classifier", paper.encoder(w, "encoder", x))
        loss = paper.cross_entropy(logits, turns)
        same(ours.scalars["loss"], loss)
        hits = [int(row.argmax()) == y for row, y in zip(logits, turns, strict=True)]
        assert ours.scalars["train_top1"].item() == pytest.approx(sum(hits) / len(hits))
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def shared_mlp(w: dict[str, Tensor], name: str, h: list[Tensor], paper: Any) -> list[Tensor]:
    """Linear without bias, batch norm, ReLU."""
    assert f"{name}.0.bias" not in w
    return [one.clamp(min=0) for one in paper.batch_norm(w, f"{name}.1", paper.linear(w, f"{name}.0", h))]


def grid_features(w: dict[str, Tensor], grid: Tensor, whole: Tensor, paper: Any) -> list[Tensor]:
    """Of nine patches an image, image by image; running statistics are those of whole images."""
    paper.encoder(w, "encoder", whole)
    with paper.keep_statistics(w):
        return paper.encoder(w, "encoder", grid.flatten(0, 1))


def test_jigsaw(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """Slot j of the nine gets the patch that the drawn permutation names; the network says which permutation it was."""
    count, dim = 5, 3
    method = tiny.build("jigsaw", 6, permutations=count, patch_dim=dim)
    w, batches = paper.start(method), tiny.batches(BATCHES, (0, 4))
    orders = permutations(count)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        n = len(batch.index)
        h = shared_mlp(w, "each", grid_features(w, *batch.views, paper), paper)
        numbers = method.chance.uniform(batch.index, step, 1).flatten().tolist()
        targets = [int(number * count) for number in numbers]
        pictures = [torch.cat([h[9 * i + patch] for patch in orders[targets[i]]]) for i in range(n)]
        loss = paper.cross_entropy(paper.linear(w, "classifier", pictures), targets)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_the_permutations_are_these() -> None:
    """Versioned by a hash: another set would be another task. A shorter set is the beginning of a longer one."""
    hundred = permutations(100)
    digest = hashlib.sha256(str(hundred).encode()).hexdigest()
    assert digest == "a5112e19e265014dc52758adc09fe2c1673e838ff8ef0f58888cd5a62a3e34a2"
    assert hundred[0] == tuple(range(9))
    assert permutations(7) == hundred[:7]
    assert all(sorted(one) == list(range(9)) for one in hundred)
    distances = [sum(a != b for a, b in zip(p, q, strict=True)) for p, q in itertools.combinations(hundred, 2)]
    assert min(distances) == 6
    assert sum(distances) / len(distances) > 8


def test_each_next_permutation_is_the_farthest_from_its_nearest() -> None:
    """Of equally far ones it is the first in lexicographic order."""
    every = torch.tensor(list(itertools.permutations(range(9))), dtype=torch.int8)
    chosen = torch.tensor(permutations(25), dtype=torch.int8)
    nearest = torch.full((len(every),), 9)
    for one, following in itertools.pairwise(chosen):
        nearest = torch.minimum(nearest, (every != one).sum(dim=1))
        first = int((nearest == nearest.max()).nonzero()[0])
        assert torch.equal(every[first], following)


def test_permutations_are_drawn_evenly_and_anew_in_each_step() -> None:
    torch.manual_seed(0)
    chance, index = Chance(), torch.arange(20_000)
    first, second = chance.integers(index, 3, 10), chance.integers(index, 4, 10)
    assert torch.bincount(first, minlength=10).float().div(2000).sub(1).abs().max() < 0.1
    assert (first == second).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_random_numbers_are_splitmix64_of_salt_step_image_and_place() -> None:
    """With Python's integers, also far along in training; every slice of a batch sees what the whole sees."""
    chance, wide = Chance(), 2**64
    salt, golden = int(chance.salt), 0x9E3779B97F4A7C15

    def mix(x: int) -> int:
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % wide
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % wide
        return x ^ (x >> 31)

    index = torch.tensor([0, 3, 1_281_166])
    for step in (-4, -1, 0, 1, 2, 1000, 10**7):
        numbers = chance.uniform(index, step, 2, 3)
        for i, image in enumerate(index.tolist()):
            start = mix((mix((salt + golden * step) % wide) + golden * image) % wide)
            bits = [mix((start + golden * (place + 1)) % wide) >> 41 for place in range(6)]
            expected = Tensor([(one + 0.5) / 2**23 for one in bits]).view(2, 3)
            assert torch.equal(numbers[i], expected)
        assert torch.equal(chance.uniform(index[1:], step, 2, 3), numbers[1:])


def test_normal_numbers_are_normal() -> None:
    torch.manual_seed(0)
    x = Chance().normal(torch.arange(50_000), 5, 4)
    assert x.mean().abs() < 0.01
    assert x.std().item() == pytest.approx(1, abs=0.01)
    assert (x.abs() < 1.959964).float().mean().item() == pytest.approx(0.95, abs=0.003)
    assert torch.corrcoef(x.T).fill_diagonal_(0).abs().max() < 0.02


def test_relative_position(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """Centre and neighbour, eight pairs an image; places are counted row by row from the top left."""
    method = tiny.build("relative_position", 6, head_hidden=6)
    w, batches = paper.start(method), tiny.batches(BATCHES, (0, 4))
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        n = len(batch.index)
        h = grid_features(w, *batch.views, paper)
        around = [0, 1, 2, 3, 5, 6, 7, 8]
        pairs = [torch.cat([h[9 * i + 4], h[9 * i + patch]]) for i in range(n) for patch in around]
        logits = paper.linear(w, "pair.3", shared_mlp(w, "pair", pairs, paper))
        loss = paper.cross_entropy(logits, list(range(8)) * n)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


class Cells(nn.Module):
    """A backbone with inner maps of 8 x 8, 4 x 4 and 2 x 2 places: cells of 2 x 2 become one, linearly, then tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Linear(4 * before, after) for before, after in ((3, 4), (4, 5), (5, 6)))

    def forward_intermediates(self, x: Tensor, indices: list[int] | None = None) -> tuple[Tensor, list[Tensor]]:
        maps = []
        for stage in self.stages:
            x = nn.functional.pixel_unshuffle(x, 2).movedim(1, 3)
            x = stage(x).tanh().movedim(3, 1)
            maps.append(x)
        return x, maps if indices is None else [maps[i] for i in indices]

    def forward_head(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_intermediates(x)[0])


def cells(w: dict[str, Tensor], image: Tensor) -> list[list[list[Tensor]]]:
    """The three maps of one image, each a table of vectors."""
    table = [[image[:, i, j] for j in range(image.shape[2])] for i in range(image.shape[1])]
    maps = []
    for stage in range(3):
        weight, bias = w[f"encoder.stages.{stage}.weight"], w[f"encoder.stages.{stage}.bias"]
        half = range(len(table) // 2)
        square = [
            [
                torch.stack(
                    [
                        table[2 * i][2 * j],
                        table[2 * i][2 * j + 1],
                        table[2 * i + 1][2 * j],
                        table[2 * i + 1][2 * j + 1],
                    ],
                    dim=1,
                ).flatten()
                for j in half
            ]
            for i in half
        ]
        table = [[(weight @ one + bias).tanh() for one in row] for row in square]
        maps.append(table)
    return maps


@pytest.mark.parametrize("bound", ["jsd", "nce"])
def test_deep_infomax(bound: str, tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """The deepest map with at least nine places, here of 4 x 4, against the pooled feature.

    jsd: -E_own[-sp(-T)] + E_other[sp(T)], sp the softplus. nce: each own place against all places of other images.
    """
    method = tiny.build(
        "deep_infomax", 6, inputs={"size": 16}, backbone=lambda: (Cells(), 6), loss=bound, head_hidden=7, head_dim=3
    )
    w, batches = paper.start(method), tiny.batches(BATCHES, (16,))

    def critic(name: str, h: list[Tensor]) -> list[Tensor]:
        deep = [one.clamp(min=0) for one in paper.linear(w, f"{name}.deep.0", h)]
        both = zip(paper.linear(w, f"{name}.deep.2", deep), paper.linear(w, f"{name}.straight", h), strict=True)
        return [a + b for a, b in both]

    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        maps = [cells(w, image) for image in batch.views[0]]
        last = [[one for row in of[2] for one in row] for of in maps]
        whole = critic("whole", [sum(places) / len(places) for places in last])
        local = [critic("local", [one for row in of[1] for one in row]) for of in maps]
        n, places = len(maps), 16
        assert {len(one) for one in local} == {places}
        t = [[[torch.dot(whole[i], local[j][k]) for k in range(places)] for j in range(n)] for i in range(n)]
        loss = torch.zeros((), dtype=torch.float64)
        for i in range(n):
            apart = [one for j in range(n) if j != i for one in t[i][j]]
            if bound == "jsd":
                loss = loss + sum((1 + (-one).exp()).log() for one in t[i][i]) / (n * places)
                loss = loss + sum((1 + one.exp()).log() for one in apart) / (n * (n - 1) * places)
            else:
                others = sum(one.exp() for one in apart)
                loss = loss - sum((one.exp() / (one.exp() + others)).log() for one in t[i][i]) / (n * places)
        loss = loss - 2 * math.log(2) if bound == "jsd" else loss
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_deep_infomax_draws_its_feature_to_a_prior(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """min_E max_D of E[log D(v)] + E[log(1 - D(y))], y the sigmoid of 64 linear numbers, v drawn from [0, 1]^64."""
    gamma, options = 0.7, {"head_hidden": 7, "head_dim": 3}
    method = tiny.build("deep_infomax", 6, inputs={"size": 16}, backbone=lambda: (Cells(), 6), prior=gamma, **options)
    batches = tiny.batches(BATCHES, (16,))
    steps = tiny.train(method, batches)

    def d(w: dict[str, Tensor], x: list[Tensor]) -> list[Tensor]:
        for layer in (0, 2, 4):
            x = paper.linear(w, f"discriminator.{layer}", x)
            x = [one.clamp(min=0) for one in x] if layer < 4 else x
        return [1 / (1 + (-one[0]).exp()) for one in x]

    for step, (ours, batch) in enumerate(zip(steps, batches, strict=True)):
        w = {name: value.clone().requires_grad_(value.is_floating_point()) for name, value in ours.before.items()}
        pooled = []
        for image in batch.views[0]:
            places = [one for row in cells(w, image)[2] for one in row]
            pooled.append(sum(places) / len(places))
        y = [1 / (1 + (-one).exp()) for one in paper.linear(w, "code.0", pooled)]
        v = list(method.chance.uniform(batch.index, step, 64).double())
        value = sum(a.log() + (1 - b).log() for a, b in zip(d(w, v), d(w, y), strict=True)) / len(y)
        same(ours.scalars["discriminator"], -value)
        same(ours.scalars["loss"], ours.scalars["local"] - gamma * value)
        own = [name for name in w if name.startswith(("discriminator", "code"))]
        for name, slope in zip(own, torch.autograd.grad(gamma * value, [w[name] for name in own]), strict=True):
            same(ours.gradients[name], -slope if name.startswith("discriminator") else slope)
        assert ours.gradients.keys() == {name for name in w if name != "chance.salt"}


def test_deep_infomax_of_a_critic_that_says_nothing(tiny: Any) -> None:
    """0 for Jensen-Shannon, the logarithm of the choices for noise contrast."""
    for bound, chance in (("jsd", 0), ("nce", math.log(3 * 16 + 1))):
        method = tiny.build("deep_infomax", 6, inputs={"size": 16}, backbone=lambda: (Cells(), 6), loss=bound)
        rows = {"global": torch.zeros(4, 3), "local": torch.zeros(4, 16, 3)}
        assert method.loss(rows, None)["loss"].item() == pytest.approx(chance, abs=1e-6)


@pytest.mark.parametrize(("size", "places"), [(8, 4 * 4), (16, 4 * 4), (32, 8 * 8), (64, 16 * 16)])
def test_deep_infomax_looks_at_a_map_behind_which_there_are_layers(size: int, places: int, tiny: Any) -> None:
    """The last map's mean is the pooled feature itself: to be told from its own mean is no task."""
    method = tiny.build("deep_infomax", 6, inputs={"size": size}, backbone=lambda: (Cells(), 6), head_dim=3)
    (batch,) = tiny.batches([[0, 1]], (size,))
    assert method(batch, None)["local"].shape == (2, places, 3)


def test_a_backbone_without_maps_is_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match="no inner maps"):
        tiny.build("deep_infomax", 6, inputs={"size": 16})
