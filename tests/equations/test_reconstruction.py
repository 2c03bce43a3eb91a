"""Autoencoder, denoising autoencoder (ICML 2008) and VAE (arXiv:1312.6114) as plain loops; the decoder's sizes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods.parts.decoder import Decoder

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 2]]
SIZE = 8
INPUTS = {"size": SIZE}


def mean_squared_error(output: Tensor, x: Tensor) -> Tensor:
    pixels = list(zip(output.flatten(), x.flatten(), strict=True))
    return sum((a - b) ** 2 for a, b in pixels) / len(pixels)


@pytest.mark.parametrize(
    "options",
    [{}, {"bottleneck": 2}, {"sparse": 0.3}, {"bottleneck": 3, "sparse": 0.2}],
    ids=lambda o: str(o) or "plain",
)
def test_autoencoder(options: dict[str, Any], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """The mean squared error of pixels, and `sparse` times the mean absolute value of the code."""
    method = tiny.build("autoencoder", 6, inputs=INPUTS, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, (SIZE,))
    for ours, batch in zip(tiny.train(method, batches), batches, strict=True):
        code = paper.encoder(w, "encoder", batch.views[0])
        if "bottleneck" in options:
            code = paper.linear(w, "head", code)
            assert len(code[0]) == options["bottleneck"]
        error = mean_squared_error(paper.decoder(w, "decoder", code, SIZE), batch.views[0])
        size = sum(number.abs() for one in code for number in one) / sum(len(one) for one in code)
        loss = error + options.get("sparse", 0) * size
        for name, value in (("loss", loss), ("error", error), ("code_size", size)):
            same(ours.scalars[name], value)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_a_linear_bottleneck_spans_the_subspace_of_pca(tiny: Any) -> None:
    """With a linear decoder: the error is what PCA with as many components leaves over."""
    pixels, code = 3 * SIZE * SIZE, 2

    def make_flat() -> tuple[nn.Module, int]:
        return nn.Flatten(), pixels

    method = tiny.build("autoencoder", 12, inputs=INPUTS, backbone=make_flat, bottleneck=code)
    method.decoder = nn.Sequential(nn.Linear(code, pixels), nn.Unflatten(1, (3, SIZE, SIZE))).double()
    (batch,) = tiny.batches([range(12)], (SIZE,))
    # Without a tolerance, by which it would end on a plateau: on which one depends on the processor's rounding.
    optimiser = torch.optim.LBFGS(method.parameters(), max_iter=600, tolerance_change=0, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = method.loss(method(batch, None), None)["loss"]
        loss.backward()
        return loss

    optimiser.step(closure)
    x = batch.views[0].flatten(1)
    spectrum = torch.linalg.svdvals(x - x.mean(dim=0))
    residual = (spectrum[code:] ** 2).sum() / x.numel()
    assert closure().item() == pytest.approx(residual.item(), rel=1e-4)


@pytest.mark.parametrize("options", [{"noise": 0.7}, {"noise": 0.0, "mask": 0.5}, {"noise": 0.3, "mask": 0.3}], ids=str)
def test_denoising_autoencoder(options: dict[str, float], tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """The encoder sees the corrupted view, the error is against the clean one."""
    method = tiny.build("denoising_autoencoder", 6, inputs=INPUTS, **options)
    w, batches = paper.start(method), tiny.batches(BATCHES, (SIZE,))
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        x = batch.views[0]
        noise = method.noise.normal(batch.index, step, 3, SIZE, SIZE)
        numbers = method.holes.uniform(batch.index, step, 1, SIZE // 4, SIZE // 4)
        noisy = torch.zeros_like(x)
        for b in range(len(x)):
            for i in range(SIZE):
                for j in range(SIZE):
                    if numbers[b, 0, i // 4, j // 4] >= options.get("mask", 0):
                        noisy[b, :, i, j] = x[b, :, i, j] + options["noise"] * noise[b, :, i, j].double()
        code = paper.encoder(w, "encoder", noisy)
        loss = mean_squared_error(paper.decoder(w, "decoder", code, SIZE), x)
        same(ours.scalars["loss"], loss)
        same(ours.gradients, paper.sgd(w, loss))
    same_state(ours.after, w)


def test_corruption_is_a_function_of_image_and_step(tiny: Any) -> None:
    """Not of the slice of the batch; blocks of 4 pixels vanish whole, at the image's edge too."""
    size = 10
    x, index = torch.ones(500, 3, size, size), torch.arange(500)
    method = tiny.build("denoising_autoencoder", 500, inputs={"size": size}, noise=0.5, mask=0.25)
    whole = method.corrupt(x, index, 3)
    assert torch.equal(method.corrupt(x[100:], index[100:], 3), whole[100:])
    assert not torch.equal(method.corrupt(x, index, 4), whole)
    assert not torch.equal(whole[0], whole[1])
    holes = whole == 0
    assert torch.equal(holes, holes[:, :1].expand_as(holes)), "all colours vanish together"
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        for columns in (slice(0, 4), slice(4, 8), slice(8, 10)):
            block = holes[:, 0, rows, columns].flatten(1)
            assert torch.equal(block.all(dim=1), block.any(dim=1))
    assert holes.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert whole[~holes].mean().item() == pytest.approx(1, abs=0.01)
    assert whole[~holes].std().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("beta", [1.0, 4.0, 0.0])
