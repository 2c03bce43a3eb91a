"""The linear probe: all L2 strengths fitted at once by ours, against a scikit-learn fit for each, of one objective.

scikit-learn is `LogisticRegression` (L-BFGS, C = 1 / (n * strength), free bias) at its own tolerance, on the same
standardised features and threads, from a cold start as a user would write it. Losses are those of the final weights,
recomputed in float64 for both.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmark.evaluate import linear
from benchmark.profiling.timing import alternate, ratio, show, spread

CLASSES, HIDDEN, NOISE = 10, 48, 0.3
ITERATIONS = 5000  # for scikit-learn: never what ends a fit


def main(words: list[str] | None = None) -> list[list[str]]:
    """Print the table and return it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.profiling.probe", description=__doc__)
    parser.add_argument("--images", type=int, default=50000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=1, help="scikit-learn takes minutes")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    x, y = make_features(options.images, options.width)
    weights: dict[str, Tensor] = {}

    def ours() -> None:
        weights["ours"] = linear.fit(x, y, CLASSES, torch.tensor(linear.STRENGTHS)).weights

    def theirs() -> None:
        weights["theirs"] = torch.stack([fit_scikit_learn(x, y, strength) for strength in linear.STRENGTHS])

    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(options.threads):
        times = alternate({"ours": ours, "theirs": theirs}, options.rounds, warm_up=0)
    rows = [["strength", "accuracy", "loss ours", "loss scikit-learn", "difference"]]
    strengths = torch.tensor(linear.STRENGTHS, dtype=torch.float64)
    losses = {name: linear.objective(x.double(), y, w.double(), strengths)[0] for name, w in weights.items()}
    for i, strength in enumerate(linear.STRENGTHS):
        accuracy = linear.top1(linear.logits(x, weights["ours"][i : i + 1])[0], y)
        loss, reference = float(losses["ours"][i]), float(losses["theirs"][i])
        rows.append(
            [f"{strength:.2g}", f"{accuracy:.1%}", f"{loss:.6f}", f"{reference:.6f}", f"{loss - reference:+.1e}"]
        )
    largest = float((losses["ours"] - losses["theirs"]).abs().max())
    medians = {name: spread(values)[0] for name, values in times.items()}
    show(
        rows,
        f"{len(x):,} x {x.shape[1]} features, {CLASSES} classes; ours {medians['ours']:.1f} s, "
        f"scikit-learn {medians['theirs']:.1f} s: {ratio(times['theirs'], times['ours'])}, rounds: {options.rounds}; "
        f"largest difference {largest:.1e}; accuracy is that on the features fitted",
    )
    return rows


def make_features(count: int, width: int) -> tuple[Tensor, Tensor]:
    """(count, width) standardised features and labels (count,): as of an encoder that knows most of its classes.

    Class centres in a space of few dimensions whose scales fall off, seen through a random layer and a ReLU: features
    are correlated, none is useless, and a tenth to a fifth of the images lies on a wrong side.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    scale = torch.linspace(1, 3, HIDDEN).reciprocal()
    centres = 0.5 * torch.randn(CLASSES, HIDDEN, generator=generator)
    hidden = (torch.randn(count, HIDDEN, generator=generator) + centres[labels]) * scale
    layer = torch.randn(HIDDEN, width, generator=generator) / HIDDEN**0.5
    x = torch.relu(hidden @ layer + NOISE * torch.randn(count, width, generator=generator))
    return linear.standardise(x, *linear.moments(x)), labels


def fit_scikit_learn(x: Tensor, y: Tensor, strength: float) -> Tensor:
    """(D + 1, C) weights, the bias in the last row."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / (len(x) * strength), max_iter=ITERATIONS).fit(x.numpy(), y.numpy())
    return torch.cat([torch.as_tensor(model.coef_.T), torch.as_tensor(model.intercept_)[None]]).float()


if __name__ == "__main__":
    main()
