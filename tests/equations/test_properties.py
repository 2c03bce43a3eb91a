"""What must hold of every method: METHODS.md, sections 8.1 (losses known beforehand) and 8.2 (properties)."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from methods.method import Method, Progress

IMAGES, N, D, K, TAU = 8, 4, 8, 5, 0.2
AT = Progress(0, 6, 0, 3)


class Case(NamedTuple):
    name: str
    options: dict[str, Any]
    chance: float  # the loss where nothing is told apart
    heads: tuple[str, ...] = ("head",)  # what gives embeddings before they are normalised
    sides: tuple[int, ...] = (4, 4)
    swaps: bool = False  # the loss is the same where the views are swapped


NCE = math.log(K + 1) + K * math.log((K + 1) / K)
PLAIN = {"temperature": TAU, "head_dim": D}
QUEUE, BANK = PLAIN | {"queue": K}, PLAIN | {"negatives": K}
CLUSTERS = PLAIN | {"prototypes": D}
FORMS = {"nce": NCE, "shared": NCE, "infonce": math.log(K + 1), "softmax": math.log(IMAGES)}
CASES = {
    "simclr": Case("simclr", PLAIN, math.log(2 * N - 1), swaps=True),
    "simclr, multi-crop": Case("simclr", PLAIN, math.log(2 * N - 1), sides=(4, 4, 2, 2)),
    "dcl": Case("dcl", PLAIN, math.log(2 * N - 2), swaps=True),
    "dclw, multi-crop": Case("dcl", PLAIN | {"weighted": True}, math.log(2 * N - 2), sides=(4, 4, 2)),
    "nnclr": Case("nnclr", QUEUE | {"head_hidden": 9, "predictor_hidden": 9}, math.log(N), ("predictor",), swaps=True),
    "moco": Case("moco", QUEUE, math.log(K + 1)),
    "moco, symmetric": Case("moco", QUEUE | {"symmetric": True}, 2 * math.log(K + 1), swaps=True),
    "moco, multi-crop": Case("moco", QUEUE, math.log(K + 1), sides=(4, 4, 2)),
    "moco_v3": Case(
        "moco_v3", PLAIN | {"head_hidden": 9}, 2 * (2 * TAU * math.log(N)), heads=("predictor",), swaps=True
    ),
    "swav": Case("swav", CLUSTERS | {"prototypes": N}, math.log(N), swaps=True),
    "deepcluster": Case("deepcluster", CLUSTERS, math.log(D), swaps=True),
    "pcl": Case("pcl", QUEUE | {"clusters": "2+3", "warmup_epochs": 1}, math.log(K + 1)),
    **{f"instdisc, {form}": Case("instdisc", BANK | {"loss": form}, c, sides=(4,)) for form, c in FORMS.items()},
    **{f"pirl, {form}": Case("pirl", BANK | {"loss": form}, c, ("f", "g"), (4, 0)) for form, c in FORMS.items()},
}
each = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def prepare(case: Case, tiny: Any) -> Any:
    """With clusters, where they are of the kind that the first epoch finds."""
    method = tiny.build(case.name, IMAGES, **case.options)
    (images,) = tiny.batches([range(IMAGES)], (4,), seed=1)[0].views
    with torch.no_grad():
        method.before_epoch(AT, lambda f: f(images))
    return method


def give_embeddings(method: Any, case: Case, tiny: Any, embedding: Tensor, memory: Tensor) -> dict[str, Tensor]:
    """Rows of a batch whose image i has the embedding of that row in all views; all memories hold `memory`."""
    (batch,) = tiny.batches([list(range(N))], case.sides)
    rows = {name: row.detach().clone() for name, row in method(batch, AT).items()}
    for row in rows.values():
        if row.is_floating_point():
            row.copy_(embedding[:N] if row.ndim == 2 else embedding[:N, None].expand_as(row))
    for name, value in method.state_dict().items():
        if name in ("bank.rows", "queue.rows", "prototypes.weight", "centroids"):
            value.copy_(memory[: value.shape[-2]].expand_as(value))
        elif name == "bank.drawn":  # images that are not in the batch: their own rows are no negatives
            value.copy_(N + torch.arange(len(value)) % (IMAGES - N))
        elif name == "assigned" and case.name == "deepcluster":
            value.copy_(torch.arange(IMAGES).expand_as(value))
    return rows


def list_signs(method: Method, logged: dict[str, float], rows: dict[str, Tensor]) -> list[str]:
    return [name for name, _ in method.symptoms(logged, rows)]


@each
def test_chance_is_known_beforehand_and_reported_there_only(case: Case, tiny: Any) -> None:
    """Equal embeddings, or flat scores; against healthy ones, where each image has a direction of its own."""
    method = prepare(case, tiny)
    axes = torch.eye(D, dtype=torch.float64)
    one = axes[:1].expand(IMAGES, D)
    flat = one.roll(1, 1) if case.name in ("swav", "deepcluster") else one  # prototypes that all score 0
    rows = give_embeddings(method, case, tiny, one, flat)
    logged = {name: value.item() for name, value in method.loss(rows, AT).items()}
    assert logged["loss"] == pytest.approx(case.chance, abs=1e-9)
    assert "chance" in list_signs(method, logged, rows)
    for factor in (0.97, 1.03):
        assert "chance" not in list_signs(method, {name: factor * value for name, value in logged.items()}, rows)
    own = case.name in ("instdisc", "pirl", "swav", "deepcluster", "nnclr")  # memories with the images' own rows
    rows = give_embeddings(method, case, tiny, axes, axes if own else axes.flip(0))
    logged = {name: value.item() for name, value in method.loss(rows, AT).items()}
    assert logged["loss"] < case.chance
    assert list_signs(method, logged, rows) == []


@each
def test_the_gradient_is_orthogonal_to_the_embedding(case: Case, tiny: Any) -> None:
    """d loss / d v . v = 0 for the head's output v: a cosine loss cannot change lengths."""
    method = prepare(case, tiny)
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    for head in case.heads:
        method.get_submodule(head).register_forward_hook(keep)
    (batch,) = tiny.batches([[0, 3, 3, 1]], case.sides)
    method.loss(method(batch, AT), AT)["loss"].backward()
    assert outputs
    for v in outputs:
        assert v.grad is not None
        assert v.grad.norm() > 1e-3
        torch.testing.assert_close((v.grad * v).sum(dim=1), torch.zeros(len(v), dtype=v.dtype), atol=1e-12, rtol=0)


