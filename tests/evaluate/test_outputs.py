"""Features beside the one that a network pools: other tokens, and those of the momentum copy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import trained_cell
from torch import Tensor

import benchmark
import methods
from benchmark.__main__ import main
from benchmark.backbones import encoders
from benchmark.backbones.tokens import TokenFeatures, list_kinds
from benchmark.contract import short_training
from benchmark.errors import UsageError
from benchmark.training import build
from methods.parts.heads import MomentumCopy
from results.frames import frame
from results.tables import evaluations

CPU = torch.device("cpu")
VIT = ("backbone=test_vit", "stem=small", "view_size=16")
SMALL = ("dataset.limit=120", "batch_size=32", "epochs=1", "threads=1", "device=cpu")


def test_tokens_are_of_the_last_blocks_behind_the_last_norm() -> None:
    x = torch.randn(2, 3, 32, 32)
    network: Any = encoders.make("test_vit", "small", 32)[0].eval()
    t = network.norm_pre(network._pos_embed(network.patch_embed(x)))
    tokens, means = list[Tensor](), list[Tensor]()
    for block in network.blocks:
        t = block(t)
        tokens.append(network.norm(t)[:, 0])
        means.append(network.norm(t)[:, 1:].mean(dim=1))
    expected = {
        "token": tokens[-1:],
        "token4": tokens[-4:],
        "token_avg": [tokens[-1], means[-1]],
        "avg": means[-1:],
        "avg4": means[-4:],
    }
    assert list_kinds(network) == list(expected)
    for kind, parts in expected.items():
        torch.testing.assert_close(TokenFeatures(network, kind)(x), torch.cat(parts, dim=1))


@pytest.mark.parametrize(
    ("backbone", "pool", "kind"),
    [
        ("test_vit", "token", "token"),
        ("test_vit", "avg", "avg"),
        ("test_vit2", "auto", "avg"),  # a register, no class token, the last norm behind the mean
        ("eva02_tiny_patch14_224", "auto", "avg"),
    ],
)
def test_what_timm_pools_is_among_them(backbone: str, pool: str, kind: str) -> None:
    network, width, _ = encoders.make(backbone, "auto", 32, pool=pool)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(TokenFeatures(network.eval(), kind)(x), network(x))
    parts = {"token4": 4, "avg4": 4, "token_avg": 2}
    for other in list_kinds(network):
        assert TokenFeatures(network, other)(x).shape == (2, width * parts.get(other, 1))


def test_networks_have_the_tokens_that_they_have() -> None:
    assert list_kinds(encoders.make("test_vit2", "auto", 32)[0]) == ["avg", "avg4"], "it has no class token"
    for backbone in ("test_resnet", "test_convnext"):
        assert list_kinds(encoders.make(backbone, "auto", 32)[0]) == []


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.describe(name).trains])
def test_a_method_with_a_momentum_copy_of_its_encoder_declares_it(name: str) -> None:
    method = build.build_method_for(short_training.settings(name), 70, 10, CPU)[0]
    weights = {key: value.shape for key, value in method.encoder.state_dict().items()}
    copies = [
        attribute
        for attribute, module in method.named_children()
        if isinstance(module, MomentumCopy)
        and {key: value.shape for key, value in module.network.state_dict().items()} == weights
    ]
    assert copies == [method.momentum_encoder] * bool(method.momentum_encoder)
    assert methods.describe(name).momentum_encoder == method.momentum_encoder


def test_the_momentum_copy_and_the_tokens_are_measured_beside_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"out={tmp_path}", *SMALL, *VIT]
    assert main(["run", "methods=byol,simclr", "byol.momentum=1", *words]) == 0
    (byol,), (simclr,) = tmp_path.glob("byol-*"), tmp_path.glob("simclr-*")
    record = (byol / "record.json").read_bytes()
    capsys.readouterr()
    assert main(["evaluate", f"out={tmp_path}", "evaluations=teacher,tokens", "device=cpu", "threads=1"]) == 0
    printed = capsys.readouterr()
    assert f"evaluations=teacher says nothing of {simclr.name}\n" in printed.err
    for header in ("teacher linear %", "token4 linear %", "teacher token4 linear %"):
        assert header in " ".join(printed.out.split())
    assert (byol / "record.json").read_bytes() == record
    by_folder = {
        folder.name: json.loads((folder / "evaluation.json").read_text())["evaluations"] for folder in (byol, simclr)
    }
    assert set(by_folder[simclr.name]) == {"tokens"}
    own, teacher = (by_folder[byol.name][name]["metrics"] for name in ("tokens", "teacher"))
    headline = json.loads(record)["metrics"]
    for name in ("linear_top1", "knn20_top1", "linear_validation_top1"):
        assert own[f"token_{name}"] == pytest.approx(headline[name]), "this network pools its class token"
        assert own[f"teacher_token_{name}"] == pytest.approx(teacher[f"teacher_{name}"])
    # The copy stays as the network starts, by momentum=1.
    assert main(["run", "methods=random", f"out={tmp_path}", "dataset.limit=120", "device=cpu", *VIT]) == 0
    start = json.loads(next(tmp_path.glob("random-*/record.json")).read_text())["metrics"]
    for name in ("linear_top1", "knn20_top1", "effective_rank"):
        assert teacher[f"teacher_{name}"] == pytest.approx(start[name], rel=1e-4)
        assert teacher["teacher_effective_rank"] != pytest.approx(headline["effective_rank"], rel=1e-3)
    assert evaluations.tabulate(frame.load(tmp_path)[0])


def test_an_evaluation_that_says_nothing_of_any_cell_is_refused_before_it_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, parts in (
        (("evaluations=tokens", "methods=byol", "backbone=test_resnet"), ("test_resnet has no tokens", "vit_tiny")),
        (("evaluations=tokens", "methods=pixels"), ("pixels has no tokens",)),
        (("evaluations=teacher", "methods=simclr"), ("simclr has no momentum copy", "byol, dino", "ressl")),
    ):
        assert main(["evaluate", *words, *SMALL, f"out={tmp_path / 'runs'}"]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"error: {words[0]}: ")
        assert all(part in line for part in parts)
    assert not (tmp_path / "runs").exists()


def test_a_method_that_declares_a_copy_it_has_not_is_refused_before_it_trains(
    write_plugin: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = (methods.FOLDER / "byol.py").read_text()
    name = write_plugin(source.replace('momentum_encoder = "target_encoder"', 'momentum_encoder = "target"'))
    assert main(["run", f"methods={name}", "backbone=test_resnet", *SMALL, f"out={tmp_path}"]) == 2
    assert "momentum_encoder = 'target' names no MomentumCopy" in capsys.readouterr().err
    assert not list(tmp_path.glob("*/last.pt"))


def test_the_encoder_to_take_away_may_be_the_copy_or_give_other_tokens(tmp_path: Path) -> None:
    cell = trained_cell.write(tmp_path / "runs", ("methods=moco", "moco.queue=64", *VIT))
    x = torch.randn(2, 3, 16, 16)
    student, _ = benchmark.load_encoder(cell)
    teacher, _ = benchmark.load_encoder(cell, encoder="teacher")
    state = torch.load(cell / "last.pt", weights_only=True)["method"]
    expected = {k.removeprefix("key_encoder.network."): v for k, v in state.items() if k.startswith("key_encoder.")}
    assert all(torch.equal(value, expected[name]) for name, value in teacher.state_dict().items())
    assert not torch.equal(student(x), teacher(x))
    wide, _ = benchmark.load_encoder(cell, encoder="teacher", tokens="token4")
    torch.testing.assert_close(wide(x)[:, -64:], teacher(x))
    assert benchmark.features(cell, "digits", tokens="avg4")["features"][0].shape == (256,)


def test_encoders_and_tokens_that_a_cell_has_not_are_one_line(tmp_path: Path) -> None:
    def write(*words: str) -> Path:
        return trained_cell.write(tmp_path / "runs", words)

    simclr, resnet = write("methods=simclr", *VIT), write("methods=simclr", "backbone=test_resnet", "view_size=16")
    for cell, choice, text in (
        (simclr, {"encoder": "teacher"}, "encoder=teacher: simclr has no momentum copy of its encoder"),
        (simclr, {"encoder": "teachers"}, "unknown encoder 'teachers'; did you mean 'teacher'?"),
        (simclr, {"tokens": "token5"}, r"unknown tokens 'token5'; .* \(allowed: avg, avg4, token, token4, token_avg\)"),
        (resnet, {"tokens": "token4"}, "tokens=token4: test_resnet has no tokens"),
    ):
        with pytest.raises(UsageError, match=text):
            benchmark.load_encoder(cell, **choice)
    words = ["features", str(simclr), "digits", f"out={tmp_path / 'f.npz'}", "head=true", "tokens=avg"]
    assert main(words) == 2
    assert not (tmp_path / "f.npz").exists()
