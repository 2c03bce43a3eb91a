"""How often the tests err, and what they find, in studies whose truth is known.

    python -m results.statistics.simulation studies=600 configurations=4,27 seeds=2,3,5 spreads=equal,uneven,one

A simulated accuracy is the same for all configurations, plus what its seed does to all, plus noise. Spreads are the
standard deviations of the noise: `equal`; `uneven`, from half to one and a half; `one`, of which one is four times the
others'. Each study is simulated without any difference, and with every other configuration three sd better. The
studies are seeded, so that the same words give the same table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np

from results.statistics import moderated, significance

SHIFT = 3.0  # sd
_SD, _LEVEL = 0.01, 0.7
SPREADS: dict[str, Callable[[int], np.ndarray]] = {
    "equal": lambda count: np.ones(count),
    "uneven": lambda count: np.linspace(0.5, 1.5, count),
    "one": lambda count: np.where(np.arange(count) == 0, 4.0, 1.0),
}
DEFAULTS = {"studies": "600", "configurations": "4,27", "seeds": "2,3,5", "spreads": ",".join(SPREADS)}
HEADER = [
    "configurations",
    "seeds",
    "spread",
    "error, none differ: t",
    "shared",
    "error, half differ: t",
    "shared",
    "found at 3 sd: t",
    "shared",
    "best in its interval",
    "in the simultaneous one",
]


def simulate(count: int, seeds: int, spread: str, studies: int) -> np.ndarray:
    """(8,) shares: of studies with a false difference, none differing, by Holm's paired t and by the shared variance;
    the same where half differ; of true differences found, by both; of studies without a difference in which the mean
    of the best lies in its own 95 % interval, and in the simultaneous one."""
    rng = np.random.default_rng([count, seeds, list(SPREADS).index(spread)])
    left, right = np.triu_indices(count, 1)
    shifted = np.arange(count) % 2 == 1
    differ = shifted[left] != shifted[right]
    rows = []
    for _ in range(studies):
        noise = rng.normal(0, _SD, (count, seeds)) * SPREADS[spread](count)[:, None]
        values = _LEVEL + rng.normal(0, _SD, seeds) + noise
        none, model = _tell(values, left, right)
        half, _ = _tell(values + _SD * SHIFT * shifted[:, None], left, right)
        best = model.means.argmax()
        error = abs(model.means[best] - _LEVEL)
        held = [error <= widths[best] for widths in moderated.half_widths(model)]
        rows.append(np.hstack([none.any(axis=1), half[:, ~differ].any(axis=1), half[:, differ].mean(axis=1), held]))
    return np.mean(np.array(rows, dtype=float), axis=0)


def _tell(values: np.ndarray, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, moderated.Fit]:
    """(2, pairs): which of them differ, by Holm's paired t and by the shared variance; and the latter's model."""
    fixed = np.zeros(len(values), dtype=bool)
    model = moderated.fit(values, fixed)
    paired = significance.test_pairs(values, fixed, left, right)["p_holm"] < moderated.LEVEL
    shared = moderated.test_pairs(model, left, right)["significant"]
    return np.array([paired, shared]), model


def rows(words: dict[str, str]) -> Iterator[list[str]]:
    """The table, a row at a time, in percent. Raises ValueError for a word that is not allowed."""
    numbers = {name: _parse_numbers(name, words[name]) for name in ("studies", "configurations", "seeds")}
    spreads = words["spreads"].split(",")
    for spread in spreads:
        if spread not in SPREADS:
            raise ValueError(f"spreads={spread} is not allowed: give some of {', '.join(SPREADS)}")
    yield HEADER
    for count, seeds, spread in product(numbers["configurations"], numbers["seeds"], spreads):
        shares = simulate(count, seeds, spread, numbers["studies"][0])
        yield [str(count), str(seeds), spread, *(f"{100 * share:.1f}" for share in shares)]


def _parse_numbers(name: str, text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    least = 1 if name == "studies" else 2
    if min(numbers) < least:
        raise ValueError(f"{name}={text} is not allowed: give whole numbers of at least {least}")
    return numbers


def main(arguments: Sequence[str]) -> int:
    """Print the table; exit code 2 for a word that is not allowed."""
    try:
        words = dict(DEFAULTS)
        for argument in arguments:
            name, _, text = argument.partition("=")
            if name not in words:
                raise ValueError(f"no word {argument!r}; there are: {', '.join(f'{name}=' for name in words)}")
            words[name] = text
        for number, row in enumerate(rows(words)):
            print("| " + " | ".join(row) + " |", flush=True)
            if number == 0:
                print("| " + " | ".join(["---:"] * len(row)) + " |")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
