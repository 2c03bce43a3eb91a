"""MAE (arXiv:2111.06377) and SimMIM (2111.09886) as plain loops; what is masked, and what is seen."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from vision_transformer import PATCHES, PIXELS, SIDE, SIZE, WIDTH, Formulas, Rows, place_code, transformer

from methods.method import Batch, Progress
from methods.parts.tokens import embed, encode

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 2]]
AT = Progress(1, 10, 0, 1)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_mae(norm_pix: bool, tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """The patches of smallest u through the encoder; the others' pixels, normalised, from the decoder."""
    count, dim = 4, 12
    options = {"mask": 0.6, "norm_pix": norm_pix, "decoder_dim": dim, "decoder_blocks": 1, "decoder_heads": 3}
    method = tiny.build("mae", 6, inputs={"size": SIZE}, backbone=transformer, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, (SIZE,))
    for name, width in (("encoder.pos_embed", WIDTH), ("positions", dim)):
        codes = [torch.zeros(width), *(place_code(i, j, width) for i in range(SIDE) for j in range(SIDE))]
        same(w[name].view(-1, width), [code.double() for code in codes], atol=1e-6)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        numbers, errors = method.chance.uniform(batch.index, step, PATCHES).tolist(), []
        for u, image in zip(numbers, batch.views[0], strict=True):
            order = sorted(range(PATCHES), key=u.__getitem__)
            t = Formulas.embed(w, "encoder", image)
            t = Formulas.encode(w, "encoder", [t[0], *(t[1 + patch] for patch in order[:count])])
            t = paper.linear(w, "narrow", t)
            places = {patch: t[1 + number] for number, patch in enumerate(order[:count])}
            full = [t[0], *(places.get(patch, w["mask_token"][0, 0]) for patch in range(PATCHES))]
            full = [one + place for one, place in zip(full, w["positions"], strict=True)]
            full = Formulas.block(w, "decoder.layers.0", full, 3, True)
            predictions = paper.linear(w, "to_pixels", Formulas.norm(w, "decoder.norm", full, 1e-5))[1:]
            for patch in order[count:]:
                i, j = patch // SIDE * PIXELS, patch % SIDE * PIXELS
                pixels = [image[c, i + a, j + b] for a in range(PIXELS) for b in range(PIXELS) for c in range(3)]
                target = torch.stack(pixels)
                if norm_pix:
                    variance = ((target - target.mean()) ** 2).sum() / (len(target) - 1)
                    target = (target - target.mean()) / (variance + 1e-6).sqrt()
                errors.append(((predictions[patch] - target) ** 2).mean())
        assert len(errors) == len(BATCHES[0]) * (PATCHES - count)
        loss = sum(errors) / len(errors)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_mae_is_known_beforehand(tiny: Any) -> None:
    """A decoder that says 0 has an error of (P - 1) / P, with P numbers a patch: a sign that nothing is learnt."""
    method = tiny.build("mae", 6, inputs={"size": SIZE}, backbone=transformer, decoder_dim=8, decoder_heads=2)
    for parameter in method.to_pixels.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        rows = method(tiny.batches([range(6)], (SIZE,))[0], AT)
        loss = float(method.loss(rows, AT)["loss"])
    numbers = 3 * PIXELS**2
    assert loss == pytest.approx((numbers - 1) / numbers, abs=1e-4)
    assert [name for name, _ in method.symptoms({"loss": loss}, rows)] == ["chance"]
    assert not list(method.symptoms({"loss": 0.9 * loss}, rows))


