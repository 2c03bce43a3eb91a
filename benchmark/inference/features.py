"""Features of any images by a cell's encoder, as its evaluation would have them; streamed, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmark.data.files import read_batches
from benchmark.data.source import Images
from benchmark.display.counting import show_progress
from benchmark.errors import UsageError
from benchmark.inference import tables
from benchmark.inference.images import Listing
from benchmark.inference.restored import Restored
from benchmark.training.embed import ROWS

if TYPE_CHECKING:
    import pandas as pd

CPU_ROWS = 64  # images encoded at once on a CPU: as fast as more, or faster, in an eighth of the memory


def write(restored: Restored, listing: Listing, out: Path, head: bool) -> None:
    """The table of `listing` at `out`: names, labels, features and, with `head`, the projection head's output.

    UsageError where the method has no head, or an image cannot be read any more.
    """
    if head and restored.head is None:
        raise UsageError(f"head=true: {restored.settings.method} has no projection head")
    title = f"{listing.title}: features of"
    with (
        tables.open_table(out, listing.names, listing.labels, restored.folder.name) as add,
        show_progress(title, len(listing.names), "image") as advance,
    ):
        for part in listing.parts:
            for features, projected in encode(restored, part(), head):
                columns = {"features": features} | ({} if projected is None else {"head": projected})
                add({name: rows.cpu().numpy() for name, rows in columns.items()})
                advance(len(features))


@torch.no_grad()
def encode(restored: Restored, images: Images, head: bool = False) -> Iterator[tuple[Tensor, Tensor | None]]:
    """(n, D) features of each block of uint8 images, and what the head makes of them. Files are read ahead."""
    device = restored.mean.device
    blocks = torch.arange(len(images)).split(ROWS if device.type == "cuda" else CPU_ROWS)
    for block in read_batches(images, blocks):
        features = restored.encoder(restored.prepare(block.to(device))).float()
        yield features, restored.head(features).float() if head and restored.head is not None else None


def frame(restored: Restored, listing: Listing) -> pd.DataFrame:
    """The same in memory: `name`, `label`, None where there is none, and `features`, an array (D,) a row."""
    import pandas as pd

    rows = [row for part in listing.parts for block, _ in encode(restored, part()) for row in block.cpu().numpy()]
    return pd.DataFrame({"name": listing.names, "label": listing.labels, "features": rows})
