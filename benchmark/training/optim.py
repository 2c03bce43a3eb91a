"""Optimisers, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.settings.cell import Settings


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
    """The learning rate of `step` (from 0) of `steps`: linear warm-up from 0, then the schedule.

    cosine: half a cosine to 0; constant; step: a tenth from 60 % of the training on, a hundredth from 80 % (InstDisc
    and MoCo v1: epochs 120 and 160 of 200).
    """
    peak = peak_learning_rate(settings)
    warm = (settings.warmup or 0.0) * steps
    if step < warm:
        return peak * step / warm
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "step":  # in whole numbers: 0.6 x steps may round to the step's other side
        return peak * 0.1 ** ((5 * step >= 3 * steps) + (5 * step >= 4 * steps))
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))


def weight_decay(step: int, steps: int, settings: Settings) -> float:
    """The weight decay of `step` (from 0) of `steps`, for what decays: half a cosine from `weight_decay` to
    `weight_decay_end`, as DINO's authors have it (arXiv:2104.14294; main_dino.py), without warm-up."""
    start, end = settings.weight_decay, settings.weight_decay_end
    assert start is not None
    if end is None or end == "constant":
        return start
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * step / steps))


def make(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters, in groups: those that decay and those that do not, and of both
    those whose rate is not scheduled, by the network's `unscheduled` modules.

    For larc all parameters decay, whatever `decay_all` says: that nothing is excluded is part of the form.
    """
    assert settings.weight_decay is not None
    trainable = [p for p in network.parameters() if p.requires_grad]
    everything = settings.decay_all or settings.optimiser == "larc"
    constant = {id(p) for name in getattr(network, "unscheduled", ()) for p in getattr(network, name).parameters()}
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in trainable if (everything or p.ndim > 1) == decays and (id(p) in constant) == stays],
            "weight_decay": settings.weight_decay if decays else 0.0,
            "scheduled": not stays,
            "decays": decays,
        }
        for stays in (False, True)
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    # On a GPU one kernel that does all in one pass; None leaves the choice to torch, as it was on a CPU.
    fused = True if all(p.is_cuda for p in trainable) else None
    if settings.optimiser == "adamw":
        assert settings.adamw_beta2 is not None
        return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, settings.adamw_beta2), fused=fused)
    assert settings.sgd_momentum is not None
    if settings.optimiser in ("lars", "lars_fb", "larc"):
        return LARS(groups, settings.optimiser, momentum=settings.sgd_momentum)
    sgd = torch.optim.SGD(groups, lr=0.0, momentum=settings.sgd_momentum, fused=fused)
    if fused and settings.sgd_momentum:  # which fails where some have a momentum and others not yet, frozen until now
        sgd.state.update({p: {"momentum_buffer": torch.zeros_like(p)} for p in trainable})
    return sgd


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates (You et al., arXiv:1708.03888), in three forms that papers call by the one name.

    With w a weight, g its gradient, b the decay, e = `trust`, v the momentum and |.| the norm of a whole tensor:

    lars (SimCLR's authors)          g <- g + b w; t = e |w| / |g|;  v <- m v + lr t g;  w <- w - v
    lars_fb (MoCo v3, Barlow Twins)  g <- g + b w; t = e |w| / |g|;  v <- m v + t g;     w <- w - lr v
    larc (SwAV, DeepCluster-v2)      t = e |w| / (|g| + b |w| + 1e-8);  v <- m v + t (g + b w);  w <- w - lr v

    lars and lars_fb agree only while the learning rate stays: in lars, a step taken at a high rate keeps its weight
    in the momentum when the rate has fallen. Both adapt no tensors of one dimension (biases and norms), nor decay
    them, unless they are in a group with weight decay. larc, NVIDIA apex's LARC(clip=False), adapts every tensor.
    Where a norm is 0, t is 1, so that weights that start at 0 move; larc does not decay there either. A parameter
    without gradient is left alone, momentum and decay included.

    timm's `Lars` (and lightly's) is a fourth form and not offered: larc, but only in groups whose weight decay is not
    0. There `weight_decay=0` silently turns the adaptation off, and an ablation of the decay compares two optimisers.
    """

    def __init__(self, params: Iterable[Any], form: str = "lars", momentum: float = 0.9, trust: float = 0.001) -> None:
        super().__init__(params, {"lr": 0.0, "momentum": momentum, "trust": trust, "weight_decay": 0.0})
        self.form = form

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        adapted = _larc if self.form == "larc" else _lars
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            gradients = adapted(weights, [w.grad for w in weights], group["weight_decay"], group["trust"])
            velocities = [self._velocity(w) for w in weights]
            torch._foreach_mul_(velocities, group["momentum"])
            if self.form == "lars":
                torch._foreach_add_(velocities, gradients, alpha=group["lr"])
                torch._foreach_sub_(weights, velocities)
            else:
                torch._foreach_add_(velocities, gradients)
                torch._foreach_sub_(weights, velocities, alpha=group["lr"])

    def _velocity(self, w: Tensor) -> Tensor:
        state = self.state[w]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(w)
        velocity: Tensor = state["momentum_buffer"]
        return velocity


# Norms and ratios stay on the device: the host never waits for them.


def _lars(weights: list[Tensor], gradients: list[Tensor], decay: float, trust: float) -> list[Tensor]:
    """t (g + b w), with t = 1 for tensors of one dimension."""
    updates = list(torch._foreach_add(gradients, weights, alpha=decay))
    wide = [i for i, w in enumerate(weights) if w.ndim > 1]
    if wide:
        norm_w, norm_g = _norms([weights[i] for i in wide]), _norms([updates[i] for i in wide])
        ratio = torch.where((norm_w > 0) & (norm_g > 0), trust * norm_w / norm_g, 1.0)
        torch._foreach_mul_([updates[i] for i in wide], list(ratio.unbind()))
    return updates


def _larc(weights: list[Tensor], gradients: list[Tensor], decay: float, trust: float) -> list[Tensor]:
    """t (g + b w) for every tensor; g alone where a norm is 0."""
    norm_w, norm_g = _norms(weights), _norms(gradients)
    usual = (norm_w > 0) & (norm_g > 0)
    ratio = torch.where(usual, trust * norm_w / (norm_g + decay * norm_w + 1e-8), 1.0)
    updates = list(torch._foreach_mul(weights, list((decay * usual.to(norm_w.dtype)).unbind())))
    torch._foreach_add_(updates, gradients)
    torch._foreach_mul_(updates, list(ratio.unbind()))
    return updates


def _norms(tensors: list[Tensor]) -> Tensor:
    return torch.stack(list(torch._foreach_norm(tensors)))


def _rule(settings: Settings) -> str:
    assert settings.learning_rate_rule is not None
    return settings.learning_rate_rule
