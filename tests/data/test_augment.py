"""The batched views against torchvision, one image at a time, with the same parameters; and how those are drawn."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torchvision.transforms.v2 as reference
import torchvision.transforms.v2.functional as F
from scipy import ndimage, special, stats
from torch import Tensor

from benchmark.__main__ import main
from benchmark.augment.augmentation import list_names, parse
from benchmark.augment.operations import draw_normals
from benchmark.augment.parameters import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    Parameters,
    StaticParameters,
    draw,
    pack,
    unpack,
)
from benchmark.augment.policies import Policy, blur_kernel_size, describe
from benchmark.augment.transforms import CACHED, augment, resize
from benchmark.errors import UsageError

# Both sides are float32 and order their sums differently: some 1e-6 an operation. Hue adds nothing at the borders of
# sextants, since our form is continuous there; where grey is all but reached, chroma is as small as the hue is unsure.
TOLERANCE = 1e-5
RECIPES = ["simclr", "moco_v2", "moco_v1", "instdisc_cifar", "byol"]
SIZES = [(8, 8, 32), (32, 32, 32), (96, 96, 64), (40, 56, 32), (56, 40, 48)]
ADJUST = {
    BRIGHTNESS: F.adjust_brightness,
    CONTRAST: F.adjust_contrast,
    SATURATION: F.adjust_saturation,
    HUE: F.adjust_hue,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Images this small gain nothing from threads, which wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Noise, flat areas and greys, so that equal channels and the ends of the range occur."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)
    images[1::4] = images[1::4] // 128 * 255
    images[2::4] = images[2::4, :1]
    images[3::4] = images[3::4, :, :1, :1]
    return images


def draw_parameters(policy: Policy, images: Tensor, seed: int = 1) -> Parameters:
    return draw(policy, len(images), images.shape[2], images.shape[3], torch.Generator().manual_seed(seed))


def transform_alone(image: Tensor, policy: Policy, own: Parameters, size: int) -> Tensor:
    """torchvision's view of one uint8 image (3, H, W), with the parameters ``own`` of length one."""
    x = F.to_dtype(image, torch.float32, scale=True)
    if policy.crop_scale is None:
        x = F.center_crop(F.resize(x, [size], antialias=True), [size, size])
    else:
        x = F.resized_crop(x, *own.box[0].tolist(), [size, size], antialias=True)
    x = F.horizontal_flip(x) if own.flip else x
    x = F.rotate(x, 90.0 * int(own.rotate))
    if policy.grey_first and own.grey:
        x = F.rgb_to_grayscale(x, num_output_channels=3)
    if own.jitter:
        for operation in own.order[0].tolist():
            x = ADJUST[operation](x, float(own.factor[0, operation]))
    if not policy.grey_first and own.grey:
        x = F.rgb_to_grayscale(x, num_output_channels=3)
    if own.blur:
        taps = blur_kernel_size(policy, size)
        x = F.gaussian_blur(x, [taps, taps], [float(own.sigma)] * 2)
    x = F.solarize(x, policy.solarise_threshold) if own.solarise else x
    if own.sobel:
        grey = F.rgb_to_grayscale(x)[0].double().numpy()
        down, across = (torch.from_numpy(ndimage.sobel(grey, axis, mode="reflect")) / 4 for axis in (0, 1))
        x = ((down**2 + across**2) / 2).sqrt().float().expand(3, size, size)
    if own.noise:
        noise = torch.tensor([compute_normal(number) for number in split_mix(int(own.noise_seed), x.numel())])
        x = (x + own.noise_sigma * noise.view_as(x)).clamp(0, 1)
    return cut_out(x, policy, own.cutout_centre[0].tolist()) if own.cutout else x


def split_mix(seed: int, count: int) -> list[int]:
    """SplitMix64, as its authors' C code has it."""
    numbers, mask = [], 2**64 - 1
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        numbers.append(z ^ (z >> 31))
    return numbers


def compute_normal(number: int) -> float:
    """The normal number at the share that the upper 23 of 64 bits, with a sign, have of all."""
    signed = (number >> 41) - (2**23 if number >> 63 else 0)
    return math.sqrt(2) * float(special.erfinv((signed + 0.5) / 2**22))


