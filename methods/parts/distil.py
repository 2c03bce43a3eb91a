"""What DINO (arXiv:2104.14294) and iBOT (2111.07832) share: a head in two parts, self-distillation against a teacher
that is centred and sharpened, and its schedules.

Shapes: N images, V views, of them G that the teacher sees, K outputs (prototypes), D width of the bottleneck.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.parts.heads import normalise, projector
from methods.parts.symptoms import at_chance, one_takes_all


def bottleneck(width: int, hidden: int, dim: int, layers: int, norm: bool) -> nn.Module:
    """The head up to its bottleneck, (n, width) -> (n, D), before it is normalised: an MLP with GELU, its weights drawn
    from a truncated normal of 0.02 (authors' DINOHead). `norm` puts batch norm behind hidden layers."""
    head = projector("mlp", width, hidden, dim, layers, norm=norm, gelu=True)
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return head


class LastLayer(nn.Module):
    """Unit vectors (..., D) to logits (..., K): a linear layer without bias, with weight norm, w = g v / |v|.

    g starts at 1, and stays there where it is `fixed`. It has one dimension, so that it is not decayed.
    """

    def __init__(self, dim: int, outputs: int, fixed: bool) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(outputs, dim))  # v
        nn.init.kaiming_uniform_(self.direction, a=math.sqrt(5))  # as any linear layer
        self.length = None if fixed else nn.Parameter(torch.ones(outputs))  # g

    def forward(self, z: Tensor) -> Tensor:
        logits = F.linear(z, normalise(self.direction))
        return logits if self.length is None else logits * self.length


def distillation(student: Tensor, teacher: Tensor, centre: Tensor, tau: float, teacher_tau: float) -> Tensor:
    """The mean over images and pairs v != g of -sum_k P_g log softmax(s_v / tau), P_g = softmax((t_g - c) / tau_t).

    student: logits (N, V, K), of which the first G views are the teacher's; teacher: logits (N, G, K), without
    gradient; centre: (K,).
    """
    log_p = F.log_softmax(student / tau, dim=2)
    every = log_p.sum(dim=1)
    views, seen = student.shape[1], teacher.shape[1]
    target = F.softmax((teacher - centre) / teacher_tau, dim=2)
    pairs = [(target[:, g] * (every - log_p[:, g])).sum(dim=1).mean() for g in range(seen)]
    return -torch.stack(pairs).sum() / (seen * (views - 1))


def warm_up(start: float, end: float, epochs: int, epoch: int) -> float:
    """`start` to `end` over so many epochs, both among them, and then `end`."""
    return end if epoch >= epochs else start + (end - start) * epoch / max(1, epochs - 1)


def clip_and_freeze(method: nn.Module, clip: float, frozen: nn.Module | None) -> None:
    """Clip each gradient of the method to `clip`, where that is above 0, and drop those of what is `frozen`: without
    them it has neither decay nor momentum, which a learning rate of 0 would leave it."""
    if clip:
        clip_each(method.parameters(), clip)
    for parameter in frozen.parameters() if frozen is not None else ():
        parameter.grad = None


def symptoms(loss: float, logits: Tensor) -> Iterator[tuple[str, str]]:
    """Signs of a collapse, by the mean loss of views and the teacher's centred logits (N, K)."""
    outputs = logits.shape[1]
    yield from at_chance(loss, math.log(outputs), "a lower teacher_temperature helps")
    yield from one_takes_all(
        logits.argmax(dim=1), outputs, "a higher teacher_temperature or a lower centre_momentum helps"
    )


def clip_each(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Scale each parameter's own gradient to a norm of `most` at most, g min(1, most / (|g| + 1e-6)), in place."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    factors = most / (torch.stack(list(torch._foreach_norm(gradients))) + 1e-6)
    torch._foreach_mul_(gradients, list(factors.clamp(max=1).unbind()))
