"""Numbers of things in sentences. Standard library only."""

from __future__ import annotations


def quantify(number: int, noun: str) -> str:
    """Such as '1 cell', '2 classes' or '1,200 test images', of a noun in the singular."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"