def cut_out(x: Tensor, policy: Policy, centre: list[float]) -> Tensor:
    """uoguelph-mlrg/Cutout, util/cutout.py, pixel by pixel."""
    x, size = x.clone(), x.shape[-1]
    side = round(policy.cutout_side * size)
    top, left = (int(place * size) - side // 2 for place in centre)
    for row in range(max(top, 0), min(top + side, size)):
        for column in range(max(left, 0), min(left + side, size)):
            x[:, row, column] = policy.cutout_fill
    return x


def assert_as_torchvision(images: Tensor, policy: Policy, size: int) -> None:
    parameters = draw_parameters(policy, images)
    ours = augment(images, policy, parameters, size)
    theirs = torch.stack(
        [transform_alone(image, policy, parameters.slice(i, i + 1), size) for i, image in enumerate(images)]
    )
    assert ours.shape == (len(images), 3, size, size)
    assert ours.dtype == torch.float32
    assert ours.min() >= 0
    assert ours.max() <= 1
    difference = (ours - theirs).abs()
    if policy.solarise:
        # a jump at the threshold: where rounding falls on its other side, one has x and the other 1 - x
        at_threshold = (theirs - policy.solarise_threshold).abs().minimum((ours - policy.solarise_threshold).abs())
        difference[(at_threshold < TOLERANCE) & ((ours + theirs - 1).abs() < TOLERANCE)] = 0
    assert difference.max() < TOLERANCE


always = {
    "crop": Policy(crop_scale=(0.08, 1.0)),
    "flip": Policy(flip=0.5),
    "brightness": Policy(jitter=1.0, brightness=0.8),
    "contrast": Policy(jitter=1.0, contrast=0.8),
    "saturation": Policy(jitter=1.0, saturation=0.8),
    "hue": Policy(jitter=1.0, hue=0.5),
    "jitter": Policy(jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2),
    "grey": Policy(grey=0.5),
    "blur": Policy(blur=1.0),
    "solarise": Policy(solarise=0.5, solarise_threshold=128 / 255),
    "rotate": Policy(rotate=0.9),
    "sobel": Policy(sobel=0.7),
    "noise": Policy(noise=0.7, noise_sigma=(0.1, 0.5)),
    "cutout": Policy(cutout=0.7, cutout_side=0.4, cutout_fill=0.3),
    "nothing": Policy(),
}


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
@pytest.mark.parametrize("operation", always)
def test_each_operation_is_torchvisions(operation: str, height: int, width: int, size: int) -> None:
    assert_as_torchvision(random_images(8, height, width), always[operation], size)


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
@pytest.mark.parametrize("text", [*RECIPES, "flip+colour+blur", "simclr+rotate+sobel+noise+cutout"])
def test_each_policy_is_torchvisions(text: str, height: int, width: int, size: int) -> None:
    for policy in parse(text).policies:
        assert_as_torchvision(random_images(12, height, width), policy, size)


@pytest.mark.parametrize(("height", "width", "size"), [*SIZES, (33, 70, 31), (200, 90, 45)])
def test_resize_is_torchvisions_resize_and_centre_crop(height: int, width: int, size: int) -> None:
    images = random_images(8, height, width)
    theirs = F.center_crop(F.resize(images.float() / 255, [size], antialias=True), [size, size])
    torch.testing.assert_close(resize(images, size), theirs, atol=TOLERANCE, rtol=0)
    assert height != width or height != size or torch.equal(resize(images, size), images / 255)


def test_a_share_of_the_batch_gets_the_share_of_the_views() -> None:
    # more than what a CPU takes at once, so that its own cuts are among those compared
    images, policy = random_images(360, 20, 28), parse("byol+colour_strong+rotate+noise+cutout").policies[1]
    assert images.shape[0] * 3 * 32 * 32 > CACHED
    parameters = draw_parameters(policy, images)
    whole = augment(images, policy, parameters, 32)
    for start, stop in [(0, 20), (20, 21), (21, 345), (345, 360)]:
        share = augment(images[start:stop], policy, parameters.slice(start, stop), 32)
        torch.testing.assert_close(share, whole[start:stop], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="360 images, but parameters for 20"):
        augment(images, policy, parameters.slice(0, 20), 32)
    assert augment(images[:0], policy, parameters.slice(0, 0), 32).shape == (0, 3, 32, 32)


def test_memory_layout_does_not_matter_but_the_type_does() -> None:
    images, policy = random_images(8, 40, 56), parse("simclr").policies[0]
    parameters = draw_parameters(policy, images)
    permuted = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(permuted, policy, parameters, 32), augment(images, policy, parameters, 32))
    with pytest.raises(TypeError, match="uint8"):
        augment(images.float(), policy, parameters, 32)


