"""A table of features on disk, written as it grows: parquet by groups of rows, or npz; whole, or absent."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results import files

GROUP = 8192  # rows of a group, which are in memory together

Block = dict[str, NDArray[np.float32]]  # column -> (n, D)
Add = Callable[[Block], None]


@contextmanager
def open_table(path: Path, names: Sequence[str], labels: Sequence[str | None], cell: str) -> Iterator[Add]:
    """Yields what is given the columns of the next rows. Beside them the table has `name`, `label` where there is any,
    and which `cell` the features are of."""
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Sequence[Any]] = {"name": names} | ({"label": labels} if any(labels) else {})
    with (_open_parquet if path.suffix == ".parquet" else _open_npz)(path, columns, cell) as add:
        yield add


@contextmanager
def _open_parquet(path: Path, columns: dict[str, Sequence[Any]], cell: str) -> Iterator[Add]:
    import pyarrow
    from pyarrow import parquet

    waiting: list[Block] = []
    writer: Any = None
    done = 0

    def write() -> None:
        nonlocal writer, done
        if not waiting:
            return
        rows = {name: np.concatenate([block[name] for block in waiting]) for name in waiting[0]}
        waiting.clear()
        count = len(next(iter(rows.values())))
        texts = {name: pyarrow.array(values[done : done + count], pyarrow.string()) for name, values in columns.items()}
        lists = {
            name: pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.ravel()), values.shape[1])
            for name, values in rows.items()
        }
        table = pyarrow.table(texts | lists).replace_schema_metadata({"cell": cell})
        writer = writer or parquet.ParquetWriter(file, table.schema, use_dictionary=["label"])
        writer.write_table(table)
        done += count

    def add(block: Block) -> None:
        waiting.append(block)
        if sum(len(next(iter(each.values()))) for each in waiting) >= GROUP:
            write()

    with files.replace(path) as file:
        try:
            yield add
            write()
        finally:
            if writer is not None:
                writer.close()


@contextmanager
def _open_npz(path: Path, columns: dict[str, Sequence[Any]], cell: str) -> Iterator[Add]:
    """Arrays grow in files beside `path`, which are then put together: a zip takes one array after the other."""
    count, done = len(columns["name"]), 0
    arrays: dict[str, NDArray[Any]] = {}
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=".unfinished-") as scratch:

        def add(block: Block) -> None:
            nonlocal done
            for name, values in block.items():
                if name not in arrays:
                    shape = (count, values.shape[1])
                    arrays[name] = np.lib.format.open_memmap(f"{scratch}/{name}.npy", "w+", np.float32, shape)
                arrays[name][done : done + len(values)] = values
            done += len(next(iter(block.values())))

        yield add
        arrays.clear()  # which writes them
        for name, texts in (*columns.items(), ("cell", cell)):
            np.save(f"{scratch}/{name}.npy", np.array(texts if isinstance(texts, str) else [t or "" for t in texts]))
        with files.replace(path) as file, zipfile.ZipFile(file, "w") as archive:
            for array in sorted(Path(scratch).iterdir()):
                archive.write(array, array.name)
