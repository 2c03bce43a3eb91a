"""`export` and `features`: a finished cell's encoder for other code, and on other images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmark import environment
from benchmark.cells import writable
from benchmark.cli import checks
from benchmark.display.messages import say
from benchmark.errors import UsageError
from benchmark.settings.runtime import Runtime
from benchmark.words import inference_words


def export_encoder(words: list[str]) -> int:
    """`export`: a folder that timm loads, or a program, with a model card."""
    checks.print_note(environment.leave_group())
    request = inference_words.read_export(words)
    from benchmark.inference import export, hub, program, restored  # behind the words: torch takes its time
    from benchmark.training.engine import claim_device

    writable.require_beside(request.out)
    export.require_room(request.out)
    program.require(request.formats)
    device = claim_device(replace(request.runtime, device="cpu"))
    cell = restored.load(restored.find_cell(request.cell, Path(Runtime.out)), device, say)
    is_timm = export.export(cell, request.out, request.formats, say)
    for path in sorted(request.out.iterdir()):
        print(path)
    if request.push:
        print(hub.push(request.out, request.push, cell, is_timm))
    return 0


def write_features(words: list[str]) -> int:
    """`features`: a table with a row for each image."""
    checks.print_note(environment.leave_group())
    request = inference_words.read_features(words)
    writable.require_beside(request.out)
    if request.out.is_dir():
        raise UsageError(f"out={request.out}: a folder is in the way; a file is needed")
    from benchmark.inference import features, images, restored  # behind the words: torch takes its time
    from benchmark.launch import in_process

    folder = restored.find_cell(request.cell, Path(Runtime.out))
    cell = restored.load(folder, in_process.claim_spare(request.runtime), say, request.encoder, request.tokens)
    listing = images.list_images(request.images, request.datasets, cell.side, cell.settings.dataset.stream)
    for note in listing.notes:
        say(f"note: {note}")
    features.write(cell, listing, request.out, request.head)
    print(request.out)
    return 0
