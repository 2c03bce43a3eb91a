"""iBOT (arXiv:2111.07832) as plain loops in the order of its authors' code, and its masks."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from vision_transformer import PATCHES, SIZE, Formulas, Rows, transformer

from methods.method import Progress

BATCHES = [[0, 3, 3], [5, 1, 0], [2, 4, 1]]
K = 5
HEAD = {"prototypes": K, "head_hidden": 6, "head_dim": 3}
AT = Progress(1, 10, 0, 1)


def build(tiny: Any, side: int = 3, **options: Any) -> Any:
    size = 2 * side
    return tiny.build("ibot", 6, inputs={"size": size}, backbone=lambda: transformer(img_size=size), **HEAD | options)


def logits(w: dict[str, Tensor], who: str, h: Rows, norm: bool, paper: Any) -> Rows:
    """The head of a batch of tokens: an MLP with GELU, unit length, g_k v_k . z / |v_k| of each output k."""
    head, last = ("teacher_head.network", "teacher_last_layer.network") if who == "teacher" else ("head", "last_layer")
    h = paper.mlp(w, head, h, 3, gelu=True, norm=norm)
    v, g = w[f"{last}.direction"], w[f"{last}.length"]
    units = [paper.unit(v[k]) for k in range(K)]
    return [torch.stack([g[k] * torch.dot(units[k], paper.unit(row)) for k in range(K)]) for row in h]


def cross_entropy(t: Tensor, c: Tensor, tau_t: float, s: Tensor, tau: float) -> Tensor:
    """-sum_k P_k log softmax(s / tau)_k, P = softmax((t - c) / tau_t)."""
    e, p = ((t.detach() - c) / tau_t).exp(), (s / tau).exp()
    return -sum(e[k] / e.sum() * (p[k] / p.sum()).log() for k in range(K))


@pytest.mark.parametrize(("small", "norm"), [(0, True), (1, False)], ids=["two views", "and a crop, never masked"])
def test_ibot(small: int, norm: bool, tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """Three epochs of one step. The feature of a view is its patches' mean here, as the backbone pools them."""
    tau, temperatures, m_0, rate, most = 0.3, [0.1, 0.2, 0.2], 0.6, 0.8, 0.05
    options = {"temperature": tau, "teacher_temperature_start": 0.1, "teacher_temperature": 0.2, "teacher_warmup": 1}
    method = build(tiny, momentum=m_0, centre_momentum=rate, clip=most, head_norm=norm, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, (SIZE,) * (2 + small))
    hides = 0
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        n, tau_t = len(batch.index), temperatures[step]
        order, counts = (part.tolist() for part in method.masks(batch.index, step))
        features: dict[str, Rows] = {"student": [], "teacher": []}  # first all images' first view
        tokens: dict[str, Rows] = {"student": [], "teacher": []}  # of the student those that may be hidden: 4 a view
        for number, image in enumerate(torch.cat(batch.views)):
            hidden = order[number][: counts[number]] if number < 2 * n else []
            masked = [patch in hidden for patch in range(PATCHES)]
            t = Formulas.embed(w, "encoder", image, masked, w["mask_token"])
            t = Formulas.encode(w, "encoder", t)[1:]
            features["student"].append(mean(t))
            if number < 2 * n:
                tokens["student"] += [t[patch] for patch in order[number][: PATCHES // 2]]
                visible = Formulas.embed(w, "teacher_encoder.network", image)
                visible = Formulas.encode(w, "teacher_encoder.network", visible)[1:]
                features["teacher"].append(mean(visible))
                tokens["teacher"] += visible
        of_views, of_tokens = (
            {who: logits(w, who, rows, norm, paper) for who, rows in part.items()} for part in (features, tokens)
        )
        views, patches = [], []
        for number in range(2 * n):
            image, g = number % n, number // n
            for v in range(2 + small):
                if v != g:
                    target, s = of_views["teacher"][number], of_views["student"][v * n + image]
                    views.append(cross_entropy(target, w["centre"], tau_t, s, tau))
            each = [torch.zeros((), dtype=torch.float64)]
            for place, patch in enumerate(order[number][: counts[number]]):
                target = of_tokens["teacher"][number * PATCHES + patch]
                s = of_tokens["student"][number * (PATCHES // 2) + place]
                each.append(cross_entropy(target, w["patch_centre"], tau_t, s, tau))
            patches.append(sum(each) / max(1, len(each) - 1))
            hides += len(each) - 1
        same(ours.scalars["loss_views"], mean(views))
        same(ours.scalars["loss_patches"], mean(patches))
        names = [name for name, value in w.items() if value.requires_grad]
        slopes = torch.autograd.grad(mean(views) + mean(patches), [w[name] for name in names], materialize_grads=True)
        clipped = {}
        for name, slope in zip(names, slopes, strict=True):
            if step > 0 or not name.startswith("last_layer"):
                clipped[name] = slope * min(1.0, most / (float((slope**2).sum()) ** 0.5 + 1e-6))
        same(ours.gradients, clipped)
        for name, slope in clipped.items():
            w[name] = (w[name] - paper.RATE * slope).detach().requires_grad_()
        for name, part in (("centre", of_views), ("patch_centre", of_tokens)):
            w[name] = rate * w[name] + (1 - rate) * mean(part["teacher"]).detach()
        m = 1 - (1 - m_0) * (1 + math.cos(math.pi * step / len(batches))) / 2
        for name in [name for name in w if ".network." in name and "running_" not in name and "num_" not in name]:
            w[name] = m * w[name] + (1 - m) * w[name.removeprefix("teacher_").replace(".network", "")].detach()
        same_state(ours.after, w)
    assert hides > PATCHES


def mean(parts: Rows) -> Tensor:
    return sum(parts[1:], parts[0]) / len(parts)


def test_masks(tiny: Any) -> None:
    """Of half of the views a tenth to a half of the patches, each as often; a slice of a batch has the batch's."""
    method = build(tiny, side=8)
    index = torch.arange(400)
    order, counts = method.masks(index, 3)
    hidden = order.argsort(dim=1) < counts[:, None]
    assert order.shape == (800, 64)
    assert torch.equal(hidden.sum(dim=1), counts)
    untouched = counts == 0
    assert untouched.double().mean().item() == pytest.approx(0.5, abs=0.06)
    assert (int(counts[~untouched].min()), int(counts.max())) == (6, 31)
    assert counts[~untouched].double().mean().item() == pytest.approx(0.3 * 64 - 0.5, abs=0.8)
    assert hidden.double().mean(dim=0).sub(0.147).abs().max() < 0.05
    assert not torch.equal(counts[:400], counts[400:]), "views of an image have masks of their own"
    part_order, part_counts = method.masks(index[7:9], 3)
    assert torch.equal(part_order, order[[7, 8, 407, 408]])
    assert torch.equal(part_counts, counts[[7, 8, 407, 408]])
    assert not torch.equal(method.masks(index, 4)[1], counts)


def test_hidden_pixels_are_not_seen_by_the_student(tiny: Any) -> None:
    """Other pixels there: the same embeddings of the student, to the last digit, and other ones of the teacher."""
    method = build(tiny)
    (batch,) = tiny.batches([range(6)], (SIZE, SIZE))
    order, counts = method.masks(batch.index, AT.step)
    hidden = (order.argsort(dim=1) < counts[:, None]).view(2, 6, 1, 3, 3)
    assert hidden.any()
    hidden = hidden.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
    other = [torch.where(some, torch.randn_like(x), x) for some, x in zip(hidden, batch.views, strict=True)]
    first, second = method(batch, AT), method(batch._replace(views=other), AT)
    assert torch.equal(first["z"], second["z"])
    assert not torch.equal(first["target"], second["target"])


def test_what_is_known_beforehand(tiny: Any) -> None:
    """ln K of views where all is flat, and of patches times the share of views with a mask; that is a collapse."""
    method = build(tiny)
    for last in (method.last_layer, method.teacher_last_layer.network):
        nn.init.zeros_(last.length)
    with torch.no_grad():
        rows = method(tiny.batches([range(6)], (SIZE, SIZE))[0], AT)
        logged = {name: value.item() for name, value in method.loss(rows, AT).items()}
    masked = (method.masks(torch.arange(6), AT.step)[1] > 0).double().mean().item()
    assert logged["loss_views"] == pytest.approx(math.log(K))
    assert logged["loss_patches"] == pytest.approx(masked * math.log(K))
    assert next(method.symptoms(logged, rows))[0] == "chance"


@pytest.mark.parametrize("name", ["ibot", "ijepa"])
def test_one_patch_is_none_to_hide(name: str, tiny: Any) -> None:
    with pytest.raises(ValueError, match="views of 2 pixels are one patch"):
        tiny.build(name, 6, inputs={"size": 2}, backbone=lambda: transformer(img_size=2))
