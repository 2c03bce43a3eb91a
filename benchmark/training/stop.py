"""Ctrl-C, SIGTERM, a terminal that closes: training ends at the next step with a checkpoint; anything else at once."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
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
        self.signal = 0
        self._deferred = False

    @contextlib.contextmanager
    def defer(self) -> Iterator[None]:
        """Within, a signal is noted in `signal` and raises nothing, but for a second Ctrl-C."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.signal == number == signal.SIGINT  # schedulers repeat SIGTERM; a person means it
        self.signal = number
        if number == signal.SIGHUP:
            _leave_terminal()
        if again or not self._deferred:
            raise Stopped(number)

    @contextlib.contextmanager
    def listen(self, numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)) -> Iterator[Stop]:
        """Handle those signals within; not SIGHUP under `nohup`, which ignores it."""
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        numbers = [number for number in numbers if not (ignored and number == signal.SIGHUP)]
        before = {number: signal.signal(number, self._handle) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave_terminal() -> None:
    """Where it has closed: a line or a progress bar that is written there would be an error, and fail the cell."""
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), descriptor)
