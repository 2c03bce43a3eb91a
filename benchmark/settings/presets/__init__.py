"""Named settings, as words that the user's own words override. `preset=auto` takes the one of the dataset.

Each docstring states the command, the expected time and the expected accuracy.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmark.errors import unknown
from benchmark.settings.presets.cifar import cifar, cifar100, cifar_quick
from benchmark.settings.presets.digits import digits
from benchmark.settings.presets.larger import imagenet, stl10

PRESETS: dict[str, Callable[[], dict[str, str]]] = {
    "digits": digits,
    "cifar": cifar,
    "cifar100": cifar100,
    "cifar_quick": cifar_quick,
    "stl10": stl10,
    "imagenet": imagenet,
}
OF_DATASET = {"digits": "digits", "cifar10": "cifar", "cifar100": "cifar100", "stl10": "stl10"}


def words(name: str, dataset: str) -> dict[str, str]:
    """The preset's words for a cell on `dataset`; none for `none`, or for `auto` where the dataset has no preset."""
    if name == "auto":
        name = OF_DATASET.get(dataset, "none")
    if name == "none":
        return {}
    if name not in PRESETS:
        raise unknown("preset", name, ["auto", "none", *PRESETS])
    return PRESETS[name]()
