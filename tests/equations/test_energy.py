"""GAN (arXiv:1406.2661) and contrastive divergence (Hinton 2002) as plain loops."""

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.method import Progress

BATCHES = [[0, 3, 3, 1], [5, 1, 0, 2], [2, 4, 5, 3]]
SIZE = 8


def test_gan(tiny: Any, paper: Any, same: Any, same_state: Any) -> None:
    """Discriminator: -log D(x) - log(1 - D(G(e))); generator: -log D(G(e)); each the other's weights held constant.

    Running statistics, with which features are evaluated, are of images alone.
    """
    dim = 3
    method = tiny.build("gan", 6, inputs={"size": SIZE}, code=dim)
    w, batches = paper.start(method), tiny.batches(BATCHES[:2], (SIZE,))

    def d(w: dict[str, Tensor], x: Tensor) -> list[Tensor]:
        return [1 / (1 + (-one).exp()) for one in paper.linear(w, "real", paper.encoder(w, "encoder", x))]

    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        noise = list(method.chance.normal(batch.index, step, dim).double())
        fakes = paper.decoder(w, "generator", noise, SIZE)
        of_images = d(w, batch.views[0])
        with paper.keep_statistics(w):
            of_fakes = d(w, fakes.detach())
        constant = {name: value.detach().clone() for name, value in w.items()}
        fooled = d(constant, fakes)
        n = len(noise)
        discriminator = -sum(a.log() + (1 - b).log() for a, b in zip(of_images, of_fakes, strict=True)) / n
        generator = -sum(one.log() for one in fooled) / n
        same(ours.scalars["discriminator"], discriminator.squeeze())
        same(ours.scalars["generator"], generator.squeeze())
        same(ours.scalars["loss"], (discriminator + generator).squeeze())
        same(ours.gradients, paper.sgd(w, (discriminator + generator).squeeze()))
    same_state(ours.after, w)


def test_each_network_of_the_gan_learns_from_its_own_loss_only(tiny: Any) -> None:
    method = tiny.build("gan", 6, inputs={"size": SIZE})
    (batch,) = tiny.batches(BATCHES[:1], (SIZE,))
    at = Progress(0, 1, 0, 1)
    scalars = method.loss(method(batch, at), at)
    for loss, learns in (("discriminator", ("encoder", "real")), ("generator", ("generator",))):
        names, parameters = zip(*method.named_parameters(), strict=True)
        slopes = torch.autograd.grad(scalars[loss], parameters, retain_graph=True, allow_unused=True)
        reached = {name.split(".")[0] for name, slope in zip(names, slopes, strict=True) if slope is not None}
        assert reached == set(learns)


def langevin(w: dict[str, Tensor], start: Tensor, noise: Tensor, rate: float, scale: float, paper: Any) -> Tensor:
    """x <- x - rate / 2 dE/dx + scale e, one step for each of `noise` (n, k, ...); E over the batch's statistics."""
    x = start
    for number in range(noise.shape[1]):
        x = x.detach().requires_grad_()
        with paper.keep_statistics(w):
            energies = paper.linear(w, "energy", paper.encoder(w, "encoder", x))
        (slope,) = torch.autograd.grad(sum(energies), x)
        x = x - rate / 2 * slope + scale * noise[:, number].double()
    return x.detach()


@pytest.mark.parametrize("persistent", [False, True], ids=["from images", "persistent"])
@pytest.mark.parametrize("chains", [4, 16])
@pytest.mark.parametrize("batch_norm", [False, True], ids=["no batch norm", "batch norm"])
def test_contrastive_divergence(
    batch_norm: bool, chains: int, persistent: bool, tiny: Any, paper: Any, same: Any, same_state: Any
) -> None:
    """L = mean E(x) - mean E(sample) + alpha (mean E(x)^2 + mean E(sample)^2), no gradient through the sampling.

    With four chains several images of a batch share one: the last of them goes on. A batch norm right before the energy
    takes all slope from its sum over a batch: without one the steps lead somewhere.
    """
    k, rate, scale, alpha, side = 3, 0.8, 0.1, 0.2, 4
    options = {"langevin_steps": k, "langevin_rate": rate, "langevin_noise": scale, "penalty": alpha}
    method = tiny.build(
        "contrastive_divergence", 6, batch_norm, {"size": side}, persistent=persistent, chains=chains, **options
    )
    w, batches = paper.start(method), tiny.batches(BATCHES, (side,))
    buffer = list(w["chains"])
    assert len(buffer) == (chains if persistent else 0)
    for step, (ours, batch) in enumerate(zip(tiny.train(method, batches), batches, strict=True)):
        x, noise = batch.views[0], method.chance.normal(batch.index, step, k + 1, 3, side, side)
        start = x
        if persistent:
            anew = method.chance.uniform(batch.index, -1 - step, 1).flatten() < 0.05
            start = torch.stack(
                [noise[b, -1].double() if anew[b] else buffer[i % chains] for b, i in enumerate(batch.index.tolist())]
            )
        sample = langevin(w, start, noise[:, :k], rate, scale, paper)
        of_x = paper.linear(w, "energy", paper.encoder(w, "encoder", x))
        with paper.keep_statistics(w):
            of_sample = paper.linear(w, "energy", paper.encoder(w, "encoder", sample))
        n = len(x)
        divergence = (sum(of_x) - sum(of_sample)).squeeze() / n
        loss = divergence + alpha * (sum(e**2 for e in of_x) + sum(e**2 for e in of_sample)).squeeze() / n
        same(ours.scalars["loss"], loss)
        same(ours.scalars["divergence"], divergence)
        same(ours.gradients, paper.sgd(w, loss))
        if persistent:
            for b, i in enumerate(batch.index.tolist()):
                buffer[i % chains] = sample[b]
            same(ours.after["chains"], buffer)
    w["chains"] = torch.stack(buffer) if persistent else w["chains"]
    same_state(ours.after, w)


def test_langevin_steps_go_down_in_energy(tiny: Any) -> None:
    """Without noise, and small enough: samples have a lower energy than the images that they start from."""
    options = {"persistent": False, "langevin_rate": 0.01, "langevin_noise": 0.0}
    method = tiny.build("contrastive_divergence", 6, batch_norm=False, inputs={"size": 4}, **options)
    (batch,) = tiny.batches(BATCHES[:1], (4,))
    rows = method(batch, Progress(0, 1, 0, 1))
    assert (rows["sample"] < rows["x"]).all()


def test_a_twentieth_of_the_chains_begins_anew(tiny: Any) -> None:
    """With rate 0 and no noise a sample is what it starts from."""
    options = {"langevin_steps": 1, "langevin_rate": 0.0, "langevin_noise": 0.0, "chains": 4000}
    method = tiny.build("contrastive_divergence", 4000, inputs={"size": 2}, **options)
    index, x = torch.arange(4000), torch.zeros(4000, 3, 2, 2, dtype=torch.float64)
    shares = []
    for step in (0, 1, 7):
        anew = (method.sample(x, index, step) != method.get_buffer("chains")).flatten(1).any(dim=1)
        shares.append(anew)
        assert anew.double().mean().item() == pytest.approx(0.05, abs=0.01)
    assert not torch.equal(shares[0], shares[1])


def test_large_views_are_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match=r"views of 65 pixels.*view_size"):
        tiny.build("contrastive_divergence", 6, inputs={"size": 65})
