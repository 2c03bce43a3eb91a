"""What ``augmentation=`` says: the policies of an image's views, and its small crops. Needs no torch.

It is written as names joined by ``+``: a recipe (``simclr``), operations (``crop+flip+colour``), or both
(``moco_v2+solarise``). A piece such as ``6x96`` adds six views more, small crops of 96 pixels, and ``6x96@.05-.3`` says
of what share of the area. ``one_branch`` keeps what stands left of it to the first view: ``crop+colour+one_branch``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmark.augment.policies import ONE_BRANCH, PIECES, Policy, merge
from benchmark.errors import UsageError, unknown

SMALL_SCALE = (0.05, 0.14)  # area of small crops (arXiv 2006.09882, section 3.2; main_swav.py)
SMALL_PIECE = (
    "NxS@A-B",
    "N small crops of S pixels, a share of A to B of the area, such as 6x96@.05-.3; NxS: .05 to .14; for multi-crop "
    "methods",
)
_MOST_SMALL, _LEAST_SIDE = 100, 4


class SmallCrop(NamedTuple):
    """A view beside those that a method asks for."""

    side: int  # pixels
    scale: tuple[float, float] = SMALL_SCALE  # share of the image's area


@dataclass(frozen=True)
class Augmentation:
    """What the views of an image are drawn from: large ones, which a method asks for, and small crops behind them."""

    # Of the large views, in turn: one policy, or the pair of an asymmetric recipe. A third is that of small crops,
    # which otherwise have those of the large views, in turn.
    policies: tuple[Policy, ...]
    small: tuple[SmallCrop, ...] = ()

    @property
    def small_sides(self) -> tuple[int, ...]:
        """Pixels of each small crop."""
        return tuple(crop.side for crop in self.small)

    def policy(self, number: int, large: int) -> Policy:
        """The policy of view ``number``, of which the first ``large`` are large and all others small crops."""
        if number < large:
            return self.policies[number % min(2, len(self.policies))]
        number -= large
        policies = self.policies[2:] or self.policies
        return replace(policies[number % len(policies)], crop_scale=self.small[number].scale)


def parse(text: str) -> Augmentation:
    """The augmentation that a text such as ``crop+colour`` or ``swav+6x96`` names.

    Pieces are merged left to right. One policy, or two or three where a piece is asymmetric; ``one_branch`` keeps the
    first of them, and what stands right of it goes into both views again. Raises UsageError for an unknown piece, and
    for small crops that cannot be.
    """
    merged: tuple[Policy, ...] = (Policy(),)
    small: tuple[SmallCrop, ...] = ()
    for name in _split(text):
        if match := _small(name):
            small += _small_crops(name, match, len(small))
            continue
        if name not in PIECES:
            hint = "; join several with '+'; NxS adds N small crops of S pixels, such as +6x96 or +6x96@.05-.3"
            raise unknown("augmentation", name, PIECES, hint)
        if name == ONE_BRANCH:
            merged = (merged[0], Policy())
        right = PIECES[name][1]
        views = max(len(merged), len(right))
        merged = tuple(merge(merged[i % len(merged)], right[i % len(right)]) for i in range(views))
    return Augmentation(merged, small)


def without_small(text: str) -> str:
    """``text`` without its pieces for small crops."""
    return "+".join(name for name in _split(text) if not _small(name)) or "none"


def list_names() -> list[tuple[str, str]]:
    """(name, one-line description) of every piece that :func:`parse` knows."""
    return [(name, line) for name, (line, _) in PIECES.items()]


def _split(text: str) -> list[str]:
    return [piece.strip() for piece in text.split("+")]


def _small(piece: str) -> re.Match[str] | None:
    return re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})(@.*)?", piece)


def _small_crops(piece: str, match: re.Match[str], before: int) -> tuple[SmallCrop, ...]:
    """Those of a piece, ``before`` which there were so many."""
    count, side, area = int(match[1]), int(match[2]), match[3] or ""
    if count < 1 or side < _LEAST_SIDE:
        nearest = f"{max(count, 1)}x{max(side, _LEAST_SIDE)}{area}"
        raise UsageError(
            f"augmentation piece {piece}: NxS is N small crops of S pixels, N at least 1 and S at least {_LEAST_SIDE}"
            f"; did you mean {nearest!r}?"
        )
    if before + count > _MOST_SMALL:
        raise UsageError(
            f"augmentation piece {piece}: at most {_MOST_SMALL} small crops of an image, not {before + count}"
        )
    return (SmallCrop(side, _scale(piece, area[1:]) if area else SMALL_SCALE),) * count


def _scale(piece: str, area: str) -> tuple[float, float]:
    """The area of ``piece``, such as ``.05-.3``, as two shares."""
    numbers = re.fullmatch(r"(\d*\.?\d+)-(\d*\.?\d+)", area, re.ASCII)
    low, high = (float(numbers[1]), float(numbers[2])) if numbers else (0.0, 0.0)
    if not 0 < low <= high <= 1:
        start, pairs = piece.partition("@")[0], [(low, high), (high, low), (low / 100, high / 100)]
        nearest = next((pair for pair in pairs if 0 < pair[0] <= pair[1] <= 1), SMALL_SCALE)
        raise UsageError(
            f"augmentation piece {piece}: behind @ stand two shares of the image's area, LOW-HIGH with "
            f"0 < LOW <= HIGH <= 1; did you mean '{start}@{nearest[0]:g}-{nearest[1]:g}'?"
        )
    return low, high