def test_vae(beta: float, tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """-ELBO = 1/2 |x - x'|^2 - beta/2 sum_j (1 + log s_j^2 - m_j^2 - s_j^2), x' from m + s e; over the pixel values."""
    dim = 2
    method = tiny.build("vae", 6, inputs=INPUTS, code=dim, beta=beta)
    w, batches = paper.start(method), tiny.batches(BATCHES, (SIZE,))
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        x = batch.views[0]
        moments = paper.linear(w, "moments", paper.encoder(w, "encoder", x))
        noise = method.chance.normal(batch.index, step, dim).double()
        code = [m[:dim] + m[dim:].exp().sqrt() * e for m, e in zip(moments, noise, strict=True)]
        reconstruction = paper.decoder(w, "decoder", code, SIZE)
        n, pixels = len(x), x[0].numel()
        error = sum(((a - b) ** 2).sum() for a, b in zip(reconstruction, x, strict=True)) / 2 / n / pixels
        terms = [1 + m[dim + j] - m[j] ** 2 - m[dim + j].exp() for m in moments for j in range(dim)]
        divergence = -sum(terms) / 2 / n / pixels
        own = torch.distributions.Normal(torch.stack(moments)[:, :dim], torch.stack(moments)[:, dim:].exp().sqrt())
        unit = torch.distributions.Normal(torch.zeros(dim, dtype=torch.float64), 1.0)
        same(divergence.detach(), torch.distributions.kl_divergence(own, unit).sum() / n / pixels)
        for name, value in (("loss", error + beta * divergence), ("error", error), ("divergence", divergence)):
            same(ours.scalars[name], value)
        same(ours.gradients, paper.sgd(w, error + beta * divergence))
    same_state(ours.after, w)


@pytest.mark.parametrize("size", [8, 9, 16, 28, 32, 33, 64, 96])
def test_the_decoder_makes_images_of_the_size(size: int) -> None:
    decoder = Decoder(5, size)
    assert decoder(torch.randn(2, 5)).shape == (2, 3, size, size)


@pytest.mark.parametrize("name", ["autoencoder", "denoising_autoencoder", "vae", "gan"])
@pytest.mark.parametrize("size", [7, 97, 224])
def test_other_sizes_are_refused(size: int, name: str, tiny: Any) -> None:
    with pytest.raises(ValueError, match=rf"views of {size} pixels.*8 to 96.*view_size"):
        tiny.build(name, 6, inputs={"size": size})
