"""What there is to choose from, printed: methods, ablations, datasets, augmentations, protocols. Imports no torch."""

from __future__ import annotations

import dataclasses

import methods
from benchmark.augment import augmentation
from benchmark.cli import checks
from benchmark.data.catalogue import CATALOGUE
from benchmark.display import columns
from benchmark.errors import UsageError
from benchmark.settings import presets, schema
from benchmark.settings.presets import published
from benchmark.settings.values import describe_type
from benchmark.words import selection
from benchmark.words.ablations import ABLATIONS


def print_methods(names: list[str]) -> int:
    """Those of `names`, or all. Exit code: 1 where one of all cannot be read, which raises `UsageError` if named."""
    code = 0
    names = selection.choose(names)
    for name in names or methods.names():
        try:
            description = schema.describe(name)
        except UsageError as error:
            if names:
                raise
            print(f"{name}: cannot be read: {error}\n")
            code = 1
            continue
        print(f"{name}: {description.title}")
        for option in dataclasses.fields(description.Config):
            allowed = describe_type(schema.list_options(name)[option.name])
            meaning = description.help.get(option.name, "")
            if tried := description.search_space.get(option.name):
                meaning += f"; tune tries {(', ' if isinstance(tried[0], str) else ' to ').join(map(str, tried))}"
            print(f"    {name}.{option.name}={option.default}  ({allowed}) {meaning}".rstrip())
        print()
    return code


def print_ablations(words: list[str]) -> int:
    """Each named ablation: its question, its axes, what is fixed, and the figure that is drawn of it."""
    checks.refuse_words("ablations", words)
    for name, ablation in ABLATIONS.items():
        print(f"ablation={name}: {ablation.question}")
        for part in ablation.parts:
            print("    " + " ".join(f"{key}={','.join(values)}" for key, values in part.items()))
        print(f"    fixed: {ablation.fixed}")
        print(f"    figure: {ablation.figure}; published curves: {', '.join(ablation.published) or 'none'}\n")
    return 0


def print_presets(names: list[str]) -> int:
    """Each preset with its purpose; of those that are named, every word that they set and its source."""
    for name in names:
        presets.require(name)
        if name not in presets.PRESETS:
            raise UsageError(f"preset={name} sets no words of its own: `plan` shows what it comes to")
    for name in names or presets.PRESETS:
        print(f"preset={name}: {' '.join((presets.PRESETS[name].__doc__ or '').split())}")
        for word, (value, source) in presets.PRESETS[name]().items() if names else ():
            print(f"    {word}={value}  ({source})")
        print()
    if not names:
        print(
            "preset=auto (the default): that of the dataset, or settings fitted to what is found; preset=none: no words"
        )
    return 0


def print_datasets(words: list[str]) -> int:
    """Every dataset by name, with its numbers and where it comes from."""
    checks.refuse_words("datasets", words)
    rows = [
        [e.name, str(e.images or ""), str(e.classes or ""), str(e.side), str(e.view), e.source]
        for e in CATALOGUE.values()
    ]
    columns.show(["dataset", "images", "classes", "pixels", "view", "source"], rows)
    print("images: to train on, before the validation share; view: pixels of a view, unless view_size= says otherwise")
    return 0


def print_augmentations(words: list[str]) -> int:
    """Every piece that `augmentation=` may be made of."""
    checks.refuse_words("augmentations", words)
    columns.show(["name", "what it does"], [*augmentation.list_names(), augmentation.SMALL_PIECE])
    print("Join with +, such as augmentation=crop+flip+colour; the right one's operations win.")
    return 0


def print_published(names: list[str]) -> int:
    """Those protocols of `names`, or all. Raises `UsageError` for one that there is not."""
    for name in names:
        published.require(name)
    from results.published import numbers  # behind the words: pandas takes its time

    rows = numbers.load().to_dict("records")
    for name, protocol in published.PROTOCOLS.items():
        if names and name not in names:
            continue
        print(f"like={name}: {protocol.source}")
        words = {"methods": ",".join(protocol.methods)} | protocol.words
        print("    " + " ".join(f"{key}={value}" for key, value in words.items()))
        for row in rows:
            if row["like"] == name:
                print(f"    published: {row['method']} {100 * row['result']:.1f} ({row['metric']}: {row['protocol']})")
        print("\n".join(f"    not alike: {difference}" for difference in protocol.differences) + "\n")
    return 0
