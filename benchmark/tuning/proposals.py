"""What a trial tries, by Optuna's samplers: a function of the seed, the trial's number and the trials before it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial

from benchmark.settings import address, schema
from benchmark.settings.space import Range, Space
from benchmark.words.tune_words import Options, Search

optuna.logging.set_verbosity(optuna.logging.WARNING)


def build_distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space as Optuna has it. Ranges of whole numbers are of numbers here, and rounded afterwards."""
    return {
        name: FloatDistribution(dimension.low, dimension.high, log=True)
        if isinstance(dimension, Range)
        else CategoricalDistribution(dimension)
        for name, dimension in space.items()
    }


def propose(search: Search, options: Options, before: Sequence[FrozenTrial]) -> dict[str, Any]:
    """The parameters of the trial behind all those `before`, to four digits.

    A sampler is made for each trial alone and seeded by its number, so that whoever goes on with a study proposes what
    would have been proposed had nobody been killed. TPE is Optuna's multivariate one: its first ten trials are random,
    and it keeps away from what other trials are trying.
    """
    values = {"search_seed": options.search_seed, "method": search.method, "number": len(before)}
    seed = int(address.digest(values), 16) % 2**32
    study = optuna.create_study(direction="maximize", sampler=_sampler(options, seed))
    study.add_trials(before)
    proposed = study.ask(build_distributions(search.space)).params
    kinds = schema.list_options(search.method)
    return {name: _round(value, kinds.get(name)) for name, value in proposed.items()}


def write_values(params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as words have them."""
    return {name: value if isinstance(value, str) else f"{value:.12g}" for name, value in params.items()}


def _sampler(options: Options, seed: int) -> optuna.samplers.BaseSampler:
    if options.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():  # both are Optuna 5's defaults, and were experimental before
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _round(value: Any, kind: Any) -> Any:
    if isinstance(value, str):
        return value
    return float(round(value)) if kind is int else float(f"{value:.4g}")
