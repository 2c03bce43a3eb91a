"""`weights=FILE` takes the checkpoints of the projects that train such backbones, under the names that these give."""

import argparse
import collections
import os
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from benchmark.backbones import encoders, weights
from benchmark.errors import UsageError

State = dict[str, Tensor]
BACKBONE, SIZE = "resnet10t", 32
HEAD = {"0.weight": torch.zeros(4, 512), "2.weight": torch.zeros(2, 4)}
BATCH_NORM = {"running_mean": torch.zeros(2), "num_batches_tracked": torch.zeros((), dtype=torch.int64)}
TRAINING = {"epoch": 9, "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}}


def make_network(seed: int) -> nn.Module:
    """Whose batch norms are as after a training: as they are made the last of each block is 0, and so are features."""
    torch.manual_seed(seed)
    model = timm.create_model(BACKBONE, num_classes=0)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point() and value.ndim == 1:
                value.uniform_(0.5, 1.5)
    return model.eval()


def put_at(prefix: str, state: Mapping[str, Tensor]) -> State:
    return {prefix + name: value for name, value in state.items()}


def number_children(state: State) -> State:
    """The names of an nn.Sequential of a torchvision ResNet's children: conv1, bn1, relu, maxpool, layer1 ..."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    parts = ((name.partition("."), value) for name, value in state.items())
    return {f"{numbers[child]}.{rest}": value for (child, _, rest), value in parts}


def build_checkpoints(q: State, k: State) -> dict[str, tuple[dict[str, Any], str, str]]:
    """Project -> (a file of its, where the backbone is, what is left). `q` is to be taken, `k` is another network."""
    fc, one = put_at("fc.", HEAD), {"fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(3)}
    queue = {"module.queue": torch.zeros(2, 8), "module.queue_ptr": torch.zeros(1)}
    moco = put_at("module.encoder_k.", k) | queue
    v3 = put_at("module.momentum_encoder.", k | fc) | put_at("module.predictor.", HEAD)
    swav = put_at("module.", q | put_at("projection_head.", HEAD) | {"prototypes.weight": torch.zeros(3, 2)})
    deepcluster = put_at(
        "module.", q | put_at("projection_head.", HEAD) | {"prototypes.prototypes0.weight": torch.zeros(3, 2)}
    )
    dino_head = {"head.mlp.0.weight": torch.zeros(4, 512), "head.last_layer.weight_g": torch.zeros(3, 1)}
    student = put_at("module.", put_at("backbone.", k) | dino_head)
    dino = TRAINING | {"student": student, "args": argparse.Namespace(arch="resnet50", lr=0.1)}
    trunk = {"trunk": put_at("_feature_blocks.", q), "heads": put_at("0.clf.", HEAD)}
    vissl = {"base_model": {"model": trunk, "meta": {"input_shape": [3, 2, 2]}}, "optimizer": TRAINING["optimizer"]}
    lightning = {"epoch": 9, "pytorch-lightning_version": "2.0", "optimizer_states": [TRAINING["optimizer"]]}
    solo = put_at("momentum_backbone.", k) | put_at("projector.", HEAD) | put_at("classifier.", one)
    twins = put_at("module.projector.", HEAD) | put_at("module.bn.", BATCH_NORM)
    byol = put_at("online_encoder.net.", q | one) | put_at("online_encoder.projector.", HEAD)
    byol |= (
        put_at("target_encoder.net.", k | one)
        | put_at("target_encoder.projector.", HEAD)
        | put_at("online_predictor.", HEAD)
    )
    lightly = put_at("backbone_momentum.", number_children(k)) | put_at("projection_head.layers.", HEAD)
    return {
        "MoCo v1": (
            TRAINING | {"state_dict": put_at("module.encoder_q.", q | one) | moco},
            "state_dict/module.encoder_q.",
            "encoder_k, fc, queue, queue_ptr",
        ),
        "MoCo v2": (
            TRAINING | {"state_dict": put_at("module.encoder_q.", q | fc) | moco},
            "state_dict/module.encoder_q.",
            "encoder_k, fc, queue, queue_ptr",
        ),
        "MoCo v3": (
            TRAINING | {"state_dict": put_at("module.base_encoder.", q | fc) | v3},
            "state_dict/module.base_encoder.",
            "fc, momentum_encoder, predictor",
        ),
        "SwAV": (swav, "module.", "projection_head, prototypes"),
        "SwAV, in training": (TRAINING | {"state_dict": swav}, "state_dict/module.", "projection_head, prototypes"),
        "DeepCluster v2": (deepcluster, "module.", "projection_head, prototypes"),
        "DINO": (
            dino | {"teacher": put_at("module.", put_at("backbone.", q) | dino_head)},
            "teacher/module.backbone.",
            "head, student",
        ),
        "DINO, ViT's names": (
            dino | {"teacher": put_at("backbone.", q) | dino_head, "dino_loss": {"center": torch.ones(1)}},
            "teacher/backbone.",
            "dino_loss, head, student",
        ),
        "DINO, backbone": (q, "", ""),
        "VISSL": ({"classy_state_dict": vissl}, "classy_state_dict/base_model/model/trunk/_feature_blocks.", "heads"),
        "lightly": (
            lightning | {"state_dict": put_at("backbone.", number_children(q)) | lightly},
            "state_dict/backbone.",
            "backbone_momentum, projection_head",
        ),
        "lightly, DINO": (
            lightning | {"state_dict": put_at("teacher_backbone.", q) | put_at("student_backbone.", k)},
            "state_dict/teacher_backbone.",
            "student_backbone",
        ),
        "solo-learn": (
            lightning | {"state_dict": put_at("backbone.", q) | solo},
            "state_dict/backbone.",
            "classifier, momentum_backbone, projector",
        ),
        "solo-learn, before 1.0.3": (
            lightning | {"state_dict": put_at("encoder.", q) | put_at("momentum_encoder.", k)},
            "state_dict/encoder.",
            "momentum_encoder",
        ),
        "SimCLR, converted": ({"state_dict": q | one}, "state_dict/", "fc"),
        "SimCLR, sthalles": (
            TRAINING | {"state_dict": put_at("backbone.", q | fc), "arch": "resnet18"},
            "state_dict/backbone.",
            "fc",
        ),
        "SimCLR, sthalles, first": (
            {"state_dict": put_at("features.", number_children(q)) | put_at("l1.", one)},
            "state_dict/features.",
            "l1",
        ),
        "BYOL": (put_at("net.", q | one) | byol, "net.", "fc, online_encoder, online_predictor, target_encoder"),
        "BYOL, its network": (q | one, "", "fc"),
        "Barlow Twins, VICReg": (
            TRAINING | {"model": put_at("module.backbone.", q) | twins},
            "model/module.backbone.",
            "bn, projector",
        ),
        "torch.compile": (put_at("_orig_mod.module.", q), "_orig_mod.module.", ""),
        "a compiled part": (
            put_at("backbone.", {n.replace("layer1.0.", "layer1.0._orig_mod."): v for n, v in q.items()}),
            "backbone.",
            "",
        ),
        "timm": (
            TRAINING | {"state_dict": k | one, "state_dict_ema": q | one, "args": argparse.Namespace(model="x")},
            "state_dict_ema/",
            "fc, state_dict",
        ),
    }


PROJECTS = list(build_checkpoints({"conv1.0.weight": torch.zeros(1)}, {"conv1.0.weight": torch.zeros(1)}))


def load(path: Path, content: Any, backbone: str = BACKBONE) -> tuple[nn.Module, str]:
    """The encoder that starts from a file of `content`, and the note of what it took."""
    torch.save(content, path)
    notes = list[str]()
    encoder, _, _ = encoders.make(backbone, "native", SIZE, weights=weights.pin(str(path)), say=notes.append)
    path.unlink()
    return encoder.eval(), notes[0]


@pytest.fixture(scope="module")
def query() -> nn.Module:
    return make_network(5)


@pytest.fixture(scope="module")
def other() -> nn.Module:
    return make_network(6)


@pytest.mark.parametrize("project", PROJECTS)
def test_a_project_s_checkpoint_gives_the_features_of_its_network(
    project: str, tmp_path: Path, query: nn.Module, other: nn.Module
) -> None:
    state = query.state_dict()
    content, prefix, others = build_checkpoints(state, other.state_dict())[project]
    encoder, note = load(tmp_path / "file.pth", content)
    x = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(encoder(x), query(x))
    assert not torch.equal(query(x), other(x))
    assert f": took {len(state)} tensors{' below ' if prefix else ''}{prefix}" in note
    assert (f"({others})" if others else "left none") in note
    assert "mean and deviation of the pixels are this dataset's own, as the file holds none" in note


def test_the_note_names_the_copy_that_was_not_taken(tmp_path: Path, query: nn.Module, other: nn.Module) -> None:
    content = build_checkpoints(query.state_dict(), other.state_dict())["DINO"][0]
    note = load(tmp_path / "dino.pth", content)[1]
    assert note.startswith(
        f"weights=dino.pth: took {len(query.state_dict())} tensors below teacher/module.backbone. "
        f"(not student/module.backbone.), left {len(query.state_dict()) + 4} (head, student);"
    )


def test_a_sequential_of_torchvision_s_children_is_its_resnet(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    source = resnet18().eval()
    backbone = nn.Sequential(*list(source.children())[:-1])
    encoder, note = load(
        tmp_path / "lightly.ckpt", {"state_dict": put_at("backbone.", backbone.state_dict())}, "resnet18"
    )
    x = torch.rand(2, 3, SIZE, SIZE)
    torch.testing.assert_close(encoder(x), backbone(x).flatten(1))
    assert "took 120 tensors below state_dict/backbone., left none" in note


def test_two_copies_that_no_word_tells_apart_are_refused(tmp_path: Path, query: nn.Module, other: nn.Module) -> None:
    content = put_at("one.", query.state_dict()) | put_at("two.", other.state_dict())
    with pytest.raises(
        UsageError, match=r"does not fit backbone=resnet10t: two copies of it fit, one\. and two\., and"
    ):
        load(tmp_path / "two.pth", content)
    encoder, _ = load(tmp_path / "twice.pth", put_at("one.", query.state_dict()) | put_at("two.", query.state_dict()))
    x = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(encoder(x), query(x)), "two that are equal are one"


def test_a_file_that_does_not_fit_names_the_nearest_prefix(tmp_path: Path, query: nn.Module) -> None:
    state = put_at("module.encoder_q.", query.state_dict())
    del state["module.encoder_q.layer2.0.bn1.bias"]
    with pytest.raises(UsageError) as error:
        load(tmp_path / "moco.pth", {"state_dict": put_at("module.encoder_k.", {"bn1.bias": torch.zeros(64)}) | state})
    count = len(query.state_dict())
    assert str(error.value) == (
        f"weights={tmp_path / 'moco.pth'} does not fit backbone=resnet10t: layer2.0.bn1.bias is missing at "
        f"state_dict/module.encoder_q., where {count - 1} of its {count} tensors are; the file's first names are "
        "state_dict/module.encoder_k.bn1.bias, state_dict/module.encoder_q.conv1.0.weight, "
        "state_dict/module.encoder_q.conv1.1.weight"
    )


class Call:
    """A call that unpickling would make."""

    def __init__(self, function: Callable[..., Any], argument: str) -> None:
        self.called = function, (argument,)

    def __reduce__(self) -> Any:
        return self.called


def touch(path: str) -> None:
    Path(path).touch()


def test_what_a_pickle_holds_beside_tensors_is_not_run(
    tmp_path: Path, query: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a config of a class that is not installed here, numpy's numbers, or worse."""
    absent = types.ModuleType("absent")
    config = type("Config", (), {"__module__": "absent", "__reduce__": lambda self: (type(self), (), vars(self))})
    absent.Config = config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "absent", absent)
    hyper_parameters = config()
    hyper_parameters.cache = collections.defaultdict(dict, {"a": {}})
    content = {"state_dict": query.state_dict(), "hyper_parameters": hyper_parameters, "best": np.float64(0.5)}
    torch.save(content | {"harm": Call(touch, str(tmp_path / "touched"))}, tmp_path / "solo.ckpt")
    torch.save(
        content | {"args": argparse.Namespace(), "hyper_parameters": None},
        tmp_path / "old.tar",
        _use_new_zipfile_serialization=False,
    )
    monkeypatch.delitem(sys.modules, "absent")
    x = torch.rand(2, 3, SIZE, SIZE)
    for name in ("solo.ckpt", "old.tar"):
        encoder, _, _ = encoders.make(BACKBONE, "native", SIZE, weights=weights.pin(str(tmp_path / name)))
        assert torch.equal(encoder.eval()(x), query(x))
    assert not (tmp_path / "touched").exists()
    with pytest.raises(UsageError, match=r"no dictionary of tensors\); where you trust the file, load it and save"):
        load(tmp_path / "model.pth", query)
    with pytest.raises(
        UsageError, match=r"read no weights from it \(Trying to load unsupported GLOBAL \w+\.system whose"
    ):
        load(tmp_path / "os.pth", query.state_dict() | {"x": Call(os.system, "true")})
