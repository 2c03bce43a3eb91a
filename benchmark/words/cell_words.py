"""Words to cells: `methods=simclr,moco seeds=0,1,2 moco.queue=4096,65536` is 3 SimCLR and 6 MoCo cells.

A key is a setting (`epochs`), a method's option (`moco.queue`), an option that several methods have, given once for
all that have it (`temperature`), a setting for one method only (`moco.learning_rate`), or how to run (`out`). A number
may be `x2`: twice what it is without the word. `ablation=NAME` is words too, below those that are given.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any

import methods
from benchmark.data import identity
from benchmark.data.catalogue import Dataset
from benchmark.display import counting
from benchmark.errors import UsageError
from benchmark.settings import address, like, presets, remarks, resolve, schema
from benchmark.settings.cell import Settings, depends_on_processes
from benchmark.settings.presets import published
from benchmark.settings.runtime import Runtime, count_processes
from benchmark.settings.values import Times, describe_type, list_range, parse_value, warn_of_one
from benchmark.words import ablations, aliases, selection, tuned_words, unread
from benchmark.words.ablations import Ablation
from benchmark.words.runtime_words import is_runtime_word, read_runtime, split

MANY = 10_000  # cells that nobody asks for by accident are no more
LONG = 1_000  # cells whose reading takes seconds


@dataclass(frozen=True)
class Request:
    """What the words ask for."""

    cells: list[Settings]  # in the order of methods, then of the axes as given
    runtime: Runtime
    notes: list[str]  # axes that do not apply to some method, what was fitted to the data, what cannot work there
    optional: frozenset[str] = frozenset()  # methods that only `all` or a family names


def read(words: list[str]) -> Request:
    """The cells and the runtime that `words` describe. Raises `UsageError` for any word that cannot be meant."""
    identity.forget_surveys()
    assigned_words = split(words)
    runtime = read_runtime({k: assigned_words.pop(k) for k in list(assigned_words) if is_runtime_word(k)})
    method_words = assigned_words.pop("methods", published.methods(runtime.like))
    if not method_words:
        hint = ", not method=" if "method" in assigned_words else ""
        raise UsageError(f"methods= is needed{hint}: methods=simclr,moco; `python -m benchmark methods` lists them")
    chosen = selection.choose(method_words)
    runtime = replace(runtime, trust=(*runtime.trust, *filter(methods.is_module, chosen)))
    chosen_ablations = [ablations.find(name) for name in assigned_words.pop("ablation", [])]
    for key in assigned_words:
        _recognise(key, chosen)
    for ablation in chosen_ablations:
        _require_use(ablation, chosen)
    cells, total = dict[str, Settings](), 0
    notes: dict[str, None] = {}
    on_cells: dict[str, None] = {}
    for method in chosen:
        for parts in itertools.product(*(ablation.parts for ablation in chosen_ablations)):
            axes = read_axes(method, assigned_words)
            stated = set(axes)
            for part in parts:
                axes |= _ablation_axes(method, part, axes, notes)
            inapplicable = schema.list_inapplicable(method, *axes.get("dataset.split_seed", []))
            for name in [n for n in axes if n in inapplicable]:
                effect = "one cell" if len(axes.pop(name)) > 1 else "ignored"
                notes[f"{_spell(name)} does not apply to {method}: {effect}"] = None
            missing = [k for k in assigned_words if _option_of_others(k, method, chosen)]
            notes |= dict.fromkeys(f"{k} does not apply to {method}: it has no such option, one cell" for k in missing)
            notes |= dict.fromkeys([*_warn_of_commas(axes, method), *warn_of_one(axes.get("seed", []))])
            total += (count := math.prod(map(len, axes.values())))
            if total > MANY and not runtime.many:
                raise UsageError(
                    f"more than {MANY:,} cells are asked for, {total:,} up to {method}: many=true allows it"
                )
            for values in _show_progress(itertools.product(*axes.values()), method, count):
                assigned = {"method": method} | dict(zip(axes, values, strict=True))
                settings = _resolve(assigned, runtime, chosen_ablations, stated)
                cells.setdefault(address.hash_cell(settings), settings)
                on_cells |= dict.fromkeys(unread.explain(settings, axes) + remarks.explain(settings, runtime.preset))
                on_cells |= dict.fromkeys(remarks.warn(settings))
                on_cells |= dict.fromkeys(tuned_words.warn(settings, runtime) + like.explain(settings, runtime.like))
    on_cells |= dict.fromkeys(tuned_words.compare(list(cells.values()), runtime))
    optional = frozenset(chosen) - set(selection.accept(method_words))
    return Request(list(cells.values()), runtime, [*notes, *on_cells], optional)


def build(method: str, assigned_words: dict[str, list[str]], runtime: Runtime) -> Settings:
    """The one cell of a method that words of one value each describe, those that apply to it."""
    axes = read_axes(method, assigned_words)
    assigned = {name: values[0] for name, values in axes.items() if name not in schema.list_inapplicable(method)}
    return _resolve({"method": method} | assigned, runtime, [], set(assigned))


def _resolve(assigned: dict[str, Any], runtime: Runtime, chosen: list[Ablation], stated: set[str]) -> Settings:
    settings = resolve.build(_complete(assigned, runtime, chosen, stated))
    return replace(settings, processes=count_processes(runtime)) if depends_on_processes(settings) else settings


def _show_progress(values: Iterable[tuple[Any, ...]], method: str, count: int) -> Iterator[tuple[Any, ...]]:
    """`values` as they are, with how far they are where there are so many that it takes a while."""
    if count < LONG:
        yield from values
        return
    with counting.show_progress(f"{method}: reading", count, "cell") as advance:
        for combination in values:
            yield combination
            advance(1)


def _warn_of_commas(axes: dict[str, list[Any]], method: str) -> Iterator[str]:
    """What `weight_decay=0,5` may not have been meant to be."""
    for name, values in axes.items():
        whole = [v for v in values if isinstance(v, float) and v.is_integer()]
        if describe_type(_kind(name, method)) == "number" and len(values) == len(whole) == 2 and whole[0] == 0:
            word = _spell(name.removeprefix("options."))
            yield f"{word}=0,{whole[1]:.0f} is two values, 0 and {whole[1]:.0f}; the decimal point is a dot"


def _require_use(ablation: Ablation, chosen: list[str]) -> None:
    """Raise `UsageError` where no chosen method has what the ablation varies."""
    keys = [key for part in ablation.parts for key in part]
    if not any(_target(key, method) and not _is_inapplicable(key, method) for key in keys for method in chosen):
        raise UsageError(
            f"none of methods={','.join(chosen)} has {', '.join(dict.fromkeys(keys))}, which is varied here"
        )


def _is_inapplicable(key: str, method: str) -> bool:
    return _target(key, method) in schema.list_inapplicable(method)


def _ablation_axes(
    method: str, part: ablations.Words, user_axes: dict[str, Any], notes: dict[str, None]
) -> dict[str, list[Any]]:
    """The axes of a part of an ablation for this method, but for those that the user's words give."""
    axes: dict[str, list[Any]] = {}
    for key, texts in part.items():
        target = _target(key, method)
        if target is None:
            notes[f"{key} does not apply to {method}: it has no such option, one cell"] = None
        elif target not in user_axes:
            kind, values = _kind(target, method), []
            for text in texts:
                try:
                    values.append(_value(text, kind, key))
                except UsageError:
                    notes[f"{method} has no {key}={text}: left out"] = None
            if values:
                axes[target] = values
    return axes


