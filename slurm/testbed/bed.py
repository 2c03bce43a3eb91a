"""The bed as its users have it: coming up and going down, jobs, and trouble made on purpose."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import dataclass
from types import TracebackType

from slurm.testbed import conf, processes
from slurm.testbed.daemons import Daemons, TestbedError, UnavailableError, has_text
from slurm.testbed.packages import install_line, missing_packages

# What a bed makes in its folder; slurm.conf, by which it is known, is made first and removed last.
OURS = ("run", "log", "state", "spool", "jobs", "mysql", "gres.conf", "slurmdbd.conf", "slurm.conf")
LONGEST_FOLDER = 80  # with its own names below, under the 108 bytes of a Unix socket's path


@dataclass
class Testbed(Daemons):
    """A cluster of the nodes n1 and n2 below `folder`. `cpus`, `memory` (MB) and `gpus` are of each node.

    Only `up` looks at anything but `folder`: for a bed that is up, `Testbed(folder)` is enough.
    """

    __test__ = False

    def __enter__(self) -> Testbed:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # Coming up and going down

    def up(self) -> None:
        """Start the cluster from nothing: what an earlier one left in the folder is ended and removed first.

        Returns when both nodes are idle. Raises `TestbedError`, with nothing left behind, where that does not happen.
        """
        if lacking := missing_packages(self.accounting):
            raise UnavailableError(f"programs are missing; on Debian, as root: {install_line(lacking)}")
        if len(os.fsencode(self.folder)) > LONGEST_FOLDER or any(letter in str(self.folder) for letter in " ,%#="):
            raise UnavailableError(
                f"{self.folder}: at most {LONGEST_FOLDER} bytes and none of space , % # = are possible"
            )
        self.down()
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.folder.stat().st_uid != os.geteuid():
            raise UnavailableError(f"{self.folder} belongs to another user; give another folder")
        if present := [name for name in OURS if (self.folder / name).exists()]:
            raise UnavailableError(f"{self.folder} holds {', '.join(present)} that no bed made; give another folder")
        try:
            conf.write(self.folder, self.nodes, self.cpus, self.memory, self.gpus, self.max_array_size, self.accounting)
            self._start_all()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Kill every process of the bed, jobs included, and remove what it wrote. Does nothing where there is none."""
        until = time.monotonic() + 20
        while remaining := self.processes():
            processes.send(remaining, signal.SIGKILL)
            if not processes.wait_gone(remaining, 5) or time.monotonic() > until:
                raise TestbedError(f"processes that cannot be ended: {remaining}")
        if not self._is_ours():
            return
        for name in OURS:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    # Using it

    def submit(self, script: str, *options: str) -> str:
        """sbatch of a line of shell; the job's id. Without an --output, `output` returns what it wrote."""
        words = ["sbatch", "--parsable", f"--chdir={self.folder}/jobs", *options, "--wrap", script]
        return self.command(*words).strip().partition(";")[0]

    def output(self, job: str) -> str:
        """What a job of `submit` wrote; `12_0` for an element of an array."""
        return (self.folder / f"jobs/slurm-{job}.out").read_text(errors="replace")

    def job(self, job: str) -> dict[str, str]:
        """What the controller says of a job (`scontrol show job`): JobState, Restarts, NodeList, Reason, ..."""
        words = self.command("scontrol", "--oneliner", "show", "job", job).splitlines()[0].split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str, *states: str, timeout: float = 60) -> dict[str, str]:
        """Wait until the job is in one of `states`; what `job` then says."""
        until = time.monotonic() + timeout
        while (job_state := self.job(job))["JobState"] not in states:
            if time.monotonic() > until:
                now = f"{job_state['JobState']}, not {' or '.join(states)}, after {timeout:g} s"
                raise self._error(f"job {job} is {now} (reason {job_state['Reason']})")
            time.sleep(0.1)
        return job_state

    def wait_idle(self, timeout: float = 60) -> None:
        """Wait until no job runs or waits and every node is idle."""
        self._until(self._idle, "jobs run or a node is not idle", timeout)

    def recover(self, timeout: float = 60) -> None:
        """Cancel every job, bring back what was killed, and wait until the cluster is idle."""
        running = self.processes()
        if not any(p.name == "slurmctld" for p in running):
            self.restart_controller()
        for name in self.nodes:
            if not any(p.name == "slurmd" and p.node == name for p in running):
                self.start_node(name)
        self.command("scancel", "--me")
        self.wait_idle(timeout)

    # Making trouble

    def kill_node(self, name: str, jobs: bool = True) -> None:
        """A node's death: slurmd and its jobs' processes are killed. The controller notices within half a minute.

        With jobs=False only slurmd dies: its jobs go on while the controller starts them again elsewhere.
        """
        # In this order: a slurmstepd that outlived its job would report the job's end. Again, for what began meanwhile.
        kinds = ("slurmd", "slurmstepd", "job") if jobs else ("slurmd",)
        self._node(name)
        while victims := [p for kind in kinds for p in self.processes() if (p.node, p.name) == (name, kind)]:
            self._kill(victims)

    def start_node(self, name: str, timeout: float = 30) -> None:
        """Bring a killed node back; returns when the controller takes it for up."""
        if any(p.name == "slurmd" and p.node == self._node(name) for p in self.processes()):
            raise TestbedError(f"{name} runs already")
        self._daemon("slurmd", "-N", name, log=name)
        self._until(lambda: self.states()[name] in ("idle", "mixed", "allocated"), f"{name} is not up", timeout, name)

    def kill_controller(self) -> None:
        """slurmctld crashes: what it learnt in the last seconds is lost. Commands fail until `restart_controller`."""
        self._kill([p for p in self.processes() if p.name == "slurmctld"])

    def restart_controller(self, timeout: float = 30) -> None:
        """End slurmctld if it runs, so that it saves its state, and start it; returns when it answers."""
        controllers = [p for p in self.processes() if p.name == "slurmctld"]
        processes.send(controllers, signal.SIGTERM)
        if not processes.wait_gone(controllers, timeout):
            raise self._error(f"the controller does not end in {timeout:g} s")
        self._daemon("slurmctld", log="slurmctld")
        self._until(self._answers, "the controller does not answer", timeout)

    def requeue(self, job: str) -> None:
        """Send a running job back to the queue, as an administrator would. It is held there for about 6 s."""
        self.command("scontrol", "requeue", job)

    def preempt(self, *nodes: str, seconds: float = 1) -> str:
        """Take `nodes` (all by default) from the jobs in `low`, by an exclusive job in `high`, whose id is returned.

        The jobs in `low` get their --signal, SIGCONT and SIGTERM at once, SIGKILL 10 s later, and are requeued.
        """
        names = [self._node(name) for name in nodes or self.nodes]
        where = ("--partition=high", "--exclusive", f"--nodes={len(names)}", f"--nodelist={','.join(names)}")
        return self.submit(f"sleep {seconds}", *where, "--output=/dev/null")

    def _node(self, name: str) -> str:
        if name not in self.nodes:
            raise TestbedError(f"no node {name!r}; there are {', '.join(self.nodes)}")
        return name

    def _is_ours(self) -> bool:
        """Whether the folder is one that a bed made."""
        file = self.folder / "slurm.conf"
        return has_text(file) and file.read_text(encoding="utf-8").startswith(conf.MADE)
