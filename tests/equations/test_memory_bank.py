"""InstDisc (arXiv:1805.01978) and PIRL (arXiv:1912.01991) as plain loops: losses, gradients, the bank after steps."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from methods.method import Batch, Progress
from methods.parts.losses import bank_nce, nce_constant, shared_nce

FORMS = ["nce", "softmax", "infonce", "shared"]
IMAGES, K = 6, 5
INDICES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1]]  # with images that come twice and thrice


def score(v: Tensor, m: Tensor, tau: float) -> Tensor:
    return (torch.dot(v, m) / tau).exp()


def first_z(v: Sequence[Tensor], y: Sequence[int], bank: list[Tensor], negatives: list[int], tau: float) -> Tensor:
    """InstDisc, equation 8: Z is N times the mean of exp(v.m / tau) over the B x (K + 1) scores of a batch."""
    every = [score(v[b], bank[j], tau) for b in range(len(v)) for j in [y[b], *negatives]]
    return IMAGES * torch.stack(every).mean().detach()


def l_nce(form: str, v: Tensor, y: int, bank: list[Tensor], negatives: list[int], tau: float, z: Tensor) -> Tensor:
    """The loss of one embedding of image y."""
    if form in ("infonce", "shared"):  # PIRL: D_N holds other images
        negatives = [j for j in negatives if j != y]
    own, others = score(v, bank[y], tau), [score(v, bank[j], tau) for j in negatives]
    if form == "softmax":  # InstDisc, equation 2
        return -(own / sum(score(v, m, tau) for m in bank)).log()
    if form == "infonce":
        return -(own / (own + sum(others))).log()
    if form == "shared":  # PIRL, equations 3 and 4, with one softmax seen from the anchor
        total = own + sum(others)
        return -(own / total).log() - sum((1 - p / total).log() for p in others)

    def h(p: Tensor) -> Tensor:  # InstDisc, equations 4 to 7
        return (p / z) / (p / z + K / IMAGES)

    return -h(own).log() - sum((1 - h(p)).log() for p in others)


def write(bank: list[Tensor], y: Sequence[int], v: Sequence[Tensor], momentum: float, paper: Any) -> list[Tensor]:
    """m_y <- norm(momentum m_y + (1 - momentum) v), always from the old row: the last of an image wins."""
    new = list(bank)
    for image, one in zip(y, v, strict=True):
        new[image] = paper.unit(momentum * bank[image] + (1 - momentum) * one.detach())
    return new


@pytest.mark.parametrize("sides", [(4,), (4, 2, 2)], ids=["one view", "and two small crops"])
@pytest.mark.parametrize("form", FORMS)
def test_instdisc(form: str, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any) -> None:
    """Small crops are further embeddings of the image, the mean is over all; Z and the bank know the large one only."""
    tau, momentum = 0.3, 0.4
    method = tiny.build("instdisc", IMAGES, temperature=tau, momentum=momentum, loss=form, negatives=K, head_dim=3)
    w, batches = paper.start(method), tiny.batches(INDICES, sides)
    bank, z = list(w["bank.rows"]), w["bank.z"]
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        y, negatives = batch.index.tolist(), ours.before["bank.drawn"].tolist()
        assert len(negatives) == K
        large, small = batch.views[:1], batch.views[1:]
        h = paper.encoder(w, "encoder", large[0])
        h = h + (paper.encoder(w, "encoder", torch.cat(small)) if small else [])
        v = [paper.unit(one) for one in paper.linear(w, "head", h)]
        z = first_z(v[: len(y)], y, bank, negatives, tau) if step == 0 and form == "nce" else z
        losses = [l_nce(form, one, y[b % len(y)], bank, negatives, tau, z) for b, one in enumerate(v)]
        loss = sum(losses) / len(losses)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
        bank = write(bank, y, v[: len(y)], momentum, paper)
        same(ours.after["bank.rows"], bank)
        same(ours.after["bank.z"], z)
    assert ours.after["bank.drawn"].tolist() != negatives


@pytest.mark.parametrize(("name", "other", "remedy"), [("instdisc", "nce", "softmax"), ("pirl", "shared", "infonce")])
def test_a_remedy_is_not_what_the_cell_has(name: str, other: str, remedy: str, tiny: Any) -> None:
    for form in (other, remedy):
        method = tiny.build(name, IMAGES, loss=form, negatives=K)
        ((_, text),) = method.symptoms({"loss": method.bank.chance(form)}, {})
        assert (f"loss={remedy}" in text) is (form == other)


def pirl_rows(w: dict[str, Tensor], batch: Batch, paper: Any) -> tuple[list[Tensor], list[Tensor]]:
    """f(v_I) of each image, and g(v_It): the nine patches each through g's first layer, joined, and the last layer."""
    image, patches = batch.views
    f = [paper.unit(one) for one in paper.linear(w, "f", paper.encoder(w, "encoder", image))]
    every = paper.encoder(w, "encoder", torch.stack([patch for nine in patches for patch in nine]))
    each = paper.linear(w, "g_patch", every)
    joined = [torch.cat(each[9 * i : 9 * i + 9]) for i in range(len(image))]
    return f, [paper.unit(one) for one in paper.linear(w, "g", joined)]