def _recognise(key: str, chosen: list[str]) -> None:
    """Raise `UsageError` unless `key` means something for the chosen methods."""
    settings = _settings()
    if key in settings:
        return
    prefix, _, name = key.rpartition(".")
    owner = next((m for m in chosen if prefix in (m, m.rpartition(".")[2])), None)
    if owner is not None:
        allowed = set(schema.list_options(owner)) | {s for s in settings if not s.startswith("dataset")}
        if name in allowed:
            return
        options = ", ".join(sorted(schema.list_options(owner))) or "none"
        raise UsageError(f"unknown option {key!r}{aliases.suggest(key, name, allowed)} (options of {owner}: {options})")
    if prefix in methods.names():
        raise UsageError(f"{key}= is given, but {prefix} is not among methods={','.join(chosen)}")
    if any(key in schema.list_options(m) for m in chosen):
        return
    owners = [m for m in methods.names() if _has_option(m, key)]
    if owners:
        raise UsageError(f"none of methods={','.join(chosen)} has {key!r}; it is an option of {', '.join(owners)}")
    shared = {name for m in chosen for name in schema.list_options(m)}
    dotted = {f"{m}.{name}" for m in chosen for name in schema.list_options(m)}
    keys = settings | {"methods", "ablation", "cluster"} | set(schema.list_runtime_types()) | shared | dotted
    hint = aliases.suggest(key, key, keys)
    raise UsageError(f"unknown key {key!r}{hint} (`python -m benchmark run --help` lists the keys)")


