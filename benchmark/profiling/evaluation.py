"""What evaluation adds to the encoder's own inference: extraction of features, and the nearest neighbours.

Extraction is `features.encode` from uint8 images; beside it the encoder alone runs on the same blocks of rows, resized,
normalised and laid channels last beforehand. kNN is `knn.evaluate` of the headline's neighbours, and for comparison the
matrix product that any exact search needs once.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.augment.transforms import resize
from benchmark.backbones import encoders
from benchmark.evaluate import features, knn
from benchmark.profiling.probe import CLASSES, make_features
from benchmark.profiling.timing import CPU, alternate, ratio, show, spread
from benchmark.training.embed import ROWS


def main(words: list[str] | None = None) -> list[list[str]]:
    """Print the table and return it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.profiling.evaluation", description=__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet10t", "resnet18"])
    parser.add_argument("--images", type=int, default=512, help="to encode")
    parser.add_argument("--side", type=int, default=32, help="pixels of an image and of its view")
    parser.add_argument("--references", type=int, default=50000, help="of the nearest neighbours")
    parser.add_argument("--queries", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    rows = [["part", "images", "seconds", "of it needed", "needed over taken"]]
    for backbone in options.backbones:
        rows.append([f"features, {backbone}", *time_extraction(backbone, options.images, options.side, options.rounds)])
    rows.append(["kNN", *time_neighbours(options.references, options.queries, options.rounds)])
    show(
        rows,
        f"{options.side} px; needed: the encoder's forward pass, or one product of {options.queries:,} queries and "
        f"{options.references:,} references of width 512; medians of {options.rounds} rounds",
    )
    return rows


def time_extraction(backbone: str, count: int, side: int, rounds: int) -> list[str]:
    """Images, seconds of extraction, seconds of the encoder alone, and the share that is the encoder."""
    encoder = encoders.make(backbone, "auto", side)[0].to(memory_format=torch.channels_last).eval()
    images = torch.randint(256, (count, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    def prepare(block: Tensor) -> Tensor:
        return ((resize(block, side) - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)

    prepared = [prepare(block) for block in images.split(ROWS)]

    @torch.no_grad()
    def alone() -> None:
        for block in prepared:
            encoder(block)

    times = alternate({"taken": lambda: features.encode(encoder, images, prepare, CPU), "needed": alone}, rounds)
    return _row(count, times)


def time_neighbours(references: int, queries: int, rounds: int) -> list[str]:
    """Queries, seconds of both neighbourhoods, seconds of one product of all queries and references, and its share."""
    x, labels = make_features(references + queries, 512)
    reference_split, query_split = (x[:references], labels[:references]), (x[references:], labels[references:])
    empty_split = x[:0], labels[:0]
    frozen = features.Features(train=reference_split, validation=empty_split, test=query_split, classes=CLASSES)
    unit, blocks = F.normalize(reference_split[0], dim=1), F.normalize(query_split[0], dim=1).split(knn.QUERIES)

    def product() -> None:
        for block in blocks:
            block @ unit.T

    return _row(queries, alternate({"taken": lambda: dict(knn.evaluate(frozen)), "needed": product}, rounds))


def _row(count: int, times: dict[str, list[float]]) -> list[str]:
    medians = [f"{spread(times[name])[0]:.2f}" for name in ("taken", "needed")]
    return [f"{count:,}", *medians, ratio(times["needed"], times["taken"])]


if __name__ == "__main__":
    main()
