"""I-JEPA (arXiv:2301.08243) as plain loops, and its blocks."""

from typing import Any

import pytest
import torch
from torch import nn
from vision_transformer import PATCHES, PIXELS, SIDE, SIZE, Formulas, Rows, place_code, transformer

from methods.method import Batch, Progress

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 2]]
AT = Progress(1, 10, 0, 1)


def test_ijepa(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """Smooth L1 between what the predictor says of four blocks, from the context, and a teacher's normalised tokens."""
    dim, momentum = 8, 0.9
    options = {"predictor_dim": dim, "predictor_blocks": 1, "predictor_heads": 2, "momentum": momentum}
    method = tiny.build("ijepa", 6, inputs={"size": SIZE}, backbone=transformer, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, (SIZE,))
    codes = [place_code(i, j, dim) for i in range(SIDE) for j in range(SIDE)]
    same(w["positions"], [code.double() for code in codes], atol=1e-6)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        contexts, targets = (part.tolist() for part in method.blocks(batch.index, step))
        errors = []
        for context, blocks, image in zip(contexts, targets, batch.views[0], strict=True):
            whole = Formulas.encode(w, "teacher.network", Formulas.embed(w, "teacher.network", image))[1:]
            target = [((one - one.mean()) / (one.var(correction=0) + 1e-5).sqrt()).detach() for one in whole]
            visible = [number for number, inside_context in enumerate(context) if inside_context]
            t = Formulas.embed(w, "encoder", image)
            t = Formulas.encode(w, "encoder", [t[0], *(t[1 + patch] for patch in visible)])[1:]
            t = [one + w["positions"][patch] for one, patch in zip(paper.linear(w, "narrow", t), visible, strict=True)]
            for block in blocks:
                inner = [number for number, inside in enumerate(block) if inside]
                full = [*t, *(w["mask_token"][0, 0] + w["positions"][patch] for patch in inner)]
                full = Formulas.norm(w, "predictor.norm", Formulas.block(w, "predictor.layers.0", full, 2, True), 1e-5)
                for one, patch in zip(paper.linear(w, "widen", full[len(t) :]), inner, strict=True):
                    gap = (one - target[patch]).abs()
                    errors.append(torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean())
        loss = sum(errors) / len(errors)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
        m = momentum + (1 - momentum) * step / len(BATCHES)
        for name in [name for name in w if name.startswith("teacher.network.")]:
            followed = w[name.replace("teacher.network", "encoder")].detach()
            w[name] = m * w[name] + (1 - m) * followed
    same_state(ours.after, w)


def test_blocks_of_ijepa(tiny: Any) -> None:
    """On a grid of 8 x 8: blocks of one size a step, anywhere; contexts of more than six patches, outside of them."""
    side, kind = 8, {"img_size": 16, "embed_dim": 8, "num_heads": 2}
    options = {"predictor_dim": 8, "predictor_blocks": 1, "predictor_heads": 2}
    method = tiny.build("ijepa", 6, inputs={"size": 16}, backbone=lambda: transformer(**kind), **options)
    index, sizes, shares = torch.arange(50), set(), torch.zeros(side, side)
    for step in range(60):
        context, targets = method.blocks(index, step)
        part = method.blocks(index[7:9], step)
        assert torch.equal(part[0], context[7:9])
        assert torch.equal(part[1], targets[7:9])
        grid = targets.view(-1, side, side)
        heights, widths = grid.any(dim=2).sum(dim=1), grid.any(dim=1).sum(dim=1)
        assert torch.equal(heights * widths, grid.flatten(1).sum(dim=1)), "each is a rectangle"
        assert len(set(zip(heights.tolist(), widths.tolist(), strict=True))) == 1
        assert not (context & targets.any(dim=1)).any()
        assert (context.sum(dim=1) > 6).all()
        sizes.add((int(heights[0]), int(widths[0])))
        shares += grid.float().mean(dim=0)
    assert all(8 <= height * width <= 13 and 0.6 < height / width < 1.7 for height, width in sizes), sizes
    assert len(sizes) > 1
    torch.testing.assert_close(shares, shares.flip(0), rtol=0.25, atol=0.5)  # the last row as often as the first
    torch.testing.assert_close(shares, shares.flip(1), rtol=0.25, atol=0.5)


def test_ijepa_is_known_beforehand(tiny: Any) -> None:
    """A predictor that says 0 has about 0.42 against numbers of variance 1; equal tokens of all images are a sign."""
    options = {"predictor_dim": 8, "predictor_blocks": 1, "predictor_heads": 2}
    method = tiny.build("ijepa", 6, inputs={"size": SIZE}, backbone=transformer, **options)
    for parameter in method.widen.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        rows = method(tiny.batches([range(6)], (SIZE,))[0], AT)
    assert float(method.loss(rows, AT)["loss"]) == pytest.approx(0.42, abs=0.04)
    assert not list(method.symptoms({}, rows))
    equal = {"target": rows["target"][:1].expand(6, -1)}
    assert [name for name, _ in method.symptoms({}, equal)] == ["one_point"]


def test_the_student_of_ijepa_sees_its_context_alone(tiny: Any) -> None:
    """Other pixels outside of the context: the same predictions, to the last digit, against other targets."""
    options = {"predictor_dim": 8, "predictor_blocks": 1, "predictor_heads": 2}
    method = tiny.build("ijepa", 6, inputs={"size": SIZE}, backbone=transformer, **options)
    (batch,) = tiny.batches([range(6)], (SIZE,))
    context, targets = method.blocks(batch.index, AT.step)
    visible = context.view(-1, 1, SIDE, SIDE).repeat_interleave(PIXELS, dim=2).repeat_interleave(PIXELS, dim=3)
    other = torch.where(visible, batch.views[0], torch.randn_like(batch.views[0]))
    predictions: Rows = []
    method.widen.register_forward_hook(lambda *arguments: predictions.append(arguments[2]))
    errors = [method(Batch([x], batch.index), AT)["error"] for x in (batch.views[0], other)]
    first, second = (one.view(6, 4, PATCHES, -1)[targets] for one in predictions)
    assert torch.equal(first, second)
    assert not torch.equal(*errors)
