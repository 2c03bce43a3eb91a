"""What a backbone shows before it pools: the tokens of timm's vision transformers, the inner maps of any network.

Tokens (n, P + L, D) are P prefix tokens, such as the class token, then L patches, row by row. Nothing masked is drawn
here: timm's own `patch_drop` takes its numbers from torch's stream, other ones in each slice of a batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, cat, nn

from methods.parts.heads import normalise

LEAST = 9  # places of a map that is worth looking at
# Of I-JEPA (arXiv:2301.08243):
TARGETS, TRIES = 4, 20  # blocks to predict, and places that are tried for the context (authors' code)
SCALE, ASPECT = (0.15, 0.2), (0.75, 1.5)  # of a target's share of the patches, and of its height by its width
CONTEXT = (0.85, 1.0)  # share of the context, a square (authors' configuration)
LEAST_SEEN = 10  # patches that the context has more of, or a tenth of them if that is less (ours, for small grids)


def patch_grid(encoder: Any) -> tuple[int, int]:
    """(patches, pixels of a patch) along a side. ValueError unless the backbone is a vision transformer of timm that
    sees square patches of pixels and adds positions to them."""
    patch: Any = getattr(encoder, "patch_embed", None)
    known = any(kind.__name__ == "VisionTransformer" for kind in type(encoder).__mro__)
    if not known or getattr(getattr(patch, "proj", None), "in_channels", 0) != 3 or encoder.pos_embed is None:
        raise ValueError(
            f"the backbone is a {type(encoder).__name__}, and one of patches is needed: a vision transformer of timm, "
            "such as backbone=vit_tiny_patch16_224, with stem=small for views of up to 64 pixels"
        )
    return patch.grid_size[0], patch.patch_size[0]


def grid_of_used(encoder: Any, size: int, pooled: bool = False) -> tuple[int, int, int]:
    """`patch_grid`, and the number of prefix tokens. ValueError, beside that of `patch_grid`, where a parameter of the
    encoder has no part in its tokens, or in the feature that it pools, of views of `size` pixels."""
    side, pixels = patch_grid(encoder)
    tokens = encode(encoder, embed(encoder, next(encoder.parameters()).new_zeros(1, 3, size, size)))
    require_all_in_use(encoder, encoder.forward_head(tokens) if pooled else tokens)
    return side, pixels, encoder.num_prefix_tokens


def require_several(patches: int, size: int) -> None:
    """ValueError for views of `size` pixels that are one patch."""
    if patches < 2:
        raise ValueError(f"views of {size} pixels are one patch, not several: stem=small, or larger ones")


def embed(encoder: Any, x: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
    """(n, P + L, D): the tokens of x (n, 3, H, W) as the first block takes them.

    Patches that are `hidden` (n, L) bool are replaced by `token` (D,) before their position is added.
    """
    t = encoder.patch_embed(x)  # (n, L, D), or (n, rows, columns, D) of a network that takes any size
    if hidden is not None and token is not None:
        t = torch.where(hidden.reshape(*t.shape[:-1], 1), token.to(t.dtype), t)
    return encoder.norm_pre(encoder._pos_embed(t))


def pick(t: Tensor, patches: Tensor) -> Tensor:
    """(n, k, D): of each image's t (n, L, D) the `patches` (n, k) int64, in their order."""
    return t.gather(1, patches[:, :, None].expand(-1, -1, t.shape[2]))


def project(head: nn.Module, t: Tensor) -> Tensor:
    """(n, k, D), of length 1: `head` of the tokens t (n, k, width), all first tokens first, as batch norm over groups
    takes rows."""
    z = head(t.transpose(0, 1).flatten(0, 1))
    return normalise(z).unflatten(0, (t.shape[1], -1)).transpose(0, 1)


def encode(encoder: Any, t: Tensor, visible: Tensor | None = None) -> Tensor:
    """(n, T, D): blocks and last norm. With all tokens of `embed` this is timm's `forward_features`.

    Tokens that are not `visible` (n, T) bool are seen by none; what comes out in their places means nothing.
    """
    if visible is None:
        return encoder.norm(encoder.blocks(t))
    for block in encoder.blocks:
        t = block(t, attn_mask=visible[:, None, None, :])
    return encoder.norm(t)


def require_all_in_use(encoder: nn.Module, output: Tensor) -> None:
    """ValueError unless every trainable parameter of the encoder has a part in `output`: one that has none would get no
    gradient."""
    named = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    slopes = torch.autograd.grad(output.sum(), list(named.values()), allow_unused=True)
    unused = [name for name, slope in zip(named, slopes, strict=True) if slope is None]
    if unused:
        raise ValueError(
            f"{unused[0]} of the backbone {type(encoder).__name__} comes behind the features that are trained here; a "
            "vision transformer with pool=token or avg has nothing there, and no ResNet has"
        )


