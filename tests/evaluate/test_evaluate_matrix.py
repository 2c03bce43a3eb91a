"""`evaluate`: its evaluators against scikit-learn and known answers, and what it leaves in a cell's folder."""

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import methods
from benchmark.__main__ import main
from benchmark.augment import parse
from benchmark.contract import short_training
from benchmark.data.datasets import Data
from benchmark.data.source import Split
from benchmark.evaluate import (
    few_labels,
    finetune,
    gallery,
    knn,
    knn_grid,
    linear,
    matrix,
    outputs,
    representation,
    sgd_probe,
)
from benchmark.evaluate.features import Features
from benchmark.evaluate.frozen_cell import FrozenCell
from benchmark.training import build
from benchmark.training.batches import Batches
from benchmark.training.distributed import World
from benchmark.words import cell_words, evaluate_words

CPU = torch.device("cpu")
SMALL = (
    "dataset.limit=180",
    "view_size=16",
    "backbone=test_resnet",
    "stem=native",
    "batch_size=32",
    "epochs=1",
    "threads=1",
    "device=cpu",
)
NUMBERS = ("knn", "sgd_probe", "few_labels", "finetune", "heads")


def draw_blobs(rows: int, seed: int, spread: float = 0.7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % 3
    return torch.eye(3, 6)[y] + spread * torch.randn(rows, 6, generator=generator), y


def draw_features() -> Features:
    return Features(draw_blobs(240, 0), draw_blobs(60, 1), draw_blobs(90, 2), 3)


class Colour(nn.Module):
    """The mean colour of an image through a linear layer that is no help at first: (n, 3, H, W) to (n, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        nn.init.eye_(self.layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mean(dim=(2, 3)))


def draw_colour_images(rows: int, seed: int) -> Split:
    """Images of one colour each, which no crop changes, near that of their class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(rows) % 3
    pixels = 60 + 140 * torch.eye(3)[y] + 20 * torch.randn(rows, 3, generator=generator)
    return Split(pixels.clamp(0, 255).to(torch.uint8)[:, :, None, None].repeat(1, 1, 8, 8), y)


def make_frozen_cell(head: nn.Module | None = None, encoder: nn.Module | None = None) -> FrozenCell:
    train, validation, test = draw_colour_images(600, 0), draw_colour_images(60, 1), draw_colour_images(90, 2)
    data = Data("digits", train, train, validation, test, ["red", "green", "blue"], (0.5,) * 3, (0.25,) * 3)
    half, quarter = (torch.full((3, 1, 1), value) for value in (0.5, 0.25))
    batches = Batches(train, ("crop",), parse("none"), 8, 32, 0, half, quarter, World(), CPU, torch.float32, False)
    return FrozenCell(encoder or Colour(), head, data, batches, CPU)


# The evaluators


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_vote_as_scikit_learn_s_do(metric: str) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    features = draw_features()
    near = knn_grid.METRICS[metric](features.test[0], features.train[0], 200)
    for k in knn_grid.NEIGHBOURS:
        theirs = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(
            *(part.numpy() for part in features.train)
        )
        ours = knn_grid.count_votes(near, features.train[1], 3, k, None)
        assert ours.argmax(dim=1).tolist() == theirs.predict(features.test[0].numpy()).tolist(), f"k={k}"
        torch.testing.assert_close(
            ours.double() / k, torch.tensor(theirs.predict_proba(features.test[0].numpy())), check_dtype=False
        )


def test_a_temperature_means_the_same_for_both_metrics() -> None:
    """Of features of one length around 0 the distance says what the cosine says."""
    x = torch.nn.functional.normalize(torch.randn(60, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    references = 3 * torch.cat([x, -x])
    cosine = knn.find_neighbours(3 * x[:20], references, 10)
    euclidean = knn_grid.find_euclidean(3 * x[:20], references, 10)
    assert torch.equal(cosine[1], euclidean[1])
    torch.testing.assert_close(euclidean[0], cosine[0] - 1, atol=1e-5, rtol=0)


def test_validation_chooses_the_neighbours_and_the_usual_ones_are_the_headline() -> None:
    features = draw_features()
    before = dict(knn_grid.search_grid(features))
    headline = dict(knn.evaluate(features))
    assert {f"knn{k}_cosine_top1": before[f"knn{k}_cosine_top1"] for k in (20, 200)} == {
        f"knn{k}_cosine_top1": headline[f"knn{k}_top1"] for k in (20, 200)
    }
    x, y = features.test
    after = dict(knn_grid.search_grid(Features(features.train, features.validation, (x.flip(0), (y + 1) % 3), 3)))
    choices = [name for name in before if not name.endswith("_top1")]
    assert len(choices) == 4
    assert [before[name] for name in choices] == [after[name] for name in choices]
    assert before["knn_euclidean_tuned_top1"] != after["knn_euclidean_tuned_top1"]


def test_the_sgd_probe_reaches_the_exact_one_on_separable_features() -> None:
    one = make_frozen_cell()
    exact, by_sgd = dict(linear.evaluate(one.features)), dict(sgd_probe.evaluate(one))
    assert exact["linear_top1"] == 1
    assert by_sgd["sgd_probe_top1"] >= 0.98
    assert by_sgd["sgd_probe_rate"] in sgd_probe.RATES


def test_digits_are_not_mirrored_by_the_probe_s_views() -> None:
    one = make_frozen_cell()
    assert one.labelled_batches(one.data.train, 8, 0).augmentation.policies[0].flip == 0
    other = FrozenCell(one.encoder, None, Data(**vars(one.data) | {"name": "cifar10"}), one.batches, CPU)
    assert other.labelled_batches(one.data.train, 8, 0).augmentation.policies[0].flip == 0.5


def test_draws_of_few_labels_are_stratified_nested_and_not_the_same() -> None:
    labels = torch.arange(1000) % 10
    one, ten = few_labels.draw_rows(labels, 0.01), few_labels.draw_rows(labels, 0.1)
    assert len({tuple(rows.tolist()) for rows in one}) == few_labels.DRAWS
    for small, large in zip(one, ten, strict=True):
        assert labels[small].bincount().tolist() == [1] * 10
        assert labels[large].bincount().tolist() == [10] * 10
        assert set(small.tolist()) < set(large.tolist())
    assert few_labels.draw_rows(labels[:50], 0.01)[0].shape == (10,), "at least one of each class"


def test_fine_tuning_learns_and_leaves_the_encoder_as_it_is() -> None:
    one = make_frozen_cell(encoder=nn.Sequential(Colour(), nn.BatchNorm1d(3)))
    before = {name: value.clone() for name, value in one.encoder.state_dict().items()}
    values = dict(finetune.evaluate(one))
    assert values["labels10_finetune_top1"] > 0.95
    assert all(torch.equal(value, before[name]) for name, value in one.encoder.state_dict().items())


def test_without_a_head_s_work_g_of_h_is_h() -> None:
    one = make_frozen_cell(head=nn.Identity())
    values = dict(outputs.evaluate_head(one))
    exact = dict(linear.evaluate(one.features))
    own = dict(
        representation.evaluate(one.encoder, one.features.validation[0], one.data.validation, one.normalise, 8, CPU)
    )
    assert values == {f"head_{name}": value for name, value in (exact | own).items()}
    assert dict(outputs.evaluate_head(make_frozen_cell())) == {}


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.describe(name).trains])
def test_what_a_method_calls_its_head_maps_features(name: str) -> None:
    cell = short_training.settings(name)
    method, _ = build.build_method(cell, build.load_dataset(cell.dataset), CPU)
    if not hasattr(method, "head"):
        assert name not in ("simclr", "moco", "moco_v3", "instdisc", "pirl", "pcl", "swav", "deepcluster")
        return
    method.eval()
    h = method.encoder(torch.rand(4, 3, cell.view_size, cell.view_size))
    g = method.head(h)
    assert (g.dim(), len(g)) == (2, 4)
    assert g.isfinite().all()


def test_the_map_is_that_of_the_principal_directions() -> None:
    from sklearn.decomposition import PCA

    x = draw_blobs(50, 0)[0]
    ours, theirs = gallery.project_principal(x), torch.tensor(PCA(2).fit_transform(x.double().numpy()))
    torch.testing.assert_close(ours.abs(), theirs.abs(), atol=1e-6, rtol=0)
    assert (ours.gather(0, ours.abs().argmax(dim=0, keepdim=True)) > 0).all()


# The command


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cells, one of which has trained."""
    out = tmp_path_factory.mktemp("finished")
    assert main(["run", "methods=simclr,random,pixels", *SMALL, f"out={out}"]) == 0
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of those cells, to be written into."""
    shutil.copytree(finished, tmp_path / "runs")
    return tmp_path / "runs"


def read_evaluations(out: Path, method: str) -> dict[str, Any]:
    content = json.loads(next(out.glob(f"{method}-*/evaluation.json")).read_text())
    assert content["schema"] == 1
    return content["evaluations"]


def read_bytes(out: Path, name: str) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(out.glob(f"*/{name}"))}


