"""What `profile` measured: a table for people, all numbers for programs."""

from __future__ import annotations

import json
from typing import Any

import torch

from benchmark.cells import machine
from benchmark.profiling.flow import BLOCK
from benchmark.profiling.profile import BLOCKS, PARTS, STEPS, WARM_UP, ProfiledCell, Spread
from benchmark.settings import address

COUNTS = {
    "cpu": f"medians of {STEPS} steps behind {WARM_UP} that do not count, methods in turns",
    "cuda": f"medians of {BLOCKS} blocks of {BLOCK} steps, recorded where they can be, and not waited for",
}
LEGEND = """; in brackets the quartiles
step: a whole step; encoder: the same encoder passes alone, forward and where trained backward, on views in memory
data: the images (those on a disk are waited for here, and fetched ahead in training), draws for augmentation
augmentation: the views; forward: with heads, momentum encoders
loss: losses in tiles form their gradient here; backward: of encoder and heads; hooks: momentum, memories
epoch start: the order, clustering and what it embeds, as a share of the epoch's steps
memory: growth in a step over what rests between steps, which is state (weights, optimiser, memories) and the data"""
LEGEND_GPU = "\nparts are of further steps, launched kernel by kernel, that wait for the GPU behind each part"


def build_table(profiled_cells: list[ProfiledCell]) -> list[list[str]]:
    """A header, and a row a method."""
    header = ["method", "batch", "pixels/image", "images/s", "step ms", *PARTS, "epoch start", "encoder ms"]
    rows = [[*header, "memory MiB", "state MiB", "step/encoder"]]
    for profiled in profiled_cells:
        row = [profiled.cell.method, str(profiled.batches.batch_size), str(profiled.batches.pixels)]
        row += [_format_quartiles(profiled.images_per_second, ".0f"), f"{1000 * profiled.median('step'):.1f}"]
        row += [f"{share:.1%}" for share in profiled.shares.values()]
        row += [f"{profiled.epoch_share:.1%}", f"{1000 * profiled.median('encoder'):.1f}"]
        row += [
            f"{profiled.growth / 2**20:.0f}",
            f"{profiled.state / 2**20:.0f}",
            _format_quartiles(profiled.ratio, ".2f"),
        ]
        rows.append(row)
    return rows


def write_legend(device: torch.device) -> str:
    """The machine, and what each column of the table is."""
    on_gpu = LEGEND_GPU if device.type == "cuda" else ""
    return f"{machine.name_device(device)}\n{COUNTS[device.type]}{LEGEND}{on_gpu}"


def to_json(profiled_cells: list[ProfiledCell], device: torch.device) -> str:
    """`plain` as text."""
    return json.dumps(plain(profiled_cells, device), indent=1)


def plain(profiled_cells: list[ProfiledCell], device: torch.device) -> dict[str, Any]:
    """All numbers, for JSON: seconds, bytes, shares as fractions; a spread is [median, lower quartile, upper]."""
    cells = [
        {
            "method": profiled.cell.method,
            "settings": address.identify(profiled.cell),
            "precision": profiled.engine.precision,
            "batch_size": profiled.batches.batch_size,
            "pixels_per_image": profiled.batches.pixels,
            "images_per_second": profiled.images_per_second,
            "ratio_to_encoder": profiled.ratio,
            "shares": profiled.shares,
            "epoch_start_seconds": profiled.epoch_start,
            "epoch_start_share": profiled.epoch_share,
            "not_recorded": profiled.notes,
            "memory_growth_bytes": profiled.growth,
            "state_bytes": profiled.state,
            "seconds": profiled.seconds,
        }
        for profiled in profiled_cells
    ]
    facts = {
        "device": machine.name_device(device),
        "threads": torch.get_num_threads(),
        "versions": machine.read_versions(),
    }
    return facts | machine.read_commit() | {"warm_up": WARM_UP, "cells": cells}


def _format_quartiles(values: Spread, form: str) -> str:
    middle, low, high = (format(value, form) for value in values)
    return f"{middle} ({low} to {high})"