def read_axes(method: str, assigned: dict[str, list[str]]) -> dict[str, list[Any]]:
    """The method's axes: canonical name -> parsed values. What names the method goes before what names all."""
    axes: dict[str, list[Any]] = {}
    for of_method in (False, True):
        keys: dict[str, str] = {}
        for key, texts in assigned.items():
            prefix, _, name = key.rpartition(".")
            named = bool(prefix) and prefix in (method, method.rpartition(".")[2])
            if named is not of_method:
                continue
            target = _target(name if of_method else key, method)
            if target is None:
                continue
            texts = list_range(texts, MANY) if target == "seed" else texts
            if target in keys:
                raise UsageError(f"{keys[target]}= and {key}= are the same option of {method}; one of them is needed")
            keys[target] = key
            axes[target] = [_value(text, _kind(target, method), key) for text in texts]
    return axes


def _kind(target: str, method: str) -> Any:
    """The declared type of a setting or an option."""
    option = target.removeprefix("options.")
    return schema.list_options(method)[option] if option != target else schema.list_types()[target]


def _value(text: str, kind: Any, key: str) -> Any:
    if describe_type(kind) == "number" and re.fullmatch(r"0\d+", text):
        raise UsageError(
            f"{key}={text}: is it what follows a decimal comma? the decimal point is a dot, {key}=0.{text}"
        )
    factor, number = re.fullmatch(r"x(\d+\.?\d*|\.\d+)", text), describe_type(kind)
    if factor and number in ("number", "whole number"):
        return Times(float(factor[1]), number == "whole number")
    return parse_value(text, kind, key)


def _target(name: str, method: str) -> str | None:
    """Where a key without method prefix is assigned, for this method; None where it has no such option."""
    canonical = schema.PLURAL.get(name, name)
    if canonical in schema.list_types():
        return canonical
    return f"options.{name}" if name in schema.list_options(method) else None


def _complete(assigned: dict[str, Any], runtime: Runtime, chosen: list[Ablation], stated: set[str]) -> dict[str, Any]:
    """`assigned` over what lies below it, with its multiples formed, and with what else the ablations set.

    `stated` are the names that the user's words give.
    """
    method = assigned["method"]
    below = _add_preset({"method": method} | _plain(assigned, stated), runtime)
    base: dict[str, Any] = {f.name: f.default for f in fields(Settings)} | _defaults("dataset", Dataset())
    base |= _defaults("options", schema.describe(method).Config()) | below
    for name, times in ((name, v) for name, v in assigned.items() if isinstance(v, Times) and name in stated):
        word, value = _spell(name.removeprefix("options.")), base[name]
        if not value:
            raise UsageError(f"{word} is {value} for {method}: a multiple says nothing")
        if times.whole and round(times.factor * value) < 1:
            raise UsageError(f"{word}=x{times.factor:g} is less than 1: without it, {method} has {word}={value}")
    values = {name: v.of(base[name] or 0) if isinstance(v, Times) else v for name, v in assigned.items()}
    also = {name: value for ablation in chosen if ablation.also for name, value in ablation.also(base, values).items()}
    also = {name: value for name, value in also.items() if name not in schema.list_inapplicable(method)}
    return below | also | values


def _defaults(prefix: str, config: Any) -> dict[str, Any]:
    return {f"{prefix}.{name}": value for name, value in asdict(config).items()}


def _plain(assigned: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in assigned.items() if name in names and not isinstance(value, Times)}


def _add_preset(assigned: dict[str, Any], runtime: Runtime) -> dict[str, Any]:
    """`assigned` over the words of settings=, those over the protocol's or the preset's for its dataset, and those over
    what the method recommends."""
    dataset, method = resolve.read_dataset(assigned), assigned["method"]
    words = presets.words(runtime.preset, dataset, method, assigned)
    words, below = schema.describe(method).recommends | words | published.words(runtime.like), dict[str, list[Any]]()
    for layer in (words, tuned_words.read_words(runtime, dataset)):
        below |= read_axes(method, {key: [text] for key, text in layer.items()})
    return {name: values[0] for name, values in below.items()} | assigned


@cache
def _settings() -> set[str]:
    """Every setting as it is written: `seeds`, not `seed`."""
    return {_spell(name) for name in schema.list_types()} - {"methods"}


def _spell(name: str) -> str:
    return next((plural for plural, canonical in schema.PLURAL.items() if canonical == name), name)


def _option_of_others(key: str, method: str, chosen: list[str]) -> bool:
    """Whether `key` is an option that other chosen methods have and this one lacks."""
    return _target(key, method) is None and any(key in schema.list_options(m) for m in chosen)


def _has_option(method: str, key: str) -> bool:
    try:
        return key in schema.list_options(method)
    except UsageError:
        return False  # a broken plugin is reported by `methods`, not here