def test_the_same_seed_gives_the_same_bits() -> None:
    images, policy = random_images(60, 32, 32), parse("simclr").policies[0]
    first, second = (augment(images, policy, draw_parameters(policy, images, seed=5), 32) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(images, policy, draw_parameters(policy, images, seed=6), 32))


def test_every_policy_takes_equally_many_random_numbers() -> None:
    """So that the second view's draws do not depend on the first's policy, nor on what was drawn for it."""
    following = set()
    for text, _ in list_names():
        generator = torch.Generator().manual_seed(3)
        draw(parse(text).policies[0], 50, 10, 200, generator)
        following.add(torch.rand(1, generator=generator).item())
    assert len(following) == 1


def test_what_was_drawn_before_an_operation_came_is_still_drawn() -> None:
    """Else a finished record would name views that nobody can make again. The numbers are those of version 0.1."""
    images = random_images(500, 10, 200)
    before, after = (
        draw_parameters(parse(text).policies[0], images) for text in ("simclr", "simclr+rotate+sobel+noise+cutout")
    )
    for field in ("box", "flip", "jitter", "factor", "order", "grey", "blur", "sigma", "solarise"):
        assert torch.equal(getattr(before, field), getattr(after, field))
    generator = torch.Generator().manual_seed(1)
    simclr = draw(parse("simclr").policies[0], 500, 10, 200, generator)
    assert simclr.box[0].tolist() == [0, 93, 10, 13]
    assert simclr.order[0].tolist() == [1, 2, 0, 3]
    assert [int(getattr(simclr, name).sum()) for name in ("flip", "jitter", "grey", "blur")] == [255, 392, 98, 260]
    following = torch.rand(1, generator=generator, dtype=torch.float64).item()
    assert following == pytest.approx(0.7185113048875166, abs=1e-12), "the second view's"


COUNT = 2500


def draw_by_torchvision(transform: reference.Transform, image: Tensor) -> list[dict]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [transform.make_params([image]) for _ in range(COUNT)]


def assert_same_distribution(ours: Tensor, theirs: Tensor) -> None:
    assert stats.ks_2samp(ours.double().numpy(), theirs.double().numpy()).pvalue > 0.001


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 56), (10, 200), (200, 10), (3, 4)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    policy, image = parse("crop").policies[0], torch.empty(3, height, width)
    theirs = draw_by_torchvision(reference.RandomResizedCrop(32, scale=policy.crop_scale), image)
    box = draw(policy, COUNT, height, width, torch.Generator().manual_seed(0)).box
    assert (box[:, 2:] > 0).all()
    assert (box >= 0).all()
    assert (box[:, :2] + box[:, 2:] <= torch.tensor([height, width])).all()
    for i, name in enumerate(["top", "left", "height", "width"]):
        assert_same_distribution(box[:, i], torch.tensor([one[name] for one in theirs]))


def test_a_crop_that_never_fits_is_the_central_one() -> None:
    """torchvision's fallback: the largest central crop of an allowed ratio."""
    for height, width in [(10, 200), (200, 10), (20, 20)]:
        policy, image = Policy(crop_scale=(4.0, 5.0)), torch.empty(3, height, width)
        fallback = reference.RandomResizedCrop(32, scale=policy.crop_scale).make_params([image])
        box = draw(policy, 5, height, width, torch.Generator().manual_seed(0)).box
        assert box.tolist() == [[fallback[name] for name in ("top", "left", "height", "width")]] * 5


def test_jitter_is_distributed_as_torchvisions() -> None:
    for policy in (
        parse("colour_strong").policies[0],
        Policy(jitter=0.5, brightness=1.5, contrast=0.3, saturation=0.1, hue=0.5),
    ):
        jitter = reference.ColorJitter(policy.brightness, policy.contrast, policy.saturation, policy.hue)
        theirs = draw_by_torchvision(jitter, torch.empty(3, 8, 8))
        parameters = draw(policy, COUNT, 8, 8, torch.Generator().manual_seed(0))
        keys = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
        for operation, key in enumerate(keys):
            assert_same_distribution(parameters.factor[:, operation], torch.tensor([one[key] for one in theirs]))


