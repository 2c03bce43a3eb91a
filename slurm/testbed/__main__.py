"""A real two-node SLURM on this machine, for trying things: `python -m slurm.testbed up|status|down [key=value ...]`.

up       start it (folder=, accounting=true, cpus=, memory= in MB, gpus=, max_array_size=)
status   its nodes and its jobs (folder=)
down     end every process of it and remove what it wrote (folder=)
"""

from __future__ import annotations

import difflib
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from slurm.testbed import Testbed, TestbedError, UnavailableError

COMMANDS = ("up", "status", "down")


def main(arguments: list[str]) -> int:
    """Exit code: 0 done, 1 the bed fails or there is none, 2 bad input or something to install."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__.strip(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    command, *words = arguments
    try:
        if command not in COMMANDS:
            raise UnavailableError(f"unknown command {command!r}{_nearest(command, COMMANDS)} ({', '.join(COMMANDS)})")
        settings = _read(words, [field.name for field in fields(Testbed)] if command == "up" else ["folder"])
        bed = Testbed(**({"folder": Path(tempfile.gettempdir(), f"testbed-{os.geteuid()}")} | settings))
        return {"up": _up, "status": _status, "down": _down}[command](bed, set(settings) - {"folder"})
    except (TestbedError, OSError) as error:
        print("error:", error, file=sys.stderr)
        return 2 if isinstance(error, UnavailableError) else 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _up(bed: Testbed, keys: set[str]) -> int:
    if not bed.processes():
        bed.up()
    elif keys:
        raise UnavailableError(f"a cluster is up in {bed.folder}; {_again('down', bed)} ends it")
    # Fit for eval: what is no command is a comment.
    print(f"export SLURM_CONF={bed.environment()['SLURM_CONF']}")
    print("# then, for example:")
    print("#   sbatch --wrap 'hostname; env | grep SLURM'")
    print("#   srun --nodes=2 --gpus-per-node=1 env | grep CUDA")
    print(f"# {_again('status', bed)}; {_again('down', bed)}")
    return 0


def _status(bed: Testbed, keys: set[str]) -> int:
    running = bed.processes()
    if not running:
        print(f"no cluster in {bed.folder}", file=sys.stderr)
        return 1
    names = sorted({p.node if p.name == "slurmd" else p.name for p in running} - {"job", "slurmstepd"})
    print(f"{bed.folder}: {', '.join(names)}; processes of jobs: {sum(p.name == 'job' for p in running)}")
    print(bed.command("sinfo", "--Node", "--partition=debug", "--format=%N %T %c CPUs %m MB %G %E"), end="")
    print(bed.command("squeue", "--format=%.10i %.10P %.20j %.10T %.8M %.3D %R"), end="")
    return 0


def _down(bed: Testbed, keys: set[str]) -> int:
    bed.down()
    return 0


def _read(words: list[str], allowed: list[str]) -> dict[str, Any]:
    """`key=value` words to the fields of a `Testbed`."""
    kinds = get_type_hints(Testbed)
    settings: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not text:
            raise UnavailableError(f"{word!r} is not key=value, such as folder=/tmp/bed")
        if key not in allowed:
            raise UnavailableError(f"unknown key {key!r}{_nearest(key, allowed)} (allowed: {', '.join(allowed)})")
        if key in settings:
            raise UnavailableError(f"{key}= is given twice")
        settings[key] = _value(text, kinds[key], key)
    return settings


def _value(text: str, kind: type, key: str) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise UnavailableError(f"{key}={text}: true or false is needed")
        return text == "true"
    try:
        return kind(text)
    except ValueError:
        raise UnavailableError(f"{key}={text}: a whole number is needed") from None


def _nearest(name: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _again(command: str, bed: Testbed) -> str:
    return f"python -m slurm.testbed {command} folder={bed.folder}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
