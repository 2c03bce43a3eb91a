"""The encoder as a program that holds its own graph: of torch.export (`encoder.pt2`), or as ONNX (`encoder.onnx`).

Its input is float32 (n, 3, view, view) in [0, 1], RGB, any n; its output the features, float32 (n, D). Normalisation is
inside, so that no file beside it can be lost or mistaken. Resizing is not: evaluation resizes without rounding to 8
bits, and a service has images of its own sizes. Every file is read back, and compared with the encoder.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import UsageError, explain
from benchmark.inference.restored import Restored

FILES = {"program": "encoder.pt2", "onnx": "encoder.onnx"}
TOLERANCE = 1e-5  # of the largest feature
_ONNX = ("onnx", "onnxscript", "onnxruntime")


class NormalisingEncoder(nn.Module):
    """Images in [0, 1] to features."""

    def __init__(self, restored: Restored) -> None:
        super().__init__()
        self.encoder = restored.encoder
        self.mean, self.std = nn.Buffer(restored.mean), nn.Buffer(restored.std)

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder((images - self.mean) / self.std)


def require(formats: list[str]) -> None:
    """Raise `UsageError` where a package that a format needs is missing."""
    missing = [name for name in _ONNX if importlib.util.find_spec(name) is None]
    if "onnx" in formats and missing:
        raise UsageError(
            f"format=onnx needs {', '.join(_ONNX)}, and there is no {missing[0]}: "
            "pip install 'contrastive-benchmark[onnx]'"
        )


@torch.no_grad()
def write(folder: Path, restored: Restored, formats: list[str]) -> None:
    """The files of `formats` in `folder`. Raises `UsageError` where the encoder has no such program, or a wrong one."""
    size, encoder = restored.settings.view_size, NormalisingEncoder(restored).eval()
    shapes = {"images": {0: torch.export.Dim("batch")}}
    try:
        with warnings.catch_warnings(action="ignore"):  # of torch and its exporters, at themselves
            graph = torch.export.export(encoder, (torch.zeros(2, 3, size, size),), dynamic_shapes=shapes)
            for name in formats:
                path = folder / FILES[name]
                _compare(encoder, _write_pt2(graph, path) if name == "program" else _write_onnx(graph, path), size)
    except Exception as error:  # the exporters have many ways to fail
        backbone = restored.settings.backbone
        raise UsageError(f"format={','.join(formats)}: {backbone} cannot be written so: {explain(error)}") from error


def _compare(encoder: nn.Module, program: Callable[[Tensor], Tensor], size: int) -> None:
    """Raise ValueError where the features of random images are not the encoder's, in a batch of any size."""
    for count in (1, 3):
        images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))
        expected = encoder(images)
        error = (program(images) - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
        if not error <= TOLERANCE:
            raise ValueError(f"its features differ by {error:.1e} of the largest")


def _write_pt2(program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    torch.export.save(program, path)
    return torch.export.load(path).module()


def _write_onnx(program: torch.export.ExportedProgram, path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["features"]}
    torch.onnx.export(program, (), path, **names, dynamo=True, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