def test_orders_differ_from_image_to_image_and_are_equally_frequent() -> None:
    order = draw(parse("colour").policies[0], COUNT, 8, 8, torch.Generator().manual_seed(0)).order
    assert torch.equal(order.sort(dim=1).values, torch.arange(4).expand(COUNT, 4))
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


def test_operations_hit_as_many_images_as_the_policy_says() -> None:
    policy = parse("simclr+solarise+rotate+sobel+noise+cutout").policies[0]
    parameters = draw(policy, COUNT, 8, 8, torch.Generator().manual_seed(0))
    for name in ("flip", "jitter", "grey", "blur", "solarise", "sobel", "noise"):
        hits = int(getattr(parameters, name).sum())
        assert stats.binomtest(hits, COUNT, getattr(policy, name)).pvalue > 0.001
    assert stats.kstest(parameters.sigma.numpy(), stats.uniform(0.1, 1.9).cdf).pvalue > 0.001
    assert stats.kstest(parameters.noise_sigma.numpy(), stats.uniform(0, 0.2).cdf).pvalue > 0.001
    assert stats.chisquare(parameters.rotate.bincount().numpy()).pvalue > 0.001
    assert len(parameters.noise_seed.unique()) == COUNT
    assert parameters.cutout.all()
    for place in parameters.cutout_centre.T:
        assert stats.kstest(place.numpy(), stats.uniform.cdf).pvalue > 0.001
    some = draw(Policy(rotate=0.4), COUNT, 8, 8, torch.Generator().manual_seed(0))
    assert stats.binomtest(int((some.rotate > 0).sum()), COUNT, 0.4 * 3 / 4).pvalue > 0.001
    none = draw(Policy(), COUNT, 8, 8, torch.Generator().manual_seed(0))
    names = ("flip", "jitter", "grey", "blur", "solarise", "rotate", "sobel", "noise", "cutout")
    assert not any(getattr(none, name).any() for name in names)
    every = Policy(flip=1, jitter=1, grey=1, blur=1, solarise=1, sobel=1, noise=1, cutout=1)
    always = draw(every, COUNT, 8, 8, torch.Generator().manual_seed(0))
    assert all(getattr(always, name).all() for name in names if name != "rotate")


def test_noise_is_normal_and_the_images_own() -> None:
    assert split_mix(1234567, 2) == [6457827717110365317, 3203168211198807973], "the generator's published numbers"
    seed = draw_parameters(Policy(noise=1.0), random_images(200, 8, 8)).noise_seed
    noise = draw_normals(seed, 3 * 32 * 32)
    assert stats.kstest(noise.flatten()[::7].double().numpy(), stats.norm.cdf).pvalue > 0.001
    assert noise.abs().max() < 5.5
    correlation = torch.corrcoef(noise) - torch.eye(200)
    assert correlation.abs().max() < 6 / math.sqrt(3 * 32 * 32), "images share nothing"
    for lag in (1, 32, 32 * 32):
        assert abs((noise[:, lag:] * noise[:, :-lag]).mean()) < 5 / math.sqrt(noise.numel()), "nor do their pixels"
    assert torch.equal(draw_normals(seed[7:9], 50), noise[7:9, :50])


