"""Named settings, as words that the user's own words override. `preset=auto` takes the one of the dataset, or fits
settings to what is known of it.

Each docstring states the command, the expected time and the expected accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmark.data.catalogue import Dataset
from benchmark.data.identity import measure
from benchmark.errors import unknown
from benchmark.settings.presets.cifar import cifar, cifar100, cifar_quick
from benchmark.settings.presets.digits import digits
from benchmark.settings.presets.fitted import fit
from benchmark.settings.presets.larger import imagenet, imagenet100, stl10

PRESETS: dict[str, Callable[[], dict[str, str]]] = {
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


def require(name: str) -> None:
    """Raise UsageError unless there is such a preset."""
    if name not in ("auto", "none", *PRESETS):
        raise unknown("preset", name, ["auto", "none", *PRESETS])


def is_fitted(name: str, dataset: str) -> bool:
    """Whether `preset=name` fits the settings to what the dataset holds."""
    return name == "auto" and dataset not in OF_DATASET


def words(name: str, dataset: Dataset, epochs: int | None = None, batch: int | None = None) -> dict[str, str]:
    """The preset's words for a cell on `dataset` whose `epochs` and images of a step are given, or are not."""
    require(name)
    if is_fitted(name, dataset.name):
        facts = measure(dataset)
        return {word: rule.value for word, rule in fit(facts, epochs, batch).items()} if facts else {}
    name = OF_DATASET[dataset.name] if name == "auto" else name
    chosen = PRESETS[name]() if name != "none" else {}
    if dataset.cache or dataset.stream:  # which say themselves at how many pixels images are kept
        chosen.pop("dataset.side", None)
    return chosen
