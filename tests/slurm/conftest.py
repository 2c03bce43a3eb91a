"""The real two-node SLURM as fixtures. `make test` leaves these tests out; `make test-slurm` runs them.

Several tests share a bed: after each of them its jobs are cancelled and what it killed is brought back.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.testbed import Testbed, install_line, missing_packages

PREFIX = "bed-test-"


@pytest.fixture(scope="session")
def bed() -> Iterator[Testbed]:
    """A cluster without accounting: sacct answers nothing."""
    yield from _bed(accounting=False)


@pytest.fixture(scope="session")
def bed_with_accounting() -> Iterator[Testbed]:
    """A cluster with slurmdbd: sacct answers."""
    yield from _bed(accounting=True)


@pytest.fixture(autouse=True)
def _recover(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("bed", "bed_with_accounting"):
        if name in request.fixturenames:
            request.getfixturevalue(name).recover()


def _bed(accounting: bool) -> Iterator[Testbed]:
    if packages := missing_packages(accounting):
        pytest.skip(f"no SLURM here; on Debian, as root: {install_line(packages)}")
    folder = Path(tempfile.gettempdir())
    for remains in folder.glob(f"{PREFIX}*"):  # by a session that was killed
        if remains.stat().st_uid == os.geteuid() and not Path("/proc", remains.name.split("-")[2]).exists():
            Testbed(remains).down()
    with Testbed(folder / f"{PREFIX}{os.getpid()}{'-sacct' if accounting else ''}", accounting=accounting) as bed:
        yield bed
