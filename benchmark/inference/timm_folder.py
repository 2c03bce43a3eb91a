"""The encoder as a folder that `timm.create_model("local-dir:DIR", pretrained=True)` makes it of again.

timm compares names and shapes. A stem that was changed, or a stride, may have both and give other features; so what is
written here is read back by timm, and kept only where it gives the same ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmark.backbones import encoders
from benchmark.backbones.library import library
from benchmark.errors import explain
from benchmark.inference.restored import Restored
from benchmark.training import build

TOLERANCE = 1e-5  # of the largest feature

# What timm says of its own pretrained weights that holds for these too: how the network is built.
_KEPT = ("architecture", "fixed_input_size", "first_conv", "classifier")


def create(restored: Restored) -> tuple[nn.Module, dict[str, Any]]:
    """timm's model with the encoder's weights and pixels, and the arguments that it is made by. Raises ValueError where
    timm has none with such a stem."""
    cell = restored.settings
    assert cell.backbone is not None
    other_inputs = build.list_other_inputs(cell)
    model, arguments, stem = encoders.create_by_timm(
        cell.backbone, restored.stem, cell.pool or "auto", cell.view_size, other_inputs
    )
    if stem != restored.stem:
        raise ValueError(f"timm has no {cell.backbone} with a {restored.stem} stem")
    model.load_state_dict(restored.encoder.state_dict())
    own_config: Any = model.pretrained_cfg
    pretrained_cfg: Any = {name: own_config[name] for name in _KEPT if name in own_config} | {
        "input_size": (3, cell.view_size, cell.view_size),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": tuple(restored.mean.flatten().tolist()),
        "std": tuple(restored.std.flatten().tolist()),
        "num_classes": 0,
        "pool_size": None,
    }
    model.pretrained_cfg = pretrained_cfg
    return model.eval(), arguments


def write(folder: Path, restored: Restored) -> str:
    """`model.safetensors` and `config.json` in `folder`. Why there are none, where timm would not give the same
    features; "" where they are there."""
    try:
        model, arguments = create(restored)
        library().models.save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
        reason = _compare(folder, restored)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        reason = explain(error)
    if reason:
        for name in ("model.safetensors", "config.json"):
            (folder / name).unlink(missing_ok=True)
    return reason


@torch.no_grad()
def _compare(folder: Path, restored: Restored) -> str:
    """How far timm's features of random images are from the encoder's, where that is too far."""
    size = restored.settings.view_size
    images = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = restored.encoder(images)
    loaded = library().create_model(f"local-dir:{folder}", pretrained=True).eval()
    error = (loaded(images) - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    return "" if error <= TOLERANCE else f"timm's features of it differ by {error:.1e} of the largest"
