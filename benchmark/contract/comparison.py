"""Whether two short trainings came out alike, to the byte or to the rounding; and what the checks raise where not."""

from __future__ import annotations

import torch

from benchmark.contract.short_training import ShortTraining
from results.quantity import quantify


class Violation(Exception):
    """The method breaks the contract; the message says where."""


def require_same(expected: ShortTraining, actual: ShortTraining, variant: str) -> None:
    """The same losses and the same bytes of weights and memories."""
    if expected.losses != actual.losses:
        step = next(i for i, (a, b) in enumerate(zip(expected.losses, actual.losses, strict=False)) if a != b)
        raise Violation(f"{variant} differs in the loss of step {step}")
    differ = [name for name, value in expected.state.items() if not torch.equal(value, actual.state[name])]
    if differ:
        raise Violation(f"{variant} differs in {', '.join(differ[:3])}")


def require_close(expected: ShortTraining, actual: ShortTraining, variant: str) -> None:
    """Losses within 1e-5 relative, weights and memories within 1e-5."""
    if len(expected.losses) != len(actual.losses):
        raise Violation(f"{variant}: {len(actual.losses)} instead of {quantify(len(expected.losses), 'step')}")
    for step, (a, b) in enumerate(zip(expected.losses, actual.losses, strict=True)):
        if not abs(a - b) <= 1e-5 * max(abs(a), abs(b)):
            raise Violation(f"{variant}: the loss of step {step} is {b:.9g} instead of {a:.9g}")
    for name, value in expected.state.items():
        gap = (value.double() - actual.state[name].double()).abs().max() if value.numel() else torch.zeros(())
        if not float(gap) <= 1e-5:
            raise Violation(f"{variant}: {name} differs by {float(gap):.2g}")
