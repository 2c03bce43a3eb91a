"""Backbones: the stem that fits the view, widths asked of the model, and refusals in one line."""

import pytest
import torch
from torch import nn

from benchmark.backbones import encoders
from benchmark.errors import UsageError


def shape_behind_stem(network: nn.Module, size: int) -> int:
    """Side of what the first stage of a ResNet receives."""
    x = torch.zeros(1, 3, size, size)
    for name in ("conv1", "bn1", "act1", "maxpool"):
        x = network.get_submodule(name)(x)
    return x.shape[-1]


def test_resnet18_keeps_the_resolution_of_small_views_and_is_native_on_large_ones() -> None:
    network, width, stem = encoders.make("resnet18", "auto", 32)
    assert (width, stem) == (512, "small")
    conv = network.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    assert (conv.kernel_size, conv.stride, conv.padding, conv.bias) == ((3, 3), (1, 1), (1, 1), None)
    assert isinstance(network.get_submodule("maxpool"), nn.Identity)
    assert shape_behind_stem(network, 32) == 32

    network, width, stem = encoders.make("resnet18", "auto", 96)
    conv = network.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    assert (width, stem, conv.kernel_size, conv.stride) == (512, "native", (7, 7), (2, 2))
    assert shape_behind_stem(network, 96) == 24


def test_auto_turns_at_64_pixels_and_can_be_overruled() -> None:
    assert encoders.make("resnet18", "auto", 64)[2] == "small"
    assert encoders.make("resnet18", "auto", 65)[2] == "native"
    assert encoders.make("resnet18", "native", 32)[2] == "native"
    network, _, stem = encoders.make("resnet18", "small", 96)
    assert stem == "small"
    assert shape_behind_stem(network, 96) == 96


@pytest.mark.parametrize(
    ("backbone", "width"),
    [("wide_resnet50_2", 2048), ("resnext50_32x4d", 2048), ("resnet50d", 2048), ("seresnet18", 512)],
)
def test_relatives_of_resnet_get_the_small_stem(backbone: str, width: int) -> None:
    network, features, stem = encoders.make(backbone, "auto", 32)
    assert (features, stem) == (width, "small")
    assert shape_behind_stem(network, 32) == 32


@pytest.mark.parametrize("backbone", ["test_efficientnet", "mobilenetv3_small_050", "efficientnet_b0"])
def test_the_stem_of_efficientnets_gets_stride_1(backbone: str) -> None:
    for size, side, applied in ((32, 32, "small"), (96, 48, "native")):
        network, _, stem = encoders.make(backbone, "auto", size)
        assert stem == applied
        assert network.get_submodule("conv_stem")(torch.zeros(1, 3, size, size)).shape[-1] == side


@pytest.mark.parametrize("backbone", ["resnet10t", "resnet14t"])
def test_tiered_stems_stay_as_cheap_as_they_are(backbone: str) -> None:
    network, _, stem = encoders.make(backbone, "auto", 32)
    assert stem == "native"
    assert shape_behind_stem(network, 32) == 8
    with pytest.raises(UsageError, match="stem=native"):
        encoders.make(backbone, "small", 32)


@pytest.mark.parametrize("size", [32, 64, 96, 160])
def test_transformers_are_made_for_the_size_of_the_view(size: int) -> None:
    network, width, stem = encoders.make("test_vit", "auto", size)
    assert stem == "native"
    assert network(torch.zeros(2, 3, size, size)).shape == (2, width)


@pytest.mark.parametrize("backbone", ["mixer_s32_224", "levit_128s"])
def test_so_are_others_whose_layers_know_their_size(backbone: str) -> None:
    network, width, _ = encoders.make(backbone, "auto", 32)
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, width)


@pytest.mark.parametrize(
    ("backbone", "width"),
    [
        ("mobilenetv3_small_050", 1024),
        ("lcnet_035", 1280),
        ("ghostnet_050", 1280),
        ("test_mambaout", 256),
        ("test_vit", 64),
    ],
)
def test_the_width_is_asked_of_the_model(backbone: str, width: int) -> None:
    network, features, _ = encoders.make(backbone, "auto", 32)
    assert features == width == network.eval()(torch.zeros(2, 3, 32, 32)).shape[1]


def test_some_of_these_widths_are_not_what_timm_calls_num_features() -> None:
    network, width, _ = encoders.make("mobilenetv3_small_050", "auto", 32)
    assert network.num_features != width


def test_asking_for_the_width_changes_nothing() -> None:
    network, _, _ = encoders.make("test_resnet", "auto", 32)
    assert network.training
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(m.running_mean is not None and m.running_mean.eq(0).all() for m in norms)
    assert all(int(m.num_batches_tracked) == 0 for m in norms if m.num_batches_tracked is not None)