class Convolutions(nn.Module):
    """Means of 2 x 2 pixels, then a convolution: a map of 3 x 3."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, WIDTH, 3, padding=1)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.convolution(nn.functional.avg_pool2d(x, 2))


@pytest.mark.parametrize("kind", ["patches", "convolutions"])
def test_simmim(kind: str, tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """A token in place of hidden patches, or a colour on hidden pixels; the absolute error of these pixels alone."""
    backbone = transformer if kind == "patches" else lambda: (Convolutions(), WIDTH)
    method = tiny.build("simmim", 6, inputs={"size": SIZE}, backbone=backbone, mask=0.6, cell=2, clip=0.05)
    if kind == "convolutions":
        assert method.token.tolist() == [0, 0, 0], "the mean colour"
    w, batches = paper.start(method), tiny.batches(BATCHES, (SIZE,))
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        numbers, total, count = method.chance.uniform(batch.index, step, PATCHES).tolist(), 0.0, 0
        for u, image in zip(numbers, batch.views[0], strict=True):
            hidden = [sorted(u).index(number) < 6 for number in u]  # ceil(0.6 x 9)
            covered = [[hidden[i // 2 * SIDE + j // 2] for j in range(SIZE)] for i in range(SIZE)]
            if kind == "patches":
                t = Formulas.encode(w, "encoder", Formulas.embed(w, "encoder", image, hidden, w["token"]))[1:]
            else:
                pixels = [[w["token"] if covered[i][j] else image[:, i, j] for j in range(SIZE)] for i in range(SIZE)]
                means = [
                    sum(pixels[i + a][j + b] for a in (0, 1) for b in (0, 1)) / 4
                    for i in range(0, SIZE, 2)
                    for j in range(0, SIZE, 2)
                ]
                x = torch.stack(means).T.view(1, 3, SIDE, SIDE)
                t = list(paper.convolution(w, "encoder.convolution", x)[0].flatten(1).T)
            predictions = [w["to_pixels.weight"][:, :, 0, 0] @ one + w["to_pixels.bias"] for one in t]
            for c in range(3):
                for i in range(SIZE):
                    for j in range(SIZE):
                        if covered[i][j]:
                            pixel = predictions[i // 2 * SIDE + j // 2][4 * c + 2 * (i % 2) + j % 2]
                            total, count = total + (pixel - image[c, i, j]).abs(), count + 1
        same(ours.scalars["loss"], total / count)
        before = {name: value.clone() for name, value in w.items()}
        gradients = paper.sgd(w, total / count)
        norm = sum((slope**2).sum() for slope in gradients.values()).sqrt()
        assert norm > 0.05
        clipped = {name: slope * 0.05 / (norm + 1e-6) for name, slope in gradients.items()}
        same(ours.gradients, clipped)
        w.update({n: (before[n] - paper.RATE * slope).detach().requires_grad_() for n, slope in clipped.items()})
    same_state(ours.after, w)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cell": 4}, r"cell=4 of views of 6 pixels: 2 can be"),
        ({"cell": 3}, r"cell=3 of views of 6 pixels: 2 can be"),
        ({"cell": 6}, "hides all cells of a view, 1 of 6 pixels: cell=2 or a larger view_size leaves some"),
        (
            {"mask": 0.95},
            "hides all cells of a view, 9 of 2 pixels: smaller .*, a mask of at most 0.88 or",
        ),
    ],
    ids=str,
)
def test_cells_of_simmim_that_cannot_be(options: dict[str, Any], words: str, tiny: Any) -> None:
    with pytest.raises(ValueError, match=words):
        tiny.build("simmim", 6, inputs={"size": SIZE}, backbone=transformer, **options)


def test_what_lies_behind_the_map_is_refused_by_its_name(tiny: Any) -> None:
    def backbone() -> tuple[nn.Module, int]:
        return timm.create_model("test_convnext", num_classes=0), 64

    with pytest.raises(ValueError, match=r"head\.norm\.weight of the backbone ConvNeXt comes behind"):
        tiny.build("simmim", 6, inputs={"size": 32}, backbone=backbone)


@pytest.mark.parametrize("more", [{}, {"dynamic_img_size": True}, {"class_token": False, "reg_tokens": 2}], ids=str)
def test_all_tokens_are_what_is_evaluated(more: dict[str, Any]) -> None:
    network = transformer(**more)[0].eval()
    x = torch.randn(3, 3, SIZE, SIZE)
    assert torch.equal(encode(network, embed(network, x)), network.forward_features(x))
    assert torch.equal(network.pool(encode(network, embed(network, x))), network(x))


def test_what_is_masked_is_not_seen(tiny: Any) -> None:
    """Other pixels in the patches that MAE removes: what it predicts stays, to the last digit."""
    method = tiny.build("mae", 6, inputs={"size": SIZE}, backbone=transformer, decoder_dim=8, decoder_heads=2)
    (batch,) = tiny.batches([range(6)], (SIZE,))
    u = method.chance.uniform(batch.index, AT.step, PATCHES)
    removed = (u.argsort(dim=1).argsort(dim=1) >= method.kept).view(-1, 1, SIDE, SIDE)
    removed = removed.repeat_interleave(PIXELS, dim=2).repeat_interleave(PIXELS, dim=3).expand_as(batch.views[0])
    other = torch.where(removed, torch.randn_like(batch.views[0]), batch.views[0])
    predictions: Rows = []
    method.decoder.register_forward_hook(lambda *arguments: predictions.append(arguments[2]))
    errors = [method(Batch([x], batch.index), AT)["error"] for x in (batch.views[0], other)]
    assert torch.equal(*predictions)
    assert not torch.equal(*errors)


@pytest.mark.parametrize(("name", "options"), [("mae", {"decoder_dim": 8, "decoder_heads": 2}), ("simmim", {})])
def test_masks_are_a_function_of_image_and_step(name: str, options: dict[str, int], tiny: Any, same: Any) -> None:
    """Not of the slice of the batch; every place is hidden as often."""
    method = tiny.build(name, 6, inputs={"size": SIZE}, backbone=transformer, **options)
    (batch,) = tiny.batches([range(6)], (SIZE,))
    whole = method(batch, AT)["error"]
    for cut in (slice(0, 1), slice(1, 4), slice(4, 6)):
        part = Batch([batch.views[0][cut]], batch.index[cut])
        same(method(part, AT)["error"], whole[cut], atol=1e-12)
    assert not torch.allclose(method(batch, Progress(2, 10, 0, 1))["error"], whole)
    count = method.kept if name == "mae" else method.hidden
    first = method.chance.uniform(torch.arange(4000), 0, PATCHES).argsort(dim=1)[:, :count]
    shares = torch.bincount(first.flatten(), minlength=PATCHES) / len(first)
    assert shares.tolist() == pytest.approx([count / PATCHES] * PATCHES, abs=0.04)


@pytest.mark.parametrize(("mask", "count"), [(0.75, 2), (0.9, 1), (0.99, 0), (0.01, 9)])
def test_the_share_that_mae_keeps_is_rounded(mask: float, count: int, tiny: Any) -> None:
    """Not cut: 10 (1 - 0.9) is 0.9999... in floating point. All, and none, are refused."""
    inputs = {"size": SIZE}
    if 0 < count < PATCHES:
        assert tiny.build("mae", 6, inputs=inputs, backbone=transformer, mask=mask).kept == count
        return
    with pytest.raises(ValueError, match=rf"mask={mask} keeps {count} of 9 patches"):
        tiny.build("mae", 6, inputs=inputs, backbone=transformer, mask=mask)


def test_a_backbone_without_patches_is_refused(tiny: Any) -> None:
    def make_convolutions() -> tuple[nn.Module, int]:
        return timm.create_model("test_resnet", num_classes=0), 96

    with pytest.raises(ValueError, match=r"is a ResNet, .* such as backbone=vit_tiny_patch16_224, with stem=small"):
        tiny.build("mae", 6, inputs={"size": SIZE}, backbone=make_convolutions)
    with pytest.raises(ValueError, match=r"fc_norm\.weight of the backbone VisionTransformer .* pool=token or avg"):
        tiny.build("mae", 6, inputs={"size": SIZE}, backbone=lambda: transformer(fc_norm=True))


def test_simmim_on_a_transformer_made_for_one_size(tiny: Any) -> None:
    """Its patches come as a sequence, not as a map."""

    def make_one_size() -> tuple[nn.Module, int]:
        sizes = {"img_size": 16, "patch_size": 4, "dynamic_img_size": False}
        network = timm.create_model("test_vit", num_classes=0, global_pool="avg", fc_norm=False, **sizes)
        return network, network.num_features

    method = tiny.build("simmim", 4, inputs={"size": 16}, backbone=make_one_size)
    assert len(method(tiny.batches([range(4)], (16,))[0], AT)["error"]) == 4
