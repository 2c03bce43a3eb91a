"""`cluster=NAME`: a cluster's words in a small file of the user's, one a line, that the command's own words override.

    # clusters/gpu.txt
    launcher=slurm
    slurm.partition=gpu
    slurm.setup=module load cuda

It lies in `clusters/` of the folder one is in, or below `~/.config/contrastive-benchmark/`. Only how to run stands
there: what a cell is must be readable from the command alone.
"""

from __future__ import annotations

from pathlib import Path

from benchmark.errors import UsageError, nearest


def read_cluster(name: str) -> list[str]:
    """The words of the cluster `name`, blank lines and those behind # left out."""
    if Path(name).name != name or name == "..":
        raise UsageError(f"cluster={name}: a name is needed, such as cluster=gpu for clusters/gpu.txt, not a path")
    folders = [Path("clusters"), Path("~/.config/contrastive-benchmark/clusters").expanduser()]
    path = next((folder / f"{name}.txt" for folder in folders if (folder / f"{name}.txt").is_file()), None)
    if path is None:
        names = sorted({file.stem for folder in folders for file in folder.glob("*.txt")})
        existing = f"; there are {', '.join(names)}" if names else ""
        raise UsageError(
            f"cluster={name}: no {folders[0] / name}.txt, nor {folders[1] / name}.txt{nearest(name, names)}{existing}"
        )
    return read_lines(path)


def read_lines(path: Path) -> list[str]:
    """The words of a file, one a line, blank lines and those behind # left out. `UsageError` for one that cannot be
    read, or that names another."""
    try:
        stripped = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    nested = next((line for line in stripped if line.startswith("@")), None)
    if nested:
        raise UsageError(f"{path} has {nested}: a file of words names no other file")
    return [line for line in stripped if line and not line.startswith("#")]
