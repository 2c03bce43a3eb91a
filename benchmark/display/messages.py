"""Lines that a command says beside its output: on standard error, each whole at once."""

from __future__ import annotations

import sys

from results import files


def say(line: str) -> None:
    """A line without what a terminal obeys."""
    print(files.make_printable(line), file=sys.stderr, flush=True)
