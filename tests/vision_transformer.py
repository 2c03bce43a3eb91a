"""A vision transformer of timm on 3 x 3 patches of 2 pixels, and the same by its formulas, on lists of tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

SIDE, PIXELS, WIDTH, HEADS = 3, 2, 8, 2
SIZE, PATCHES = SIDE * PIXELS, SIDE**2
Rows = list[Tensor]


def transformer(**more: Any) -> tuple[nn.Module, int]:
    """timm's, of two blocks: 3 x 3 patches of 2 pixels and a class token, its mean feature by default."""
    kind = {"img_size": SIZE, "patch_size": PIXELS, "embed_dim": WIDTH, "depth": 2, "num_heads": HEADS}
    pool = {"global_pool": "avg", "fc_norm": False}
    return timm.create_model("test_vit", num_classes=0, **kind | pool | more), WIDTH


class Formulas:
    """A vision transformer on lists of tokens; `w` is a state under the method's names."""

    @staticmethod
    def norm(w: dict[str, Tensor], name: str, t: Sequence[Tensor], eps: float) -> Rows:
        scaled = [(one - one.mean()) / (((one - one.mean()) ** 2).mean() + eps).sqrt() for one in t]
        return [w[f"{name}.weight"] * one + w[f"{name}.bias"] for one in scaled]

    @classmethod
    def block(
        cls, w: dict[str, Tensor], name: str, t: Sequence[Tensor], heads: int, ours: bool, visible: Sequence[bool] = ()
    ) -> Rows:
        """x + attention(norm x), x + MLP(norm x): timm's names, or those of torch's layers, which are `ours`."""
        eps = 1e-5 if ours else 1e-6
        attend, out, first, second = (
            ("self_attn.in_proj_", "self_attn.out_proj", "linear1", "linear2")
            if ours
            else ("attn.qkv.", "attn.proj", "mlp.fc1", "mlp.fc2")
        )
        weight, bias = w[f"{name}.{attend}weight"], w[f"{name}.{attend}bias"]
        parts = [(weight @ one + bias).view(3, heads, -1) for one in cls.norm(w, f"{name}.norm1", t, eps)]
        visible_parts = [part for number, part in enumerate(parts) if not visible or visible[number]]
        after = []
        for one, part in zip(t, parts, strict=True):
            mixed = []
            for head in range(heads):
                q = part[0, head]
                e = [(torch.dot(q, other[1, head]) / math.sqrt(len(q))).exp() for other in visible_parts]
                mixed.append(sum(a * other[2, head] for a, other in zip(e, visible_parts, strict=True)) / sum(e))
            after.append(one + w[f"{name}.{out}.weight"] @ torch.cat(mixed) + w[f"{name}.{out}.bias"])
        changed = []
        for one, h in zip(after, cls.norm(w, f"{name}.norm2", after, eps), strict=True):
            h = w[f"{name}.{first}.weight"] @ h + w[f"{name}.{first}.bias"]
            h = h * (1 + (h / 2**0.5).erf()) / 2
            changed.append(one + w[f"{name}.{second}.weight"] @ h + w[f"{name}.{second}.bias"])
        return changed

    @staticmethod
    def embed(w: dict[str, Tensor], name: str, image: Tensor, hidden: Sequence[bool] = (), token: Any = None) -> Rows:
        """The class token, then a token a patch, row by row, each with its position."""
        weight, t = w[f"{name}.patch_embed.proj.weight"], [w[f"{name}.cls_token"][0, 0]]
        for i in range(SIDE):
            for j in range(SIDE):
                patch = image[:, i * PIXELS : (i + 1) * PIXELS, j * PIXELS : (j + 1) * PIXELS]
                own = (weight * patch).sum(dim=(1, 2, 3)) + w[f"{name}.patch_embed.proj.bias"]
                t.append(token if hidden and hidden[i * SIDE + j] else own)
        return [one + place for one, place in zip(t, w[f"{name}.pos_embed"][0], strict=True)]

    @classmethod
    def encode(cls, w: dict[str, Tensor], name: str, t: Rows, visible: Sequence[bool] = ()) -> Rows:
        for number in range(2):
            t = cls.block(w, f"{name}.blocks.{number}", t, HEADS, False, visible)
        return cls.norm(w, f"{name}.norm", t, 1e-6)


def place_code(row: int, column: int, width: int) -> Tensor:
    """Sines then cosines of the column, then of the row, at width / 4 rates."""
    rates = [10000 ** (-k / (width / 4)) for k in range(width // 4)]
    angles = [[place * rate for rate in rates] for place in (column, row)]
    return torch.tensor([f(a) for line in angles for f in (math.sin, math.cos) for a in line])
