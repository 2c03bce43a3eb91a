"""docs/presets.md: every value of the presets with its source."""

from __future__ import annotations

import methods
from benchmark.settings.presets import PRESETS, transformers
from benchmark.settings.presets.sourced import Preset

BASES = {"cifar100": "cifar", "stl10": "cifar", "imagenet100": "imagenet"}  # preset -> the one that it changes
HEAD = """# Presets

Made by `python -m benchmark.cli.methods_page` from benchmark/settings/presets; do not edit. `preset=auto`, the default,
takes the preset of the dataset, and the [words that you type](commands.md) win over it. A row is what a preset takes
from one source for one method, or for all that have no such row of their own. What is not there is the method's own
default or what its paper prescribes, both in [the methods](methods.md); else SGD runs with `learning_rate=0.12`,
`weight_decay=5e-4` and `warmup=0.1`. Rates are for 256 images a step.

"Ours" are values of which no source is known to us, or known for other images or lengths alone: not tuned; chosen by
trials with test numbers in sight, which says nothing of methods against each other; or tuned on validation images.
[What is fitted to a folder](own_images.md#what-is-fitted-to-your-data) has its reasons in `plan`.
"""
PATCHES = """## Vision transformers

Where you ask for a vision transformer, such as `backbone=vit_tiny_patch16_224`, and the preset has a backbone of
convolutions for the method, these lie over the preset. Views of up to 64 pixels get patches of 4 (`stem=small`), also
where the preset's own backbone is a transformer. MAE, I-JEPA and iBOT, which need one, have theirs in each preset.
Stochastic depth is off, where the authors of DINO, iBOT, LeJEPA and SimMIM have 0.1, and rates end at 0, where authors'
end at 1e-6 or a thousandth of the peak.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, preset in PRESETS.items():
        base = PRESETS[BASES[name]]() if name in BASES else {}
        changes = {word: value for word, value in preset().items() if base.get(word) != value}
        parts.append(f"## {name}\n")
        parts += [f"As [{BASES[name]}](#{BASES[name]}), but for:\n"] if base else []
        parts.append(_table(changes, "all methods"))
    parts.append(PATCHES)
    few = "With the presets digits and cifar_quick, and fitted ones of few steps"
    for title, words, of_all in (
        ("Views of any size", transformers.for_all(), "methods without a rate below"),
        (f"Views of up to {transformers.MEDIUM} pixels", transformers.on_small_views(), ""),
        (f"Views of more than {transformers.MEDIUM} pixels", transformers.on_large_views(), ""),
        (few, transformers.on_few_steps(), "all methods"),
    ):
        parts += [f"### {title}\n", _table(words, of_all)]
    return "\n".join(parts)


def _table(preset: Preset, of_all: str) -> str:
    """A row for each method and source: its values."""
    rows: dict[tuple[str, str], list[str]] = {}
    for word, (value, source) in preset.items():
        owner, _, name = word.partition(".") if word.partition(".")[0] in methods.names() else ("", "", word)
        rows.setdefault((owner, source), []).append(f"{name}={value}")
    lines = ["| method | values | source |", "| :--- | :--- | :--- |"]
    for owner in sorted({owner for owner, _ in rows}):  # what is for all first
        of_owner = {source: values for (other, source), values in rows.items() if other == owner}
        lines += [f"| {owner or of_all} | {', '.join(values)} | {source} |" for source, values in of_owner.items()]
    return "\n".join(lines) + "\n"
