"""`OUT/tuned/journal.log`: the trials of every study, in Optuna's journal, and who is at work on them.

Whoever reads and then writes does so within `transaction`, one at a time: a launcher's lease, as of a cell, which holds
on one machine by the kernel's lock and between machines, and on file systems without locks, by a file that is renewed.
Optuna's own lock, a link beside the journal, holds for single lines. A trial is one line with all of its parameters,
so that a kill leaves a trial or none.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmark.cells import lease
from benchmark.errors import UsageError, explain
from results import files, record

FILE_NAME, LAUNCHERS = "journal.log", "launchers"
AGAIN = 0.2  # seconds between two tries to have the journal


@contextlib.contextmanager
def transaction(folder: Path) -> Iterator[JournalStorage]:
    """The journal in `folder`, for this process alone. Raises OSError where that cannot be told or a link is in its
    place, and `UsageError` for what is no journal."""
    files.make_folder(folder)
    while True:
        try:
            with lease.hold(folder) as mine:
                if mine is not None:
                    yield _open(folder / FILE_NAME)
                    return
        except lease.Lost as lost:
            raise OSError(f"{folder}: {lost}") from lost
        time.sleep(AGAIN)


def _open(path: Path) -> JournalStorage:
    try:
        _mend(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, LookupError, TypeError, AssertionError) as error:
        raise UsageError(
            f"{path} cannot be read ({explain(error)}); without it, the same command finds the trials' cells again"
        ) from error


def open_study(storage: JournalStorage, name: str) -> optuna.Study:
    """The study of this name, made if need be."""
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _mend(path: Path) -> None:
    """Cut off a line that was not written to its end, as on a full disk: nothing behind it could be read."""
    if os.path.lexists(path):
        with files.open_file(path, os.O_RDWR) as file:
            content = file.read()
            if not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)


class Launcher:
    """A process that runs trials, as others see it: a leased folder while it lives, with the names of its cells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / LAUNCHERS / uuid.uuid4().hex[:12]

    def note(self, names: Sequence[str]) -> None:
        """These cells are this launcher's, until it ends or notes others."""
        record.write_json(self.folder / "cells.json", list(names))

    def list_cells_of_others(self) -> set[str]:
        """The cells of all other launchers that live. What dead ones left is removed."""
        cells = set[str]()
        for folder in self.folder.parent.iterdir():
            if folder == self.folder:
                continue
            if lease.is_at_work(folder):
                with contextlib.suppress(OSError, ValueError, TypeError):  # it has none yet
                    cells.update(files.read_json(folder / "cells.json"))
            else:
                shutil.rmtree(folder, ignore_errors=True)
        return cells


@contextlib.contextmanager
def launch(folder: Path) -> Iterator[Launcher]:
    """This process among the launchers of the studies in `folder`, until it ends."""
    launcher = Launcher(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, launcher.folder, ignore_errors=True)
        with transaction(folder):  # else another could take the folder for a dead one's
            stack.enter_context(lease.hold(launcher.folder))
        yield launcher
