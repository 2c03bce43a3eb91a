"""Weights from outside: timm's, or a file's, and what they do to a cell's identity."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from benchmark.__main__ import main
from benchmark.backbones import encoders, weights
from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.training import build
from benchmark.training.distributed import World
from benchmark.words import cell_words

CPU = torch.device("cpu")
SMALL = ("dataset.limit=180", "view_size=16", "backbone=test_resnet", "threads=1", "device=cpu")


def make_model(name: str = "test_resnet", classes: int = 7) -> torch.nn.Module:
    torch.manual_seed(5)
    return timm.create_model(name, num_classes=classes).eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A timm model's weights, classifier and all."""
    torch.save(make_model().state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def read_cell(*words: str) -> Settings:
    return cell_words.read(["methods=frozen", *SMALL, *words]).cells[0]


def test_a_file_s_encoder_gives_the_features_of_its_model(file: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(make_model().state_dict(), tmp_path / "weights.safetensors")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in make_model().state_dict().items()}}, tmp_path / "wrapped.pt"
    )
    x = torch.rand(3, 3, 16, 16)
    whole = make_model()
    expected = whole.forward_head(whole.forward_features(x), pre_logits=True)
    for name in ("weights.pt", "weights.safetensors", "wrapped.pt"):
        encoder, _, stem = encoders.make("test_resnet", "auto", 16, weights=weights.pin(str(tmp_path / name)))
        torch.testing.assert_close(encoder.eval()(x), expected)
        assert stem == "native", "the stem that the weights have"


def test_a_small_stem_s_weights_keep_their_stem(tmp_path: Path) -> None:
    torch.manual_seed(5)
    encoder, _, stem = encoders.make("resnet18", "auto", 32)
    assert stem == "small"
    torch.save(encoder.state_dict(), tmp_path / "small.pt")
    network, _, stem = encoders.make("resnet18", "auto", 32, weights=weights.pin(str(tmp_path / "small.pt")))
    assert stem == "small"
    assert torch.equal(network.get_parameter("conv1.weight"), encoder.get_parameter("conv1.weight"))


