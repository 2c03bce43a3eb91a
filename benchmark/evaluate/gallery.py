"""For people who would rather look than read: a map of test images by their features, and nearest neighbours as images.

`looks.json` in the cell's folder: `projection` (kind, x, y, and label of each image), `classes`, and `neighbours`: one
PNG with test images in its left column and the training images nearest to each right of it, and the labels of both.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.augment.transforms import resize
from benchmark.data.source import Images, spread_evenly
from benchmark.evaluate import knn
from benchmark.evaluate.frozen_cell import FrozenCell
from results.record import LOOKS_NAME, write_json

IMAGES, QUERIES, NEIGHBOURS = 500, 8, 8
SIDES, COLOURS = (32, 24, 16, 12, 8), 64  # pixels of a thumbnail: the first with which the file is small enough
BYTES = 58_000  # of the file, so that a page may hold dozens of them


def state_protocol() -> dict[str, Any]:
    """What the evaluation's protocol states, by which its numbers are told from others'."""
    return {"projection": "tsne", "images": IMAGES, "queries": QUERIES, "neighbours": NEIGHBOURS}


def evaluate(frozen: FrozenCell, folder: Path) -> Iterator[tuple[str, float]]:
    """Writes the file with a t-SNE; yields nothing, because there is no number to it."""
    write(frozen, folder, "tsne")
    yield from ()


def write(frozen: FrozenCell, folder: Path, kind: str) -> None:
    """`folder/looks.json`; `kind` is `pca`, which takes a moment, or `tsne`, which takes seconds."""
    features, names = frozen.features, frozen.data.class_names or ["no label"]
    (x, y), labels = features.test, features.train[1].clamp(min=0)
    y = y.clamp(min=0)
    sample = spread_evenly(len(x), IMAGES).to(x.device)
    points = F.normalize(x[sample], dim=1)
    coordinates = project_principal(points) if kind == "pca" else _project_tsne(points)
    queries = sample[spread_evenly(len(sample), QUERIES).to(x.device)]
    _, nearest = knn.find_neighbours(x[queries], features.train[0], NEIGHBOURS)
    content: dict[str, Any] = {
        "projection": {
            "kind": kind,
            "x": _round(coordinates[:, 0]),
            "y": _round(coordinates[:, 1]),
            "label": y[sample].tolist(),
        },
        "classes": names,
        "neighbours": {"png": "", "queries": y[queries].tolist(), "neighbours": labels[nearest].tolist()},
    }
    room = BYTES - len(json.dumps(content))
    for side in SIDES:
        picture = draw_png(frozen.data.test.images, frozen.data.train.images, queries.cpu(), nearest.cpu(), side)
        if len(picture) <= room:
            break
    content["neighbours"]["png"] = picture
    write_json(folder / LOOKS_NAME, content, compact=True)


def project_principal(x: Tensor) -> Tensor:
    """(n, 2) coordinates of (n, D) along their two principal directions; the largest of each is positive."""
    centred = x.double() - x.double().mean(dim=0)
    variance, vectors = torch.linalg.eigh(centred @ centred.T)  # n is small, whatever the width
    coordinates = vectors[:, [-1, -2]] * variance[[-1, -2]].clamp(min=0).sqrt()
    signs = coordinates.gather(0, coordinates.abs().argmax(dim=0, keepdim=True)).sign()
    return coordinates * signs


def _project_tsne(x: Tensor) -> Tensor:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(x) - 1) / 3)
    coordinates = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=0).fit_transform(x.cpu().numpy())
    return torch.from_numpy(np.asarray(coordinates))


def draw_png(test: Images, train: Images, queries: Tensor, nearest: Tensor, side: int) -> str:
    """The images of `queries` (q,), each before those `nearest` (q, n) to it, in a few colours, as base64 of a PNG."""
    from PIL import Image

    rows = [torch.cat([test[query[None]], train[near]]) for query, near in zip(queries, nearest, strict=True)]
    small = torch.stack([resize(row.cpu(), side) for row in rows])  # (q, 1 + n, 3, S, S)
    grid = small.permute(0, 3, 1, 4, 2).reshape(len(rows) * side, -1, 3)
    picture = Image.fromarray((255 * grid.clamp(0, 1)).round().to(torch.uint8).numpy())
    file = io.BytesIO()
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _round(values: Tensor) -> list[float]:
    return [round(value, 3) for value in values.tolist()]
