"""DINO (arXiv:2104.14294) as plain loops in the order of its authors' code: loss, centre, clip, step, teacher."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from methods.method import Batch, Progress
from methods.parts.distil import LastLayer

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 0], [2, 2, 2, 4], [3, 5, 0, 1], [1, 2, 3, 4], [0, 2, 4, 5]]
K, PER_EPOCH = 7, 2
HEAD = {"prototypes": K, "head_hidden": 6, "head_dim": 3}


def embed(w: dict[str, Tensor], who: str, views: list[Tensor], norm: bool, paper: Any) -> list[list[Tensor]]:
    """z of each view and image, of length 1: a pass through the encoder for each size, one for all through the head."""
    encoder, head = ("teacher_encoder.network", "teacher_head.network") if who == "teacher" else ("encoder", "head")
    h = paper.encoder(w, encoder, torch.cat(views[:2]))
    h = h + (paper.encoder(w, encoder, torch.cat(views[2:])) if len(views) > 2 else [])
    h = paper.mlp(w, head, h, 3, gelu=True, norm=norm)
    n = len(views[0])
    return [[paper.unit(row) for row in h[n * v : n * v + n]] for v in range(len(views))]


def logits(w: dict[str, Tensor], name: str, z: Tensor, paper: Any) -> Tensor:
    """g_k v_k . z / |v_k| of each output k."""
    g = w.get(f"{name}.length", torch.ones(K, dtype=torch.float64))
    return torch.stack([g[k] * torch.dot(paper.unit(w[f"{name}.direction"][k]), z) for k in range(K)])


def clip(gradients: dict[str, Tensor], most: float) -> dict[str, Tensor]:
    """utils.clip_gradients: each tensor by its own norm."""
    return {name: g * min(1.0, most / (float((g**2).sum()) ** 0.5 + 1e-6)) for name, g in gradients.items()}


@pytest.mark.parametrize("sides", [(4, 4), (4, 4, 2, 2, 2)], ids=["two views", "and three small crops"])
@pytest.mark.parametrize(("norm", "fixed", "most"), [(False, True, 0.05), (True, False, 0.0)])
def test_dino(
    norm: bool, fixed: bool, most: float, sides: tuple[int, ...], tiny: Any, paper: Any, same: Any, same_state: Any
) -> None:
    """Three epochs of two steps: the teacher's temperature grows over two of them, the last layer waits for one."""
    tau, temperatures, m_0, rate = 0.3, [0.1, 0.2, 0.2], 0.6, 0.8
    options = {"temperature": tau, "teacher_temperature_start": 0.1, "teacher_temperature": 0.2, "teacher_warmup": 2}
    options |= {"momentum": m_0, "centre_momentum": rate, "head_norm": norm, "norm_last_layer": fixed, "clip": most}
    method = tiny.build("dino", 6, **options, **HEAD)
    w, batches = paper.start(method), tiny.batches(BATCHES, sides)
    assert ("last_layer.length" in w) != fixed
    total = len(batches)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches, per_epoch=PER_EPOCH), batches, strict=True)):
        epoch = step // PER_EPOCH
        student, teacher = (embed(w, who, views, norm, paper) for who, views in batch_views(batch))
        t = [[logits(w, "teacher_last_layer.network", z, paper).detach() for z in view] for view in teacher]
        s = [[logits(w, "last_layer", z, paper) for z in view] for view in student]
        pairs = [(g, v) for g in (0, 1) for v in range(len(s)) if v != g]
        loss, n = torch.zeros((), dtype=torch.float64), len(batch.index)
        for g, v in pairs:
            for i in range(n):
                e = ((t[g][i] - w["centre"]) / temperatures[epoch]).exp()
                p = (s[v][i] / tau).exp()
                loss = loss - sum(e[k] / e.sum() * (p[k] / p.sum()).log() for k in range(K)) / (n * len(pairs))
        same(ours.scalars["loss"], loss)
        names = [name for name, value in w.items() if value.requires_grad]
        slopes = dict(zip(names, torch.autograd.grad(loss, [w[name] for name in names]), strict=True))
        slopes = clip(slopes, most) if most else slopes
        if epoch < 1:
            slopes = {name: slope for name, slope in slopes.items() if not name.startswith("last_layer")}
        same(ours.gradients, slopes)
        for name, slope in slopes.items():
            w[name] = (w[name] - paper.RATE * slope).detach().requires_grad_()
        w["centre"] = rate * w["centre"] + (1 - rate) * sum(row for view in t for row in view) / (2 * n)
        follow(w, 1 - (1 - m_0) * (1 + math.cos(math.pi * step / total)) / 2)
        same_state(ours.after, w)


