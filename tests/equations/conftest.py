"""What the papers' loops share: a tiny method in float64, steps as the engine takes them, a network by its formulas."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from methods import load
from methods.method import Batch, Method, Progress

State = dict[str, Tensor]
WIDTH, RATE = 5, 0.3


class Step(NamedTuple):
    """One step of a method: what it said, and its state (parameters and buffers) on both sides."""

    scalars: dict[str, Tensor]
    gradients: State  # of each trainable parameter that has one when the optimiser steps
    before: State  # behind `before_epoch`
    after: State


class Tiny:
    """Methods with a network of one linear layer and batch norm, and their data."""

    @staticmethod
    def build(
        name: str,
        images: int,
        batch_norm: bool = True,
        inputs: dict[str, int] | None = None,
        backbone: Callable[[], tuple[nn.Module, int]] | None = None,
        **options: Any,
    ) -> Any:
        """In float64 from the start, so that what starts at unit length has it to the last digit.

        `inputs`: the `size` of a sized method, the `classes` of a supervised one. `backbone`: another one and
        its width.
        """
        torch.manual_seed(7)
        method = load(name)
        torch.set_default_dtype(torch.float64)
        try:
            encoder = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, WIDTH))
            encoder.append(nn.BatchNorm1d(WIDTH) if batch_norm else nn.Identity())
            network, width = backbone() if backbone else (encoder, WIDTH)
            return method(method.Config(**options), network, width, images, **(inputs or {}))
        finally:
            torch.set_default_dtype(torch.float32)

    @staticmethod
    def batches(indices: Sequence[Sequence[int]], sides: Sequence[int] = (4, 4), seed: int = 0) -> list[Batch]:
        """One batch for each list of image numbers, with a view for each side length (0: nine patches of side 2)."""
        generator = torch.Generator().manual_seed(seed)

        def view(n: int, side: int) -> Tensor:
            shape = (n, 3, side, side) if side else (n, 9, 3, 2, 2)
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        return [Batch([view(len(numbers), side) for side in sides], torch.tensor(numbers)) for numbers in indices]

    @staticmethod
    def train(
        method: Method, batches: Sequence[Batch], images: Tensor | None = None, per_epoch: int = 1, **sgd: Any
    ) -> list[Step]:
        """Steps as the loop and the engine of `benchmark/training` take them; `images` are what `embed` sees.

        Of the state, forward, loss and backward may change batch-norm statistics only: asserted here for all methods.
        """
        trained = [p for p in method.parameters() if p.requires_grad]
        optimiser = torch.optim.SGD(trained, lr=RATE, **sgd)
        steps = []

        def embed(f: Any) -> Tensor:
            method.eval()
            rows = f(images)
            method.train()
            return rows

        for step, batch in enumerate(batches):
            at = Progress(step, len(batches), step // per_epoch, len(batches) // per_epoch)
            if step % per_epoch == 0:
                torch.manual_seed(100 + at.epoch)
                with torch.no_grad():
                    method.before_epoch(at, embed)
            before = copy_state(method)
            optimiser.zero_grad(set_to_none=True)
            rows = method(batch, at)
            scalars = method.loss(rows, at)
            scalars["loss"].backward()
            for name, value in method.state_dict().items():
                if "running_" not in name and "num_batches" not in name:
                    assert torch.equal(value, before[name]), f"{name} written before the step's end"
            with torch.no_grad():
                method.after_backward(at)
            gradients = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
            optimiser.step()
            with torch.no_grad():
                method.after_step({name: row.detach() for name, row in rows.items()}, at)
            steps.append(Step({n: s.detach() for n, s in scalars.items()}, gradients, before, copy_state(method)))
        return steps


class Paper:
    """Networks by their formulas. A state `w` is a dictionary of tensors under the method's names."""

    RATE = RATE

    @staticmethod
    def start(method: Method) -> State:
        w = copy_state(method)
        for name, parameter in method.named_parameters():
            w[name].requires_grad_(parameter.requires_grad)
        return w

    @staticmethod
    def unit(v: Tensor) -> Tensor:
        """v / max(|v|, 1e-12)"""
        return v / (v * v).sum().clamp(min=1e-24).sqrt()

    @staticmethod
    def linear(w: State, name: str, x: Sequence[Tensor]) -> list[Tensor]:
        bias = w.get(f"{name}.bias", torch.zeros((), dtype=torch.float64))
        return [w[f"{name}.weight"] @ row + bias for row in x]

    @staticmethod
    def batch_norm(w: State, name: str, x: Sequence[Tensor], training: bool = True) -> list[Tensor]:
        """Statistics of the batch, and their running mean as torch keeps it; those alone in eval mode."""
        n = len(x)
        if training:
            mean = sum(x[1:], x[0]) / n
            variance = torch.stack([(row - mean) ** 2 for row in x]).mean(dim=0)
            for which, value in (("mean", mean), ("var", variance * n / (n - 1))):
                w[f"{name}.running_{which}"] = 0.9 * w[f"{name}.running_{which}"] + 0.1 * value.detach()
        else:
            mean, variance = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        y = [(row - mean) / (variance + 1e-5).sqrt() for row in x]
        return [w[f"{name}.weight"] * row + w[f"{name}.bias"] for row in y] if f"{name}.weight" in w else y

    @classmethod
    def encoder(cls, w: State, name: str, x: Tensor, training: bool = True) -> list[Tensor]:
        """The network of `Tiny.build` on images (n, 3, s, s) in one pass: 2 x 2 means, a linear layer, batch norm."""
        half = x.shape[-1] // 2
        cells = [(c, slice(i, i + half), slice(j, j + half)) for c in range(3) for i in (0, half) for j in (0, half)]
        pooled = [torch.stack([image[cell].mean() for cell in cells]) for image in x]
        h = cls.linear(w, f"{name}.2", pooled)
        return cls.batch_norm(w, f"{name}.3", h, training) if f"{name}.3.running_mean" in w else h

    @classmethod
    def mlp(
        cls,
        w: State,
        name: str,
        h: Sequence[Tensor],
        layers: int,
        last_norm: bool = False,
        gelu: bool = False,
        norm: bool = True,
    ) -> list[Tensor]:
        """Linear, batch norm (unless without `norm`) and ReLU, or GELU, (`layers` - 1 times), linear, and with
        `last_norm` batch norm."""
        h, stride = list(h), 3 if norm else 2
        for layer in range(layers):
            h = cls.linear(w, f"{name}.{stride * layer}", h)
            if layer < layers - 1:
                h = cls.batch_norm(w, f"{name}.{stride * layer + 1}", h) if norm else h
                h = [row * (1 + (row / 2**0.5).erf()) / 2 if gelu else row.clamp(min=0) for row in h]
            elif last_norm:
                h = cls.batch_norm(w, f"{name}.{stride * layer + 1}", h)
        return h

    @classmethod
    def decoder(cls, w: State, name: str, code: Sequence[Tensor], size: int) -> Tensor:
        """(n, 3, size, size): linear, ReLU, 4 x 4 pixels; each doubled by nearest neighbours, then a 3 x 3 convolution,
        batch norm and ReLU, until there are `size`; a last 3 x 3 convolution."""
        x = torch.stack([row.clamp(min=0).view(-1, 4, 4) for row in cls.linear(w, f"{name}.first", code)])
        stage = 0
        while x.shape[-1] < size:
            old, side = x.shape[-1], min(2 * x.shape[-1], size)
            nearest = [place * old // side for place in range(side)]
            x = cls.convolution(w, f"{name}.stages.{stage}.0", x[:, :, nearest][:, :, :, nearest])
            pixels = cls.batch_norm(w, f"{name}.stages.{stage}.1", list(x.movedim(1, 3).flatten(0, 2)))
            x = torch.stack(pixels).clamp(min=0).view(len(x), side, side, -1).movedim(3, 1)
            stage += 1
        return cls.convolution(w, f"{name}.last", x)

    @staticmethod
    def convolution(w: State, name: str, x: Tensor) -> Tensor:
        """3 x 3, with zeros around."""
        side, weight = x.shape[-1], w[f"{name}.weight"]
        around = x.new_zeros(len(x), x.shape[1], side + 2, side + 2)
        around[:, :, 1:-1, 1:-1] = x
        parts = [
            torch.einsum("oc,nchw->nohw", weight[:, :, i, j], around[:, :, i : i + side, j : j + side])
            for i in range(3)
            for j in range(3)
        ]
        return sum(parts[1:], parts[0]) + w.get(f"{name}.bias", x.new_zeros(len(weight)))[:, None, None]

    @staticmethod
    def cross_entropy(logits: Sequence[Tensor], targets: Sequence[int]) -> Tensor:
        """The mean of -log softmax at the target."""
        each = [-(row.exp()[target] / row.exp().sum()).log() for row, target in zip(logits, targets, strict=True)]
        return sum(each[1:], each[0]) / len(each)

    @staticmethod
    @contextlib.contextmanager
    def keep_statistics(w: State) -> Iterator[None]:
        """Passes inside leave the running statistics as they were."""
        before = {name: value.clone() for name, value in w.items() if "running_" in name}
        yield
        w.update(before)

    @staticmethod
    def info_nce(q: Tensor, k: Tensor, negatives: Sequence[Tensor], tau: float) -> Tensor:
        """MoCo, equation 1, for one query."""
        positive = (torch.dot(q, k) / tau).exp()
        return -(positive / (positive + sum((torch.dot(q, n) / tau).exp() for n in negatives))).log()

    @staticmethod
    def sgd(w: State, loss: Tensor, frozen: Sequence[str] = ()) -> State:
        """Gradients by name, and one plain step of gradient descent on `w`."""
        names = [name for name, value in w.items() if value.requires_grad and name not in frozen]
        slopes = torch.autograd.grad(loss, [w[name] for name in names], allow_unused=True)
        gradients = {name: slope for name, slope in zip(names, slopes, strict=True) if slope is not None}
        for name, slope in gradients.items():
            w[name] = (w[name] - RATE * slope).detach().requires_grad_()
        return gradients

    @staticmethod
    def follow(w: State, m: float) -> None:
        """theta_k <- m theta_k + (1 - m) theta_q for parameters alone, of encoder and head (MoCo, equation 2)."""
        for name in list(w):
            part, _, rest = name.partition(".network.")
            if rest and "running_" not in rest and "num_batches" not in rest:
                followed = part.removeprefix("key_").removeprefix("target_")
                w[name] = m * w[name] + (1 - m) * w[f"{followed}.{rest}"].detach()


def copy_state(method: Method) -> State:
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


def _same(ours: Any, loop: Any, atol: float = 1e-8) -> None:
    """Values, lists of rows, or dictionaries (all names of the loop's that ours has too), within `atol`."""
    if isinstance(loop, dict):
        assert set(ours) == set(loop)
        for name in loop:
            text = f"{name}: ours {ours[name]}, loop {loop[name]}"
            torch.testing.assert_close(ours[name], loop[name].detach(), atol=atol, rtol=0, msg=text)
        return
    loop = torch.stack(list(loop)) if isinstance(loop, list) else loop
    torch.testing.assert_close(ours, loop.detach(), atol=atol, rtol=0)


def _same_state(after: State, w: State) -> None:
    """All parameters and buffers, but for what only counts batches."""
    names = [name for name in w if "num_batches" not in name]
    _same({name: after[name] for name in names}, {name: w[name] for name in names})


@pytest.fixture(scope="session")
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture(scope="session")
def paper() -> type[Paper]:
    return Paper


@pytest.fixture(scope="session")
def same() -> Any:
    return _same


@pytest.fixture(scope="session")
def same_state() -> Any:
    return _same_state
