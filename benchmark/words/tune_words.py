"""The words of `tune`: what is searched of each method, and what every trial of it shares.

Words are as of `run`. One value of a setting holds for every trial, and takes it out of the search; several are what
may be tried, in place of what the method declares. `seeds=` are those of the cells behind the search.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_type_hints

from benchmark.errors import UsageError
from benchmark.settings import address, schema, space
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime, evaluation_interval
from benchmark.settings.space import Range, Space
from benchmark.settings.values import list_range, parse_value, warn_of_one
from benchmark.words import cell_words, runtime_words


@dataclass(frozen=True)
class Options:
    """The words that only `tune` has."""

    trials: int = 16  # of each method
    sampler: Literal["tpe", "random"] = "tpe"  # tpe: by the trials before; random: anywhere
    pruner: Literal["none", "median"] = "none"  # median: end trials that are below that of earlier ones at an epoch
    search_seed: int = 0  # of the sampler, and of every trial's training
    at_once: int = 1  # trials of a method that a launcher asks for before it waits for their results
    final: bool = True  # train the chosen settings with fresh seeds, and show them the test set once


TYPES = get_type_hints(Options)
SHARED = ("epochs", "view_size", "seed")  # with dataset.*, what a comparison of trials holds fixed
FRESH = 5  # seeds behind the search
STARTUP = 5  # complete trials before others are pruned, as in Optuna's MedianPruner
WARMUP = 30  # percent of a training in which nothing is pruned


@dataclass(frozen=True)
class Search:
    """The search of one method: its study's name, its space, and the cell that it starts from."""

    study: str
    base: Settings
    space: Space
    words: Mapping[str, list[str]]
    runtime: Runtime

    @property
    def method(self) -> str:
        return self.base.method

    def cell(self, values: Mapping[str, str]) -> Settings:
        """The cell of these values, setting or option -> text. `UsageError` for what no run can have."""
        trial_words = {f"{self.method}.{name}": [text] for name, text in values.items()}
        return cell_words.build(self.method, {**self.words, **trial_words}, self.runtime)

    def ends(self) -> Iterator[dict[str, str]]:
        """Each choice, and each end of a range, alone."""
        for name, dimension in self.space.items():
            texts = (dimension.low, dimension.high) if isinstance(dimension, Range) else dimension
            yield from ({name: f"{text:g}" if isinstance(text, float) else text} for text in texts)

    def trial(self, number: int, values: Mapping[str, str], prune_below: str = "") -> Settings:
        """The same as a trial, the first being 0, which never sees the test set."""
        return replace(self.cell(values), trial=f"{self.study}/{number + 1}", prune_below=prune_below)


@dataclass(frozen=True)
class Request:
    """What the words ask for."""

    searches: list[Search]
    references: list[Settings]  # of the methods that do not train: they have nothing to search
    seeds: list[int]  # of the cells behind the search
    options: Options
    runtime: Runtime
    notes: list[str]


def read(words: list[str]) -> Request:
    """Raises `UsageError` for any word that cannot be meant."""
    assigned = runtime_words.split(words)
    options = _read_options({key: assigned.pop(key) for key in TYPES if key in assigned})
    stated = [parse_value(text, int, "seeds") for text in list_range(assigned.pop("seeds", []), cell_words.MANY)]
    seeds = stated or [options.search_seed + 1 + number for number in range(FRESH)]
    if options.search_seed in seeds:
        raise UsageError(f"seeds={options.search_seed}: every trial has that seed, and what is chosen needs fresh ones")
    _refuse(assigned)
    assigned["seeds"] = [str(options.search_seed)]
    on_cells = {key: values for key, values in assigned.items() if not runtime_words.is_runtime_word(key)}
    on_cells.pop("methods", None)
    first = assigned | {key: values[:1] for key, values in on_cells.items()}
    request = cell_words.read([f"{key}={','.join(map(_escape, values))}" for key, values in first.items()])
    if request.runtime.budget:
        raise UsageError("budget= does not hold for tune; `plan` says what one cell of the same words costs")
    searches = [_search(cell, on_cells, options, request.runtime) for cell in request.cells if _trains(cell)]
    if not searches:
        raise UsageError("none of these methods trains: there is nothing to tune")
    epochs = {search.method: search.base.epochs for search in searches}
    if len(set(epochs.values())) > 1:
        listed = ", ".join(f"{method} {count}" for method, count in epochs.items())
        raise UsageError(f"every method gets the same epochs, and these have {listed}: epochs=N sets them")
    references = [cell for cell in request.cells if not _trains(cell)]
    notes = [note for note in request.notes if not note.startswith("seeds")] + warn_of_one(stated)
    if options.pruner != "none":
        notes += _check_pruner(options, searches[0].base.epochs or 0, request.runtime)
    notes += [f"{cell.method} does not train: no trials, and it stands beside the others" for cell in references]
    return Request(searches, references, seeds, options, request.runtime, notes)