def sine_positions(side: int, width: int, prefix: int = 0) -> Tensor:
    """(prefix + side^2, width): MAE's fixed codes of places; zeros for prefix tokens. ValueError unless four divide
    `width`.

    A quarter of the numbers are sines of the column at rates 10000^(-k / (width / 4)), a quarter their cosines, and
    then the same of the row (facebookresearch/mae, util/pos_embed.py).
    """
    if width % 4:
        raise ValueError(f"codes of places need a width that four divides, not {width}")
    rates = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * rates  # (side, width / 4)
    line = cat([angles.sin(), angles.cos()], dim=1)
    codes = cat([line.repeat(side, 1), line.repeat_interleave(side, dim=0)], dim=1)
    return cat([torch.zeros(prefix, width), codes])


def fix_positions(encoder: Any, side: int, width: int) -> None:
    """Give the encoder `sine_positions` in place of its own, and train them no more."""
    places: Tensor = encoder.pos_embed.requires_grad_(False)  # without prefix tokens in some networks
    with torch.no_grad():
        places.copy_(sine_positions(side, width, encoder.num_prefix_tokens)[-places.shape[1] :])


def cut(x: Tensor, side: int, pixels: int) -> Tensor:
    """(n, L, 3 p^2): the patches of x (n, 3, H, W) as numbers: rows, in them columns, in them colours, as MAE has it.

    What a grid of `side` patches of `pixels` leaves over at the right and below is left out.
    """
    x = x[:, :, : side * pixels, : side * pixels].unflatten(3, (side, pixels)).unflatten(2, (side, pixels))
    return x.permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2)


def transformer(width: int, blocks: int, heads: int) -> nn.TransformerEncoder:
    """(n, T, width) -> the same: blocks as in a vision transformer, norms first. ValueError unless `heads` divide
    `width`."""
    if width % heads:
        raise ValueError(f"{heads} heads cannot share a width of {width}")
    block = nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    network = nn.TransformerEncoder(block, blocks, nn.LayerNorm(width), enable_nested_tensor=False)
    for module in network.modules():  # as MAE's authors start them; torch's are copies of one block
        if isinstance(module, nn.MultiheadAttention):
            nn.init.xavier_uniform_(module.in_proj_weight)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return network


def context_and_targets(u: Tensor, places: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """(n, L) and (n, 4, L) bool: the context's patches and the targets', by uniform numbers: u (2,) for the sizes of
    targets and context, `places` (n, 4 + 20, 2)."""
    targets = cover(places[:, :TARGETS], u[0], side, SCALE, ASPECT)
    tried = cover(places[:, TARGETS:], u[1], side, CONTEXT, (1.0, 1.0))
    # The first of the places that leaves enough with all targets taken out, else without the last, and so on.
    kept = [tried & ~targets[:, :count].any(dim=1)[:, None] for count in range(TARGETS, -1, -1)]
    candidates = cat(kept, dim=1)  # (n, 5 x 20, L)
    enough = candidates.sum(dim=2) > min(LEAST_SEEN, side**2 // 10)
    first = enough.int().argmax(dim=1)  # the first of several equal ones
    return candidates.gather(1, first[:, None, None].expand(-1, 1, candidates.shape[2]))[:, 0], targets


def cover(places: Tensor, u: Tensor, side: int, scale: tuple[float, float], aspect: tuple[float, float]) -> Tensor:
    """(n, K, L) bool: blocks at the `places` (n, K, 2), uniform numbers, of one height and width, by `u` ()."""
    area = (side**2 * (scale[0] + u * (scale[1] - scale[0]))).floor()
    ratio = aspect[0] + u * (aspect[1] - aspect[0])
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()]).round().clamp(1, side)
    start = (places * (side - sides + 1)).floor()[..., None]  # (n, K, 2, 1)
    line = torch.arange(side, device=places.device)
    rows, columns = ((line >= start) & (line < start + sides[:, None])).unbind(dim=2)  # (n, K, G)
    return (rows[..., :, None] & columns[..., None, :]).flatten(2)


class Maps:
    """Reads an inner map and the pooled feature of a timm backbone in one pass; holds no weights."""

    def __init__(self, encoder: Any, size: int) -> None:
        """For views of `size` pixels. Raises ValueError for a backbone that shows no inner maps.

        The last map is not looked at where there is another: its mean is the pooled feature, with nothing between.
        """
        if not hasattr(encoder, "forward_intermediates"):
            raise ValueError(f"the backbone {type(encoder).__name__} shows no inner maps; a ResNet does")
        training = encoder.training
        encoder.eval()
        device = next(encoder.parameters()).device
        with torch.no_grad():
            _, maps = encoder.forward_intermediates(torch.zeros(1, 3, size, size, device=device))
        encoder.train(training)
        places = [one.shape[-2] * one.shape[-1] for one in maps[:-1] or maps]
        wide = [i for i, count in enumerate(places) if count >= LEAST]
        self.level = wide[-1] if wide else places.index(max(places))
        self.width = maps[self.level].shape[1]

    def __call__(self, encoder: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, L, C) the places of the map, (n, width) the pooled feature."""
        last, (inner,) = encoder.forward_intermediates(x, indices=[self.level])
        return inner.flatten(2).transpose(1, 2), encoder.forward_head(last)
