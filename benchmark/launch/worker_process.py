"""The launcher's end of a worker process: start it, give it orders, hear its events, know how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.errors import UsageError
from benchmark.launch.worker import Lines
from results import files

TAIL = 4000  # bytes of a dead worker's log that its cell's error.txt holds


class WorkerProcess:
    """One process. What it, and any library in it, prints is appended to `log`."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.events_from, write_end = os.pipe()
        os.set_blocking(self.events_from, False)
        # -P and our own path: the worker imports what we import, whatever lies in the current folder.
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", "benchmark.launch.worker", str(write_end)]
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with files.open_log(log) as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                pass_fds=(write_end,),
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # a terminal's Ctrl-C is the launcher's to pass on
            )
        os.close(write_end)
        self.finishing = self.silent = False
        self._lines = Lines()
        self._from = 0

    def order(self, do: str, **more: Any) -> None:
        """Give an order. A worker that is dead does not hear it; `exit_reason` says so."""
        self._from = self.log.stat().st_size
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write((json.dumps({"do": do} | more) + "\n").encode())
            self.process.stdin.flush()

    def events(self) -> list[dict[str, Any]]:
        """What it told since, without waiting."""
        events = []
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.events_from, 1 << 16):
                events += self._lines.complete(piece)
            self.silent = True  # for good: it is about to end
        return events

    def finish(self) -> None:
        """It may end: there is nothing more to do."""
        self.finishing = True
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def stop(self) -> None:
        """It ends at its next step, behind a checkpoint; at once while it starts, and between cells."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and whatever it started, at once."""
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """To it and to whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def exit_reason(self) -> str | None:
        """How it ended; None while it runs."""
        code = self.process.poll()
        if code is None:
            return None
        self.kill()  # children that it left, which would hold its cell's lock
        if code >= 0:
            return f"ended with exit code {code}"
        perhaps = ": the out-of-memory killer, perhaps" if code == -signal.SIGKILL else ""
        try:
            name = signal.Signals(-code).name
        except ValueError:  # a real-time signal
            name = "no name"
        return f"killed by signal {-code} ({name}{perhaps})"

    def close(self) -> None:
        """Kill it if it still runs, and let go of what is held for it."""
        if self.process.returncode is None:
            self.kill()
            self.process.wait()
        self.finish()
        os.close(self.events_from)

    def tail(self) -> str:
        """The end of what it printed since its last order."""
        with files.open_file(self.log) as file:
            file.seek(max(self._from, os.fstat(file.fileno()).st_size - TAIL))
            return file.read().decode(errors="replace")


@contextlib.contextmanager
def open_log_folder(out: Path) -> Iterator[Path]:
    """A folder for the workers' logs, empty; where another launcher on `out` has it, the next one.

    Nothing is left of it, nor of `out` if that is new, where the words turn out to be bad.
    """
    for number in itertools.count(1):
        folder = out / (".local" if number == 1 else f".local-{number}")
        files.make_folder(folder)
        with files.open_lock(folder / "lock") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError:  # a file system without locks
                pass
            for old_log in folder.glob("worker-*.log"):
                old_log.unlink()
            try:
                yield folder
            except UsageError:
                shutil.rmtree(folder)
                with contextlib.suppress(OSError):
                    out.rmdir()
                raise
            return
