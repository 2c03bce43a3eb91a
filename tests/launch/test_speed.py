"""The speed scripts on tiny sizes: their tables have their rows, and the contestants agree. No time is asserted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmark.augment import parse
from benchmark.profiling import augmentation, evaluation, images, losses, probe, timing


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def read_columns(rows: list[list[str]]) -> dict[str, list[str]]:
    """Header -> its cells; every row is as long as the header."""
    assert {len(row) for row in rows} == {len(rows[0])}
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def test_augmentation_has_a_row_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    table = read_columns(augmentation.main(["--rounds", "1", "--share", "0.03"]))
    assert table["policy"] == ["simclr_cifar", "simclr", "simclr"]
    assert table["view px"] == ["32", "96", "224"]
    assert all(cell.endswith("x") for cell in table["ours over the faster"])
    assert ", 1 threads, torch " in capsys.readouterr().out


@pytest.mark.parametrize("float_early", [True, False])
def test_both_sides_of_the_augmentation_give_like_views(float_early: bool) -> None:
    """The mean and spread of the pixels of many views of one image, drawn from one distribution."""
    policy = parse("simclr").policies[0]
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 4, 4, generator=generator).repeat_interleave(6, 1).repeat_interleave(6, 2)
    images = (255 * image).byte().expand(600, -1, -1, -1)
    ours = augmentation.augment_batch(images, policy, 24, generator)[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = augmentation.augment_one_by_one(images, augmentation.build_transform(policy, 24, float_early))[0]
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == torch.float32
    for statistic in (torch.mean, torch.std):
        # of the views' means: 600 each, which differ by some 0.1
        assert float(statistic(ours.mean(dim=(1, 2, 3)))) == pytest.approx(
            float(statistic(theirs.mean(dim=(1, 2, 3)))), abs=0.03
        )
        assert float(statistic(ours)) == pytest.approx(float(statistic(theirs)), abs=0.03)


def test_losses_agree_with_their_plain_forms() -> None:
    words = ["--batches", "24", "40", "--batch", "16", "--queue", "50", "--rounds", "1", "--no-memory"]
    table = read_columns(losses.main(words))
    assert table["loss"] == ["NT-Xent", "NT-Xent", "InfoNCE"]
    for ours, plain in zip(table["loss ours"], table["loss plain"], strict=True):
        assert float(ours) == pytest.approx(float(plain), abs=2e-6)
    for functions in losses.LOSSES.values():
        gradients = []
        for loss in functions.values():
            a, b, negatives = losses.draw_rows(16, 50)
            losses.step(loss, a, b, negatives)
            gradients.append(torch.cat([a.grad, b.grad]))
        torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def test_the_growth_of_memory_is_that_of_the_plain_matrix() -> None:
    """1,024 views: each copy of the plain form's logits is 4 MiB."""
    assert losses.measure_growth_in_child("NT-Xent", "plain", 512, 0, 1) > 2 * 4 * 2**20


def test_the_probe_agrees_with_scikit_learn() -> None:
    table = read_columns(probe.main(["--images", "1500", "--width", "32"]))
    assert len(table["strength"]) == 10
    assert max(abs(float(difference)) for difference in table["difference"]) < 1e-4
    accuracy = [float(cell.rstrip("%")) for cell in table["accuracy"]]
    assert 30 < min(accuracy) <= max(accuracy) < 100, "neither noise nor separable"


def test_evaluation_has_a_row_a_part() -> None:
    words = ["--backbones", "test_resnet", "--images", "20", "--references", "300", "--queries", "20", "--rounds", "1"]
    table = read_columns(evaluation.main(words))
    assert table["part"] == ["features, test_resnet", "kNN"]
    assert table["images"] == ["20", "20"]


def test_contestants_take_turns_and_every_second_round_is_reversed() -> None:
    calls: list[str] = []
    contestants = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    timings = timing.alternate(contestants, rounds=3, warm_up=1)
    assert "".join(calls) == "abbaabba"
    assert [len(seconds) for seconds in timings.values()] == [3, 3]


def test_ratios_are_formed_round_by_round() -> None:
    assert timing.ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == "3.00x (2.50 to 3.50)"
    assert timing.ratio([3.0], [2.0], scale=2) == "3.00x"
    assert timing.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, 2.0, 4.0)


def test_images_are_decoded_streamed_and_cached() -> None:
    words = ["--batch", "8", "--view", "16", "--cache", "20", "--rounds", "1"]
    table = read_columns(images.main(words))
    assert table["batch"][0] == "files decoded, no more"
    assert table["speed over decoding"][0] == "1.00x"
    assert sorted({name.partition(":")[0] for name in table["batch"][1:]}) == ["cached", "streamed"]
