"""docs/report.png, what the report of a kept study looks like: `make picture` takes it in a headless Chromium.

It holds a digest of the records, by which a test finds that they have changed; it is taken anew by hand where the page
has changed.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/report.png"
STUDY = ROOT / "results/studies/cifar10_tuned"
SIZE = "1360,1310"  # from the verdict to the first figure
FIGURE = 180  # pixels of it in the picture, below the title
TRIES = 10
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def digest() -> str:
    """Of all records of the study."""
    records = sorted(STUDY.glob("*/record.json"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in records)).hexdigest()[:16]


def has_figure(shot: Path) -> bool:
    """Whether something is drawn below the last title; a browser on a busy machine may take the picture before."""
    grey = Image.open(shot).convert("L")
    return grey.crop((0, grey.height - FIGURE, grey.width, grey.height)).histogram()[:200] != [0] * 200


def main() -> int:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"error: one of {', '.join(BROWSERS)} is needed", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        folder, shot = Path(scratch), Path(scratch, "shot.png")
        shutil.copytree(STUDY, folder / "runs")
        words = ["report", "out=runs", "reference=random"]
        subprocess.run([sys.executable, "-m", "benchmark", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE}"]
        page = (folder / "runs/report/report.html").as_uri()
        call = [browser, *options, "--virtual-time-budget=10000", f"--screenshot={shot}", page]
        for _ in range(TRIES):
            subprocess.run(call, check=True, capture_output=True, timeout=120)
            if has_figure(shot):
                break
        else:
            print("error: the browser took no picture with the figure drawn; a less busy machine may", file=sys.stderr)
            return 1
        info = PngInfo()
        info.add_text("records", digest())
        Image.open(shot).convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE).save(
            PICTURE, optimize=True, pnginfo=info
        )
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
