"""Batch norm over groups, in one process, against torch's own on the same rows."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from benchmark.errors import UsageError
from benchmark.settings import refusals
from benchmark.settings.address import hash_cell
from benchmark.settings.cell import Settings
from benchmark.training import build
from benchmark.training.batchnorm import GroupedBatchNorm, Grouping, convert
from benchmark.training.distributed import World
from benchmark.words import cell_words
from methods.parts.heads import MomentumCopy
from methods.parts.statistics import frozen_statistics

SHAPES = [(12, 5), (12, 5, 3), (12, 5, 3, 4), (12, 5, 2, 2, 2)]
NORMS: dict[int, Callable[..., nn.modules.batchnorm._BatchNorm]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}


def make_norm(shape: tuple[int, ...], **kwargs: float | bool | None) -> nn.modules.batchnorm._BatchNorm:
    """torch's norm with weights that are not 1 and 0."""
    layer = NORMS[len(shape)](5, **kwargs).double()
    if layer.affine:
        nn.init.normal_(layer.weight, 1.0, 0.3)
        nn.init.normal_(layer.bias)
    return layer


def make_grouped(native: nn.modules.batchnorm._BatchNorm, groups: int, rows: int, **where: int) -> GroupedBatchNorm:
    grouping = Grouping(groups, where.get("seed", 0), World())
    grouping.set(rows, where.get("step", 0), torch.device("cpu"))
    return GroupedBatchNorm(copy.deepcopy(native), grouping, shuffled="step" in where)


def assert_close(a: Tensor | None, b: Tensor | None) -> None:
    assert a is not None
    assert b is not None
    torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize("kwargs", [{}, {"momentum": None}, {"affine": False}, {"eps": 0.1, "momentum": 0.3}], ids=str)
def test_one_group_is_torchs_batch_norm(shape: tuple[int, ...], kwargs: dict[str, float | bool | None]) -> None:
    torch.manual_seed(0)
    native = make_norm(shape, **kwargs)
    ours = make_grouped(native, 1, shape[0])
    for _ in range(3):
        x = (2 * torch.randn(shape, dtype=torch.float64) + 1).requires_grad_()
        y, slope = x.detach().clone().requires_grad_(), torch.randn(shape, dtype=torch.float64)
        expected, y_ours = native(x), ours(y)
        assert_close(y_ours, expected)
        expected.backward(slope)
        y_ours.backward(slope)
        assert_close(y.grad, x.grad)
    if native.affine:
        assert_close(ours.weight.grad, native.weight.grad)
        assert_close(ours.bias.grad, native.bias.grad)
    assert_close(ours.running_mean, native.running_mean)
    assert_close(ours.running_var, native.running_var)
    assert int(ours.num_batches_tracked or 0) == int(native.num_batches_tracked or 0) == 3
    x = torch.randn(shape, dtype=torch.float64)
    assert_close(ours.eval()(x), native.eval()(x))


@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize("groups", [2, 4])
def test_groups_are_separate_norms_of_the_contiguous_parts(shape: tuple[int, ...], groups: int) -> None:
    torch.manual_seed(0)
    native = make_norm(shape)
    ours = make_grouped(native, groups, shape[0])
    norms = [copy.deepcopy(native) for _ in range(groups)]
    x, slope = torch.randn(shape, dtype=torch.float64, requires_grad=True), torch.randn(shape, dtype=torch.float64)
    y = x.detach().clone().requires_grad_()
    expected = torch.cat([own(part) for own, part in zip(norms, x.chunk(groups), strict=True)])
    y_ours = ours(y)
    assert_close(y_ours, expected)
    expected.backward(slope)
    y_ours.backward(slope)
    assert_close(y.grad, x.grad)
    for name in ("weight", "bias"):
        slopes = [own.get_parameter(name).grad for own in norms]
        assert_close(ours.get_parameter(name).grad, torch.stack([g for g in slopes if g is not None]).sum(dim=0))
    means = [own.running_mean for own in norms if own.running_mean is not None]
    variances = [own.running_var for own in norms if own.running_var is not None]
    assert_close(ours.running_mean, torch.stack(means).mean(dim=0))
    assert_close(ours.running_var, torch.stack(variances).mean(dim=0))


