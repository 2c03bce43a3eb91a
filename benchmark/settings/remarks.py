"""What is said of a cell's settings beside its data: what was fitted and why, and what cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmark.backbones import SMALL_PATCH
from benchmark.data.catalogue import entry
from benchmark.data.identity import Facts, measure
from benchmark.settings import presets
from benchmark.settings.cell import Settings
from benchmark.settings.presets import fitted, transformers
from benchmark.settings.schema import describe
from results.quantity import quantify

FEW_STEPS = 4  # of an epoch


def explain(settings: Settings, preset: str) -> list[str]:
    """What `preset` chose for this cell alone and why: for its data, and for its vision transformer."""
    return [*_explain_fit(settings, preset), *_explain_recipe(settings, preset)]


def _explain_fit(settings: Settings, preset: str) -> list[str]:
    """What was fitted to the data, where `preset` fits: what all methods share, then the method's own."""
    facts = measure(settings.dataset, describe(settings.method).supervised)
    if facts is None or not describe(settings.method).trains or not presets.is_fitted(preset, settings.dataset.name):
        return []
    shared, of_method = fitted.explain(settings, facts)
    lines = {f"fitted to {facts.images} training images: ": shared, f"{settings.method}: fitted ": of_method}
    return [start + reasons for start, reasons in lines.items() if reasons]


def _explain_recipe(settings: Settings, preset: str) -> list[str]:
    """What lies over the preset's words where the user's backbone is a vision transformer."""
    backbone, method = settings.backbone or "", settings.method
    if not transformers.find_patch(backbone) or not describe(method).trains:
        return []
    values = {"epochs": settings.epochs, "batch_size": settings.batch_size, "view_size": settings.view_size}
    plain = presets.words(preset, settings.dataset, method, values)
    words = presets.words(preset, settings.dataset, method, values | {"backbone": backbone})
    changes = [f"{word.partition('.')[2]}={value}" for word, value in words.items() if plain.get(word) != value]
    if not changes:
        return []
    origin = "its own recipe" if transformers.has_recipe(method) else "MoCo v3's recipe, for want of its own"
    return [f"{method}: for {backbone} {origin}, where no word of yours says otherwise: {', '.join(changes)}"]


def warn(settings: Settings) -> list[str]:
    """What cannot work as it is meant; not refused, because somebody may want to see it."""
    facts = measure(settings.dataset, describe(settings.method).supervised)
    patch = re.search(r"patch(\d+)", settings.backbone or "")
    pixels = SMALL_PATCH if settings.stem == "small" else int(patch[1]) if patch else 1
    doubts = [] if facts is None or not describe(settings.method).trains else list(_doubts(settings, facts))
    if patch and (rest := settings.view_size % pixels):
        doubts.append(
            f"view_size={settings.view_size} is no multiple of the {pixels} pixels of a patch: {rest} are left out; "
            f"{settings.view_size - rest} or {settings.view_size - rest + pixels} leave out none"
        )
    if settings.batch_size and (settings.microbatch or 0) >= settings.batch_size:
        doubts.append(
            f"microbatch={settings.microbatch} cuts nothing of batch_size={settings.batch_size}: all images are "
            "encoded at once, as with microbatch=0"
        )
    return [f"{settings.method}: {doubt}" for doubt in doubts]


def _doubts(settings: Settings, facts: Facts) -> Iterator[str]:
    options, images, batch = settings.options, facts.images, settings.batch_size or 1
    embeddings = batch + int(options.get("queue") or 0)
    for name, counted in describe(settings.method).counts.items():
        count = max(int(part) for part in str(options.get(name) or 0).split("+"))
        if counted == "keys" and 2 * count > images:
            share = f"{count / images:.0f} times" if count >= 2 * images else f"{count / images:.0%} of"
            yield f"{name}={count} is {share} the {images} training images: a key meets itself; a quarter is usual"
        if counted == "codes" and count > embeddings:
            yield (
                f"{name}={count} are more than the {embeddings} embeddings that a step spreads over them: codes "
                "degenerate (SwAV, appendix A)"
            )
        if counted == "clusters" and 2 * count > images:
            yield f"{name}={count} for {images} training images: clusters of one or two images"
    if "negatives" in options and options["negatives"] > images and options.get("loss") != "softmax":
        yield f"negatives={options['negatives']} are drawn from {images} rows, so that each comes again and again"
    if 0 < images // batch < FEW_STEPS:
        steps = images // batch
        yield (
            f"batch_size={batch} of {images} training images: {quantify(steps, 'step')} an epoch, "
            f"{steps * (settings.epochs or 0)} in all"
        )
    published = entry(settings.dataset.name)
    if published.image_files and settings.view_size > facts.side:
        yield f"view_size={settings.view_size} is more than the {facts.side} pixels of most images' shorter side"
    if not published.image_files and settings.view_size > max(published.view, published.side):
        yield f"view_size={settings.view_size} is more than the {published.side} pixels of {published.name}"
