"""The one error that a user's input can raise, a single line, exit code 2, no traceback; and any error in a line."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable

LONGEST = 800  # characters of an error's words


class UsageError(Exception):
    """Bad input. The message names what was given, what is allowed, and the nearest match."""


class MissingData(UsageError):
    """The files of a dataset are not there."""


def unknown(kind: str, name: str, allowed: Iterable[str], hint: str = "") -> UsageError:
    """An error for a name that is not among those allowed, e.g. ``unknown("dataset", "cifar", [...])``."""
    choices = sorted(allowed)
    text = ", ".join(choices) if len(choices) <= 40 else f"{len(choices)} names"
    return UsageError(f"unknown {kind} {name!r}{nearest(name, choices)} (allowed: {text}){hint}")


def nearest(text: str, allowed: Iterable[object]) -> str:
    """'; did you mean X?' for the allowed name that begins with `text`, or is nearest to it, or nothing."""
    names = [str(choice) for choice in allowed]
    near = sorted(name for name in names if text and name.startswith(text.lower()))
    near = near or difflib.get_close_matches(text.lower(), names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def explain(error: BaseException) -> str:
    """The error's type and words in one line, with a gap in the middle of very long ones.

    Of many lines the first may name what was done and the last what was wrong, such as shapes. An error without words
    says where it was raised.
    """
    words = " ".join(str(error).split())
    if not words:
        frames = traceback.extract_tb(error.__traceback__)
        words = f"{frames[-1].line} ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    if len(words) > LONGEST:
        words = f"{words[: LONGEST // 2]} ... {words[-LONGEST // 2 :]}"
    return f"{type(error).__name__}: {words}".removesuffix(": ")
