"""A cell's encoder as a folder for other code: whole, or absent."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmark.data.layouts.scratch import build_folder
from benchmark.errors import UsageError
from benchmark.inference import card, program, timm_folder
from benchmark.inference.restored import Restored, Say
from results import record


def require_room(out: Path) -> None:
    """Raise `UsageError` where something is in the way of a new folder."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"out={out} is there already: give another folder, or remove it")


def export(restored: Restored, out: Path, formats: list[str], say: Say) -> bool:
    """Write the encoder to `out`, and beside it the programs of `formats`. Whether timm makes it of `out` again; where
    it cannot, `program` is among the formats.

    Raises `UsageError` where there is nothing to export, or a format cannot be had.
    """
    cell = restored.settings
    if cell.backbone is None:
        raise UsageError(f"{restored.folder.name}: {cell.method} has no backbone to export; `features` gives its rows")
    require_room(out)
    program.require(formats)
    with build_folder(out.absolute()) as scratch:
        folder = scratch / out.absolute().name
        folder.mkdir()
        reason = timm_folder.write(folder, restored)
        if reason:
            say(f"no config.json for timm, a program instead: {reason}")
        formats = list(dict.fromkeys([*(["program"] if reason else []), *formats]))
        if formats:
            program.write(folder, restored, formats)
        with torch.no_grad():
            width = restored.encoder(torch.zeros(1, 3, cell.view_size, cell.view_size)).shape[1]
        facts = card.describe(restored, width)
        record.write_json(folder / card.FILE_NAME, facts)
        (folder / card.CARD_NAME).write_text(card.write(restored, facts, not reason), encoding="utf-8")
        mode = (folder / card.FILE_NAME).stat().st_mode
        for path in folder.iterdir():  # safetensors lets only the owner read its file
            path.chmod(mode)
    return not reason