@each
def test_the_order_of_the_batch_does_not_matter(case: Case, tiny: Any) -> None:
    method = prepare(case, tiny)
    (batch,) = tiny.batches([[0, 3, 3, 1, 5]], case.sides)
    rows, order = method(batch, AT), torch.tensor([3, 0, 4, 1, 2])
    loss = method.loss(rows, AT)["loss"].item()
    assert method.loss({name: row[order] for name, row in rows.items()}, AT)["loss"].item() == pytest.approx(loss)


@pytest.mark.parametrize("name", ["lejepa", "visreg", "wmse", "mmcr", "vibcreg", "corinfomax"])
def test_a_batch_that_is_a_sample_has_no_order_and_no_sign(name: str, tiny: Any) -> None:
    """METHODS-2.md 5: images, large views and -z, in place of z, have the same loss."""
    method = tiny.build(name, IMAGES, head_dim=3)
    z = torch.randn(3 * D, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(z: Tensor) -> float:
        torch.manual_seed(0)
        return method.loss({"z": z, "centre": z.mean(dim=1)}, AT)["loss"].item()

    for other in (z.roll(5, dims=0), z.flip(1), -z):
        assert loss(other) == pytest.approx(loss(z), rel=1e-9)
    assert loss(z[:, [0, 0]]) != pytest.approx(loss(z), rel=1e-3)


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.swaps], ids=lambda case: case.name)
def test_the_order_of_the_views_does_not_matter(case: Case, tiny: Any) -> None:
    method = prepare(case, tiny)
    (batch,) = tiny.batches([[0, 3, 3, 1, 5]], case.sides)
    rows = method(batch, AT)
    swapped = {name: row.flip(1) if row.is_floating_point() else row for name, row in rows.items()}
    if case.name == "deepcluster":
        method.centroids[:], method.assigned[:] = method.centroids[:1].clone(), method.assigned[:1].clone()
    assert method.loss(swapped, AT)["loss"].item() == pytest.approx(method.loss(rows, AT)["loss"].item())
