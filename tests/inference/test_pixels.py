"""Photos of odd sizes: the code of the model card, the command `features` and the evaluation see the same pixels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import trained_cell
from commandline import PATIENCE
from PIL import Image

from benchmark.__main__ import main
from benchmark.data.survey import survey
from benchmark.evaluate.frozen_cell import freeze
from benchmark.inference import export, restored
from benchmark.training import build
from benchmark.training.distributed import World

RUN = """
{use}
import numpy, sys

names = {names}
rows = torch.cat([features(name) for name in names]).numpy()
numpy.save("rows.npy", rows)
{finetune}
mean, std = (torch.tensor(values).view(3, 1, 1) for values in ({mean}, {std}))
pixels = (torch.cat([read(name) for name in names]) - mean) / std
with torch.no_grad():
    assert model.eval()(pixels).shape == (len(names), 10)
    model.reset_classifier(0)
    numpy.save("finetuned.npy", model.eval()(pixels).numpy())
assert not {{"benchmark", "methods", "results"}} & {{name.partition(".")[0] for name in sys.modules}}
"""
STYLES = {
    "kept squares": ("resnet10t", 64, ("dataset.side=80",)),
    "streamed": ("resnet10t", 64, ("dataset.stream=true",)),
    "program": ("test_efficientnet", 32, ("dataset.side=48",)),
    "program of a 7x7 stem": ("resnet18", 32, ("dataset.side=32",)),
    "program of a deep stem": ("test_resnet", 32, ("dataset.side=32",)),
}
STEMS = [style for style in STYLES if style.startswith("program of")]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four photos, wide and high, grey and in colour, as PNG and JPEG."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(12):
        pixels = rng.integers(0, 256, (9, 9, 3)[: 2 if number == 5 else 3], dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((int(rng.integers(50, 150)), int(rng.integers(50, 150))))
        folder = root / f"class{number % 3}"
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"{number:02}.{'png' if number % 2 else 'jpg'}")
    return root


def run_python(source: str, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    call = [sys.executable, "-c", source]
    result = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("dataset", [("dataset.side=80",), ("dataset.stream=true",)], ids=["kept", "streamed"])
def test_features_of_a_cell_s_own_images_are_those_that_it_was_evaluated_on(
    dataset: tuple[str, ...], photos: Path, tmp_path: Path
) -> None:
    words = ["backbone=resnet10t", "view_size=64", "dataset=folder", f"dataset.root={photos}", "threads=1"]
    assert main(["run", "methods=random", *words, *dataset, f"out={tmp_path}", "wandb=off"]) == 0
    (folder,) = tmp_path.glob("random-*")
    table = tmp_path / "features.parquet"
    assert main(["features", str(folder), f"folder:{photos}", f"out={table}", "threads=1"]) == 0
    rows = pd.read_parquet(table).set_index("name")

    settings, cpu = restored.load(folder, restored.CPU, print).settings, restored.CPU
    data = build.load_dataset(settings.dataset)
    method, _ = build.build_method(settings, data, cpu)
    frozen = freeze(method, data, build.build_batches(settings, method, data, World(), cpu, "fp32"), cpu)
    features, labels = frozen.features.test
    images = survey(photos)
    tested = rows.loc[[os.path.relpath(images.paths[i], photos) for i in images.test]]
    assert tested["label"].tolist() == [data.class_names[label] for label in labels]
    np.testing.assert_allclose(np.stack(tested["features"]), features.numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "styles",
    [
        pytest.param(["program", "kept squares", "streamed"], id="all kinds"),  # the first alone needs torch.export
        pytest.param(STEMS, id="stems", marks=pytest.mark.slow),
    ],
)
def test_the_card_s_own_code_gives_the_features_of_the_evaluation(
    styles: list[str], photos: Path, tmp_path: Path
) -> None:
    """Of all styles in one process of a user, which has imported torch and timm once."""
    expected, source = {}, "import os\n"
    for style in styles:
        out = tmp_path / style
        expected[out], use, finetune, statistics = export_and_read_card(style, photos, out)
        names = [str(photos / name) for name in expected[out]["name"]]
        source += f"os.chdir({str(out / 'encoder')!r})\n"
        source += RUN.format(use=use, finetune=finetune, names=names, **statistics)
    run_python(source, tmp_path)
    for out, rows in expected.items():
        features = np.stack(rows["features"])
        for name in ("rows.npy", "finetuned.npy"):
            error = np.abs(np.load(out / "encoder" / name) - features).max() / np.abs(features).max()
            assert error <= 1e-5, (out.name, name)


def export_and_read_card(style: str, photos: Path, out: Path) -> tuple[pd.DataFrame, str, str, dict[str, list[float]]]:
    """The features of the evaluation, the card's two pieces of code, and the statistics of the pixels."""
    backbone, size, dataset = STYLES[style]
    words = ("methods=simclr", f"backbone={backbone}", f"view_size={size}", "dataset=folder", f"dataset.root={photos}")
    folder = trained_cell.write(out, [*words, *dataset, "preset=none"])
    cell = restored.load(folder, restored.CPU, print)
    export.export(cell, out / "encoder", [], print)
    table = out / "features.parquet"
    assert main(["features", str(folder), str(photos), f"out={table}", "threads=1"]) == 0
    rows = pd.read_parquet(table)
    assert rows["label"].tolist() == [Path(name).parent.name for name in rows["name"]]
    features = np.stack(rows["features"])
    own = torch.stack([cell.transform(Image.open(photos / name)) for name in rows["name"]])
    np.testing.assert_allclose(cell.encoder(own).detach().numpy(), features, rtol=0, atol=1e-5 * np.abs(features).max())
    assert features.std(0).max() > 1e-2 * np.abs(features).max(), "photos are told apart"

    card = (out / "encoder" / "README.md").read_text()
    use, finetune = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    return rows, use, finetune, {"mean": cell.mean.flatten().tolist(), "std": cell.std.flatten().tolist()}
