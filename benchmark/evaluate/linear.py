"""The linear probe: multinomial logistic regression on standardised features, all L2 strengths fitted at once.

The strengths are independent convex problems over the same features. Each has its own L-BFGS history and step, and
one pass over the features serves all of them. The strength is chosen on validation; the probe is then fitted anew
on train and validation together, and the test set is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.evaluate.features import Features

STRENGTHS = tuple(10 ** (-6 + 0.75 * i) for i in range(10))
TOLERANCE, ITERATIONS, HISTORY = 1e-4, 300, 10
LOGITS = 2**24  # logits in memory at once


@dataclass(frozen=True)
class Fit:
    """Weights of S probes, (S, D + 1, C), the last row being the bias; loss and largest slope of each at the end."""

    weights: Tensor
    loss: Tensor
    slope: Tensor
    iterations: int


def evaluate(features: Features) -> Iterator[tuple[str, float]]:
    """Yields test and validation accuracy, and the strength that validation chose."""
    classes = features.classes
    mean, std = moments(features.train[0])
    x, y = standardised(features.train[0], mean, std), features.train[1]
    fits = fit(x, y, classes, torch.tensor(STRENGTHS))
    scores = logits(standardised(features.validation[0], mean, std), fits.weights)  # (S, n, C)
    label = features.validation[1]
    accuracy = [top1(s, label) for s in scores]
    losses = [float(F.cross_entropy(s, label)) for s in scores]
    best = max(range(len(STRENGTHS)), key=lambda i: (accuracy[i], -losses[i]))

    both, labels = (torch.cat([features.train[i], features.validation[i]]) for i in (0, 1))
    mean, std = moments(both)
    final = fit(standardised(both, mean, std), labels, classes, torch.tensor([STRENGTHS[best]]))
    test = logits(standardised(features.test[0], mean, std), final.weights)[0]
    yield "linear_top1", top1(test, features.test[1])
    yield "linear_validation_top1", accuracy[best]
    yield "linear_strength", STRENGTHS[best]


def fit(x: Tensor, y: Tensor, classes: int, strengths: Tensor) -> Fit:
    """Minimise mean cross-entropy + strength / 2 |W|^2 (bias free) for each of S strengths. x: (N, D), y: (N,).

    Batched L-BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4) with backtracking to sufficient
    decrease; a problem whose largest slope is below 1e-4, or which no step improves, rests.
    """
    strengths = strengths.to(x)
    total = len(strengths)
    w = x.new_zeros(total, x.shape[1] + 1, classes)
    value, gradient = objective(x, y, w, strengths)
    pairs: list[tuple[Tensor, Tensor]] = []  # steps s and changes of slope c, each (S, P)
    active = slope_of(gradient) > TOLERANCE
    iteration = 0
    while bool(active.any()) and iteration < ITERATIONS:
        iteration += 1
        direction = -_inverse_hessian_times(gradient.flatten(1), pairs).view_as(w)
        descent = (direction * gradient).sum(dim=(1, 2))
        direction = torch.where((descent < 0)[:, None, None], direction, -gradient)
        descent = (direction * gradient).sum(dim=(1, 2))
        scale = torch.ones_like(value) if pairs else 1 / gradient.flatten(1).norm(dim=1).clamp(min=1.0)
        new_w, new_value, new_gradient, moved = _line_search(
            x, y, strengths, w, value, gradient, direction, descent, scale, active
        )
        pairs.append(((new_w - w).flatten(1), (new_gradient - gradient).flatten(1)))
        del pairs[:-HISTORY]
        w, value, gradient = new_w, new_value, new_gradient
        active &= moved & (slope_of(gradient) > TOLERANCE)
    return Fit(w, value, slope_of(gradient), iteration)


def _line_search(
    x: Tensor, y: Tensor, strengths: Tensor, w: Tensor, value: Tensor, gradient: Tensor,
    direction: Tensor, descent: Tensor, scale: Tensor, active: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Halve each problem's step until it decreases enough (Armijo, 1e-4). Resting problems stay where they are."""
    w, value, gradient = w.clone(), value.clone(), gradient.clone()
    searching, moved = active.clone(), torch.zeros_like(active)
    for _ in range(25):
        rows = searching.nonzero().squeeze(1)
        if not len(rows):
            break
        trial = w[rows] + scale[rows, None, None] * direction[rows]
        trial_value, trial_gradient = objective(x, y, trial, strengths[rows])
        # Near the optimum the decrease drowns in rounding: as good as equal counts, the slope decides the end.
        slack = 1e-7 * value[rows].abs()
        enough = trial_value <= value[rows] + 1e-4 * scale[rows] * descent[rows] + slack
        done = rows[enough]
        w[done], value[done], gradient[done] = trial[enough], trial_value[enough], trial_gradient[enough]
        moved[done], searching[done] = True, False
        scale[rows[~enough]] /= 2
    return w, value, gradient, moved


