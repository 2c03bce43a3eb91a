"""Views by name and of several sizes: the jigsaw against torchvision, small crops, and what is refused before a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision.transforms.v2.functional as F
from torch import Tensor

import methods
from benchmark.__main__ import main
from benchmark.augment import jigsaw
from benchmark.augment.augmentation import SMALL_SCALE, Augmentation, SmallCrop, parse
from benchmark.augment.parameters import draw
from benchmark.augment.policies import Policy
from benchmark.augment.transforms import CACHED, apply_after_flip
from benchmark.contract import short_training
from benchmark.data.datasets import Split
from benchmark.errors import UsageError
from benchmark.settings import schema
from benchmark.training import build
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.words import cell_words

CPU = torch.device("cpu")
PLUGIN = '''"""Crops and a jigsaw: A Paper (arXiv:0000.00000)."""

from torch import cat

from methods.method import Method


class Mine(Method):
    views = ("crop", "jigsaw")
    multicrop = True

    def __init__(self, config, encoder, width, images):
        super().__init__(config, encoder, width, images)
        if images > 5000:
            raise ValueError(f"{images} images are too many")

    def forward(self, batch, at):
        views = [view.flatten(0, -4) for view in batch.views]
        z = [self.encoder(view).unflatten(0, (len(batch.index), -1)).mean(1) for view in views]
        return {"z": cat(z, dim=1)}

    def loss(self, rows, at):
        return {"loss": (rows["z"] - 1).square().mean()}
'''
SMALL = ["dataset.limit=180", "view_size=16", "batch_size=32", "epochs=2", "backbone=test_resnet", "stem=native"]


@pytest.fixture
def plugin(write_plugin: Callable[[str], str]) -> str:
    """The dotted path of a method that takes a crop, a jigsaw and small crops."""
    return write_plugin(PLUGIN)


def random_images(count: int, height: int, width: int) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def make_batches(views: tuple[str, ...], text: str, size: int = 32, world: World | None = None) -> Batches:
    split = Split(random_images(40, 32, 36), torch.arange(40))
    mean, std = torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.2)
    return Batches(split, views, parse(text), size, 8, 3, mean, std, world or World(), CPU, torch.float32, False)


def make_generator(number: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def test_the_geometry_of_the_jigsaw() -> None:
    known = {16: (10, 8), 32: (12, 10), 64: (22, 16), 96: (32, 24), 224: (85, 64)}
    assert {size: jigsaw.choose_geometry(size) for size in known} == known
    assert jigsaw.choose_geometry(256) == (97, 73)
    for size in range(4, 400):
        cell, patch = jigsaw.choose_geometry(size)
        assert 4 <= patch <= cell


@pytest.mark.parametrize(("height", "width", "size"), [(8, 8, 16), (32, 32, 32), (56, 40, 32), (300, 200, 96)])
@pytest.mark.parametrize("text", ["flip", "simclr+solarise", "moco_v1", "rotate+sobel+noise+cutout"])
def test_each_patch_is_torchvisions(text: str, height: int, width: int, size: int) -> None:
    images, policy = random_images(4, height, width), parse(text).policies[0]
    parameters = jigsaw.draw(policy, 4, height, width, size, make_generator())
    cell, patch = jigsaw.choose_geometry(size)
    plain = []
    for i, image in enumerate(images):
        box = parameters.patches.box[9 * i].tolist()
        square = F.resized_crop(image.float() / 255, *box, [3 * cell] * 2, antialias=True)
        for k in range(9 * i, 9 * i + 9):
            top, left = parameters.corner[k].tolist()
            cut = square[:, top : top + patch, left : left + patch]
            plain.append(F.horizontal_flip(cut) if parameters.patches.flip[k] else cut)
    # the same draws with nothing but the flip
    moving = Policy(flip=policy.flip, crop_scale=policy.crop_scale)
    moved = jigsaw.augment(images, moving, jigsaw.draw(moving, 4, height, width, size, make_generator()), size)
    assert moved.shape == (4, 9, 3, patch, patch)
    torch.testing.assert_close(moved.flatten(0, 1), torch.stack(plain), atol=1e-5, rtol=0)
    # and each is coloured by its own parameters, as an image would be (test_augment.py)
    coloured = jigsaw.augment(images, policy, parameters, size)
    assert torch.equal(coloured.flatten(0, 1), apply_after_flip(moved.flatten(0, 1), policy, parameters.patches))
    # as a GPU records them: every operation done to all patches, and kept where it hits
    recorded = jigsaw.augment(images, policy, parameters.place(parameters.tensors()), size)
    near = (recorded - coloured).abs() < 1e-4  # rounding may cross the threshold of solarisation
    assert near.float().mean() > 0.999


def test_patches_differ_in_place_and_colour() -> None:
    policy = parse("pirl").policies[0]
    parameters = jigsaw.draw(policy, 300, 32, 32, 32, make_generator())
    cell, patch = jigsaw.choose_geometry(32)
    place = parameters.corner // cell
    order = (3 * place[:, 0] + place[:, 1]).view(300, 9)
    assert torch.equal(order.sort(dim=1).values, torch.arange(9).expand(300, 9)), "each cell once"
    assert len(order.unique(dim=0)) > 290
    assert (parameters.corner - cell * place).unique().tolist() == list(range(cell - patch + 1))
    assert all(len(set(factors)) == 9 for factors in parameters.patches.factor[:, 0].view(300, 9).tolist())
    assert parameters.patches.flip.view(300, 9).float().std(dim=1).gt(0).float().mean() > 0.9
    box = parameters.patches.box.view(300, 9, 4)
    assert torch.equal(box, box[:, :1].expand_as(box)), "one crop of an image"
    area = (box[:, 0, 2] * box[:, 0, 3]) / 32**2
    assert 0.55 < area.min() < 0.65
    assert area.max() > 0.9
    whole = jigsaw.draw(parse("flip").policies[0], 3, 20, 30, 32, make_generator()).patches.box
    assert torch.equal(whole, torch.tensor([0, 0, 20, 30]).expand(27, 4)), "no crop: the whole image"


def test_a_share_of_the_images_gets_the_share_of_the_patches() -> None:
    images, policy = random_images(400, 32, 32), parse("pirl+blur").policies[0]
    assert 200 * 9 * 3 * 10 * 10 < CACHED < 400 * 9 * 3 * 10 * 10
    parameters = jigsaw.draw(policy, 400, 32, 32, 32, make_generator())
    whole = jigsaw.augment(images, policy, parameters, 32)
    for start, stop in [(0, 0), (0, 1), (7, 399)]:
        share = jigsaw.augment(images[start:stop], policy, parameters.slice(start, stop), 32)
        torch.testing.assert_close(share, whole[start:stop], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="400 images, but 3591 patches"):
        jigsaw.augment(images, policy, parameters.slice(0, 399), 32)


@pytest.mark.parametrize("views", [("crop", "jigsaw"), ("jigsaw", "crop", "crop")])
def test_two_processes_see_what_one_sees(views: tuple[str, ...]) -> None:
    order = make_batches(views, "byol").order(0)
    text = "byol+rotate+sobel+noise+cutout+2x16"
    whole = make_batches(views, text).get(2, order)
    halves = [make_batches(views, text, world=World(rank, 2)).get(2, order) for rank in range(2)]
    for number, view in enumerate(whole.views):
        together = torch.cat([half.views[number] for half in halves])
        torch.testing.assert_close(together, view, atol=1e-5, rtol=0)


def test_views_are_normalised_and_channels_last() -> None:
    crop, puzzle, small = make_batches(("crop", "jigsaw"), "crop+flip+1x16").get(0, torch.arange(40)).views
    assert [view.shape[1:] for view in (crop, puzzle, small)] == [(3, 32, 32), (9, 3, 10, 10), (3, 16, 16)]
    for view in (crop, puzzle.transpose(0, 1).flatten(0, 1), small):
        assert view.is_contiguous(memory_format=torch.channels_last)
        assert -2 - 1e-4 <= view.min() < -1.5
        assert 2.5 < view.max() <= 3 + 1e-4


def test_what_follows_a_view_does_not_change_it() -> None:
    order = torch.arange(40)
    views_alone = make_batches(("crop",), "byol").get(0, order).views
    for text, views in [("byol", ("crop", "crop")), ("byol", ("crop", "jigsaw")), ("byol+3x8+1x16", ("crop",))]:
        assert torch.equal(make_batches(views, text).get(0, order).views[0], views_alone[0])
    some, more = (
        make_batches(("crop", "jigsaw"), f"swav+{small}").get(0, order).views for small in ("1x8", "1x8+2x16")
    )
    assert all(torch.equal(a, b) for a, b in zip(some, more, strict=False))


def test_small_crops_are_many_small_and_of_a_small_area() -> None:
    augmentation = parse("swav+4x16+2x24")
    assert augmentation == Augmentation(parse("swav").policies, (SmallCrop(16),) * 4 + (SmallCrop(24),) * 2)
    assert parse("2x24+swav") == Augmentation(parse("swav").policies, (SmallCrop(24),) * 2)
    views = make_batches(("crop", "crop"), "swav+4x16+2x24").get(0, torch.arange(40)).views
    assert [view.shape[-1] for view in views] == [32, 32, 16, 16, 16, 16, 24, 24]
    pair = parse("byol+3x16")
    assert [pair.policy(i, 2).blur for i in range(5)] == [1.0, 0.1, 1.0, 0.1, 1.0]
    assert [pair.policy(i, 2).crop_scale for i in range(5)] == [(0.08, 1.0)] * 2 + [SMALL_SCALE] * 3
    assert pair.policy(4, 2).crop_ratio == (3 / 4, 4 / 3)
    assert parse("none+1x8").policy(1, 1).crop_scale == SMALL_SCALE
    box = draw(augmentation.policy(3, 2), 2000, 200, 200, make_generator()).box
    area = (box[:, 2] * box[:, 3]) / 200**2
    assert 0.045 < area.min() < 0.06
    assert 0.13 < area.max() < 0.145


def test_small_crops_have_the_area_that_is_asked_for() -> None:
    augmentation = parse("swav+2x16@.05-.3+1x32@.2-1+1x16")
    assert augmentation.small == (*[SmallCrop(16, (0.05, 0.3))] * 2, SmallCrop(32, (0.2, 1.0)), SmallCrop(16))
    views = make_batches(("crop", "crop"), "swav+2x16@.05-.3+1x32@.2-1").get(0, torch.arange(40)).views
    assert [view.shape[-1] for view in views] == [32, 32, 16, 16, 32], "one as large as a large view, its area ours"
    box = draw(augmentation.policy(2, 2), 2000, 200, 200, make_generator()).box
    area = (box[:, 2] * box[:, 3]) / 200**2
    assert 0.045 < area.min() < 0.06
    assert 0.28 < area.max() < 0.31
    plain, explicit = (
        make_batches(("crop",), f"swav+1x8{area}").get(0, torch.arange(40)).views for area in ("", "@.05-.14")
    )
    assert torch.equal(plain[1], explicit[1])


def test_what_an_image_costs() -> None:
    plain, puzzle = make_batches(("crop", "crop"), "swav+4x16"), make_batches(("crop", "jigsaw"), "pirl")
    assert (plain.views_per_image, plain.pixels) == (6, 2 * 32**2 + 4 * 16**2)
    assert (puzzle.views_per_image, puzzle.pixels) == (2, 32**2 + 9 * 10**2)


def test_a_method_that_takes_no_small_crops_says_so(capsys: pytest.CaptureFixture[str], plugin: str) -> None:
    assert cell_words.read([f"methods={plugin}", "augmentation=swav+6x96"]).cells[0].augmentation == "swav+6x96"
    methods.source(plugin).write_text(PLUGIN.replace("    multicrop = True\n", ""))
    schema.describe.cache_clear()
    assert main(["plan", f"methods=random,{plugin}", "augmentation=swav+6x96"]) == 2
    assert capsys.readouterr().err == (
        f"error: {plugin} takes no small crops: augmentation=swav+6x96; give it its own with "
        f"{plugin}.augmentation=swav\n"
    )
    with pytest.raises(UsageError, match=r"\.augmentation=none$"):
        cell_words.read([f"methods={plugin}", "augmentation=1x16"])
    words = [f"methods=random,{plugin}", "augmentation=swav+6x96", f"{plugin}.augmentation=swav"]
    assert [cell.augmentation for cell in cell_words.read(words).cells] == [None, "swav"]
    assert main(["augmentations"]) == 0
    assert "NxS" in capsys.readouterr().out


def test_every_method_declares_what_its_class_has() -> None:
    for name in methods.names():
        assert methods.describe(name).multicrop == methods.load(name).multicrop


def test_supervised_methods_alone_are_given_labels() -> None:
    supervised = {name for name in methods.names() if methods.load(name).supervised}
    assert supervised == {"supervised", "supcon"}
    for name in ("simclr", "dino", *supervised):
        _, batches = short_training.prepare(short_training.settings(name), World())
        assert (batches.get(0, batches.order(0)).labels is not None) == (name in supervised)


def test_the_backbone_must_take_every_size(plugin: str) -> None:
    words = [f"methods={plugin}", "backbone=test_resnet,test_vit", "stem=native", "augmentation=swav+2x8", *SMALL[:-2]]
    convolutions, transformer = cell_words.read(words).cells
    build.check(convolutions, World(), CPU)
    with pytest.raises(UsageError, match=r"backbone=test_vit does not take jigsaw patches of 8 pixels: .*patch size"):
        build.check(transformer, World(), CPU)


def test_a_method_may_refuse_before_any_cell_trains(
    plugin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods.source(plugin).write_text(PLUGIN.replace("5000", "100"))
    out = tmp_path / "runs"
    assert main(["run", f"methods=random,{plugin}", *SMALL, f"out={out}"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {plugin}: 162 images are too many"
    assert not out.exists()


def test_other_errors_are_left_to_the_real_construction(plugin: str) -> None:
    methods.source(plugin).write_text(
        PLUGIN.replace("if images > 5000", "if self.encoder.conv1.weight.sum().item() > 5000")
    )
    build.check(cell_words.read([f"methods={plugin}", *SMALL]).cells[0], World(), CPU)


def test_a_run_with_views_of_three_sizes(plugin: str, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    words = [
        f"methods={plugin}",
        "augmentation=swav+1x12+1x12@.2-.5",
        "microbatch=8",
        *(w for w in SMALL if w != "epochs=2"),
        "epochs=1",
        f"out={out}",
    ]
    assert main(["run", *words]) == 0
    record = json.loads(next(out.glob("*/record.json")).read_text())
    assert record["cost"]["views"] == 5 * 32 * 4, "steps x batch x views"
    assert record["cost"]["pixels_per_image"] == 16**2 + 9 * 8**2 + 2 * 12**2
    assert record["resolved"]["small_crops"] == [12, 12]
    assert record["resolved"]["small_crop_scale"] == [[0.05, 0.14], [0.2, 0.5]]
