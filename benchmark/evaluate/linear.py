"""The linear probe: multinomial logistic regression on standardised features, all L2 strengths fitted at once.

The strengths are independent convex problems over the same features. Each has its own L-BFGS history and step, and
one pass over the features serves all of them. The strength is chosen on validation; the probe is then fitted anew
on train and validation together, and the test set is looked at once.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.evaluate.features import Features

STRENGTHS = tuple(10 ** (-6 + 0.75 * i) for i in range(10))
TOLERANCE, ITERATIONS, HISTORY = 2e-6, 300, 10
LOGITS_CPU, LOGITS_GPU = 2**20, 2**24  # in memory at once: 4 MiB stay near a CPU's caches


@dataclass(frozen=True)
class Fit:
    """Weights of S probes, (S, D + 1, C), the last row being the bias; and the loss of each, (S,)."""

    weights: Tensor
    loss: Tensor
    iterations: int


def evaluate(features: Features) -> Generator[tuple[str, float], None, Tensor]:
    """Yields test accuracy, plain and balanced, validation accuracy, and the strength that validation chose. Returns
    which test images were right, (n,) bool."""
    classes = features.classes
    chosen = choose(features.train, features.validation, classes)
    x, labels = (torch.cat([features.train[i], features.validation[i]]) for i in (0, 1))
    mean, std = moments(x)
    final = fit(standardise(x, mean, std), labels, classes, torch.tensor([chosen["linear_strength"]]))
    test = logits(standardise(features.test[0], mean, std), final.weights)[0]
    correct = is_right(test, features.test[1])
    yield "linear_top1", float(correct.double().mean())
    yield "linear_balanced", balanced_accuracy(test, features.test[1])
    yield "linear_validation_top1", chosen["linear_validation_top1"]
    yield "linear_strength", chosen["linear_strength"]
    yield "linear_iterations", max(chosen["linear_iterations"], final.iterations)
    return correct


def choose(train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], classes: int) -> dict[str, float]:
    """The strength that validation chooses, its accuracy there, and the iterations of the search. Both splits are
    features (n, D) and labels (n,)."""
    mean, std = moments(train[0])
    fits = fit(standardise(train[0], mean, std), train[1], classes, torch.tensor(STRENGTHS))
    scores = logits(standardise(validation[0], mean, std), fits.weights)  # (S, n, C)
    accuracy = [top1(s, validation[1]) for s in scores]
    losses = [float(F.cross_entropy(s, validation[1])) for s in scores]
    best = max(range(len(STRENGTHS)), key=lambda i: (accuracy[i], -losses[i]))
    numbers = {"linear_validation_top1": accuracy[best], "linear_strength": STRENGTHS[best]}
    return numbers | {"linear_iterations": fits.iterations}


def explain(metrics: Mapping[str, float]) -> list[str]:
    """What is to be known of a probe's numbers: that its search met an end of the grid, or the limit of iterations."""
    strength, notes = metrics.get("linear_strength"), []
    for end, word in ((STRENGTHS[0], "smallest"), (STRENGTHS[-1], "largest")):
        if strength == end:
            notes.append(
                f"linear probe: the {word} L2 strength of the grid, {end:.2g}, was chosen; others may be better"
            )
    if metrics.get("linear_iterations", 0) >= ITERATIONS:
        notes.append(f"linear probe: stopped at its limit of {ITERATIONS} iterations")
    return notes