def _inverse_hessian_times(g: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The two-loop recursion for S problems at once, g: (S, P); pairs without curvature count for nothing."""
    q, done = g.clone(), []
    for step, change in reversed(pairs):
        curvature = (step * change).sum(dim=1, keepdim=True)
        valid = curvature > 1e-12 * change.square().sum(dim=1, keepdim=True)
        rho = torch.where(valid, 1 / curvature.clamp(min=1e-30), 0.0)
        alpha = rho * (step * q).sum(dim=1, keepdim=True)
        q = q - alpha * change
        done.append((step, change, rho, alpha, valid, curvature))
    scaled = torch.zeros_like(q[:, :1], dtype=torch.bool)
    gamma = torch.ones_like(q[:, :1])
    for _, change, _, _, valid, curvature in done:  # newest first: the newest valid pair scales the start
        size = curvature / change.square().sum(dim=1, keepdim=True).clamp(min=1e-30)
        gamma = torch.where(valid & ~scaled, size, gamma)
        scaled |= valid
    q = q * gamma
    for step, change, rho, alpha, _, _ in reversed(done):
        q = q + step * (alpha - rho * (change * q).sum(dim=1, keepdim=True))
    return q


def objective(x: Tensor, y: Tensor, w: Tensor, strengths: Tensor) -> tuple[Tensor, Tensor]:
    """Loss (S,) and gradient (S, D + 1, C), over blocks of rows so that N x S x C logits are never held."""
    probes, width, classes = w.shape
    loss, gradient = x.new_zeros(probes), torch.zeros_like(w)
    block = max(256, LOGITS // (probes * classes))
    for start in range(0, len(x), block):
        rows, label = x[start : start + block], y[start : start + block]
        scores = logits(rows, w)  # (S, n, C)
        index = label[None, :, None].expand(probes, -1, 1)
        log_p = scores.log_softmax(dim=2)
        loss -= log_p.gather(2, index).sum(dim=(1, 2))
        slope = log_p.exp_()
        slope.scatter_add_(2, index, -torch.ones_like(index, dtype=slope.dtype))
        flat = slope.permute(1, 0, 2).reshape(len(rows), -1)
        gradient[:, :-1] += (rows.T @ flat).view(width - 1, probes, classes).permute(1, 0, 2)
        gradient[:, -1] += slope.sum(dim=1)
    loss, gradient = loss / len(x), gradient / len(x)
    loss = loss + strengths / 2 * w[:, :-1].square().sum(dim=(1, 2))
    gradient[:, :-1] += strengths[:, None, None] * w[:, :-1]
    return loss, gradient


def logits(x: Tensor, w: Tensor) -> Tensor:
    """(n, D) and (S, D + 1, C) to (S, n, C), as one matrix product."""
    probes, width, classes = w.shape
    flat = w[:, :-1].permute(1, 0, 2).reshape(width - 1, probes * classes)
    return (x @ flat).view(len(x), probes, classes).permute(1, 0, 2) + w[:, -1:]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature; a constant feature has deviation 1, and so becomes 0."""
    std = x.std(dim=0, correction=0)
    return x.mean(dim=0), torch.where(std > 1e-6 * x.abs().amax(dim=0).clamp(min=1e-12), std, torch.ones_like(std))


def standardised(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (x - mean) / std


def slope_of(gradient: Tensor) -> Tensor:
    return gradient.abs().amax(dim=(1, 2))


def top1(scores: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest score is the label's."""
    return float((scores.argmax(dim=1) == labels).double().mean())
