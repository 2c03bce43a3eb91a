"""timm backbones as encoders: images (n, 3, H, W) to pooled features (n, width), with a stem that fits small images.

The stem is chosen by the size of the view and by the family of architecture, never by the dataset's name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.backbones import SMALL, SMALL_PATCH
from benchmark.backbones.library import library
from benchmark.backbones.weights import TIMM, fetch, load, read
from benchmark.errors import UsageError, explain

_REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError)  # how timm refuses a size
# timm's arguments for a vision transformer's feature. With its `fc_norm` it would move the last norm behind the mean,
# and the tokens would come out un-normalised.
POOLS: dict[str, dict[str, Any]] = {
    "auto": {},
    "token": {"global_pool": "token"},
    "avg": {"global_pool": "avg", "fc_norm": False},
}


_VIT_SIZES = ("tiny", "small", "base", "large", "huge")
_PAPER_VIT = re.compile(
    rf"(?P<dinov2>dinov2_)?vit[-_ ]?(?P<size>{'|'.join(_VIT_SIZES)}|ti|[tsblh])(?:[-_/ ]?(?:patch)?(?P<patch>\d+))?"
)


def check_name(backbone: str) -> None:
    """Raise `UsageError` unless timm has this backbone."""
    timm = library()
    if not timm.is_model(backbone):
        near = _find_nearest(backbone, timm.list_models())
        guess = f"; did you mean {', '.join(near)}?" if near else ""
        raise UsageError(f"unknown backbone {backbone!r}{guess} (any of timm's {len(timm.list_models())} names)")


def _find_nearest(backbone: str, names: list[str]) -> list[str]:
    """Up to three names like `backbone`: the vision transformer that papers call ViT-S/16 or vits16, then what begins
    as it does, the shortest first, or what is nearest in letters."""
    text = backbone.lower()
    if paper := _PAPER_VIT.fullmatch(text):
        size = next(size for size in _VIT_SIZES if size.startswith(paper["size"]))
        patch, release = ("14", "dinov2") if paper["dinov2"] else ("14" if size == "huge" else "16", "224")
        name = f"vit_{size}_patch{paper['patch'] or patch}_{release}"
        if name in names:
            return [name]
    longer = sorted((name for name in names if name.startswith(text.replace("-", "_"))), key=len)
    near = longer or difflib.get_close_matches(text, names, n=3, cutoff=0.5)
    return near[:3]


def make(
    backbone: str,
    stem: str,
    size: int,
    other_inputs: Iterable[tuple[str, int]] = (),
    weights: str = "",
    say: Callable[[str], None] = lambda line: None,
    pool: str = "auto",
) -> tuple[nn.Module, int, str]:
    """(encoder, feature width, the stem it got) for views of `size` pixels. Untrained; weights from torch's seed, or
    what `weights.pin` has pinned.

    `other_inputs` are what else it must take: (what, in the plural; pixels). The stem is chosen by the view alone, but
    where there are weights: timm's are those of its own stem, and `auto` takes the one that a file's weights fit. `say`
    is told what was taken from a file and what was left. `pool` is one of `POOLS`.
    Raises `UsageError` where the backbone is unknown, does not take such a size, or has no small stem or no such pool
    though asked for, or where the weights cannot be had or do not fit.
    """
    check_name(backbone)
    other_inputs = list(other_inputs)
    if weights == TIMM:
        fetch(backbone)
        return _build(backbone, "native", pool, size, other_inputs, pretrained=True)
    if not weights:
        return _build(backbone, stem, pool, size, other_inputs)
    file_weights = read(weights)
    # Some stems differ in their strides alone. Our own cells have what `auto` gives; others' files, timm's own.
    stems = ["auto", "native"] if file_weights.ours else ["native", "auto"]
    problem: UsageError | None = None
    for stem_to_try in stems if stem == "auto" else [stem]:
        network, width, applied = _build(backbone, stem_to_try, pool, size, other_inputs)
        try:
            say(load(network, backbone, file_weights))
            return network, width, applied
        except UsageError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def _build(
    backbone: str, stem: str, pool: str, size: int, other_inputs: list[tuple[str, int]], pretrained: bool = False
) -> tuple[nn.Module, int, str]:
    other_sizes = [(kind, side) for kind, side in other_inputs if side != size]
    network, _, applied = create_by_timm(backbone, stem, pool, size, other_sizes, pretrained)
    if applied == "native" and (stem == "small" or (stem == "auto" and size <= SMALL)):
        applied = small_stem(network)
        if stem == "small" and applied == "native":
            raise UsageError(f"stem=small: {backbone} has no stem that can be made small; use stem=native")
    for module in network.modules():
        if type(module) is nn.Conv2d and _sees_one_pixel_by_its_centre(module):
            module.__class__ = Conv2d
    width = measure_width(network, size, backbone)
    for kind, side in other_sizes:
        measure_width(network, side, backbone, kind)
    return network, width, applied


def create_by_timm(
    backbone: str,
    stem: str,
    pool: str,
    size: int,
    other_inputs: Iterable[tuple[str, int]] = (),
    pretrained: bool = False,
) -> tuple[nn.Module, dict[str, Any], str]:
    """timm's own model that `make` begins with, the arguments by which `timm.create_model` makes it again, beside its
    name, and the stem that these give it: small where its patches are of 4 pixels by `stem`, else native."""
    dynamic, extra, applied = any(side != size for _, side in other_inputs), dict(POOLS[pool]), "native"
    try:
        network, arguments = _create(backbone, size, dynamic, pretrained)
    except _REFUSALS as error:
        raise UsageError(f"backbone={backbone} cannot be made for views of {size} pixels: {explain(error)}") from error
    if pool != "auto" and not hasattr(network, "num_prefix_tokens"):
        raise UsageError(f"pool={pool}: {backbone} has no tokens; vision transformers have, as vit_tiny_patch16_224")
    if stem == "small" and _has_larger_patches(network):
        if size > SMALL:
            raise UsageError(
                f"stem=small: patches of {SMALL_PATCH} pixels are for views of at most {SMALL}, not {size}, of "
                f"{backbone}; use stem=native"
            )
        extra["patch_size"], applied = SMALL_PATCH, "small"
    if extra:
        try:
            network, arguments = _create(backbone, size, dynamic, pretrained, extra)
        except _REFUSALS as error:
            raise UsageError(
                f"{backbone} cannot be made with stem={stem} and pool={pool} ({explain(error)}); use stem=native and "
                "pool=auto"
            ) from error
    return network, arguments, applied


def _has_larger_patches(network: nn.Module) -> bool:
    """Whether it sees images as square patches of pixels, which could be smaller; a hybrid has those of a map."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    projection = getattr(getattr(network, "patch_embed", None), "proj", None)
    return isinstance(patch, tuple) and min(patch) > SMALL_PATCH and getattr(projection, "in_channels", None) == 3


