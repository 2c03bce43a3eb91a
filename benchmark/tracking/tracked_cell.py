"""What every tracker is told of a cell when it begins, and the id and name by which it knows the cell's run."""

from __future__ import annotations

import base64
import contextlib
import io
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.settings.runtime import Runtime
from results import files, record

if TYPE_CHECKING:
    from PIL.Image import Image

FILE_NAME = "tracking.json"
LONGEST = 100  # characters of a name; W&B takes 128, a folder's name has 255 bytes
NEIGHBOURS = "A row a test image: itself, then the training images nearest to it in the features"


class Identity(NamedTuple):
    """A run's id, the cell's key and eight digits that are its folder's own; and its name, which says what varies."""

    id: str
    name: str


@dataclass(frozen=True)
class TrackedCell:
    """A cell that begins: its record so far, its folder and its run's identity."""

    content: dict[str, Any]
    folder: Path
    runtime: Runtime
    id: str
    name: str

    @property
    def label(self) -> str:
        """The name where it has to be the run's alone and may have to be a file's."""
        return re.sub(r"[^-+=.,@ \w]", "-", f"{self.name} {self.id[-8:]}")

    @property
    def group(self) -> str:
        """The sweep; trials of `tune` are apart, and in no report of cells."""
        return record.name_sweep(Path(self.runtime.out)) + f" {record.TRIAL}" * record.is_trial(self.content)

    @property
    def tags(self) -> list[str]:
        settings = self.content["settings"]
        return [name[-64:] for name in (settings["dataset"]["name"], settings["backbone"]) if name]

    @property
    def config(self) -> dict[str, Any]:
        """The settings, and what tells two runs of them apart."""
        return self.content["settings"] | {
            name: self.content[name] for name in ("key", "protocol", "versions", "commit", "dirty")
        }


def identify(folder: Path, key: str, name: str) -> Identity:
    """The identity that an earlier attempt at the cell kept in its folder, or a new one, kept there.

    The same cell in another folder, such as another person's, has another id: the two share no run.
    """
    path = folder / FILE_NAME
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):  # none, or none of ours
        prior = Identity(**files.read_json(path))
        if re.fullmatch(r"[\w-]{8,64}", prior.id, re.ASCII) and prior.name.isprintable() and len(prior.name) <= LONGEST:
            return prior
    identity = Identity(f"{key}-{uuid.uuid4().hex[:8]}", files.make_printable(name or folder.name)[:LONGEST])
    with contextlib.suppress(OSError):  # of a full disk the trackers say more
        record.write_json(path, identity._asdict())
    return identity


def decode_neighbours(gallery: dict[str, Any]) -> Image:
    """The picture of test images with their neighbours, from what a cell's folder has to look at."""
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(gallery["neighbours"]["png"]))).convert("RGB")