@pytest.mark.parametrize("weight", [0.5, 0.3, 1.0])
@pytest.mark.parametrize("form", FORMS)
def test_pirl(form: str, weight: float, tiny: Any, paper: Any, same: Any) -> None:
    """Equation 5: L = lambda L_NCE(m_I, g(v_It)) + (1 - lambda) L_NCE(m_I, f(v_I)); only f is written."""
    tau, momentum = 0.3, 0.4
    options = {"temperature": tau, "weight": weight, "momentum": momentum, "loss": form, "negatives": K, "head_dim": 3}
    method = tiny.build("pirl", IMAGES, **options)
    w, batches = paper.start(method), tiny.batches(INDICES, (4, 0))
    bank, z = list(w["bank.rows"]), w["bank.z"]
    same(torch.stack([row.norm() for row in bank]), torch.ones(IMAGES, dtype=torch.float64), atol=1e-6)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        y, negatives = batch.index.tolist(), ours.before["bank.drawn"].tolist()
        f, g = pirl_rows(w, batch, paper)
        z = first_z(g, y, bank, negatives, tau) if step == 0 and form == "nce" else z
        of_g, of_f = (
            sum(l_nce(form, one, i, bank, negatives, tau, z) for one, i in zip(rows, y, strict=True)) / len(y)
            for rows in (g, f)
        )
        loss = weight * of_g + (1 - weight) * of_f
        same(ours.scalars, {"loss": loss, "loss_patches": of_g, "loss_image": of_f})
        same(ours.gradients, paper.sgd(w, loss))
        bank = write(bank, y, f, momentum, paper)
        same(ours.after["bank.rows"], bank)
        same(ours.after["bank.z"], z)


@pytest.mark.parametrize("form", FORMS)
def test_pirl_with_lambda_0_is_instdisc(form: str, tiny: Any, same: Any) -> None:
    """Same form, bank, drawn negatives and Z: same loss, gradients, bank. Z is set: its first estimates differ."""
    pirl = tiny.build("pirl", IMAGES, weight=0.0, loss=form, negatives=K, head_dim=3)
    instdisc = tiny.build("instdisc", IMAGES, loss=form, negatives=K, head_dim=3)
    pirl.bank.z.fill_(9.0)
    instdisc.encoder.load_state_dict(pirl.encoder.state_dict())
    instdisc.head.load_state_dict(pirl.f.state_dict())
    instdisc.bank.load_state_dict(pirl.bank.state_dict())
    (batch,), at, results = tiny.batches(INDICES[:1], (4, 0)), Progress(1, 4, 0, 1), []
    for method, views in ((pirl, batch.views), (instdisc, batch.views[:1])):
        rows = method(Batch(views, batch.index), at)
        loss = method.loss(rows, at)["loss"]
        loss.backward()
        method.after_step({name: row.detach() for name, row in rows.items()}, at)
        results.append((loss, method.encoder[2].weight.grad, method.bank.rows))
    for one, other in zip(*results, strict=True):
        same(one, other)


def test_patches_stay_with_their_image(tiny: Any, same: Any) -> None:
    """g of an image depends on its own nine patches and on their order, on no other image's."""
    method, at = tiny.build("pirl", IMAGES, batch_norm=False, negatives=K, head_dim=3), Progress(0, 4, 0, 1)
    (batch,) = tiny.batches([[0, 1, 2, 3, 4]], (4, 0))
    image, patches = batch.views

    def g(views: Tensor) -> Tensor:
        return method(Batch([image, views], batch.index), at)["g"]

    order, turned = torch.tensor([3, 0, 4, 1, 2]), patches.clone()
    same(g(patches[order]), g(patches)[order])
    turned[2] = turned[2].flip(0)
    changed = (g(turned) - g(patches)).abs().sum(dim=1) > 1e-3
    assert changed.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("near", ["negative", "positive"])
def test_the_complement_of_a_share_that_rounds_to_1(near: str) -> None:
    """log(1 - p) = log of what the others have: at tau = .01 a share of 1 - e^-100 is 1 in float32, and in float64."""
    tau, a, b = 0.01, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    v = torch.tensor([a], requires_grad=True)
    m, negatives = torch.tensor([b if near == "negative" else a]), torch.tensor([a if near == "negative" else b, b])
    loss = shared_nce(F.normalize(v, dim=1), m, negatives, tau, (torch.tensor([0]), torch.tensor([1, 2])))
    loss.backward()
    # near a negative: scores 0 (own), 100, 0, so -log p_0 = 100 and -log(1 - p_1) = 100 - ln 2; otherwise all is well
    expected = 200 - math.log(2) if near == "negative" else 0.0
    assert loss.item() == pytest.approx(expected, abs=1e-4)
    assert v.grad is not None
    assert torch.isfinite(v.grad).all()


@pytest.mark.parametrize("name", ["instdisc", "pirl"])
def test_a_bank_can_start_from_the_features_of_all_images(name: str, tiny: Any, same: Any) -> None:
    method = tiny.build(name, IMAGES, start="features", negatives=K, head_dim=3)
    images = torch.rand(IMAGES, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        method.before_epoch(Progress(0, 4, 0, 2), lambda f: f(images))
        head = method.head if name == "instdisc" else method.f
        same(method.bank.rows, F.normalize(head(method.encoder(images)), dim=1))
        method.bank.rows.zero_()
        method.before_epoch(Progress(2, 4, 1, 2), lambda f: f(images))
        assert not method.bank.rows.any(), "only once"


def test_nce_at_a_temperature_whose_exponentials_are_too_large() -> None:
    """exp(1 / 0.005) is no float32: Z is then kept by its logarithm, and gives what float64 gives plainly."""
    torch.manual_seed(0)
    bank, v = F.normalize(torch.randn(6, 3)), F.normalize(torch.randn(4, 3))
    v[0], m, negatives = bank[0], bank[:4], bank[[1, 2, 4, 5, 5]]

    def loss(dtype: torch.dtype) -> Tensor:
        rows = [each.to(dtype) for each in (v, m, negatives)]
        return bank_nce(*rows, 0.005, nce_constant(*rows, 0.005, 6), 6)

    assert nce_constant(v, m, negatives, 0.005, 6) < -100, "it is a logarithm"
    torch.testing.assert_close(loss(torch.float32), loss(torch.float64).float())
