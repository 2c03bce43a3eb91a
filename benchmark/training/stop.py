"""Ctrl-C and SIGTERM: training ends at the next step with a checkpoint; anything else ends at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from types import FrameType


class Stopped(BaseException):
    """The run was asked to stop. Not an `Exception`: nothing that handles a cell's failure may catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Stop:
    """What the signals asked for. Within `defer` they are only noted, for the loop to see, but for a second Ctrl-C."""

    def __init__(self) -> None:
        self.asked = 0
        self._deferred = False

    @contextlib.contextmanager
    def defer(self) -> Iterator[None]:
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.asked == number == signal.SIGINT  # schedulers repeat SIGTERM; a person means it
        self.asked = number
        if again or not self._deferred:
            raise Stopped(number)

    @contextlib.contextmanager
    def listen(self, numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)) -> Iterator[Stop]:
        """Handle those signals within."""
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
