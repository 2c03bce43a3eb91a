"""A real two-node SLURM on one machine, for tests and for trying things: loopback only, below one private folder.

    with Testbed(Path("/tmp/bed")) as bed:
        job = bed.submit("hostname", "--nodes=2")
        bed.wait(job, "COMPLETED")

The daemons are those of Debian's `slurm-wlm` and `munge` (accounting: `slurmdbd` and `mariadb-server-core`). The nodes
n1 and n2 are two slurmd on this machine that claim the CPUs, memory and GPUs they are told to. No privilege is needed.
Nothing is remembered in memory: `Testbed(folder)` in another process reaches the same bed. The command is
`python -m slurm.testbed up`.
"""

from slurm.testbed.bed import Testbed
from slurm.testbed.daemons import TestbedError, UnavailableError
from slurm.testbed.packages import install_line, missing_packages

__all__ = ["Testbed", "TestbedError", "UnavailableError", "install_line", "missing_packages"]