def _read_options(assigned: dict[str, list[str]]) -> Options:
    texts = {key: runtime_words.require_single(key, values) for key, values in assigned.items()}
    options = Options(**{key: parse_value(text, TYPES[key], key) for key, text in texts.items()})
    for name, least in (("trials", 1), ("at_once", 1), ("search_seed", 0)):
        if getattr(options, name) < least:
            raise UsageError(f"{name}={getattr(options, name)}: at least {least} is needed")
    return options


def first_pruning(epochs: int) -> int:
    """The first epoch at whose end a trial may be pruned."""
    return -(-WARMUP * epochs // 100)


def _check_pruner(options: Options, epochs: int, runtime: Runtime) -> Iterator[str]:
    """Notes on what the pruner cannot do. Raises `UsageError` where it has nothing to go by."""
    word = f"pruner={options.pruner}"
    if evaluation_interval(runtime) == 0:
        raise UsageError(f"{word} needs accuracies while trials train: not evaluate_every=0")
    if first_pruning(epochs) >= epochs:
        yield f"{word} prunes nothing with epochs={epochs}, which is too few to end a trial between two of them"
    elif options.trials <= STARTUP:
        yield f"{word} prunes nothing with trials={options.trials}: of each method {STARTUP} run to their end first"


def _refuse(assigned: dict[str, list[str]]) -> None:
    """What `run` takes and a search cannot have."""
    if "ablation" in assigned:
        raise UsageError("ablation= does not go with tune: several values of a word are what it may try")
    for key, values in assigned.items():
        near = difflib.get_close_matches(key, TYPES, n=1, cutoff=0.75)
        if near:
            raise UsageError(f"unknown word {key!r}; did you mean {near[0]!r}? (`python -m benchmark tune --help`)")
        if len(values) > 1 and (key.startswith("dataset") or key.rpartition(".")[2] in SHARED):
            raise UsageError(f"{key}={','.join(values)}: one value is needed, which every trial has")


def _search(cell: Settings, words: dict[str, list[str]], options: Options, runtime: Runtime) -> Search:
    chosen: dict[str, tuple[str, ...]] = {}
    fixed = set[str]()
    for key in sorted(words, key=lambda key: "." in key):  # what names the method goes before what names all
        for target in cell_words.read_axes(cell.method, {key: words[key]}):
            name = target.removeprefix("options.")
            (fixed.discard if len(words[key]) > 1 else fixed.add)(name)
            chosen[name] = tuple(dict.fromkeys(words[key]))
    dimensions = space.of(cell) | {name: texts for name, texts in chosen.items() if name not in fixed}
    unread = fixed | schema.list_inapplicable(cell.method)
    dimensions = {name: dimension for name, dimension in dimensions.items() if name not in unread}
    if not dimensions:
        raise UsageError(f"{cell.method}: there is nothing to search, for the words say all that could be tried")
    single = {key: values for key, values in words.items() if len(values) == 1}
    identity = address.identify(cell) | {"sampler": options.sampler, "search_seed": options.search_seed}
    identity |= {"pruner": options.pruner} if options.pruner != "none" else {}
    plain = {name: asdict(d) if isinstance(d, Range) else list(d) for name, d in dimensions.items()}
    study = f"{cell.method}-{cell.dataset.name}-{address.digest(identity | {'space': plain})}"
    search = Search(study, cell, dimensions, single, runtime)
    for values in search.ends():  # now, and not in the middle of the search
        search.cell(values)
    return search


def _trains(cell: Settings) -> bool:
    return schema.describe(cell.method).trains


def _escape(value: str) -> str:
    return value.replace(",", "\\,")
