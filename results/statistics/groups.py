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
        affected = [members for members in sets if first in members and second in members]
        sets.difference_update(affected)
        for part in (members - {removed} for members in affected for removed in (first, second)):
            if not any(part <= other for other in sets):
                sets = {other for other in sets if not other <= part} | {part}
        if len(sets) > MOST:
            return []
    return sorted(
        (members for members in sets if members), key=lambda members: (min(members), -len(members), sorted(members))
    )
