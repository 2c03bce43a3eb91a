"""Large images from a disk: what streaming and the cache give, beside decoding the same files and doing no more.

For a folder of images laid out as datasets are, or for JPEG files made for the occasion: noise, 500 x 375, and like
ImageNet's some 110 KB. Files come from the page cache after the first round: what is measured is the processor's work,
on all the cores that the process may use. `augmented` is the rest of a batch, on one core: colour, blur, and for the
cache crop and flip.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmark.data.files import Files, decode, reader_pool
from benchmark.profiling.timing import CPU, alternate, ratio, show, spread
from benchmark.training import build
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.words import cell_words


def main(arguments: list[str] | None = None) -> list[list[str]]:
    """Print the table and return it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.profiling.images", description=__doc__)
    parser.add_argument("--folder", help="laid out as DIR/train/CLASS/*.jpg or DIR/CLASS/*.jpg")
    parser.add_argument("--view", type=int, default=128, help="pixels of a view")
    parser.add_argument("--cache", type=int, default=160, help="pixels of a cached image")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--augmentation", default="simclr")
    options = parser.parse_args(arguments)
    with _folder(options.folder, options.batch) as folder, tempfile.TemporaryDirectory() as cache_folder:
        task = [f"dataset.root={folder}", f"view_size={options.view}", f"batch_size={options.batch}"]
        task += [f"augmentation={options.augmentation}"]
        streamed = _batches([*task, "dataset.stream=true"])
        cached = _batches([*task, f"dataset.cache={options.cache}", f"dataset.cache_dir={cache_folder}"])
        contestants: dict[str, Callable[[], object]] = {"files decoded, no more": partial(_decode, streamed)}
        for name, batches in (("streamed", streamed), ("cached", cached)):
            order = batches.order(0)
            contestants[f"{name}: fetched"] = partial(batches.fetch, 0, order)
            contestants[f"{name}: fetched and augmented"] = partial(batches.get, 0, order)
        times = alternate(contestants, options.rounds)
    raw = times["files decoded, no more"]
    rows = [["batch", "ms", "images/s", "speed over decoding"]]
    for name, seconds in times.items():
        middle = spread(seconds)[0]
        rows.append([name, f"{1000 * middle:.1f}", f"{options.batch / middle:,.0f}", ratio(raw, seconds)])
    show(
        rows,
        f"2 views of {options.view} px of {options.batch} images; medians of {options.rounds} rounds, and quartiles",
    )
    return rows


def _batches(task: list[str]) -> Batches:
    usual = ["methods=simclr", "dataset=folder", "preset=none", "backbone=test_resnet", "precision=fp32"]
    cell = cell_words.read([*usual, *task]).cells[0]
    data = build.load_dataset(cell.dataset)
    method, _ = build.build_method(cell, data, CPU)
    return build.build_batches(cell, method, data, World(), CPU, "fp32")


def _decode(batches: Batches) -> None:
    assert isinstance(batches.split.images, Files)
    paths = batches.split.images.paths[batches.order(0)[: batches.batch_size].numpy()].tolist()
    for _ in reader_pool().map(decode, paths):
        pass


@contextlib.contextmanager
def _folder(user_folder: str | None, batch: int) -> Iterator[str]:
    if user_folder:
        yield user_folder
        return
    from PIL import Image

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2 * batch):
            path = Path(folder) / "ab"[number % 2] / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            coarse = Image.fromarray(random.integers(256, size=(24, 32, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float32)
            noisy = (smooth + random.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(path, quality=95)
        yield folder


if __name__ == "__main__":
    torch.set_num_threads(1)  # of the parts that no reader does
    main()
