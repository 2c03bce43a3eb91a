"""What is said of an exported encoder beside its weights: `encoder.json` for programs, `README.md` for people."""

from __future__ import annotations

from typing import Any

from benchmark.backbones import encoders
from benchmark.inference.restored import Restored
from benchmark.settings import schema
from results.quantity import quantify

FILE_NAME, CARD_NAME = "encoder.json", "README.md"
_OF_RECORD = ("key", "protocol", "metrics", "settings", "versions", "commit", "dirty", "finished")

_CARD = """---
library_name: {library}
pipeline_tag: image-feature-extraction
tags:
- image-feature-extraction
- {method}
---

# {method}, {backbone}, {dataset}

A frozen encoder: an image to {width} features. {title}. {training}

Backbone: timm's `{backbone}` {stem}. It was made by contrastive-benchmark, as its cell `{cell}`; `encoder.json` has
all settings, numbers and versions.

## Numbers

Of this one training, on the un-augmented images of the dataset named above; protocol `{protocol}`. {test}

| metric | value |
| :--- | ---: |
{metrics}

## Pixels

As in the evaluation: RGB, EXIF rotation not applied; the centre square of the file, resized to {side} x {side} pixels
{rounding}; from there to {view} x {view}, in floating point; scaled to [0, 1]; less mean {mean}, by deviation {std}.
Another way of resizing gives somewhat other features.

## Use

```python
import numpy as np
import torch
{imports}from PIL import Image{more}

FOLDER = "."  # where these files lie


def read(path):
    \"\"\"(1, 3, {view}, {view}) in [0, 1].\"\"\"
    image = Image.open(path).convert("RGB")
{square}
    pixels = torch.nn.functional.interpolate(pixels.float(), ({view}, {view}), mode="bilinear", antialias=True)
    return pixels / 255


{use}
```

## Fine-tune

```python
{finetune}
```
"""
_KEPT_SQUARE = """    image = ImageOps.fit(image, ({side}, {side}), method=Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]"""
_STREAMED_SQUARE = """    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    pixels = torch.nn.functional.interpolate(pixels, ({side}, {side}), mode="bilinear", antialias=True)"""
_TIMM = """encoder = timm.create_model(f"local-dir:{FOLDER}", pretrained=True).eval()  # without pretrained it is random
mean, std = (torch.tensor(encoder.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))


@torch.no_grad()
def features(path):
    return encoder((read(path) - mean) / std)"""
_PROGRAM = """encoder = torch.export.load(f"{FOLDER}/encoder.pt2").module()  # normalises by itself


@torch.no_grad()
def features(path):
    return encoder(read(path))"""
_FINETUNE_TIMM = """import timm

model = timm.create_model("local-dir:.", pretrained=True, num_classes=10)"""
_FINETUNE_PROGRAM = """import timm
import torch

state = torch.export.load("encoder.pt2").state_dict
model = timm.create_model("{backbone}", num_classes=0)
{changes}
model.load_state_dict({{name[8:]: value for name, value in state.items() if name.startswith("encoder.")}})
model.reset_classifier(10)"""
_NO_FINETUNE = "# The program's own parameters can be trained; its batch norms stay as they are."


def describe(restored: Restored, width: int) -> dict[str, Any]:
    """`encoder.json`: how to give it pixels, and what the record says of it."""
    cell, record = restored.settings, restored.record
    return {
        "schema": 1,
        "cell": restored.folder.name,
        "method": cell.method,
        "backbone": cell.backbone,
        "stem": restored.stem,
        "features": width,
        "view_size": cell.view_size,
        "square_side": restored.side,
        "square_by": "torch" if cell.dataset.stream else "pillow",
        "pixel_mean": restored.mean.flatten().tolist(),
        "pixel_std": restored.std.flatten().tolist(),
        "dataset": {"name": cell.dataset.name, "fingerprint": cell.dataset.fingerprint},
        "test": record.get("resolved", {}).get("test", {}),
        **{name: record[name] for name in _OF_RECORD},
    }


def write(restored: Restored, facts: dict[str, Any], is_timm: bool) -> str:
    """The model card, in Markdown. Its Python is whole, and needs torch, timm, NumPy and Pillow alone."""
    cell, stream = restored.settings, restored.settings.dataset.stream
    mean, std = ([round(value, 4) for value in facts[name]] for name in ("pixel_mean", "pixel_std"))
    test = facts["test"]
    measured = (
        f"{quantify(test['images'], 'test image')} of {quantify(test['classes'], 'class')}."
        if test
        else "There were no labels."
    )
    square = (_STREAMED_SQUARE if stream else _KEPT_SQUARE).format(side=restored.side)
    return _CARD.format(
        **{name: facts[name] for name in ("method", "backbone", "cell", "protocol")},
        library="timm" if is_timm else "pytorch",
        dataset=cell.dataset.name,
        width=facts["features"],
        title=schema.describe(cell.method).title.rstrip("."),
        training=_describe_training(restored),
        stem=_describe_stem(restored, is_timm),
        test=measured,
        metrics="\n".join(f"| {name} | {_format(name, value)} |" for name, value in facts["metrics"].items()),
        side=restored.side,
        view=cell.view_size,
        rounding="by torch" if stream else "by Pillow (`ImageOps.fit`, bilinear)",
        mean=mean,
        std=std,
        imports="import timm\n" if is_timm else "",
        more="" if stream else ", ImageOps",
        square=square,
        use=_TIMM if is_timm else _PROGRAM,
        finetune=_write_finetune(restored, is_timm),
    )


def _describe_stem(restored: Restored, is_timm: bool) -> str:
    if restored.stem == "native":
        return "with its own stem"
    return "with patches for small images" if is_timm else "with a stem for small images that timm does not make"


def _write_finetune(restored: Restored, is_timm: bool) -> str:
    if is_timm:
        return _FINETUNE_TIMM
    if restored.stem != "small" or hasattr(restored.encoder, "patch_embed"):
        return _NO_FINETUNE
    changes = "\n".join(encoders.small_stem_code(restored.encoder))
    return _FINETUNE_PROGRAM.format(backbone=restored.settings.backbone, changes=changes)


def _describe_training(restored: Restored) -> str:
    cell, images = restored.settings, restored.record.get("resolved", {}).get("images")
    if not schema.describe(cell.method).trains:
        return "Nothing was trained here."
    count = f"{quantify(images, 'image')}, " if images else ""
    return f"Training: {count}{quantify(cell.epochs or 0, 'epoch')}, batches of {cell.batch_size}, seed {cell.seed}."


def _format(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if name.endswith(("_top1", "_balanced")) else f"{value:.4g}"