@pytest.mark.parametrize("size", [4, 8, 33])
def test_a_hole_is_the_last_thing_and_half_as_high_and_wide_as_the_view(size: int) -> None:
    images, policy = random_images(300, 20, 20), parse("simclr+sobel+noise+cutout").policies[0]
    parameters = draw_parameters(policy, images)
    without = replace(parameters, cutout=torch.zeros_like(parameters.cutout))
    view, whole = (augment(images, policy, own, size) for own in (parameters, without))
    hole = (view == policy.cutout_fill).all(1)
    assert torch.equal(torch.where(hole[:, None], whole, view), whole)
    sides = [hole.any(dim).sum(1) for dim in (1, 2)]
    side = round(size / 2)
    assert all(int(one.max()) == side for one in sides)
    assert all(int(one.min()) in (side // 2, side - side // 2) for one in sides), "cut at the border"


def test_the_new_pieces_are_listed_and_parsed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["augmentations"]) == 0
    parts = {line.split()[0]: line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()}
    for name, part in [
        ("cutout", "square"),
        ("sobel", "edges"),
        ("noise", "Gaussian"),
        ("rotate", "270"),
        ("one_branch", "figure 5"),
    ]:
        assert part in parts[name]
    assert parse("crop+cutout").policies == (Policy(crop_scale=(0.08, 1.0), cutout=1.0),)
    assert parse("sobel+rotate") == parse("rotate+sobel")
    assert parse("sobel+rotate").policies == (Policy(sobel=0.5, rotate=1.0),)
    assert describe(parse("noise").policies[0]) == {"noise": 0.5, "noise_sigma": [0.0, 0.2]}
    small = parse("noise+2x8").policy(2, large=2)
    assert (small.noise, small.crop_scale) == (0.5, (0.05, 0.14))


def test_one_branch_keeps_what_is_left_of_it_to_the_first_view() -> None:
    crop, colour, nothing = (parse(text).policies[0] for text in ("crop", "colour", "none"))
    assert parse("crop+one_branch").policies == (crop, nothing)
    assert parse("colour+one_branch+crop").policies == (*parse("crop+colour").policies, crop)
    assert parse("one_branch+colour").policies == (colour, colour)
    assert parse("byol+one_branch").policies == (parse("byol").policies[0], nothing)


def test_pieces_compose_left_to_right() -> None:
    assert parse("crop+flip+colour+grey") == parse("simclr_cifar")
    assert parse("none+simclr+none") == parse(" simclr ")
    assert parse("simclr_cifar+colour_strong+blur") == parse("simclr")
    (policy,) = parse("moco_v1+crop").policies
    assert policy.crop_scale == (0.08, 1.0)
    assert policy.grey_first
    assert policy.jitter == 1.0


def test_an_asymmetric_recipe_is_a_pair_and_stays_one() -> None:
    first, second = parse("byol").policies
    assert (first.blur, second.blur, first.solarise, second.solarise) == (1.0, 0.1, 0.0, 0.2)
    assert first.saturation == 0.2
    first, second = parse("byol+colour_strong").policies
    assert (first.hue, second.hue, first.blur, second.blur) == (0.2, 0.2, 1.0, 0.1)
    # the right one's operations win: blur in both views, solarise from the left where the right has none
    assert [policy.blur for policy in parse("solarise+byol").policies] == [1.0, 0.1]
    assert [policy.solarise for policy in parse("solarise+byol").policies] == [0.2, 0.2]
    assert [policy.crop_scale for policy in parse("byol+moco_v3").policies] == [(0.2, 1.0)] * 2


def test_a_recipe_of_three_policies_has_one_for_small_crops() -> None:
    dino = parse("dino+3x8@.05-.4")
    views = [dino.policy(number, 2) for number in range(5)]
    assert [view.blur for view in views] == [1.0, 0.1, 0.5, 0.5, 0.5]
    assert [view.solarise for view in views] == [0.0, 0.2, 0.0, 0.0, 0.0]
    assert [view.crop_scale for view in views] == [(0.4, 1.0)] * 2 + [(0.05, 0.4)] * 3
    assert {(view.flip, view.grey, view.saturation) for view in views} == {(0.5, 0.2, 0.2)}
    assert [dino.policy(number, 4).blur for number in range(4)] == [1.0, 0.1, 1.0, 0.1]
    assert [policy.hue for policy in parse("dino+colour_strong").policies] == [0.2] * 3


def test_recipes_of_crops_alone() -> None:
    (lejepa,) = parse("lejepa").policies
    assert describe(lejepa) == describe(parse("byol+blur+solarise").policies[0]) | {"crop_scale": [0.3, 1.0]}
    recipes = {name: parse(name).policies for name in ("mae", "simmim", "ijepa")}
    assert recipes == {
        "mae": (Policy(crop_scale=(0.2, 1.0), flip=0.5),),
        "simmim": (Policy(crop_scale=(0.67, 1.0), flip=0.5),),
        "ijepa": (Policy(crop_scale=(0.3, 1.0)),),
    }


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("simclrr", "simclr"),
        ("crop+color", "colour"),
        ("moco-v2", "moco_v2"),
        ("cut_out", "cutout"),
        ("crop+sobell", "sobel"),
        ("noisy", "noise"),
    ],
)
def test_an_unknown_piece_is_named_with_the_nearest(text: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"unknown augmentation .*did you mean '{near}'"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("swav+0x96", ["piece 0x96", "N at least 1", "'1x96'"]),
        ("swav+6x3", ["piece 6x3", "S at least 4", "'6x4'"]),
        ("swav+60x8+60x8", ["piece 60x8", "at most 100 small crops", "120"]),
        ("swav+6x96@", ["piece 6x96@", "LOW-HIGH with 0 < LOW <= HIGH <= 1", "'6x96@0.05-0.14'"]),
        ("swav+6x96@.3-.05", ["piece 6x96@.3-.05", "'6x96@0.05-0.3'"]),
        ("swav+6x96@5-30", ["'6x96@0.05-0.3'"]),
        ("swav+6x96@.3", ["piece 6x96@.3:"]),
        ("swav+0x96@.05-.3", ["'1x96@.05-.3'"]),
        ("swav+x96", ["unknown augmentation 'x96'", "allowed: blur", "NxS adds N small crops"]),
        ("swaw+6x96", ["unknown augmentation 'swaw'", "did you mean 'swav'"]),
    ],
)
def test_small_crops_that_cannot_be_are_refused(text: str, parts: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert [part for part in parts if part not in str(error.value)] == [], str(error.value)


def test_policies_that_cannot_be_are_refused() -> None:
    for wrong in (
        {"flip": 1.5},
        {"hue": 0.6},
        {"crop_scale": (1.0, 0.5)},
        {"blur_sigma": (0.0, 1.0)},
        {"rotate": 2},
        {"noise_sigma": (-0.1, 1.0)},
        {"cutout_side": 0.0},
        {"cutout_fill": 1.5},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Policy(**wrong)  # type: ignore[arg-type]


def test_descriptions_are_plain_json_and_tell_policies_apart() -> None:
    for name, line in list_names():
        assert line
        for policy in parse(name).policies:
            text = json.dumps(describe(policy))
            settings = {
                key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(text).items()
            }
            assert Policy(**settings) == policy
    assert describe(Policy()) == {}


def test_blur_kernels_follow_simclrs_rule() -> None:
    assert [blur_kernel_size(Policy(), size) for size in (8, 32, 64, 96, 224)] == [3, 3, 7, 9, 23]


def test_policies_need_no_torch() -> None:
    code = "import sys; from benchmark.augment import parse; parse('simclr'); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize(
    "policy",
    [
        *parse("byol+colour_strong").policies,
        *parse("simclr+rotate+sobel+noise+cutout").policies,
        parse("moco_v1").policies[0],
        parse("flip+rotate").policies[0],
    ],
    ids=["byol", "byol 2", "all", "moco_v1", "no crop"],
)
@pytest.mark.filterwarnings("ignore:Dynamo detected a call")
@pytest.mark.parametrize("compiled", [False, True])
def test_operations_done_to_all_and_kept_where_they_hit_give_the_same_views(policy: Policy, compiled: bool) -> None:
    """As a GPU records them; what was drawn goes there as bytes. Compiled: of what a compiler is given."""
    images = random_images(200, 40, 56)
    parameters = draw_parameters(policy, images)
    static = StaticParameters(*unpack(pack(parameters.tensors()), parameters.tensors()))
    make = torch.compile(augment, backend="aot_eager", dynamic=False) if compiled else augment
    difference = (make(images, policy, static, 32) - augment(images, policy, parameters, 32)).abs()
    near = difference if not policy.solarise else difference[difference < 0.1]  # rounding may cross the threshold
    assert near.max() < 1e-5
    assert near.numel() > 0.999 * difference.numel()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cpu_and_gpu_agree_and_the_gpu_is_not_waited_for() -> None:
    images = random_images(300, 40, 56)
    for policy in (*parse("byol+colour_strong").policies, *parse("simclr+rotate+sobel+noise+cutout").policies):
        parameters = draw_parameters(policy, images)
        expected = augment(images, policy, parameters, 32)
        resident = images.cuda()
        augment(resident, policy, parameters, 32)
        torch.cuda.set_sync_debug_mode("error")
        try:
            views = augment(resident, policy, parameters, 32)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert views.device == resident.device
        difference = (views.cpu() - expected).abs()
        assert difference[(expected - policy.solarise_threshold).abs() > 1e-4].max() < 1e-4
    torch.testing.assert_close(resize(images.cuda(), 32).cpu(), resize(images, 32), atol=1e-4, rtol=0)
