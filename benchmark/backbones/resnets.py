"""The backbones of which nothing has to be asked: timm's ResNets, as its source lists them. Imports no torch."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path


def is_resnet(backbone: str) -> bool:
    """Whether timm has it as a plain ResNet, which takes images of any size. False says nothing: timm has to be asked,
    and importing it takes seconds."""
    return backbone in _list_resnets()


@cache
def _list_resnets() -> frozenset[str]:
    spec = find_spec("timm")
    source = Path(spec.origin).with_name("models") / "resnet.py" if spec and spec.origin else None
    text = source.read_text(encoding="utf-8") if source and source.exists() else ""
    return frozenset(re.findall(r"^@register_model\ndef (resnet\d+\w*)\(", text, re.MULTILINE))