def batch_views(batch: Batch) -> list[tuple[str, list[Tensor]]]:
    """Whose pass sees which views."""
    return [("student", batch.views), ("teacher", batch.views[:2])]


def follow(w: dict[str, Tensor], m: float) -> None:
    """The teacher's parameters, its last layer's too; batch-norm statistics are its own."""
    for name in list(w):
        part, _, rest = name.partition(".network.")
        if rest and "running_" not in rest and "num_batches" not in rest:
            w[name] = m * w[name] + (1 - m) * w[f"{part.removeprefix('teacher_')}.{rest}"].detach()


def test_the_teacher_s_temperature_is_constant_behind_its_warm_up(tiny: Any) -> None:
    """np.linspace(0.04, 0.07, 30) by epoch, and then 0.07; steps of one temperature are one phase."""
    method = tiny.build("dino", 6, **HEAD)
    taus = [method.teacher_temperature(Progress(0, 1, epoch, 100)) for epoch in (0, 1, 28, 29, 30, 99)]
    assert taus == pytest.approx([0.04, 0.04 + 0.03 / 29, 0.07 - 0.03 / 29, 0.07, 0.07, 0.07])
    for warmup, expected in ((0, [0.07, 0.07]), (1, [0.04, 0.07])):
        method = tiny.build("dino", 6, teacher_warmup=warmup, **HEAD)
        assert [method.teacher_temperature(Progress(0, 1, epoch, 9)) for epoch in (0, 1)] == expected
    phases = [method.phase(Progress(step, 4, step // 2, 2)) for step in range(4)]
    assert phases == [0.04, 0.04, 0.07, 0.07]


@pytest.mark.parametrize("outputs", [4096, 65536])
def test_what_is_known_beforehand(outputs: int, tiny: Any) -> None:
    """ln K where teacher and student are flat, 8.32 and 11.09; that, and one output for all, are told as collapses."""
    method = tiny.build("dino", 6, **(HEAD | {"prototypes": outputs}))
    rows = {"z": torch.zeros(4, 3, 3, dtype=torch.float64), "target": torch.zeros(4, 2, 3, dtype=torch.float64)}
    loss = method.loss(rows, Progress(0, 1, 0, 1))["loss"].item()
    assert loss == pytest.approx({4096: 8.3178, 65536: 11.0904}[outputs], abs=1e-4)
    assert next(method.symptoms({"loss": loss}, rows))[0] == "chance"
    spread = rows | {"target": torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0]][:, None].repeat(1, 2, 1)}
    assert not list(method.symptoms({"loss": 0.9 * loss}, spread))
    method.centre[0] = -10.0
    assert [name for name, _ in method.symptoms({"loss": 0.01}, spread)] == ["one_takes_all"]


def test_pairs_of_images_and_large_views_have_no_order(tiny: Any) -> None:
    method = tiny.build("dino", 6, **HEAD)
    z = torch.nn.functional.normalize(torch.randn(5, 4, 3, dtype=torch.float64), dim=2)
    target = torch.nn.functional.normalize(torch.randn(5, 2, 3, dtype=torch.float64), dim=2)
    order = torch.tensor([3, 1, 4, 0, 2])

    def loss(z: Tensor, target: Tensor) -> float:
        return method.loss({"z": z, "target": target}, Progress(0, 1, 0, 1))["loss"].item()

    usual = loss(z, target)
    assert loss(z[order], target[order]) == pytest.approx(usual, rel=1e-12)
    assert loss(z[:, [1, 0, 3, 2]], target[:, [1, 0]]) == pytest.approx(usual, rel=1e-12)
    assert loss(z, target[:, [1, 0]]) != pytest.approx(usual, rel=1e-6), "a view is not its own target"


def test_the_last_layer_s_length_is_not_decayed() -> None:
    assert [p.ndim for p in LastLayer(3, K, fixed=False).parameters()] == [2, 1]
    assert [name for name, _ in LastLayer(3, K, fixed=True).named_parameters()] == ["direction"]
