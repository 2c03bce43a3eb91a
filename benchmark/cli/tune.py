"""`tune`: search every method's settings by validation accuracy, then train what was chosen with fresh seeds."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

from benchmark import environment
from benchmark.cells import writable
from benchmark.cli import checks, run
from benchmark.data import identity
from benchmark.display.messages import say
from benchmark.errors import UsageError
from benchmark.settings.cell import Settings
from benchmark.tracking import tracker
from benchmark.words import cell_words, runtime_words, tune_words

FEW = 500  # validation images, of which one is a fifth of a point


def tune_methods(words: list[str]) -> int:
    """Trials, what they say, the file of what was chosen, and the cells of that. Exit code: as of `run`."""
    if environment.is_torchrun():
        raise UsageError("tune starts cells itself: run it without torchrun, with launcher=local or launcher=slurm")
    writable.require(Path(runtime_words.read_runtime_of(words).out))
    request = tune_words.read(words)
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("tune needs Optuna, which is not installed: pip install '.[tune]'")
    runtime = request.runtime
    cells = [search.base for search in request.searches] + request.references
    notes = [*request.notes, *_warn_of_few_images(cells)]
    ends = [search.cell(values) for search in request.searches for values in search.ends()]
    checks.require_possible([*cells, *ends], runtime)
    checks.check_request(cell_words.Request(cells, runtime, notes))
    tracker.require(runtime)
    checks.refuse_launcher(runtime, False)
    from benchmark.cli import reporting  # behind the words: pandas and optuna take their time
    from benchmark.tuning import chosen, study

    chosen.describe(request)
    code, choices = study.run(request, lambda cells: run.train_cells(cells, runtime), say)
    if code:
        return code
    for path in chosen.write(request, choices):
        say(f"wrote {path}: settings=tuned takes it, with out={runtime.out}; settings={path} from anywhere")
    reporting.print_tuning(Path(runtime.out), [search.study for search in request.searches])
    if not request.options.final:
        return 0
    final_cells = [_with_seeds(choice.cell, request.seeds) for choice in choices if choice is not None]
    final_cells += [_with_seeds(cell, request.seeds) for cell in request.references]
    return run.run_request(
        cell_words.Request([cell for of_method in final_cells for cell in of_method], runtime, []),
        runtime.launcher == "slurm",
    )


def _warn_of_few_images(cells: list[Settings]) -> list[str]:
    """A note of a dataset whose validation images are too few for the best trial to be much better than others."""
    notes: dict[str, None] = {}
    for dataset in {cell.dataset.name: cell.dataset for cell in cells}.values():
        count = identity.count_validation(dataset)
        if count is not None and 0 < count < FEW:
            notes[
                f"{dataset.name}: trials are told apart by about {count} validation images, one of which is "
                f"{100 / count:.1f} points: the best is best by luck in part, and what it is worth fresh seeds say"
            ] = None
    return list(notes)


def _with_seeds(cell: Settings, seeds: list[int]) -> list[Settings]:
    """The cell with each of these seeds; as it is where no seed can change it."""
    return [replace(cell, seed=seed) for seed in seeds] if cell.seed is not None else [cell]