def _create(
    backbone: str, size: int, dynamic: bool, pretrained: bool, extra: Mapping[str, Any] | None = None
) -> tuple[nn.Module, dict[str, Any]]:
    """timm's model, made for `size` pixels where that is needed, and open to other sizes where it can be; and the
    arguments that it took for that, with those of `extra`."""
    timm = library()
    # Position embeddings, windows and token mixers are made for one size. Transformers can interpolate the embedding.
    # Convolutions take any size, and no such argument.
    attempts: list[dict[str, Any]] = [{"img_size": size, "dynamic_img_size": True}] if dynamic else []
    for sizes in [*attempts, {"img_size": size}]:
        arguments = sizes | dict(extra or {})
        try:
            return timm.create_model(backbone, pretrained=pretrained, num_classes=0, **arguments), arguments
        except TypeError:
            continue
    arguments = dict(extra or {})
    return timm.create_model(backbone, pretrained=pretrained, num_classes=0, **arguments), arguments


class Conv2d(nn.Conv2d):
    """On a map of one pixel only the centre of the kernel meets anything; in bf16 on a CPU, only that is multiplied.

    With a stride, oneDNN leaves the gradient of some other taps unwritten there: in torch 2.15 it is what was in memory
    (at times NaN), as in the last stage of a ResNet that has halved 16 pixels four times. It has to be 0.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.shape[-2:] != (1, 1) or input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        row, column = (size // 2 for size in self.kernel_size)
        centre = self.weight[:, :, row : row + 1, column : column + 1]
        return nn.functional.conv2d(input, centre, self.bias, groups=self.groups)


def _sees_one_pixel_by_its_centre(conv: nn.Conv2d) -> bool:
    padded = tuple(d * (k // 2) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    odd_and_large = all(k % 2 for k in conv.kernel_size) and max(conv.kernel_size) > 1
    return odd_and_large and conv.padding == padded and conv.padding_mode == "zeros"


def small_stem(network: nn.Module) -> str:
    """Make the stem keep the resolution, in place, as SimCLR does for CIFAR-10 (appendix B.9). Returns what was done.

    - 7x7 stems (ResNet, wide, ResNeXt, SE: all with `conv1`): a 3x3 convolution, stride 1, padding 1, no
      max-pool.
    - deep stems of three 3x3 convolutions (resnet50d ...): stride 1, no max-pool.
    - tiered deep stems (resnet10t, 14t, 26t): left as they are. They exist to be cheap, and without their strides
      cost sixteen times as much.
    - EfficientNet, MobileNet (`conv_stem`): stride 1.
    - all others: left as they are. Vision transformers have a small stem by their patches, only where it is asked for
      (`create_by_timm`).
    """
    first = getattr(network, "conv1", None)
    if isinstance(first, nn.Conv2d) and hasattr(network, "maxpool"):
        network.conv1 = _build_conv3(first)
        network.maxpool = nn.Identity()
        return "small"
    if isinstance(first, nn.Sequential) and hasattr(network, "maxpool"):
        convolutions = [m for m in first if isinstance(m, nn.Conv2d)]
        if len({c.out_channels for c in convolutions[:2]}) > 1:  # tiered: 24, 32, 64 channels
            return "native"
        convolutions[0].stride = (1, 1)
        network.maxpool = nn.Identity()
        return "small"
    stem = getattr(network, "conv_stem", None)
    if isinstance(stem, nn.Conv2d):
        stem.stride = (1, 1)
        return "small"
    return "native"


def small_stem_code(network: nn.Module) -> list[str]:
    """The lines of Python that do to `model`, as timm makes it, what `small_stem` has done to `network`."""
    first = getattr(network, "conv1", None)
    if isinstance(first, nn.Conv2d):
        bias = first.bias is not None
        conv = f"torch.nn.Conv2d({first.in_channels}, {first.out_channels}, 3, padding=1, bias={bias})"
        return [f"model.conv1 = {conv}", "model.maxpool = torch.nn.Identity()"]
    if isinstance(first, nn.Sequential):
        return ["model.conv1[0].stride = (1, 1)", "model.maxpool = torch.nn.Identity()"]
    return ["model.conv_stem.stride = (1, 1)"]


def measure_width(network: nn.Module, size: int, backbone: str, inputs: str = "views") -> int:
    """The feature width for `inputs` of `size` pixels, asked of the model itself."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            features = network(torch.zeros(1, 3, size, size))
    except _REFUSALS as error:
        raise UsageError(f"backbone={backbone} does not take {inputs} of {size} pixels: {explain(error)}") from error
    finally:
        network.train(training)
    if features.dim() != 2:
        raise UsageError(
            f"backbone={backbone} gives features of shape {tuple(features.shape)}, not one vector an image"
        )
    return features.shape[1]


def _build_conv3(replaced: nn.Conv2d) -> nn.Conv2d:
    conv = nn.Conv2d(
        replaced.in_channels, replaced.out_channels, 3, stride=1, padding=1, bias=replaced.bias is not None
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as timm starts it
    return conv
