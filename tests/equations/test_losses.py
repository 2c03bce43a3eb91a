"""The papers' formulas as plain loops, against the tiled functions: values and gradients in float64."""

import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.losses import info_nce, nt_xent


def unit(rows: int, width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=1)


def loop_nt_xent(z1: Tensor, z2: Tensor, tau: float) -> Tensor:
    """SimCLR, equation 1 and algorithm 1: views 2k-1 and 2k are of one image; mean of l over all 2N."""
    z = [v for pair in zip(z1, z2, strict=True) for v in pair]

    def s(i: int, j: int) -> Tensor:
        return torch.dot(z[i], z[j]) / (z[i].norm() * z[j].norm())

    def l(i: int, j: int) -> Tensor:  # noqa: E743 - the paper's name
        others = sum((s(i, k) / tau).exp() for k in range(len(z)) if k != i)
        return -((s(i, j) / tau).exp() / others).log()

    pairs = range(len(z) // 2)
    return sum(l(2 * k, 2 * k + 1) + l(2 * k + 1, 2 * k) for k in pairs) / len(z)


def loop_info_nce(q: Tensor, k: Tensor, queue: Tensor, tau: float) -> Tensor:
    """MoCo, equation 1, for each query, and the mean of them."""
    losses = []
    for query, key in zip(q, k, strict=True):
        positive = (torch.dot(query, key) / tau).exp()
        negatives = sum((torch.dot(query, row) / tau).exp() for row in queue)
        losses.append(-(positive / (positive + negatives)).log())
    return sum(losses) / len(losses)


def raw(*tensors: Tensor) -> list[Tensor]:
    return [t.clone().requires_grad_() for t in tensors]


@pytest.mark.parametrize("tau", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("tile", [None, 1, 3, 7])
def test_nt_xent_is_equation_1_of_simclr(tau: float, tile: int | None) -> None:
    inputs = unit(6, 5, 0), unit(6, 5, 1)
    ours, loop = raw(*inputs), raw(*inputs)
    value = nt_xent(F.normalize(ours[0], dim=1), F.normalize(ours[1], dim=1), tau, tile)
    expected = loop_nt_xent(*loop, tau)
    (3 * value).backward()
    (3 * expected).backward()
    assert value.item() == pytest.approx(expected.item(), abs=1e-10)
    for own, other in zip(ours, loop, strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=1e-10, rtol=0)


@pytest.mark.parametrize("tau", [0.07, 0.2])
@pytest.mark.parametrize("tile", [None, 1, 4])
def test_info_nce_is_equation_1_of_moco(tau: float, tile: int | None) -> None:
    queue, inputs = unit(11, 5, 2), (unit(6, 5, 0), unit(6, 5, 1))
    ours, loop = raw(*inputs), raw(*inputs)
    value, expected = info_nce(*ours, queue, tau, tile=tile), loop_info_nce(*loop, queue, tau)
    (2 * value).backward()
    (2 * expected).backward()
    assert value.item() == pytest.approx(expected.item(), abs=1e-10)
    for own, other in zip(ours, loop, strict=True):
        torch.testing.assert_close(own.grad, other.grad, atol=1e-10, rtol=0)


def test_known_values() -> None:
    """METHODS.md 8.1: equal embeddings give ln(2B - 1) and ln(K + 1)."""
    same = torch.ones(8, 4, dtype=torch.float64) / 2
    assert nt_xent(same, same, 0.1).item() == pytest.approx(math.log(15))
    assert info_nce(same, same, torch.ones(31, 4, dtype=torch.float64) / 2, 0.2).item() == pytest.approx(math.log(32))


def test_a_low_temperature_does_not_overflow() -> None:
    z1, z2 = raw(unit(4, 3, 0).float(), unit(4, 3, 1).float())
    loss = nt_xent(z1, z2, 1e-3) + info_nce(z1, z2, unit(5, 3, 2).float(), 1e-3)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z1.grad).all()


def test_the_order_of_images_and_of_views_does_not_matter() -> None:
    z1, z2 = unit(9, 4, 0), unit(9, 4, 1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    expected = nt_xent(z1, z2, 0.2).item()
    assert nt_xent(z1[order], z2[order], 0.2).item() == pytest.approx(expected)
    assert nt_xent(z2, z1, 0.2).item() == pytest.approx(expected)


def test_the_gradient_is_orthogonal_to_the_embedding() -> None:
    """A cosine loss cannot change lengths: catches a missing normalisation."""
    z1, z2 = raw(3 * unit(5, 4, 0), 2 * unit(5, 4, 1))
    nt_xent(F.normalize(z1, dim=1), F.normalize(z2, dim=1), 0.3).backward()
    torch.testing.assert_close((z1.grad * z1).sum(1), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)


BIG = """
import sys, torch
from torch.nn import functional as F
from methods.parts.losses import nt_xent
from benchmark.cells.machine import reset_peak_memory, read_peak_memory
torch.set_num_threads(2)
cpu = torch.device("cpu")
z1, z2 = (F.normalize(torch.randn(4096, 128), dim=1).requires_grad_() for _ in range(2))
nt_xent(z1[:64], z2[:64], 0.1).backward()
reset_peak_memory(cpu)
before = read_peak_memory(cpu)
nt_xent(z1, z2, 0.1).backward()
print((read_peak_memory(cpu) - before) / 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_large_batch_fits_in_little_memory(environment: dict[str, str]) -> None:
    """Forward and backward over 8,192 views of width 128: the plain matrix alone is 256 MiB."""
    result = subprocess.run([sys.executable, "-c", BIG], env=environment, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 100


def test_tiles_equal_the_plain_form_in_float32() -> None:
    """Within 1e-6 relative of softmax cross-entropy over the whole matrix."""
    generator = torch.Generator().manual_seed(0)
    z1, z2 = (F.normalize(torch.randn(1500, 64, generator=generator), dim=1) for _ in range(2))
    z = torch.cat([z1, z2])
    logits = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
    plain = F.cross_entropy(logits, torch.arange(3000).roll(1500))
    assert nt_xent(z1, z2, 0.1, tile=256).item() == pytest.approx(plain.item(), rel=1e-6)
