"""What cells will cost: measured or from records, what does not fit, the budget, and the truth afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.__main__ import main
from benchmark.cells.run import start_record
from benchmark.data.catalogue import Dataset
from benchmark.errors import UsageError
from benchmark.forecast import forecast, forecast_table, memory
from benchmark.forecast import measure as measuring
from benchmark.forecast.cost import Forecast, Forecasts
from benchmark.settings import address
from benchmark.settings.cell import Settings
from benchmark.settings.runtime import Runtime, Slurm
from benchmark.words import cell_words
from results import record
from results.frames import forecasts, frame

SMALL = ["backbone=test_resnet", "dataset.limit=100", "view_size=16", "batch_size=32", "epochs=2", "precision=fp32"]
CPU = torch.device("cpu")


def read_cells(*words: str) -> list[Settings]:
    return cell_words.read(
        [*words, *(w for w in SMALL if w.split("=")[0] not in {g.split("=")[0] for g in words})]
    ).cells


def put(out: Path, cell: Settings, seconds: float, device: str, processes: int = 1) -> None:
    """A finished record that took so long."""
    cost = {"seconds": 0.75 * seconds, "evaluation_seconds": 0.25 * seconds, "device": device, "processes": processes}
    cost |= {"peak_memory_bytes": 2**30}
    record.write(out / address.name_folder(cell), start_record(cell) | {"cost": cost, "finished": record.now()})


@pytest.mark.slow
@pytest.mark.usefixtures("no_figure_files")
def test_a_plan_foretells_a_run_keeps_to_its_budget_and_the_report_compares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["methods=random,simclr", "temperature=0.2,0.5", "device=cpu", "threads=1", *SMALL]
    assert main(["plan", *words, "seeds=0,1"]) == 0
    plan = capsys.readouterr()
    assert plan.out.count("measured\n") == 6
    assert "measured here: 2 shapes" in plan.out, "neither a seed nor a temperature makes a shape"
    assert "CPU-hours" in plan.out
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["forecasts.json"]
    entries = json.loads((tmp_path / "runs/forecasts.json").read_text())
    assert len(entries) == 6
    assert all(one["seconds"] > 0 and one["memory"] > 0 for one in entries.values())

    assert main(["run", *words]) == 0
    capsys.readouterr()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(forecast, "forecast", forecast._forecast)  # here, where what it says can be read
    assert main(["run", *words, "seeds=1", "budget=0.00001"]) == 2
    printed = capsys.readouterr().err
    assert printed.splitlines()[-1].startswith("error: budget=1e-05 hours would be exceeded; forecast: ")
    assert "measuring" not in printed, "records of the other seed say it"
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["report"]) == 0
    printed = capsys.readouterr().out
    row = next(line.split() for line in printed[printed.index("truth/forecast") :].splitlines() if "simclr" in line)
    assert row[1] == "2"
    assert float(row[4]) > 0


def test_what_cannot_run_is_said_and_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*arguments: object) -> measuring.Measured:
        raise ZeroDivisionError("no such\nluck")

    monkeypatch.setattr(measuring, "measure", measure)
    (cell,) = read_cells("methods=simclr")
    (one,) = forecast._forecast([cell], Runtime(device="cpu")).costs
    assert (one.seconds, one.how) == (None, "fails: ZeroDivisionError: no such luck")


def test_what_does_not_fit_is_tried_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = read_cells("methods=simclr", "batch_size=64")
    sizes: list[int] = []

    def measure(settings: Settings, device: torch.device, compiled: bool, processes: int) -> measuring.Measured:
        sizes.append(settings.microbatch or 0)
        torch.empty(2**20 * (settings.microbatch or 64) ** 2)  # 4 MiB times the square
        return measuring.Measured(memory=1, epoch=1.0)

    monkeypatch.setattr(measuring, "measure", measure)
    monkeypatch.setattr(memory, "capacity", lambda device, runtime, workers: _resident() + 2 * 2**30)
    measured = measuring.measure_fitting(cell, CPU, Runtime())
    assert sizes == [0, 32, 16]
    assert measured.microbatch == 16
    assert "microbatch=16: all at once do not fit" in forecast_table.format_row(measured.forecast(3))[2]
    torch.empty(2**29)  # the limit is gone

    sizes.clear()
    grouped = measuring.measure_fitting(replace(cell, batch_norm="shuffle:2"), CPU, Runtime())
    assert sizes == [0], "groups of batch norm need the whole batch"
    assert grouped.forecast(3) == Forecast(None, None, "does not fit")


def _resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def test_a_measured_cell_costs_its_epochs_its_start_and_its_evaluation() -> None:
    (cell,) = read_cells("methods=moco", "batch_size=32")
    measured = measuring.measure_fitting(cell, CPU, Runtime())
    assert measured.microbatch == 0
    few, many = measured.forecast(10).seconds, measured.forecast(20).seconds
    assert few is not None
    assert many is not None
    assert many - few == pytest.approx(10 * measured.epoch)
    assert few == pytest.approx(measured.once + 10 * measured.epoch + measured.evaluation)


def test_a_slow_shape_is_measured_by_its_first_steps_and_some_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However long a step takes there are two of them, and of the images a part is embedded, and scaled."""
    steps, embedded = [], []

    def count_steps(profile: object, number: int) -> None:
        steps.append(number)

    def embed(f: object, engine: object, batches: object, images: int) -> torch.Tensor:
        embedded.append(images)
        return torch.nn.functional.normalize(torch.randn(images, 128))

    monkeypatch.setattr(measuring, "LIMIT", 0.0)
    monkeypatch.setitem(measuring.IMAGES, "cpu", 30)
    monkeypatch.setattr(measuring.profile, "step", count_steps)
    monkeypatch.setattr(measuring.profile, "embed", embed)
    plan = forecast._forecast(read_cells("methods=pirl", "pirl.start=features"), Runtime(device="cpu"))
    assert steps == [0, measuring.profile.WARM_UP]
    assert set(embedded) == {30}, "of 90 training images"
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "measuring pirl, shape 1 of 1"
    assert lines[1].endswith(" a cell")
    assert (plan.costs[0].seconds or 0) > 0


