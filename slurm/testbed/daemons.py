"""The daemons of a bed: how they are started, asked and ended, and what they logged where that fails."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from slurm.testbed import conf, packages, processes
from slurm.testbed.processes import Process

SYSTEM_TABLES = [Path(f"/usr/share/{name}/mysql_system_tables.sql") for name in ("mysql", "mariadb")]


class TestbedError(Exception):
    """The bed did not do what was asked in time; the text ends with what its daemon logged."""

    __test__ = False  # pytest would take the name for a test


class UnavailableError(TestbedError):
    """This machine, this folder or these sizes do not make a bed; the text is one line."""


@dataclass
class Daemons:
    """What runs below `folder` for the nodes n1 and n2. `cpus`, `memory` (MB) and `gpus` are of each node."""

    __test__ = False

    folder: Path
    accounting: bool = False
    cpus: int = 4
    memory: int = 8192
    gpus: int = 2
    max_array_size: int = 1001

    nodes = ("n1", "n2")

    def __post_init__(self) -> None:
        self.folder = Path(self.folder).resolve()  # as /proc shows it
        if self.cpus < 1 or self.memory < self.cpus or self.gpus < 0 or self.max_array_size < 2:
            raise UnavailableError("cpus >= 1, memory >= cpus (MB), gpus >= 0 and max_array_size >= 2 are needed")

    def processes(self) -> list[Process]:
        """What runs of it now: daemons, and the processes of its jobs."""
        return processes.find(self.folder, self.nodes)

    def environment(self) -> dict[str, str]:
        """What a child process needs on top of its own environment to use this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": packages.search_path()}

    def command(self, *words: str, timeout: float = 30) -> str:
        """The output of a SLURM command, such as `command("squeue", "--noheader")`."""
        try:
            process = subprocess.run(
                words,
                env=os.environ | self.environment(),
                capture_output=True,
                text=True,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired as error:
            raise self._error(f"{' '.join(words)}: no answer in {timeout:g} s") from error
        if process.returncode:
            raise self._error(f"{' '.join(words)}: {(process.stderr or process.stdout).strip()}")
        return process.stdout

    def states(self) -> dict[str, str]:
        """Each node's state: idle, mixed, allocated, completing, down*, unknown, ..."""
        # All nodes at once: asked for a single one, the controller may answer with a state long past.
        words = ("sinfo", "--noheader", "--Node", "--partition=debug", "--format=%N %T")
        return dict(line.split() for line in self.command(*words).splitlines())

    def _start_all(self) -> None:
        run, log = self.folder / "run", self.folder / "log"
        munge = {"key-file": run / "munge.key", "socket": run / "munge.socket", "pid-file": run / "munged.pid"}
        munge |= {"log-file": log / "munged.log", "seed-file": run / "munge.seed"}
        self._daemon("munged", "--force", *(f"--{key}={path}" for key, path in munge.items()), log="munged")
        if self.accounting:
            self._start_accounting()
        self._daemon("slurmctld", log="slurmctld")
        for node in self.nodes:
            self._daemon("slurmd", "-N", node, log=node)
        self._until(self._idle, "the nodes do not come up", 30)

    def _start_accounting(self) -> None:
        data = self.folder / "mysql"
        data.mkdir(mode=0o700)
        user = f"--user={conf.user()}"
        size = ("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900")
        words = [packages.program("mariadbd"), "--no-defaults", f"--datadir={data}", user, *size]
        # What mariadb-install-db does, which needs a package more.
        tables = next(path for path in SYSTEM_TABLES if path.is_file()).read_text(encoding="utf-8")
        self._daemon(*words, "--bootstrap", log="bootstrap", text=f"CREATE DATABASE mysql;\nUSE mysql;\n{tables}")
        # No passwords: the socket is in a folder that only this user can enter.
        words += [f"--socket={data}/socket", "--skip-networking", "--skip-grant-tables"]
        self._daemon("setsid", "--fork", *words, log="mariadbd")
        self._until((data / "socket").exists, "the database does not come up", 30, "mariadbd")
        self._daemon("slurmdbd", log="slurmdbd")
        self._until(lambda: self._succeeds("sacctmgr", "-i", "add", "cluster", "bed"), "no accounting", 30, "slurmdbd")

    def _daemon(self, name: str, *words: str, log: str, text: str = "") -> None:
        """Run a program that ends soon, such as a daemon that goes to the background by itself."""
        environment = os.environ | self.environment() | {"MYSQL_UNIX_PORT": f"{self.folder}/mysql/socket"}
        with (self.folder / f"log/{log}.out").open("ab") as file:
            try:
                code = subprocess.run(
                    [packages.program(name), *words],
                    env=environment,
                    input=text.encode(),
                    stdout=file,
                    stderr=file,
                    timeout=60,
                    start_new_session=True,
                ).returncode
            except subprocess.TimeoutExpired as error:
                raise self._error(f"{name} does not start in 60 s", log) from error
        if code:
            raise self._error(f"{name} exits with {code}", log)

    def _until(self, true: Callable[[], bool], complaint: str, timeout: float, log: str = "slurmctld") -> None:
        until = time.monotonic() + timeout
        while not true():
            if time.monotonic() > until:
                raise self._error(f"{complaint} after {timeout:g} s", log)
            time.sleep(0.1)

    def _error(self, text: str, log: str = "slurmctld") -> TestbedError:
        """`text`, and the last lines that the daemon logged."""
        files = [self.folder / f"log/{log}.{kind}" for kind in ("log", "out")]
        lines = next((file.read_text(errors="replace").splitlines() for file in files if has_text(file)), [])
        return TestbedError("\n".join([text, *(f"  {log}: {line}" for line in lines[-10:])]))

    def _kill(self, victims: list[Process]) -> None:
        processes.send(victims, signal.SIGKILL)
        if not processes.wait_gone(victims, 10):
            raise self._error(f"processes that cannot be ended: {victims}")

    def _succeeds(self, *words: str) -> bool:
        try:
            self.command(*words)
        except TestbedError:
            return False
        return True

    def _answers(self) -> bool:
        return self._succeeds("scontrol", "ping") and self._succeeds("sinfo", "--noheader")

    def _idle(self) -> bool:
        try:
            return not self.command("squeue", "--noheader") and set(self.states().values()) == {"idle"}
        except TestbedError:
            return False


def has_text(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0
