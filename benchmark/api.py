"""What `import benchmark` offers: the commands as functions, on pandas frames and torch modules.

Each imports what it needs when it is called, so that importing `benchmark` imports neither torch nor pandas.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark import environment, start
from benchmark.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

    from benchmark.inference.restored import Restored


def run(*words: str, **more: Any) -> pd.DataFrame:
    """Train, evaluate and record the missing cells, as `python -m benchmark run` does; returns the records of all.

    `run("methods=simclr,moco", epochs=2, seeds=[0, 1], out="runs")`: a keyword is a word, a list its several values. A
    cell that failed or collapsed has a row too: see `status` and `reason`. Raises `UsageError` for what cannot be meant
    before anything trains.
    """
    start.let_threads_sleep()
    start.promise_float32()
    from benchmark.cli import checks
    from benchmark.cli import run as command
    from benchmark.settings import address

    several = next((word for word in words if not isinstance(word, str) or re.search(r"\s\w+=", word)), None)
    if several is not None:
        raise UsageError(f"{several!r} is not one word: each is a text of its own, run('methods=simclr', 'epochs=2')")
    request = checks.read_request([*words, *_spell(more)])
    if environment.is_group():
        raise UsageError("benchmark.run is one process; several train a cell by torchrun -m benchmark run")
    code = command.run_request(request, wait=False)
    if code >= 128:
        raise KeyboardInterrupt
    table = records(request.runtime.out)
    return table[table["key"].isin({address.hash_cell(cell) for cell in request.cells})].reset_index(drop=True)


def _spell(more: dict[str, Any]) -> list[str]:
    """Keywords as words: `seeds=[0, 1]` is `seeds=0,1`, True is `true`; a comma within a value stays one of it."""

    def text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value).replace(",", "\\,")

    several_types = (list, tuple, range)
    values = {key: value for key, value in more.items() if value is not None}
    return [f"{k}={','.join(map(text, v)) if isinstance(v, several_types) else text(v)}" for k, v in values.items()]


def records(out: str | Path = "runs") -> pd.DataFrame:
    """All records below `out`, a row each: settings as `method`, `epochs`, `options.temperature`, `dataset.name`;
    accuracies as fractions, `metrics.linear_top1`; costs, `cost.seconds`. A record that cannot be used is a warning."""
    from results.frames import frame

    loaded, problems = frame.load(_folder(out))
    for problem in problems:
        warnings.warn(f"left out: {problem}", stacklevel=2)
    return loaded


def summarise(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a configuration: means over seeds with half-widths of 95 % intervals, as fractions; what `run` prints."""
    from results.statistics import summaries

    return summaries.summarise(frame)


def compare(frame: pd.DataFrame, reference: str | None = None, metric: str = "linear_top1") -> pd.DataFrame:
    """Which configurations can be told apart, in percent, best first; against a `reference` method with p-values. How
    intervals and tests are made is in docs/statistics.md. Raises `UsageError` for a reference that is not there."""
    import pandas as pd

    from results.tables import comparison

    try:
        header, *rows = comparison.tabulate(frame, reference, metric) or [[]]
    except ValueError as error:
        raise UsageError(str(error)) from error
    return pd.DataFrame(rows, columns=header)


def figures(frame: pd.DataFrame) -> dict[str, Figure]:
    """The report's figures by name, as matplotlib's: `figures(records("runs"))["accuracy"].savefig("a.pdf")`."""
    import matplotlib

    from results.figures import draw_matplotlib, palette, summary_charts
    from results.statistics import comparable, compare

    metric = comparable.choose_headline(frame)
    comparables = comparable.group_comparables(frame, metric, compare.rank_configurations(frame, metric))
    charts = [chart for chart in summary_charts.build_charts(comparables, frame) if chart.kind != "picture"]
    styles = palette.choose_styles(charts)
    with matplotlib.rc_context():
        return {chart.name: draw_matplotlib.draw(chart, styles) for chart in charts}


def report(out: str | Path = "runs", reference: str | None = None) -> Path:
    """Write the HTML report of all records below `out`, with tables and figures as files; returns report.html."""
    from benchmark.cli import reporting

    folder = _folder(out)
    reporting.write(folder, reference, None)
    return folder / "report/report.html"


def load_encoder(
    cell: str | Path, out: str | Path = "runs", encoder: str = "student", tokens: str = ""
) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    """A finished cell's encoder and what it is to be given: (module, transform).

    The module, in eval mode on the CPU, maps (n, 3, view, view) to features (n, D). The transform makes (3, view, view)
    of a PIL image as evaluation does: its centre square, resized, normalised by the pixels of the training. `cell` is a
    folder, or a name or key below `out`. `encoder="teacher"` is the method's momentum copy; `tokens` says which of a
    vision transformer's are the features: `token4`, the class tokens of its last four blocks, `token`, `token_avg`,
    `avg` or `avg4`. Raises `UsageError` where the cell has none.
    """
    loaded = _load_cell(cell, out, encoder, tokens)
    return loaded.encoder, loaded.transform


def features(
    cell: str | Path,
    images: str | Path,
    out: str | Path = "runs",
    root: str | Path = "data",
    download: bool = False,
    encoder: str = "student",
    tokens: str = "",
) -> pd.DataFrame:
    """Features of images by a finished cell's encoder: columns `name`, `label` (None where there is none), and
    `features`, a float32 array (D,) a row.

    `images`: a folder, a text file with a path a line, or a dataset's name, which is looked for below `root`.
    `encoder` and `tokens` as `load_encoder` has them.
    """
    from benchmark.data.catalogue import Dataset
    from benchmark.inference import features as inference
    from benchmark.inference.images import list_images

    loaded = _load_cell(cell, out, encoder, tokens)
    source = Dataset(root=str(root), download=download)
    listing = list_images(str(images), source, loaded.side, loaded.settings.dataset.stream)
    for note in listing.notes:
        warnings.warn(note, stacklevel=2)
    return inference.frame(loaded, listing)


def _load_cell(cell: str | Path, out: str | Path, encoder: str, tokens: str) -> Restored:
    from benchmark.inference import restored

    folder = Path(cell) if Path(cell).is_dir() else restored.find_cell(str(cell), _folder(out))
    return restored.load(folder, restored.CPU, warnings.warn, encoder, tokens)


def _folder(out: str | Path) -> Path:
    folder = Path(out).expanduser()
    if not folder.is_dir():
        raise UsageError(f"out={out}: no such folder")
    return folder
