"""Sets of configurations that cannot be told apart, as a critical-difference diagram joins them."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 60  # more sets than that no diagram can show


def join(count: int, significant: Iterable[tuple[int, int]]) -> list[frozenset[int]]:
    """The largest sets of 0 to `count` - 1 of which no two differ significantly, from the one with the least member:
    two that do not differ share a set. By insert and absorb (Piepho, An algorithm for a letter-based representation of
    all-pairwise comparisons, Journal of Computational and Graphical Statistics 13, 2004). None where they are more
    than `MOST`, as unequal spreads can make them.
    """
    sets = {frozenset(range(count))}
    for first, second in significant:
        both = [each for each in sets if first in each and second in each]
        sets.difference_update(both)
        for part in (each - {one} for each in both for one in (first, second)):
            if not any(part <= other for other in sets):
                sets = {other for other in sets if not other <= part} | {part}
        if len(sets) > MOST:
            return []
    return sorted((each for each in sets if each), key=lambda each: (min(each), -len(each), sorted(each)))
