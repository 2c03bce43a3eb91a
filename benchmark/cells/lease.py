"""Who works on a cell: a lock that the kernel holds, and a lease that other machines can see.

The lock is exact on one machine and is let go of when its process dies. Between machines it may not hold: some file
systems ignore it, and a node that was thought dead may come back. There the lease decides: a file that names an
attempt, which renews it. One that was not renewed for a while may be taken over, and an attempt that finds another's
name in its lease stops without writing anything more, as does one whose lease is gone or stays unreadable. Imports no
torch.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from results import files, record

RENEWED, EXPIRES = 10.0, 60.0  # seconds between two renewals; after which a lease that was not renewed is void
WAITS = (0.1, 0.5, 2.0, 5.0, 0.0)  # seconds behind each try to read a lease: a file system may be away for a moment


class Lost(Exception):
    """The cell is not this attempt's any more, which must not write; the message says why."""


@dataclass(frozen=True)
class Attempt:
    """One process's try at a cell. `job` and `restart` are SLURM's, empty and 0 elsewhere."""

    id: str
    host: str
    job: str = ""
    restart: int = 0

    def follows(self, other: dict[str, Any]) -> bool:
        """Whether `other` must be dead by now: it was here, where the lock is free, or an earlier start of our job."""
        restart = other.get("restart", 0)
        earlier = self.job != "" and other.get("job") == self.job
        return other.get("host") == self.host or (earlier and isinstance(restart, int) and restart < self.restart)


def make_attempt() -> Attempt:
    """A new one."""
    job, restarts = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_RESTART_COUNT", "")
    return Attempt(uuid.uuid4().hex, platform.node(), job, int(restarts) if restarts.isdecimal() else 0)


class Lease:
    """The lease of `attempt` on the cell in `folder`; renewed by a thread until it is released."""

    def __init__(self, folder: Path, attempt: Attempt) -> None:
        self.path, self.attempt = folder / "lease.json", attempt
        self._over = threading.Event()

    def guard(self) -> None:
        """Raise `Lost` unless the lease names this attempt. To be called before each write."""
        folder, holder = self.path.parent, _read_patiently(self.path)
        if holder.get("id") == self.attempt.id:
            return
        if holder:
            raise Lost(f"{folder.name}: another process has taken over, on {holder.get('host', 'a machine')}")
        raise Lost(f"{folder.name}: its {'lease' if folder.exists() else 'folder'} is gone")

    def take(self) -> bool:
        """Whether the lease is ours now. Raises `Lost` where it cannot be read, OSError where it cannot be written."""
        holder = _read_patiently(self.path)
        if holder and not self.attempt.follows(holder) and not _is_void(self.path):
            return False
        record.write_json(self.path, asdict(self.attempt), compact=True)
        if holder and not self.attempt.follows(holder):
            time.sleep(0.5)  # another machine may have found it void at the same moment: the last to write has it
        if _read(self.path).get("id") != self.attempt.id:
            return False
        threading.Thread(target=self._renew, name="lease", daemon=True).start()
        return True

    def release(self) -> None:
        """Let go of the cell, and renew the lease no more. Another attempt's lease stays."""
        self._over.set()
        with contextlib.suppress(OSError):  # it will be void
            if _read(self.path).get("id") == self.attempt.id:
                _clear(self.path.parent)
                self.path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._over.wait(RENEWED):
            with contextlib.suppress(OSError):  # a file system that is away for a moment
                if _read(self.path).get("id") != self.attempt.id:
                    return
                os.utime(self.path, follow_symlinks=False)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[Lease | None]:
    """The cell in `folder` for this process, or None where another is at work on it. Raises `Lost` where the lease does
    not tell."""
    with _lock(folder) as free:
        lease = Lease(folder, make_attempt())
        if not free or not lease.take():
            yield None
            return
        try:
            _clear(folder)
            yield lease
        finally:
            lease.release()


def is_at_work(folder: Path, writes: bool = True) -> bool:
    """Whether a process is at work on the cell, here or on another machine. Without `writes` this machine's clock says
    how old a lease is, not the file system's, which only a new file tells."""
    try:
        with files.open_file(folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        pass
    path = folder / "lease.json"
    try:
        holder = _read(path)
        elsewhere = bool(holder) and holder.get("host") != platform.node()
        return elsewhere and not (_is_void(path) if writes else _is_old(path))
    except FileNotFoundError:  # released since it was read
        return False
    except OSError:  # nobody who may not read it can work on the cell
        return True


def read_holder(folder: Path) -> dict[str, Any]:
    """What the cell's lease says of its attempt; nothing where there is none that can be read."""
    try:
        return _read(folder / "lease.json")
    except OSError:
        return {}


def _read(path: Path) -> dict[str, Any]:
    """What the lease says; nothing where there is none, or it is no lease. Raises OSError for an unreadable one."""
    try:
        content = files.read_json(path)
    except (FileNotFoundError, ValueError):
        return {}
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link is no lease: it is replaced, not followed
            return {}
        raise
    return content if isinstance(content, dict) else {}


def _read_patiently(path: Path) -> dict[str, Any]:
    """The same, of a file system that may be away for a moment. Raises `Lost` where that lasts."""
    for wait in WAITS:
        try:
            return _read(path)
        except OSError as error:
            problem = error
            time.sleep(wait)
    raise Lost(f"{path.parent.name}: its lease cannot be read ({problem})")


def _is_void(path: Path) -> bool:
    """Whether it was not renewed for `EXPIRES` seconds, by the clock of the file system, which all machines share."""
    probe = path.with_name(f".now.{uuid.uuid4().hex}")
    try:
        with probe.open("x") as file:
            now = os.fstat(file.fileno()).st_mtime
        probe.unlink(missing_ok=True)
        return now - path.stat().st_mtime > EXPIRES
    except FileNotFoundError:
        return True
    except OSError:  # a folder that may only be read
        return _is_old(path)


def _is_old(path: Path) -> bool:
    """The same, by this machine's clock."""
    return time.time() - path.stat().st_mtime > EXPIRES


def _clear(folder: Path) -> None:
    """Remove what killed processes left half-written: a checkpoint, which only the lease's holder writes, at once, what
    others may be writing when it is old."""
    for path in (*folder.glob(".*.tmp"), *folder.glob("*.pt.tmp"), *folder.glob(".now.*"), *folder.glob(".lease.*")):
        with contextlib.suppress(OSError):
            if ".pt." in path.name or _is_void(path):
                path.unlink()


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Hold the cell's lock; the kernel lets go when the process dies. Yields False where another holds it.

    A `status` that looks at the same moment holds it for an instant, so it is asked for more than once.
    """
    files.make_folder(folder)
    with files.open_lock(folder / "lock") as file:
        for number in range(5):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if number == 4:
                    yield False
                    return
                time.sleep(0.1)
            except OSError:  # a file system without locks: the lease alone decides
                break
        yield True