def fit(x: Tensor, y: Tensor, classes: int, strengths: Tensor) -> Fit:
    """Minimise mean cross-entropy + strength / 2 |W|^2 (bias free) for each of S strengths. x: (N, D), y: (N,).

    Batched L-BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4) with backtracking to sufficient
    decrease, along the principal directions of the centred features. They are orthogonal and the bias is free, so the
    problem is the same, but its curvature at W = 0 is variance / C + strength in each direction. L-BFGS starts from
    the inverse of that, and ill-conditioned features cost little. A problem rests when the decrease that its next step
    promises is below 2e-6, or when no step improves it.
    """
    strengths = strengths.to(x)
    mean = x.mean(dim=0)
    basis, variance = principal_directions(x - mean)
    z = (x - mean) @ basis
    curvature = variance / classes + strengths[:, None]  # (S, R)
    inverse = 1 / F.pad(curvature, (0, 1), value=1 / classes)[:, :, None]  # with the bias, (S, R + 1, 1)
    w = x.new_zeros(len(strengths), z.shape[1] + 1, classes)
    value, gradient = objective(z, y, w, strengths)
    pairs: list[tuple[Tensor, Tensor]] = []  # steps and changes of the gradient, each like w
    active = torch.ones_like(strengths, dtype=torch.bool)
    iteration = 0
    while iteration < ITERATIONS:
        direction = -_inverse_hessian_times(gradient, pairs, inverse)
        descent = _dot(direction, gradient)[:, 0, 0]
        active &= descent < -TOLERANCE
        if not bool(active.any()):
            break
        iteration += 1
        new_w, new_value, new_gradient, moved = _line_search(
            z, y, strengths, w, value, gradient, direction, descent, active
        )
        pairs.append((new_w - w, new_gradient - gradient))
        del pairs[:-HISTORY]
        w, value, gradient = new_w, new_value, new_gradient
        active &= moved
    weight = basis @ w[:, :-1]
    return Fit(torch.cat([weight, w[:, -1:] - mean[None] @ weight], dim=1), value, iteration)