def test_views_one_after_the_other_share_the_group_of_their_image() -> None:
    torch.manual_seed(0)
    native = make_norm((12, 5))
    first, second = torch.randn(2, 12, 5, dtype=torch.float64)
    normalised = make_grouped(native, 3, 12)(torch.cat([first, second]))
    for group in range(3):
        own = slice(4 * group, 4 * group + 4)
        both = copy.deepcopy(native)(torch.cat([first[own], second[own]]))
        assert_close(torch.cat([normalised[:12][own], normalised[12:][own]]), both)
    with pytest.raises(ValueError, match="18 rows are not a multiple of the 12 images"):
        make_grouped(native, 3, 12)(torch.randn(18, 5, dtype=torch.float64))


def test_drawn_groups_are_of_equal_size_and_depend_on_seed_and_step_alone() -> None:
    def draw_groups(seed: int, step: int) -> list[int]:
        grouping = Grouping(4, seed, World())
        grouping.set(32, step, torch.device("cpu"))
        assert grouping.of(32, shuffled=False).tolist() == [i // 8 for i in range(32)]
        return grouping.of(32, shuffled=True).tolist()

    first = draw_groups(0, 5)
    torch.manual_seed(123)
    assert draw_groups(0, 5) == first
    assert first not in (draw_groups(0, 6), draw_groups(1, 5), sorted(first))
    assert [first.count(group) for group in range(4)] == [8] * 4


class Pair(nn.Module):
    """A query network and the momentum copy that follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
        self.key = MomentumCopy(self.query)


def test_shuffle_draws_new_groups_for_momentum_copies_alone() -> None:
    torch.manual_seed(0)
    split, shuffle = Pair().double(), Pair().double()
    shuffle.load_state_dict(split.state_dict())
    groupings = [
        convert(network, mode, 0, World(), 16, "cpu") for network, mode in ((split, "split:4"), (shuffle, "shuffle:4"))
    ]
    x = torch.randn(16, 4, dtype=torch.float64)
    keys = []
    for step in (0, 0, 1):
        for grouping in groupings:
            assert grouping is not None
            grouping.set(16, step, torch.device("cpu"))
        assert torch.equal(split.key(x), split.query(x))
        assert torch.equal(shuffle.query(x), split.query(x))
        keys.append(shuffle.key(x))
    assert torch.equal(keys[0], keys[1])
    assert not torch.allclose(keys[0], keys[2])
    assert not torch.allclose(keys[0], split.key(x))


def test_conversion_keeps_parameters_and_what_the_copy_follows() -> None:
    network = Pair()
    own = {id(p) for p in network.parameters()}
    convert(network, "split:2", 0, World(), 8, "cpu")
    assert isinstance(network.query[1], GroupedBatchNorm)
    assert {id(p) for p in network.parameters()} == own
    with torch.no_grad():
        for p in network.query.parameters():
            p.add_(1.0)
    network.key.update(network.query, 0.0)
    for p, q in zip(network.key.parameters(), network.query.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("mode", ["sync", "local"])
def test_one_process_needs_no_grouping(mode: str) -> None:
    network = Pair()
    assert convert(network, mode, 0, World(), 8, "cpu") is None
    assert type(network.query[1]) is nn.BatchNorm1d


def test_what_cannot_be_had_is_refused() -> None:
    with pytest.raises(UsageError, match="batch_size=10 is not a multiple of 4"):
        convert(Pair(), "split:4", 0, World(), 10, "cpu")
    for mode in ("shuffle:1", "shuffle"):
        with pytest.raises(UsageError, match=f"batch_norm={mode} with one group shuffles nothing"):
            convert(Pair(), mode, 0, World(), 8, "cpu")
    with pytest.raises(UsageError, match="allowed are sync, local"):
        convert(Pair(), "split:x", 0, World(), 8, "cpu")


class Activated(nn.Module):
    """timm's norm with an activation inside."""

    def __init__(self) -> None:
        super().__init__()
        from timm.layers import BatchNormAct2d

        self.norm = BatchNormAct2d(5)


def test_norms_with_an_activation_inside_keep_it() -> None:
    x = torch.randn(8, 5, 3, 3)
    native, ours = Activated(), Activated()
    grouping = convert(ours, "split:2", 0, World(), 8, "cpu")
    assert grouping is not None
    grouping.set(8, 0, torch.device("cpu"))
    expected = torch.cat([native.norm(part) for part in x.chunk(2)])
    assert expected.min() == 0
    torch.testing.assert_close(ours.norm(x), expected, atol=1e-5, rtol=0)


def test_so_they_do_where_gpus_share_statistics() -> None:
    """Two processes with GPUs take torch's SyncBatchNorm; in eval mode it runs here too."""
    network = Activated()
    x = torch.randn(8, 5, 3, 3)
    expected = network.eval().norm(x)
    assert convert(network, "sync", 0, World(size=2), 8, "cuda") is None
    assert isinstance(network.norm, nn.SyncBatchNorm)
    torch.testing.assert_close(network.eval().norm(x), expected)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("groups", [0, 2], ids=["native", "grouped"])
def test_frozen_statistics_are_left_alone_and_then_followed_again(groups: int, momentum: float | None) -> None:
    torch.manual_seed(0)
    native = make_norm((12, 5), momentum=momentum)
    network = nn.Sequential(make_grouped(native, groups, 12) if groups else native)
    x = torch.randn(12, 5, dtype=torch.float64)
    network(x)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with frozen_statistics(network):
        inside = network(x + 3)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    outside = network(x + 3)
    assert_close(inside, outside)
    assert not torch.equal(network.state_dict()["0.running_mean"], before["0.running_mean"])
    assert int(network.state_dict()["0.num_batches_tracked"]) == 2


def test_frozen_statistics_are_thawed_after_an_error() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3))
    with pytest.raises(ZeroDivisionError), frozen_statistics(network):
        raise ZeroDivisionError
    assert network[0].momentum == 0.1


