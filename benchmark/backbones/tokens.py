"""Features of a vision transformer other than the one that it pools: of which tokens, and of how many last blocks.

As the papers' evaluations read them. Each block's tokens pass through the network's last norm.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, cat, nn

LAYERS = 4
# Name -> (of how many last blocks, whether it has the class token, whether it has the mean of the patches).
KINDS = {
    "token": (1, True, False),  # DINO's and iBOT's nearest neighbours
    "token4": (LAYERS, True, False),  # linear probes of DINO's and iBOT's ViT-S (`--n_last_blocks 4`)
    "token_avg": (1, True, True),  # and of their ViT-B (`--avgpool_patchtokens`)
    "avg": (1, False, True),  # I-JEPA
    "avg4": (LAYERS, False, True),  # I-JEPA's other one
}


def list_kinds(encoder: Any) -> list[str]:
    """Which of `KINDS` the encoder has: none without tokens, as a ResNet."""
    reader = getattr(encoder, "forward_intermediates", None)
    if reader is None or "return_prefix_tokens" not in inspect.signature(reader).parameters:
        return []
    has_class_token = getattr(encoder, "cls_token", None) is not None
    return [
        name
        for name, (layers, token, _) in KINDS.items()
        if layers <= len(encoder.blocks) and (has_class_token or not token)
    ]


class TokenFeatures(nn.Module):
    """Images (n, 3, H, W) to an encoder's features of a kind of `KINDS`: (n, blocks x width), the first block first,
    and `token_avg` (n, 2 x width)."""

    def __init__(self, encoder: Any, kind: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.layers, self.token, self.avg = KINDS[kind]
        # Where timm has its last norm behind the pooling, that is the one.
        self.norm: nn.Module = getattr(encoder, "fc_norm", None) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        blocks = self.encoder.forward_intermediates(
            x, self.layers, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
        )
        vectors = list[Tensor]()
        for block in blocks:
            patches, prefix = block if isinstance(block, tuple) else (block, None)
            if self.token and prefix is not None:
                vectors.append(self.norm(prefix[:, 0]))
            if self.avg:
                vectors.append(self.norm(patches.mean(dim=1)))
        return cat(vectors, dim=1)
