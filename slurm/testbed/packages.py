"""Where the programs stand, and which Debian packages bring those that are missing."""

from __future__ import annotations

import os
import shutil

# Daemons stand in sbin, which is not in every user's PATH.
PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
PACKAGES = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"}
ACCOUNTING_PACKAGES = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server-core"}


def missing_packages(accounting: bool = False) -> list[str]:
    """The Debian packages that a bed needs and this machine lacks."""
    needed = PACKAGES | (ACCOUNTING_PACKAGES if accounting else {})
    return sorted({package for name, package in needed.items() if not program(name)})


def install_line(packages: list[str]) -> str:
    """The command that installs them."""
    return f"apt-get install --no-install-recommends {' '.join(packages)}"


def search_path() -> str:
    """PATH with the places where daemons stand."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join([*folders, *(folder for folder in PLACES if folder not in folders)])


def program(name: str) -> str:
    """Its path, or nothing."""
    return shutil.which(name, path=search_path()) or ""
