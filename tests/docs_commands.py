"""Run every command of README.md's ```sh blocks, in order, in a scratch folder. `make` lines are CI's other steps.

Commands that need a download, a cluster or a GPU stand in ```bash blocks, which are for people and are not run.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def commands(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.strip() and not line.startswith(("#", "make", "git", "cd "))]


def main() -> int:
    found = commands((ROOT / "README.md").read_text())
    assert found, "README.md has no ```sh block"
    with tempfile.TemporaryDirectory() as scratch:
        for command in found:
            print(f"$ {command}", flush=True)
            typed = command.replace("python -m", f"{sys.executable} -m").replace(
                "torchrun", f"{sys.executable} -m torch.distributed.run"
            )
            done = subprocess.run(typed, shell=True, cwd=scratch, timeout=1800)
            if done.returncode != 0:
                print(f"exit code {done.returncode}: {command}")
                return 1
    print(f"{len(found)} passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
