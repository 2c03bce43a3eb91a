"""The encoder of a finished cell, and what its evaluation did to images; from the cell's folder alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from benchmark.augment.transforms import resize
from benchmark.backbones import tokens
from benchmark.cells import plan
from benchmark.data.catalogue import entry
from benchmark.data.files import crop_square, fit_square
from benchmark.errors import UsageError, explain, unknown
from benchmark.settings import schema
from benchmark.settings.cell import Settings
from benchmark.training import build, checkpoint
from methods.method import Method

if TYPE_CHECKING:
    from PIL import Image

ENCODERS = ("student", "teacher")  # the one that is trained, and its momentum copy
CPU = torch.device("cpu")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Restored:
    """A cell at its end, without its dataset. Modules are in eval mode, in float32, on one device."""

    folder: Path
    settings: Settings
    record: dict[str, Any]
    encoder: nn.Module  # normalised images (n, 3, view, view) to features (n, D)
    head: nn.Module | None  # g, features to (n, D'), where the method has one and these are the features it was given
    stem: str  # small or native; none without a backbone
    mean: Tensor  # (3, 1, 1), of pixels in [0, 1]
    std: Tensor

    @property
    def side(self) -> int:
        """Pixels of the centre squares at which evaluation is given the images of files."""
        dataset = self.settings.dataset
        return dataset.side or entry(dataset.name).side

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 (n, 3, H, W) to the encoder's input, (n, 3, view, view), as evaluation does it."""
        images = images.to(self.mean.device)
        normalised = (resize(images, self.settings.view_size) - self.mean) / self.std
        return normalised.contiguous(memory_format=torch.channels_last)

    def transform(self, image: Image.Image) -> Tensor:
        """A PIL image of any size and mode as evaluation gives it to the encoder, (3, view, view)."""
        image = image.convert("RGB")
        if self.settings.dataset.stream:
            square = crop_square(image, self.side)
        else:
            square = torch.from_numpy(fit_square(image, self.side).copy())
        return self.prepare(square[None])[0]


def find_cell(name: str, out: Path) -> Path:
    """The folder of a cell that is named by its path, or by its name or key below `out`."""
    folder = Path(name)
    if not folder.is_dir():
        if not any(plan.list_folders(out)):  # out= is what is written, so that no word names another one
            raise UsageError(f"unknown cell {name!r}: no cells below {out}; give the cell's folder")
        return plan.find(out, [name])[0]
    if plan.read_state(folder).word == "new":
        raise UsageError(f"{name} is no cell's folder; `python -m benchmark status out=FOLDER` lists the cells of one")
    return folder


def load(folder: Path, device: torch.device, say: Say, encoder: str = ENCODERS[0], token_kind: str = "") -> Restored:
    """The finished cell in `folder`: of its `ENCODERS` one, with what it pools or, by a name of `tokens.KINDS`, with
    other tokens as features. Raises `UsageError` where it is not finished, cannot be restored as it was, or has no such
    encoder or tokens."""
    if encoder not in ENCODERS:
        raise unknown("encoder", encoder, ENCODERS)
    folder = folder.absolute()
    state = plan.read_state(folder)
    if state.word != "finished" or state.record is None:
        detail = f" ({state.detail})" if state.detail else ""
        raise UsageError(f"{folder.name}: the cell is {state.word}{detail}; only a finished one has an encoder to take")
    cell, record = plan.read_cell(folder), state.record
    if schema.method_version(cell.method) != cell.method_version:
        say(f"note: the code of {cell.method} has changed since {folder.name} was trained")
    try:
        restored = _restore(folder, cell, record, device, encoder)
        return _read_tokens(restored, token_kind) if token_kind else restored
    except UsageError:
        raise
    except Exception as error:  # whatever another's files make of torch and of the method
        raise UsageError(f"{folder.name}: cannot be restored: {explain(error)}") from error


def _read_tokens(restored: Restored, kind: str) -> Restored:
    kinds = tokens.list_kinds(restored.encoder)
    if not kinds:
        name = restored.settings.backbone or restored.settings.method
        raise UsageError(f"tokens={kind}: {name} has no tokens; a vision transformer of timm has")
    if kind not in kinds:
        raise unknown("tokens", kind, kinds)
    return replace(restored, encoder=tokens.TokenFeatures(restored.encoder, kind).eval(), head=None)


def _restore(folder: Path, cell: Settings, record: dict[str, Any], device: torch.device, encoder: str) -> Restored:
    resolved = record.get("resolved", {})
    method, stem, saved = _build(folder, cell, record["key"], resolved, device)
    statistics = [resolved.get(name, saved.get(name)) for name in ("pixel_mean", "pixel_std")]
    if None in statistics:
        raise UsageError(
            f"{folder.name}: neither its record nor its checkpoint has the mean and deviation of its pixels, as those "
            "of the first versions: run it anew in another out="
        )
    mean, std = (torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1) for values in statistics)
    is_student = encoder == ENCODERS[0]
    network = method.encoder if is_student else build.momentum_encoder(method)
    if network is None:
        raise UsageError(f"encoder={encoder}: {cell.method} has no momentum copy of its encoder; encoder=student")
    head = getattr(method, "head", None) if is_student else None
    return Restored(folder, cell, record, network.float(), None if head is None else head.float(), stem, mean, std)


def _build(
    folder: Path, cell: Settings, key: str, resolved: dict[str, Any], device: torch.device
) -> tuple[Method, str, dict[str, Any]]:
    """(method in eval mode, the stem it got, its checkpoint without weights)."""
    classes = resolved.get("test", {}).get("classes", 0)
    if not schema.describe(cell.method).trains:
        method, stem = build.build_method_for(cell, 0, classes, device)
        return method.eval(), stem, {}
    state = checkpoint.load(folder, key, device)
    if state is None and cell.trial:
        raise UsageError(f"{folder.name}: a trial keeps no encoder; take that of a cell with the chosen settings")
    if state is None:
        raise UsageError(f"{folder.name}: its {checkpoint.FILE_NAME} is gone, and with it the encoder")
    if resolved.get("stem") in ("small", "native"):  # the weights it began with need not be there any more
        cell = replace(cell, stem=resolved["stem"], weights="")
    method, stem = build.build_method_for(cell, resolved["images"], classes, device)
    method.load_state_dict(state.pop("method"))
    return method.eval(), stem, state