def test_the_bytes_are_the_identity_and_no_weights_are_none(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere.pt"
    shutil.copy(file, other)
    assert address.hash_cell(read_cell(f"weights={file}")) == address.hash_cell(read_cell(f"weights={other}"))
    assert address.hash_cell(read_cell(f"weights={file}")) != address.hash_cell(read_cell("weights=timm"))
    simclr = cell_words.read(["methods=simclr"]).cells[0]
    assert "weights" not in address.identify(simclr), "keys are what they were before there were weights"
    assert str(tmp_path) not in json.dumps(address.identify(read_cell(f"weights={file}")))
    note = cell_words.read(["methods=random,pixels", f"weights={file}"]).notes
    assert note == ["weights does not apply to random: ignored", "weights does not apply to pixels: ignored"]


def test_a_file_that_does_not_fit_is_refused_by_its_first_key(tmp_path: Path) -> None:
    torch.save(make_model("test_efficientnet").state_dict(), tmp_path / "other.pt")
    lacking = make_model().state_dict()
    del lacking["layer1.0.conv1.weight"]
    torch.save(lacking, tmp_path / "lacking.pt")
    torch.save(make_model().state_dict() | {"layer1.1.conv1.weight": torch.zeros(1)}, tmp_path / "deeper.pt")
    torch.save(make_model().state_dict() | {"bn1.weight": torch.zeros(3)}, tmp_path / "wide.pt")
    torch.save({"a": {"words": torch.zeros(1)}}, tmp_path / "words.pt")
    (tmp_path / "text.pt").write_text("no weights")
    for name, message in (
        ("other.pt", r"conv1.0.weight is missing .* first names are conv_stem.weight, bn1.weight, bn1.bias$"),
        ("lacking.pt", "layer1.0.conv1.weight is missing"),
        ("deeper.pt", "layer1.1.conv1.weight is unexpected"),
        ("wide.pt", r"bn1.weight has shape \(3,\), not \(32,\)"),
        ("words.pt", "none of the .* names of the network is in it; its first names are a/words$"),
        ("text.pt", "read no weights"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            build.check(read_cell(f"weights={tmp_path / name}"), World(), CPU)
        assert "\n" not in str(error.value)


def test_a_path_that_is_no_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"weights=~nobody-of-this-name/w\.pt: no such file"):
        weights.pin("~nobody-of-this-name/w.pt")


def test_a_file_that_has_changed_is_refused(file: Path) -> None:
    settings = read_cell(f"weights={file}")
    torch.save(make_model("test_resnet", 9).state_dict(), file)
    with pytest.raises(UsageError, match="not the file that the cell was asked for with"):
        build.build_method(settings, build.load_dataset(settings.dataset), CPU)
    file.unlink()
    with pytest.raises(UsageError, match="no such file"):
        build.build_method(settings, build.load_dataset(settings.dataset), CPU)


def test_timm_s_weights_come_with_the_pixels_they_were_trained_on() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert weights.pixel_statistics("resnet18", "timm") == (mean, std)
    assert weights.pixel_statistics("resnet18", "") is None


def test_a_cell_s_own_checkpoint_evaluated_as_it_comes_gives_the_cell_s_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, frozen = tmp_path / "trained", tmp_path / "frozen"
    assert main(["run", "methods=simclr", "epochs=1", "batch_size=32", *SMALL, f"out={trained}"]) == 0
    last = next(trained.glob("*/last.pt"))
    assert main(["evaluate", f"weights={last}", "evaluations=knn", *SMALL, f"out={frozen}"]) == 0
    one, other = (json.loads(next(out.glob("*/record.json")).read_text()) for out in (trained, frozen))
    assert one["metrics"] == pytest.approx(other["metrics"], abs=1e-6)
    assert other["settings"]["weights"].startswith("sha256:")
    assert other["settings"]["seed"] is None
    assert next(frozen.glob("*/evaluation.json")).exists()
    note = other["resolved"]["weights"]
    assert note.startswith("weights=last.pt: took 90 tensors below method/encoder., left 12 (head);")
    assert note.endswith("; mean and deviation of the pixels are those of their training")
    assert capsys.readouterr().err.count(f"note: {note}\n") == 1
    elsewhere = read_cell(f"weights={last}")
    elsewhere = replace(elsewhere, dataset=replace(elsewhere.dataset, limit=90))  # of other statistics
    data = build.load_dataset(elsewhere.dataset)
    method, _ = build.build_method(elsewhere, data, CPU)
    used = build.build_batches(elsewhere, method, data, World(), CPU, "fp32").statistics()
    assert used["pixel_mean"] == one["resolved"]["pixel_mean"] != list(data.mean)
    assert used["pixel_std"] == one["resolved"]["pixel_std"]


def test_a_checkpoint_that_tells_no_statistics_gets_the_dataset_s(tmp_path: Path) -> None:
    """As a cell's did before they were kept."""
    state = {f"encoder.{name}": value for name, value in make_model(classes=0).state_dict().items()}
    torch.save({"key": "0", "step": 1, "method": state}, tmp_path / "last.pt")
    assert weights.pixel_statistics("test_resnet", weights.pin(str(tmp_path / "last.pt"))) is None
    assert build.describe_weights(read_cell(f"weights={tmp_path / 'last.pt'}")).endswith(
        "this dataset's own, as the file holds none"
    )


def test_what_timm_saves_beside_its_weights_normalises_the_pixels(tmp_path: Path) -> None:
    whole = make_model(classes=0)
    timm.models.save_for_hf(whole, tmp_path / "saved", safe_serialization=True)
    path = tmp_path / "saved" / "model.safetensors"
    statistics = (tuple(whole.pretrained_cfg["mean"]), tuple(whole.pretrained_cfg["std"]))
    pinned = read_cell(f"weights={path}")
    assert weights.pixel_statistics("test_resnet", pinned.weights) == statistics
    shutil.copy(path, tmp_path / "model.safetensors")
    bare = read_cell(f"weights={tmp_path / 'model.safetensors'}")
    assert weights.pixel_statistics("test_resnet", bare.weights) is None
    assert address.hash_cell(bare) != address.hash_cell(pinned), "other numbers"
    earlier = f"{path}@{bare.weights.rpartition('@')[2]}"
    assert weights.pixel_statistics("test_resnet", earlier) is None, (
        "a cell keeps the numbers that it was asked for with"
    )


def test_training_starts_from_the_weights(file: Path) -> None:
    settings = cell_words.read(["methods=simclr", *SMALL, f"weights={file}", "precision=fp32"]).cells[0]
    method, _ = build.build_method(settings, build.load_dataset(settings.dataset), CPU)
    start = method.encoder.state_dict()
    assert all(torch.equal(value, start[name]) for name, value in make_model().state_dict().items() if name in start)


def test_timm_s_weights_are_those_of_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As timm has them after a download, here of a model of our own; and one line where there is neither."""
    from huggingface_hub import constants
    from safetensors.torch import save_file

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match=r"the weights of backbone=test_resnet cannot be fetched .*FILE$"):
        build.check(read_cell("weights=timm"), World(), CPU)
    whole = make_model(classes=1000)
    repository = tmp_path / f"models--{timm.get_pretrained_cfg('test_resnet').hf_hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(whole.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    x = torch.rand(3, 3, 16, 16)
    encoder, _, stem = encoders.make("test_resnet", "auto", 16, weights="timm")
    assert stem == "native"
    torch.testing.assert_close(encoder.eval()(x), whole.forward_head(whole.forward_features(x), pre_logits=True))
    with pytest.raises(UsageError, match="timm has no pretrained weights for backbone=botnet50ts_256"):
        encoders.make("botnet50ts_256", "auto", 256, weights="timm")