def principal_directions(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthogonal directions (D, R) along which the centred x varies, and the variance of each (R,).

    Weights along the others, of constant and repeated features, would stay 0. Of D x D and N x N moments the smaller
    are decomposed: raw pixels are wide.
    """
    wide = x.shape[1] > len(x)
    rows, moment = (x.T if wide else x), x.new_zeros(min(x.shape), min(x.shape), dtype=torch.float64)
    for part in rows.split(8192):
        moment += part.double().T @ part.double() / len(x)
    variance, directions = torch.linalg.eigh(moment)
    is_large = variance > 1e-10 * variance[-1].clamp(min=1e-10)
    variance, basis = variance[is_large].to(x.dtype), directions[:, is_large].to(x.dtype)
    return (x.T @ basis / (variance * len(x)).sqrt() if wide else basis), variance


def _line_search(
    x: Tensor,
    y: Tensor,
    strengths: Tensor,
    w: Tensor,
    value: Tensor,
    gradient: Tensor,
    direction: Tensor,
    descent: Tensor,
    active: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve each problem's step until it decreases enough (Armijo, 1e-4). Resting problems stay where they are."""
    w, value, gradient = w.clone(), value.clone(), gradient.clone()
    searching, moved = active.clone(), torch.zeros_like(active)
    scale = 1.0
    for _ in range(25):
        rows = searching.nonzero().squeeze(1)
        if not len(rows):
            break
        trial = w[rows] + scale * direction[rows]
        trial_value, trial_gradient = objective(x, y, trial, strengths[rows])
        # Near the optimum the decrease drowns in rounding: as good as equal counts, the promise decides the end.
        slack = 1e-7 * value[rows].abs()
        enough = trial_value <= value[rows] + 1e-4 * scale * descent[rows] + slack
        done = rows[enough]
        w[done], value[done], gradient[done] = trial[enough], trial_value[enough], trial_gradient[enough]
        moved[done], searching[done] = True, False
        scale /= 2
    return w, value, gradient, moved


def _inverse_hessian_times(g: Tensor, pairs: list[tuple[Tensor, Tensor]], inverse: Tensor) -> Tensor:
    """The two-loop recursion for S problems at once, g: (S, R + 1, C), from the diagonal `inverse` (S, R + 1, 1).

    A pair without curvature, as every resting problem has, counts for nothing.
    """
    q, done = g, []
    for step, change in reversed(pairs):
        curvature = _dot(step, change)
        rho = torch.where(curvature > 0, 1 / curvature, 0.0)
        alpha = rho * _dot(step, q)
        q = q - alpha * change
        done.append((step, change, rho, alpha))
    q = q * inverse
    if pairs:
        step, change = pairs[-1]
        curvature = _dot(step, change)
        q = q * torch.where(curvature > 0, curvature / _dot(change, inverse * change), 1.0)
    for step, change, rho, alpha in reversed(done):
        q = q + step * (alpha - rho * _dot(change, q))
    return q


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each problem, (S, 1, 1)."""
    return (a * b).sum(dim=(1, 2), keepdim=True)


def objective(x: Tensor, y: Tensor, w: Tensor, strengths: Tensor) -> tuple[Tensor, Tensor]:
    """Loss (S,) and gradient (S, D + 1, C), over blocks of rows so that N x S x C logits are never held.

    A block's logits lie class by class, rows side by side: sums over classes then run along the rows.
    """
    probes, width, classes = w.shape
    flat = w.transpose(1, 2).reshape(probes * classes, width)
    loss, gradient = x.new_zeros(probes), torch.zeros_like(flat)
    block = max(256, (LOGITS_GPU if x.is_cuda else LOGITS_CPU) // len(flat))
    for rows, label in zip(x.split(block), y.split(block), strict=True):
        index = label.expand(probes, 1, -1)
        scores = torch.addmm(flat[:, -1:], flat[:, :-1], rows.T).view(probes, classes, -1)  # (S, C, n)
        scores -= scores.amax(dim=1, keepdim=True)
        target_scores = scores.gather(1, index)
        total = scores.exp_().sum(dim=1, keepdim=True)
        loss += (total.log() - target_scores).sum(dim=(1, 2))
        slope = scores.div_(total)
        slope.scatter_add_(1, index, target_scores.new_full((1, 1, 1), -1.0).expand_as(target_scores))
        gradient[:, :-1].addmm_(slope.flatten(0, 1), rows)
        gradient[:, -1] += slope.sum(dim=2).flatten()
    loss, gradient = loss / len(x), (gradient / len(x)).view(probes, classes, width).transpose(1, 2)
    loss += strengths / 2 * w[:, :-1].square().sum(dim=(1, 2))
    gradient[:, :-1] += strengths[:, None, None] * w[:, :-1]
    return loss, gradient.contiguous()


def logits(x: Tensor, w: Tensor) -> Tensor:
    """(n, D) and (S, D + 1, C) to (S, n, C), as one matrix product."""
    probes, width, classes = w.shape
    flat = w[:, :-1].permute(1, 0, 2).reshape(width - 1, probes * classes)
    return (x @ flat).view(len(x), probes, classes).permute(1, 0, 2) + w[:, -1:]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature; a constant feature has deviation 1, and so becomes 0."""
    std = x.std(dim=0, correction=0)
    return x.mean(dim=0), torch.where(std > 1e-6 * x.abs().amax(dim=0).clamp(min=1e-12), std, torch.ones_like(std))


def standardise(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(n, D) features to mean 0 and deviation 1, by the `moments` (D,) of others."""
    return (x - mean) / std


def is_right(scores: Tensor, labels: Tensor) -> Tensor:
    """(n,) bool: the largest score of (n, C) is the label's."""
    return scores.argmax(dim=1) == labels


def top1(scores: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest score is the label's."""
    return float(is_right(scores, labels).double().mean())


def balanced_accuracy(scores: Tensor, labels: Tensor) -> float:
    """Mean over the classes of `labels` (n,) of the share of their rows whose largest score, of (n, C), is theirs.

    Brodersen, Ong, Stephan and Buhmann, The Balanced Accuracy and Its Posterior Distribution, ICPR 2010.
    """
    from sklearn.metrics import balanced_accuracy_score  # which takes long to import

    return float(balanced_accuracy_score(labels.cpu().numpy(), scores.argmax(dim=1).cpu().numpy()))