def test_a_gpu_that_is_not_here_is_foretold_from_records_only(tmp_path: Path) -> None:
    settings = read_cells("methods=simclr,moco,random", "epochs=2,4")
    put(tmp_path, settings[0], 10.0, "NVIDIA H200")
    put(tmp_path, settings[2], 99.0, "Intel, 2 threads")
    runtime = Runtime(out=str(tmp_path), launcher="slurm", slurm=Slurm(gpus_per_node=1))
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    plan = forecast._forecast(settings, runtime)
    assert [one.how for one in plan.costs] == ["records", "records", "unknown", "unknown", "unknown"]
    assert plan.costs[0].seconds == 10.0
    assert plan.costs[1].seconds == pytest.approx(7.5 * 2 + 2.5), "twice the epochs, one evaluation"
    assert plan.unknown == 3
    assert plan.measured == 0


def test_sums() -> None:
    each = [Forecast(seconds, 0, "records") for seconds in (30.0, 10.0, 10.0, 10.0)]
    sums = Forecasts([*each, Forecast(None, None, "unknown")], "NVIDIA H200", processes=8, workers=1, measured=0)
    assert sums.hours == pytest.approx(60 * 8 / 3600)
    assert (sums.wall(1), sums.wall(2), sums.wall(9), sums.unknown) == (60, 30, 30, 1)
    assert sums.wall(9, together=2) == 40, "two cells of a job, one after the other"


def test_a_folder_that_nobody_counted_is_like_itself_only(tmp_path: Path) -> None:
    """Its images are not known: by the pixels of another dataset it would take no time."""
    (counted,) = read_cells("methods=simclr", "seeds=0")
    uncounted = replace(counted, dataset=Dataset(name="folder", root="photos"))
    put(tmp_path, counted, 36000.0, "NVIDIA H200")
    runtime = Runtime(out=str(tmp_path), launcher="slurm", slurm=Slurm(gpus_per_node=1))
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    assert forecast._forecast([uncounted], runtime).costs[0].how == "unknown"


def test_only_what_was_foretold_before_and_for_this_device_is_compared(tmp_path: Path) -> None:
    early, late, elsewhere = read_cells("methods=simclr", "seeds=0,1,2")
    earlier = {address.hash_cell(cell): {"seconds": 5.0, "memory": 1, "device": "here"} for cell in (early, elsewhere)}
    forecasts.keep(tmp_path, earlier)
    put(tmp_path, early, 6.0, "here")
    put(tmp_path, late, 6.0, "here")
    put(tmp_path, elsewhere, 1.0, "there")
    records, _ = frame.load(tmp_path)
    table = forecasts.compare_with_truth(records, forecasts.read(tmp_path))
    assert table[["method", "cells", "forecast", "truth", "ratio"]].values.tolist() == [["simclr", 1, 5.0, 6.0, 1.2]]
    (tmp_path / forecasts.FILE_NAME).write_text("{")
    assert forecasts.compare_with_truth(records, forecasts.read(tmp_path)).empty
    (tmp_path / forecasts.FILE_NAME).write_text('{"x": {"made": ""}, "y": 3}')
    assert forecasts.compare_with_truth(records.iloc[:0], forecasts.read(tmp_path)).empty


def test_a_report_between_plan_and_run_says_that_there_is_nothing_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forecasts.keep(tmp_path, {"0123456789": {"seconds": 5.0, "memory": 1, "device": "here"}})
    assert main(["report", f"out={tmp_path}"]) == 0
    printed = capsys.readouterr()
    assert "No records to show" in printed.out
    assert f"python -m benchmark status out={tmp_path}" in printed.err


def test_a_damaged_image_is_named_by_the_process_that_measures(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(5):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    damaged = tmp_path / "cat" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    words = ["methods=simclr", "dataset=folder", f"dataset.root={tmp_path}", "view_size=32", "batch_size=4"]
    words += ["dataset.limit=0"]
    with pytest.raises(UsageError, match=r"image '.*cat/0\.png' cannot be read"):
        forecast.forecast(read_cells(*words), Runtime(device="cpu", out=str(tmp_path / "runs")))