@pytest.mark.parametrize("shape", [(24, 5), (24, 5, 3, 4)], ids=len)
@pytest.mark.parametrize("kwargs", [{}, {"momentum": None}, {"affine": False}], ids=str)
def test_the_gpu_s_slices_are_the_groups(shape: tuple[int, ...], kwargs: dict[str, float | bool | None]) -> None:
    """What a GPU does in one process, done on the CPU: the same rows, slopes and running statistics."""
    torch.manual_seed(0)
    native, x, weights = make_norm(shape, **kwargs), torch.randn(shape).double(), torch.randn(shape).double()
    results = []
    for sliced in (False, True):
        own, x_own = make_grouped(native, 4, 24), x.clone().requires_grad_()
        y = own._normalise_slices(x_own) if sliced else own(x_own)
        (y * weights).sum().backward()
        assert own.running_mean is not None
        results.append([y, x_own.grad, own.running_mean, own.running_var])
        results[-1] += [own.weight.grad, own.bias.grad] if own.affine else []
    for one, other in zip(*results, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("shape", SHAPES, ids=len)
@pytest.mark.parametrize("kwargs", [{}, {"affine": False}], ids=str)
def test_what_a_compiler_is_given_is_the_same(shape: tuple[int, ...], kwargs: dict[str, float | bool | None]) -> None:
    torch.manual_seed(0)
    native, x, weights = make_norm(shape, **kwargs), torch.randn(shape).double(), torch.randn(shape).double()
    results = []
    for backend in (None, "aot_eager"):
        own, x_own = make_grouped(native, 3, len(x)), x.clone().requires_grad_()
        if backend:
            own.compile(backend=backend, fullgraph=True)
        y = own(x_own)
        (y * weights).sum().backward()
        results.append([y, x_own.grad, own.running_mean, own.running_var, own.num_batches_tracked])
        results[-1] += [own.weight.grad, own.bias.grad] if own.affine else []
    for one, other in zip(*results, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("views", [1, 2])
def test_images_shuffled_once_are_statistics_shuffled_in_every_layer(views: int) -> None:
    """A momentum copy as a GPU has it in one process, beside the norms that look up each row's group."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3), make_norm((1, 5, 1, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(20, 4)
    ).double()
    x = torch.randn(views * 16, 3, 4, 4).double()
    rows = []
    for device in ("cpu", "cuda"):
        copied = MomentumCopy(network)
        grouping = convert(copied if device == "cpu" else nn.Sequential(copied), "shuffle:4", 0, World(), 16, device)
        assert grouping is not None
        copied.train()
        grouping.set(16, 3, torch.device("cpu"))
        rows.append(copied(x))
    assert_close(*rows)
    copied.eval()
    assert len(copied(x[:3])) == 3, "an evaluation's rows are not shuffled"


def test_the_number_of_processes_is_part_of_a_cell_whose_numbers_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_cell(mode: str, *words: str) -> Settings:
        return cell_words.read(["methods=moco", f"batch_norm={mode}", "batch_size=32", *words]).cells[0]

    one = {mode: read_cell(mode) for mode in ("sync", "local", "split:4", "shuffle", "shuffle:4")}
    slurm = ("launcher=slurm", "slurm.nodes=2")
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    two = {mode: read_cell(mode) for mode in one}
    assert hash_cell(read_cell("local", "launcher=local")) == hash_cell(one["local"]), (
        "its workers are not of that group"
    )
    assert {mode for mode in one if hash_cell(one[mode]) != hash_cell(two[mode])} == {"local", "shuffle"}
    assert hash_cell(read_cell("local", *slurm)) == hash_cell(two["local"])
    assert hash_cell(read_cell("local", "microbatch=8")) == hash_cell(replace(one["local"], microbatch=8)), (
        "their own groups"
    )
    build.require_code_and_processes(two["local"], World(size=2))
    with pytest.raises(UsageError, match="asked for with 2, and here are 1"):
        build.require_code_and_processes(two["local"], World())


def test_micro_batches_that_processes_cannot_share_are_refused() -> None:
    cell = cell_words.read(["methods=simclr", "batch_size=64", "microbatch=24"]).cells[0]
    with pytest.raises(UsageError, match=r"3 parts, which 2 processes cannot share; microbatch=21 can be"):
        refusals.require_shares(cell, 2)
    refusals.require_shares(replace(cell, microbatch=21), 2)


def test_what_processes_cannot_share_is_refused_before_data_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "load_data", lambda cell: pytest.fail("it was read, or downloaded"))
    (cell,) = cell_words.read(["methods=simclr", "batch_size=64", "batch_norm=split:1"]).cells
    with pytest.raises(UsageError, match="batch_size=64 is not a multiple of the 3 processes"):
        build.check(cell, World(size=3), torch.device("cpu"))


OF_PAIRS = '''"""Mine."""

from methods.method import Method


class Mine(Method):
    views = ("crop",)

    def forward(self, batch, at):
        raise ValueError("images are taken in pairs")
'''


def test_what_a_method_says_of_one_image_is_not_taken_for_batch_norm(write_plugin: Callable[[str], str]) -> None:
    (cell,) = cell_words.read([f"methods={write_plugin(OF_PAIRS)}", "batch_size=4", "microbatch=1"]).cells
    build.check_networks(cell)
