"""Optimisers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.config import Settings


def peak_learning_rate(settings: Settings) -> float:
    """The learning rate behind warm-up, for the global batch.

    linear: base x B / 256 (Goyal et al., arXiv:1706.02677); sqrt: base x sqrt(B / 256) (SimCLR, appendix B.1, whose
    0.075 sqrt(B) is base 1.2); none: base. The rule decides what a batch-size ablation says, so it is a setting.
    """
    assert settings.learning_rate is not None
    assert settings.batch_size is not None
    ratio = settings.batch_size / 256
    return settings.learning_rate * {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[_rule(settings)]


def learning_rate(step: int, steps: int, settings: Settings) -> float:
    """The learning rate of `step` (from 0) of `steps`: linear warm-up from 0, then a half cosine to 0, or constant."""
    peak = peak_learning_rate(settings)
    warm = (settings.warmup or 0.0) * steps
    if step < warm:
        return peak * step / warm
    if settings.schedule == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))


def make(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters, in two groups: those that decay and those that do not."""
    assert settings.weight_decay is not None
    assert settings.sgd_momentum is not None
    trainable = [p for p in network.parameters() if p.requires_grad]
    plain = [] if settings.decay_all else [p for p in trainable if p.ndim <= 1]
    kept = {id(p) for p in plain}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if id(p) not in kept], "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=0.0)
    if settings.optimiser == "lars":
        return LARS(groups, momentum=settings.sgd_momentum)
    return torch.optim.SGD(groups, lr=0.0, momentum=settings.sgd_momentum)


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates (You et al., arXiv:1708.03888), in the form of SimCLR's authors.

    g <- g + b w; t = trust |w| / |g|, 1 where a norm is 0; v <- m v + lr t g; w <- w - v. Tensors of one dimension
    (biases and norms) are not adapted; nor decayed, unless they are in a group with weight decay. timm's `Lars`
    keeps the rate out of the momentum and ties adaptation to decay: under a schedule that is another optimiser.
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.0, momentum: float = 0.9, trust: float = 0.001) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._update(w, w.grad, group)

    def _update(self, w: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        g = g.add(w, alpha=group["weight_decay"])
        if w.ndim > 1:
            norm_w, norm_g = w.norm(), g.norm()
            ratio = group["trust"] * norm_w / norm_g
            g = g * torch.where((norm_w > 0) & (norm_g > 0), ratio, torch.ones_like(ratio))
        state = self.state[w]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(w)
        v = state["momentum_buffer"].mul_(group["momentum"]).add_(g, alpha=group["lr"])
        w.sub_(v)


def _rule(settings: Settings) -> str:
    assert settings.learning_rate_rule is not None
    return settings.learning_rate_rule