def test_a_run_leaves_looks_and_evaluate_redraws_them(out: Path) -> None:
    folder = next(out.glob("simclr-*"))
    for kind in ("pca", "tsne"):
        looks = json.loads((folder / "looks.json").read_text())
        projection, neighbours = looks["projection"], looks["neighbours"]
        assert projection["kind"] == kind
        assert {len(projection[name]) for name in ("x", "y", "label")} == {449}
        assert looks["classes"] == [str(digit) for digit in range(10)]
        assert np.shape(neighbours["neighbours"]) == (len(neighbours["queries"]), 8) == (8, 8)
        from PIL import Image

        picture = Image.open(io.BytesIO(base64.b64decode(neighbours["png"])))
        assert picture.size == (9 * 32, 8 * 32)
        assert (folder / "looks.json").stat().st_size < 60_000
        if kind == "pca":
            assert main(["evaluate", f"out={out}", "evaluations=looks", f"cells={folder.name}", "device=cpu"]) == 0


def test_without_looks_a_cell_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(one: FrozenCell, folder: Path, kind: str) -> None:
        raise OSError("no room")

    monkeypatch.setattr(gallery, "write", fail)
    assert main(["run", "methods=pixels", *SMALL, f"out={tmp_path}"]) == 0
    assert json.loads(next(tmp_path.glob("*/record.json")).read_text())["status"] == "finished"


