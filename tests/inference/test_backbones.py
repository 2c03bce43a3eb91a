"""What is exported gives the same features in a process that has torch and timm alone, or cannot be loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import trained_cell
from commandline import PATIENCE

from benchmark.inference import export, program, restored, timm_folder

OWN_STEMS = (
    "convnext_atto",
    "deit_tiny_patch16_224",
    "levit_128s",
    "mixer_s32_224",
    "regnetx_002",
    "resnet10t",
    "swin_tiny_patch4_window7_224",
    "test_byobnet",
    "test_convnext",
    "test_mambaout",
    "test_nfnet",
    "test_vit",
    "vit_tiny_patch16_224",
)
SMALL_STEMS = ("resnet18", "test_efficientnet", "test_resnet")
LARGER = (
    "convnextv2_atto",
    "densenet121",
    "efficientnet_b0",
    "lcnet_035",
    "mobilenetv3_small_050",
    "repvgg_a0",
    "resnet50",
    "seresnet18",
    "swinv2_cr_tiny_ns_224",
)
# A user's own code: of ours it sees nothing but the exported folders.
LOAD = """
import json, sys
from pathlib import Path
import timm, torch

root, features = Path(sys.argv[1]), {}
for folder in (path.parent for path in root.glob("*/encoder.json")):
    images = torch.load(root / f"{json.loads((folder / 'encoder.json').read_text())['view_size']}.pt")
    with torch.no_grad():
        if (folder / "config.json").exists():
            model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
            mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
            features[folder.name] = model((images - mean) / std)
        else:
            features[folder.name] = torch.export.load(folder / "encoder.pt2").module()(images)
torch.save(features, root / "features.pt")
assert not {"benchmark", "methods", "results"} & {name.partition(".")[0] for name in sys.modules}
"""


def restore(out: Path, backbone: str, size: int, *words: str) -> restored.Restored:
    """A cell with random weights, as it comes back from its folder."""
    words = ("methods=simclr", f"backbone={backbone}", f"view_size={size}", *words)
    return restored.load(trained_cell.write(out, words), restored.CPU, print)


def draw_images(size: int) -> torch.Tensor:
    return torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(size))


@torch.no_grad()
def encode(cell: restored.Restored, images: torch.Tensor) -> torch.Tensor:
    return cell.encoder((images - cell.mean) / cell.std)


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param([(OWN_STEMS[:2], "native", 32), (OWN_STEMS[:2], "native", 64)], id="two"),
        pytest.param(
            [(OWN_STEMS[2:], "native", 32), (SMALL_STEMS, "small", 32), (LARGER, "", 64)],
            id="others",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_fresh_process_with_torch_and_timm_gives_the_same_features(
    groups: Sequence[tuple[Sequence[str], str, int]], tmp_path: Path
) -> None:
    """Of networks with the stem and the view size of their group. A convolution's arguments know no size, and two
    sizes of a transformer are seen for one of them."""
    expected = {}
    for backbones, stem, size in groups:
        torch.save(draw_images(size), tmp_path / f"{size}.pt")
        for backbone in backbones:
            # Said, because a preset gives transformers small patches for small views.
            cell = restore(tmp_path / "cells", backbone, size, *([f"stem={stem}"] if stem else []))
            is_timm = export.export(cell, tmp_path / f"{backbone}-{size}", [], print)
            if not backbone.startswith("swin"):  # whose weights timm 1.0.16 does not read back: a program then
                assert is_timm == (cell.stem == "native")
            expected[f"{backbone}-{size}"] = encode(cell, draw_images(size))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    call = [sys.executable, "-c", LOAD, str(tmp_path)]
    result = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    features = torch.load(tmp_path / "features.pt")
    assert features.keys() == expected.keys()
    for name, rows in expected.items():
        assert rows.std(0).max() > 1e-3, f"{name} tells images apart"
        error = (features[name] - rows).abs().max() / rows.abs().max()
        assert error <= 1e-5, f"{name}: {error}"


@pytest.mark.parametrize("backbone", ["test_efficientnet", "resnet18"])
def test_a_changed_stem_loads_into_no_model_of_timm(backbone: str, tmp_path: Path) -> None:
    cell = restore(tmp_path, backbone, 32)
    whole = timm.create_model(backbone, num_classes=0)
    if backbone == "test_efficientnet":  # all keys match and all shapes, and the features are others
        whole.load_state_dict(cell.encoder.state_dict())
        assert not torch.allclose(whole.eval()(draw_images(32)), cell.encoder(draw_images(32)), rtol=0.01)
    out = tmp_path / "encoder"
    export.export(cell, out, [], print)
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "encoder.json", "encoder.pt2"]
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        timm.create_model(f"local-dir:{out}", pretrained=True)
    for path in out.iterdir():
        with pytest.raises(Exception, match=r".") as error:
            timm.create_model(backbone, num_classes=0, checkpoint_path=path)
        assert not isinstance(error.value, AssertionError)


def test_what_timm_would_load_with_other_features_is_not_left_there(tmp_path: Path) -> None:
    """As of a plugin that changes a stride of the encoder that it is given."""
    cell = replace(restore(tmp_path, "test_efficientnet", 32), stem="native")
    assert "differ by" in timm_folder.write(tmp_path, cell)
    assert not list(tmp_path.glob("*.json"))
    assert not list(tmp_path.glob("*.safetensors"))


def test_views_of_other_sizes_are_in_timm_s_arguments(tmp_path: Path) -> None:
    """A transformer that was made for small crops too has weights of another shape than one that was not."""
    cell = restore(tmp_path, "test_vit", 64, "augmentation=crop+2x32")
    assert export.export(cell, tmp_path / "encoder", [], print)
    network = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True).eval()
    images = draw_images(64)
    torch.testing.assert_close(network((images - cell.mean) / cell.std), encode(cell, images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_patches_for_small_images_and_pooling_are_in_timm_s_arguments(pool: str, tmp_path: Path) -> None:
    cell = restore(tmp_path, "test_vit", 32, "stem=small", f"pool={pool}", "augmentation=crop+2x16")
    assert cell.stem == "small"
    assert export.export(cell, tmp_path / "encoder", [], print)
    network = timm.create_model(f"local-dir:{tmp_path / 'encoder'}", pretrained=True).eval()
    images = draw_images(32)
    torch.testing.assert_close(network((images - cell.mean) / cell.std), encode(cell, images), rtol=0, atol=1e-5)
    assert "timm's `test_vit` with patches for small images" in (tmp_path / "encoder" / "README.md").read_text()


def test_a_program_on_request_stands_beside_what_timm_loads(tmp_path: Path) -> None:
    cell = restore(tmp_path, "test_vit", 32)
    assert export.export(cell, tmp_path / "encoder", ["program"], print)
    exported = torch.export.load(tmp_path / "encoder" / program.FILES["program"]).module()
    for images in (draw_images(32), draw_images(32)[:1]):
        torch.testing.assert_close(exported(images), encode(cell, images), rtol=0, atol=1e-5)


def test_onnx_takes_any_batch(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    cell = restore(tmp_path, "test_resnet", 32)
    export.export(cell, tmp_path / "encoder", ["onnx"], print)
    session = onnxruntime.InferenceSession(tmp_path / "encoder" / program.FILES["onnx"])
    for count in (1, 3):
        images = draw_images(32)[:count]
        (rows,) = session.run(["features"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(rows), encode(cell, images), rtol=1e-5, atol=1e-5)