@pytest.mark.parametrize("typo", ["resnet81", "reznet18"])
def test_an_unknown_backbone_names_the_nearest(typo: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown backbone '{typo}'; did you mean .*resnet18"):
        encoders.make(typo, "auto", 32)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("vits16", "vit_small_patch16_224"),
        ("ViT-S/16", "vit_small_patch16_224"),
        ("vit_b_16", "vit_base_patch16_224"),
        ("vit-tiny", "vit_tiny_patch16_224"),
        ("dinov2_vits14", "vit_small_patch14_dinov2"),
        ("ResNet50", "resnet50, "),
        ("convnext", "convnext_atto, "),
    ],
)
def test_a_backbone_by_the_name_that_papers_give_it_is_told_what_it_is_here(alias: str, name: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown backbone '{alias}'; did you mean {name}"):
        encoders.make(alias, "auto", 32)


def test_a_small_stem_is_refused_where_there_is_none() -> None:
    for backbone in ("swin_tiny_patch4_window7_224", "test_convnext", "vit_tiny_r_s16_p8_224"):
        with pytest.raises(UsageError, match=f"stem=small: {backbone} has no stem"):
            encoders.make(backbone, "small", 32)


def test_a_small_stem_gives_transformers_patches_of_4_pixels_where_it_is_asked_for() -> None:
    network, width, stem = encoders.make("vit_tiny_patch16_224", "small", 32)
    assert (width, stem) == (192, "small")
    assert network.forward_features(torch.zeros(1, 3, 32, 32)).shape == (1, 64 + 1, 192)  # type: ignore[operator]
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 5.4
    assert encoders.make("vit_tiny_patch16_224", "auto", 32)[2] == "native", "four patches of 16, as ever"
    network, width, _ = encoders.make("test_vit", "small", 32, [("small crops", 16)])
    for size in (16, 32):
        assert network(torch.zeros(2, 3, size, size)).shape == (2, width)
    with pytest.raises(UsageError, match=r"patches of 4 .* at most 64, not 96, of test_vit; use stem=native"):
        encoders.make("test_vit", "small", 96)


def test_a_transformer_s_feature_is_its_token_or_the_mean_of_its_normalised_patches() -> None:
    x = torch.randn(2, 3, 32, 32)
    for pool in ("token", "avg"):
        network = encoders.make("test_vit", "small", 32, pool=pool)[0].eval()
        tokens = network.forward_features(x)  # type: ignore[operator]
        assert (tokens.mean(dim=2).abs() < 1e-5).all(), "behind the last norm"
        expected = tokens[:, 0] if pool == "token" else tokens[:, 1:].mean(dim=1)
        torch.testing.assert_close(network(x), expected)
        assert all(p.grad is None for p in network.parameters())
        network(x).square().sum().backward()
        assert not [name for name, p in network.named_parameters() if p.grad is None], "none would wait in DDP"
    for backbone, pool in (("resnet18", "token"), ("resnet18", "avg"), ("test_convnext", "avg")):
        with pytest.raises(UsageError, match=f"^pool={pool}: {backbone} has no tokens; vision transformers have"):
            encoders.make(backbone, "auto", 32, pool=pool)


@pytest.mark.parametrize(
    ("backbone", "size"), [("test_vit", 100), ("test_vit", 8), ("inception_v3", 32), ("xcit_nano_12_p16_224", 40)]
)
def test_a_size_that_the_backbone_cannot_take_is_one_line(backbone: str, size: int) -> None:
    with pytest.raises(UsageError) as error:
        encoders.make(backbone, "auto", size)
    message = str(error.value)
    assert "\n" not in message
    assert backbone in message
    assert f"views of {size} pixels: " in message
    assert len(message) > message.index("pixels: ") + 20, "and says why"


def test_further_sizes_are_taken_or_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"backbone=test_vit does not take small crops of 24 pixels: .*patch size"):
        encoders.make("test_vit", "auto", 64, [("small crops", 48), ("small crops", 24)])
    network, width, stem = encoders.make("resnet18", "auto", 96, [("small crops", 32)])
    assert (width, stem) == (512, "native"), "the view alone decides on the stem"
    network, width, _ = encoders.make("test_vit", "auto", 64, [("jigsaw patches", 16), ("small crops", 48)])
    for size in (16, 48, 64):
        assert network(torch.zeros(2, 3, size, size)).shape == (2, width)
    with pytest.raises(UsageError, match="backbone=mixer_s32_224 does not take small crops of 32 pixels"):
        encoders.make("mixer_s32_224", "auto", 64, [("small crops", 32)])


def test_a_refusal_without_words_is_still_one_line() -> None:
    class Silent(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    with pytest.raises(UsageError, match="does not take views of 8 pixels: AssertionError"):
        encoders.measure_width(Silent(), 8, "silent")


def test_a_backbone_that_gives_maps_is_refused() -> None:
    with pytest.raises(UsageError, match="not one vector an image"):
        encoders.measure_width(nn.Conv2d(3, 4, 3), 8, "maps")


@pytest.mark.parametrize("backbone", ["resnet18", "test_vit", "test_efficientnet"])
def test_the_same_seed_makes_the_same_weights(backbone: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in encoders.make(backbone, "auto", 32)[0].parameters()])

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))


def test_taps_that_see_no_pixel_have_no_gradient_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN leaves them unwritten on maps of one pixel; with what is not written filled with NaN it shows."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        torch.manual_seed(0)
        encoder, _, _ = encoders.make("resnet18", "native", 16)
        encoder = encoder.to(memory_format=torch.channels_last)
        for norm in (m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)):
            nn.init.ones_(norm.weight)  # those at the ends of blocks start at 0, where no gradient passes
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = encoder(torch.randn(16, 3, 16, 16).contiguous(memory_format=torch.channels_last))
        features.float().square().sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)
    last = encoder.layer4[1].conv2.weight.grad
    assert all(bool(p.grad.isfinite().all()) for p in encoder.parameters())
    assert last[:, :, 1, 1].abs().max() > 0
    last[:, :, 1, 1] = 0
    assert not last.any()