def test_noisy_images_take_no_more_room(tmp_path: Path) -> None:
    one = make_frozen_cell()
    noise = torch.randint(0, 256, (600, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    data = Data(
        **vars(one.data)
        | {"train": Split(noise, one.data.train.labels), "test": Split(noise[:90], one.data.test.labels)}
    )
    gallery.write(FrozenCell(one.encoder, None, data, one.batches, CPU), tmp_path, "pca")
    assert (tmp_path / "looks.json").stat().st_size < 60_000


def test_a_finished_cell_is_evaluated_once_and_its_record_stays(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sgd_probe, "EPOCHS", 3)  # less of a wait
    monkeypatch.setattr(finetune, "EPOCHS", 2)
    records = read_bytes(out, "record.json")
    name = next(out.glob("simclr-*")).name
    words = ["evaluate", f"out={out}", f"cells={name}", "device=cpu", "threads=1"]
    assert main([*words, f"evaluations={','.join(NUMBERS)}"]) == 0
    first = read_evaluations(out, "simclr")
    assert tuple(first) == NUMBERS
    assert evaluate_words.read(words[1:]).evaluations == [*NUMBERS, "looks"], "all that need no word of their own"
    record = json.loads(records[name])
    assert first["knn"]["metrics"]["knn20_cosine_top1"] == pytest.approx(record["metrics"]["knn20_top1"]), "the encoder"
    assert {"head_linear_top1", "head_effective_rank"} <= set(first["heads"]["metrics"])
    printed = capsys.readouterr()
    assert "SGD probe %" in printed.out
    few = "1 % of 162 training images are fewer than an image of each class: 10 are taken, 6.17 %"
    assert [line.partition(": ")[0].split()[1] for line in printed.err.splitlines() if line.endswith(few)] == [
        "few_labels",
        "finetune",
    ]
    assert evaluate_words.read(["evaluations=knn,looks,knn"]).evaluations == ["knn", "looks"]
    before = read_bytes(out, "evaluation.json")
    assert main([*words, f"evaluations={','.join(NUMBERS)}"]) == 0
    assert read_bytes(out, "evaluation.json") == before
    monkeypatch.setattr(few_labels, "DRAWS", 2)
    assert main([*words, "evaluations=knn,few_labels"]) == 0
    after = read_evaluations(out, "simclr")
    assert [kind for kind in first if after[kind] != first[kind]] == ["few_labels"]
    assert after["few_labels"]["protocol"] != first["few_labels"]["protocol"]
    assert read_bytes(out, "record.json") == records


def test_what_an_evaluation_cannot_say_of_a_cell_is_said(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", f"out={out}", "device=cpu"]
    assert main([*words, "evaluations=heads"]) == 0
    without = ", ".join(next(out.glob(f"{method}-*")).name for method in ("pixels", "random"))
    assert f"evaluations=heads says nothing of {without}\n" in capsys.readouterr().err
    assert [path.parent.name.partition("-")[0] for path in out.glob("*/evaluation.json")] == ["simclr"]
    for more, message in (
        (["evaluations=heads", f"cells={next(out.glob('random-*')).name}"], "random has no projection head"),
        (["transfer=digits"], "transfer=digits: the cell is of digits itself"),
        (["evaluations=tokens"], "has no tokens"),
    ):
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err


WITH_RATES = '''"""Mine."""

from dataclasses import dataclass

import torch

from methods.method import Method


class Mine(Method):
    @dataclass(frozen=True)
    class Config:
        pass

    def __init__(self, config, encoder, width, images):
        super().__init__(config, encoder, width, images)
        self.rates = torch.linspace(0, 0.1, 4).tolist()  # which torch's meta device has no numbers for
        self.head = torch.nn.Linear(width, 8)
'''


def test_a_method_that_needs_numbers_to_be_made_may_have_a_head(write_plugin: Callable[[str], str]) -> None:
    (cell,) = cell_words.read([f"methods={write_plugin(WITH_RATES)}", *SMALL]).cells
    assert matrix.find_obstacle("heads", cell) == ""


def test_one_cell_s_fault_stops_no_other(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(out.glob("simclr-*/last.pt")).write_bytes(b"not a checkpoint")
    assert main(["evaluate", f"out={out}", "evaluations=few_labels,heads", "device=cpu"]) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    assert [line.split()[0] for line in printed.err.splitlines() if "failed" in line] == [
        f"{next(out.glob('simclr-*')).name}:"
    ]
    assert read_evaluations(out, "pixels")["few_labels"]["metrics"]["labels10_linear_top1"] > 0.3
    assert set(read_evaluations(out, "random")) == {"few_labels"}
    next(out.glob("simclr-*/last.pt")).unlink()
    assert main(["evaluate", f"out={out}", "evaluations=few_labels,heads", "device=cpu"]) == 0
    assert f"no last.pt, not evaluated: {next(out.glob('simclr-*')).name}\n" in capsys.readouterr().err
    assert len(list(out.glob("*/evaluation.json"))) == 2


def test_a_cell_at_work_is_left_alone(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmark.cells import lease

    folder = next(out.glob("pixels-*"))
    with lease.hold(folder):
        assert main(["evaluate", f"out={out}", "evaluations=knn", f"cells={folder.name}", "device=cpu"]) == 3
    assert "another process is at work" in capsys.readouterr().err
    assert not (folder / "evaluation.json").exists()


def test_encoders_are_carried_over_to_a_folder_of_images(out: Path, tmp_path: Path) -> None:
    from PIL import Image

    for split, count in (("train", 12), ("test", 6)):
        for name, shade in (("dark", 40), ("light", 200)):
            (tmp_path / "images" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (24, 20), (shade + i, shade, shade)).save(
                    tmp_path / "images" / split / name / f"{i}.png"
                )
    words = ["transfer=folder", f"dataset.root={tmp_path / 'images'}", "evaluations=transfer", "device=cpu"]
    assert main(["evaluate", f"out={out}", f"cells={next(out.glob('pixels-*')).name}", *words]) == 0
    evaluation = read_evaluations(out, "pixels")["transfer_folder"]
    assert re.fullmatch("folder:[0-9a-f]{16}", evaluation["settings"]["dataset"])
    assert evaluation["metrics"]["transfer_folder_linear_top1"] == 1
    assert evaluation["metrics"]["transfer_folder_knn20_top1"] == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["evaluations=kn"], ["unknown evaluation 'kn'", "did you mean 'knn'"]),
        (["transfer=cifra10"], ["unknown dataset 'cifra10'", "did you mean 'cifar10'"]),
        (["transfer=cifar10"], ["cifar10 not found", "dataset.root=DIR"]),
        (["evaluations=transfer"], ["transfer=DATASET"]),
        (["cells=nowhere"], ["unknown cell 'nowhere'"]),
        (["cells=a", "weights=timm"], ["cells=", "do not go with it"]),
        (["launcher=slurm"], ["launcher=slurm", "here"]),
        (["dataset.root=a,b"], ["dataset.root=a,b: one value"]),
        (["weights=nowhere.pt"], ["weights=nowhere.pt: no such file"]),
        (["methods=frozen"], ["weights=timm or weights=FILE is needed"]),
        (["weights=timm", "stem=small", "backbone=resnet18"], ["stem=small", "timm's own stem"]),
    ],
)
def test_bad_words_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]
) -> None:
    assert main(["evaluate", f"out={tmp_path}", "device=cpu", *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert len(printed.splitlines()) == 1
    assert [part for part in parts if part not in printed] == []
    assert list(tmp_path.iterdir()) == []
