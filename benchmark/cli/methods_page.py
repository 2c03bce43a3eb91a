"""docs/methods.md and docs/presets.md: `python -m benchmark.cli.methods_page` writes them, `--check` fails if one is
old.

All that the first says is read off the methods: their docstrings and options, their buffers, and one step of each on
torch's meta device, which counts multiplications and holds no numbers. So a new method is on the page by existing.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import difflib
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import methods
from benchmark.backbones import encoders
from benchmark.settings import schema
from benchmark.settings.presets import page as presets_page
from benchmark.settings.values import describe_type
from benchmark.training import batches
from benchmark.words import selection
from methods.method import Batch, Method, Progress
from methods.parts.heads import MomentumCopy

PAGE, PRESETS_PAGE = Path("docs/methods.md"), Path("docs/presets.md")
TRANSFORMER = "vit_tiny_patch16_224"
BACKBONE, SIDE, IMAGES, CLASSES, BATCH = "resnet18", 32, 1_281_167, 1000, 128
HEAD = f"""# Methods

Made by `python -m benchmark.cli.methods_page` from the methods themselves; do not edit. `python -m benchmark methods
NAME` prints a method's options too. Select with `methods=NAME,NAME`, `methods=family:FAMILY` or `methods=all`.

Cost is what one step computes for an image, forward and backward, against SimCLR's: multiplications on {BACKBONE} with
the small stem at {SIDE} x {SIDE} pixels, each method with its own default heads, batches of {BATCH}. Work between
epochs, such as clustering, is not in it. What needs a vision transformer is counted on {TRANSFORMER}
with patches of 4 pixels, and so is SimCLR beside it. State is what a method keeps beside weights that train, in float32
on the same backbone for ImageNet's {IMAGES:,} images.
"""


class Multiplications(TorchDispatchMode):
    """Counts multiplications and additions of what runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func._overloadpacket)
        if counted is not None:
            self.count += counted(*args, **(kwargs or {}), out_val=out)
        return out


def build_page() -> str:
    """The whole page. Raises what a method raises that cannot be built."""
    known = selection.group_families()
    parts = [HEAD, _build_table([(family, name) for family, names in known.items() for name in names])]
    for family, names in known.items():
        parts.append(f"## Family `{family}`\n")
        parts += [_build_section(name) for name in names]
    return "\n".join(parts)


def _build_table(rows: list[tuple[str, str]]) -> str:
    lines = ["| family | method | paper | views | cost | state |", "| :--- | :--- | :--- | :--- | ---: | :--- |"]
    for family, name in rows:
        description = methods.describe(name)
        views = " + ".join(description.views) or "none"
        more = ["small crops"] * description.multicrop + ["labels"] * description.supervised
        more += ["a vision transformer"] * description.tokens
        backbone = TRANSFORMER if description.tokens else BACKBONE
        cost = (
            f"{_describe_work(name, backbone) / _describe_work('simclr', backbone):.2f}" if description.trains else "–"
        )
        line = [
            family,
            f"[`{name}`](#{name})",
            description.title,
            ", ".join([views, *more]),
            cost,
            _describe_state(name) or "–",
        ]
        lines.append("| " + " | ".join(line) + " |")
    return "\n".join(lines) + "\n"


def _build_section(name: str) -> str:
    description = methods.describe(name)
    lines = [f"### {name}", "", description.title + ".", ""]
    lines += [description.about, ""] if description.about else []
    if description.recommends:
        lines += [
            "Recommends " + ", ".join(f"`{key}={value}`" for key, value in description.recommends.items()) + ".",
            "",
        ]
    options = dataclasses.fields(description.Config)
    if options:
        lines += ["| option | default | allowed | meaning |", "| :--- | :--- | :--- | :--- |"]
    for option in options:
        allowed = describe_type(schema.list_options(name)[option.name]).replace("|", r"\|")
        meaning = description.help.get(option.name, "").replace("|", r"\|")
        lines.append(f"| `{name}.{option.name}` | {option.default} | {allowed} | {meaning} |")
    return "\n".join(lines) + ("\n" if options else "")


def _describe_state(name: str) -> str:
    """Like `queue.rows 65536 x 128 (32 MiB)`: copies that follow, and buffers outside of them and of batch norm."""
    if not methods.describe(name).trains:
        return ""
    method, _ = _build(name, TRANSFORMER if methods.describe(name).tokens else BACKBONE)
    copies = [at for at, module in method.named_modules() if isinstance(module, MomentumCopy)]
    buffers = []
    for at, buffer in method.named_buffers():
        counts = at.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
        if not counts and buffer.numel() > 1:
            size = buffer.numel() * buffer.element_size() / 2**20
            shape = " x ".join(map(str, buffer.shape))
            buffers.append(f"{at} {shape}" + (f" ({size:,.0f} MiB)" if size >= 1 else ""))
    return ", ".join([*(f"{at} (follows)" for at in copies), *buffers])


@lru_cache
def _describe_work(name: str, backbone: str = BACKBONE) -> float:
    """Multiplications and additions of a step for an image."""
    method, method_class = _build(name, backbone)
    at = Progress(0, 10, 0, 10)
    with torch.device("meta"):
        views = batches.backbone_inputs(method_class.views, (), SIDE)
        shapes = [
            (3, view.side, view.side) if view.images == 1 else (view.images, 3, view.side, view.side) for view in views
        ]
        labels = torch.zeros(BATCH, dtype=torch.int64) if method_class.supervised else None
        batch = Batch([torch.zeros(BATCH, *shape) for shape in shapes], torch.arange(BATCH), labels)
        with Multiplications() as counted:
            method.loss(method(batch, at), at)["loss"].backward()
    return counted.count / BATCH


@lru_cache(maxsize=256)
def _build(name: str, backbone: str) -> tuple[Method, type[Method]]:
    """The method with its default options, on the meta device."""
    method_class: type[Method] = methods.load(name)
    encoder, width, _ = _build_encoder(backbone)
    arguments = ({"size": SIDE} if method_class.sized else {}) | (
        {"classes": CLASSES} if method_class.supervised else {}
    )
    with torch.device("meta"):
        return method_class(
            method_class.Config(), copy.deepcopy(encoder), width, IMAGES, **arguments
        ).train(), method_class


@lru_cache
def _build_encoder(backbone: str) -> tuple[Any, int, str]:
    encoder, width, stem = encoders.make(backbone, "small", SIDE, (), "")
    return encoder.to("meta"), width, stem


def main() -> int:
    """Exit code: 0, and 1 where `--check` finds an old page."""
    parser = argparse.ArgumentParser(description="docs/methods.md and docs/presets.md from the code")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is old")
    check = parser.parse_args().check
    # A list, so that all old pages are named.
    return max(
        [_settle(path, text, check) for path, text in ((PAGE, build_page()), (PRESETS_PAGE, presets_page.page()))]
    )


def _settle(path: Path, text: str, check: bool) -> int:
    """Write the page, or where it is only checked say how it differs. Exit code."""
    if not check:
        path.write_text(text, encoding="utf-8")
        return 0
    previous = path.read_text(encoding="utf-8") if path.exists() else ""
    if previous != text:
        difference = difflib.unified_diff(
            previous.splitlines(), text.splitlines(), str(path), "the code", lineterm="", n=0
        )
        print("\n".join(list(difference)[:20]), file=sys.stderr)
        print(f"error: {path} is old; make it anew: python -m benchmark.cli.methods_page", file=sys.stderr)
    return int(previous != text)


if __name__ == "__main__":
    sys.exit(main())
