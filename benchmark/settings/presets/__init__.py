"""Named settings, as words that the user's own words override. `preset=auto` takes the one of the dataset, or fits
settings to what is known of it.

Each docstring states the command, the expected time and the expected accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmark.data.catalogue import Dataset, entry
from benchmark.data.identity import measure
from benchmark.errors import unknown
from benchmark.settings.presets import transformers
from benchmark.settings.presets.cifar import cifar, cifar100
from benchmark.settings.presets.digits import digits
from benchmark.settings.presets.fitted import fit, is_short
from benchmark.settings.presets.larger import imagenet, imagenet100, stl10
from benchmark.settings.presets.quick import cifar_quick
from benchmark.settings.presets.sourced import Preset
from benchmark.settings.schema import describe

PRESETS: dict[str, Callable[[], Preset]] = {
    "digits": digits,
    "cifar": cifar,
    "cifar100": cifar100,
    "cifar_quick": cifar_quick,
    "stl10": stl10,
    "imagenet": imagenet,
    "imagenet100": imagenet100,
}
OF_DATASET = {"digits": "digits", "cifar10": "cifar", "cifar100": "cifar100", "stl10": "stl10"}
OF_DATASET |= {"imagenet": "imagenet", "imagenet100": "imagenet100"}
SHORT = ("digits", "cifar_quick")  # of too few steps for published rates


def require(name: str) -> None:
    """Raise UsageError unless there is such a preset."""
    if name not in ("auto", "none", *PRESETS):
        raise unknown("preset", name, ["auto", "none", *PRESETS])


def is_fitted(name: str, dataset: str) -> bool:
    """Whether `preset=name` fits the settings to what the dataset holds."""
    return name == "auto" and dataset not in OF_DATASET


def words(name: str, dataset: Dataset, method: str, assigned: Mapping[str, Any]) -> dict[str, str]:
    """The preset's words for a cell of `method` on `dataset`; `assigned` are the settings that the user's words say.

    They follow the assigned epochs and images of a step where settings are fitted, and the assigned backbone and view
    where that is a vision transformer.
    """
    require(name)
    if is_fitted(name, dataset.name):
        facts, size = (
            measure(dataset, describe(method).supervised),
            (assigned.get("epochs"), assigned.get("batch_size")),
        )
        chosen = {word: rule.value for word, rule in fit(facts, *size).items()} if facts else {}
        short = facts is not None and is_short(facts, *size)
    else:
        name = OF_DATASET[dataset.name] if name == "auto" else name
        chosen = {word: value for word, (value, _) in PRESETS[name]().items()} if name != "none" else {}
        short = name in SHORT
    if dataset.cache or dataset.stream:  # which say themselves at how many pixels images are kept
        chosen.pop("dataset.side", None)
    return chosen | (_for_transformer(chosen, dataset, method, assigned, short) if chosen else {})


def _for_transformer(
    chosen: dict[str, str], dataset: Dataset, method: str, assigned: Mapping[str, Any], short: bool
) -> dict[str, str]:
    """What the words `chosen` lack where the cell's backbone is a vision transformer; nothing where it is not."""
    own = chosen.get(f"{method}.backbone", chosen.get("backbone", ""))
    backbone = assigned.get("backbone", own)
    view = assigned.get("view_size") or int(chosen.get("view_size", 0)) or entry(dataset.name).view
    changes = transformers.find_patch(backbone) and not transformers.find_patch(own)
    more = {word: value for word, (value, _) in transformers.recipe(method, view, short).items()} if changes else {}
    stem = {} if assigned.get("weights") else transformers.choose_stem(backbone, view)
    return more | {f"{method}.{word}": value for word, value in stem.items()}
