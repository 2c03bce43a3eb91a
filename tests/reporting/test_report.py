"""Records to tables: what is averaged, what is not, and what a reader is told."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from results import record
from results.frames.frame import find_settings, load
from results.statistics.summaries import find_varying, summarise
from results.tables.formats import EMPTY, to_csv, to_markdown
from results.tables.terminal import to_rich

ROOT = Path(__file__).parents[2]


def put(
    out: Path,
    method: str = "moco",
    seed: int | None = 0,
    accuracy: float | None = 0.9,
    status: str = "finished",
    reason: str | None = None,
    protocol: str = "aaaaaaaaaaaa",
    options: dict[str, Any] | None = None,
    cost: dict[str, Any] | None = None,
    test: dict[str, float] | None = None,
    **settings: Any,
) -> Path:
    """Write one synthetic record, as the training side would, in a folder of its own."""
    key = f"{method}{len(list(record.find(out)))}"
    folder = out / f"{method}-digits-{key}"
    full: dict[str, Any] = {"method": method, "options": options or {}, "batch_size": 256}
    full |= {"dataset": {"name": "digits", "limit": 0}} | settings | {"seed": seed}
    finished = status == "finished"
    metrics = {"linear_top1": accuracy, "knn20_top1": accuracy, "knn200_top1": accuracy, "effective_rank": 31.25}
    usual_cost: dict[str, Any] = {
        "views": 1_843_200,
        "seconds": 125.4,
        "evaluation_seconds": 3.0,
        "images_per_second": 14_700.0,
    }
    usual_cost |= {"peak_memory_bytes": 3 * 2**29, "device": "Intel, 2 threads", "processes": 1}
    content: dict[str, Any] = {"schema": 1, "key": key, "protocol": protocol, "status": status, "reason": reason}
    content |= {"settings": full, "metrics": metrics if finished else {}}
    content |= {
        "cost": (usual_cost if finished else {"views": 10}) | (cost or {}),
        "versions": {},
        "commit": "0123456789abcdef",
    }
    content |= {"dirty": False, "started": "2025-01-01T00:00:00", "finished": "2025-01-01T00:01:00"}
    record.write(folder, content | ({"resolved": {"test": test}} if test else {}))
    return folder


def take_single_row(frame: pd.DataFrame) -> pd.Series:
    assert len(frame) == 1
    return frame.iloc[0]


def load_summary(out: Path) -> pd.DataFrame:
    frame, problems = load(out)
    assert problems == []
    return summarise(frame)


def show(summary: pd.DataFrame, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(to_rich(summary, width))
    return capture.get()


def read_cells(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_frame_has_a_row_a_record_and_a_line_a_problem(tmp_path: Path) -> None:
    folder = put(tmp_path, options={"temperature": 0.2, "scale": [0.2, 1.0]}, optimiser={"name": "sgd", "lr": 0.1})
    put(tmp_path / "deeper", "simclr", seed=None, status="failed", reason="out of memory")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/record.json").write_text("{\n")
    frame, problems = load(tmp_path)
    assert len(frame) == 2
    row = frame.set_index("method").loc["moco"]
    assert row["folder"] == str(folder)
    assert (row["options.temperature"], row["options.scale"], row["optimiser.lr"]) == (0.2, "[0.2, 1.0]", 0.1)
    assert (row["dataset.name"], row["metrics.linear_top1"], row["cost.views"]) == ("digits", 0.9, 1_843_200)
    assert len(problems) == 1
    assert str(tmp_path / "broken/record.json") in problems[0]
    assert "\n" not in problems[0]
    assert {"method", "options.temperature", "dataset.name"} <= set(find_settings(frame))
    assert not {"seed", "key", "status", "folder", "metrics.linear_top1", "cost.views"} & set(find_settings(frame))


def test_a_copied_cell_counts_once(tmp_path: Path) -> None:
    folder = put(tmp_path)
    content = record.read(folder)
    assert content is not None
    record.write(tmp_path / "copy" / folder.name, content)
    frame, problems = load(tmp_path)
    assert len(frame) == 1
    assert "same cell and protocol" in problems[0]


def test_a_setting_named_like_a_field_hides_nothing(tmp_path: Path) -> None:
    folder = put(tmp_path, folder="x")
    row = take_single_row(load(tmp_path)[0])
    assert (row["settings.folder"], row["folder"]) == ("x", str(folder))


def test_interval_by_hand_and_by_scipy(tmp_path: Path) -> None:
    values = [0.90, 0.92, 0.97]
    for seed, value in enumerate(values):
        put(tmp_path, seed=seed, accuracy=value, cost={"seconds": float(seed), "peak_memory_bytes": seed})
    row = take_single_row(load_summary(tmp_path))
    # By hand: mean 0.93, squared deviations 9 + 1 + 16 = 26e-4, sd = sqrt(13e-4), t(0.975, 2) = 4.30265.
    assert row["metrics.linear_top1.mean"] == pytest.approx(0.93)
    assert row["metrics.linear_top1.sd"] == pytest.approx(math.sqrt(13e-4))
    assert row["metrics.linear_top1.half_width"] == pytest.approx(4.30265 * math.sqrt(13e-4 / 3), rel=0.01)
    low, high = stats.t.interval(0.95, 2, loc=0.93, scale=stats.sem(values))
    assert row["metrics.linear_top1.half_width"] == pytest.approx((high - low) / 2, rel=0.01), "by draws"
    assert (row["metrics.linear_top1.n"], row["seeds"], row["cost.seconds"], row["cost.peak_memory_bytes"]) == (
        3,
        3,
        1,
        2,
    )
    assert "| 93.0 (84.1 to 100.0) |" in to_markdown(load_summary(tmp_path))


def test_without_a_second_seed_there_is_no_interval_and_it_is_said(tmp_path: Path) -> None:
    put(tmp_path, "pixels", seed=None)
    put(tmp_path, "moco", seed=0, accuracy=0.95)
    summary = load_summary(tmp_path)
    assert summary["metrics.linear_top1.half_width"].isna().all()
    text = to_markdown(summary)
    assert [line[1:3] for line in read_cells(text)[2:]] == [["1", "95.0"], ["1 (fixed)", "90.0"]]
    assert "- 1 seed: no interval" in text
    assert "- fixed: the method does not depend on the seed" in text
    put(tmp_path, "moco", seed=1, accuracy=0.95)
    assert "1 seed: no interval" not in to_markdown(load_summary(tmp_path)), "a fixed method needs no second seed"


def test_a_seed_run_twice_is_one_seed(tmp_path: Path) -> None:
    put(tmp_path, seed=0, accuracy=0.8)
    put(tmp_path, seed=0, accuracy=0.9)
    put(tmp_path, seed=1, accuracy=0.95)
    row = take_single_row(load_summary(tmp_path))
    assert (row["seeds"], row["metrics.linear_top1.n"]) == (2, 2)
    assert row["metrics.linear_top1.mean"] == pytest.approx((0.85 + 0.95) / 2)


def test_failed_and_collapsed_are_told_and_never_averaged(tmp_path: Path) -> None:
    put(tmp_path, seed=0, accuracy=0.9)
    put(tmp_path, seed=1, accuracy=0.8)
    collapsed = put(tmp_path, seed=2, status="collapsed", reason="non-finite loss at step 12")
    put(tmp_path, seed=3, status="failed", reason="error [in a|b]\nsecond line")
    # A collapsed run may well have been evaluated; its number still does not count.
    content = record.read(collapsed)
    assert content is not None
    record.write(collapsed, content | {"metrics": {"linear_top1": 0.1}})
    put(tmp_path, "simclr", status="collapsed", reason="effective rank 1.0")
    summary = load_summary(tmp_path)
    row = take_single_row(summary[summary["method"] == "moco"])
    assert row["metrics.linear_top1.mean"] == pytest.approx(0.85)
    assert (row["seeds"], row["failed"], row["collapsed"], row["metrics.linear_top1.n"]) == (2, 1, 1, 2)
    text = to_markdown(summary)
    assert "1 collapsed: non-finite loss at step 12" in text
    assert r"1 failed: error [in a\|b] second line" in text
    assert "1 collapsed: effective rank 1.0" in text
    assert [line[:3] for line in read_cells(text)[2:]] == [["moco", "2", "85.0 (21.3 to 100.0)"], ["simclr", "0", "–"]]
    assert "moco: 1 failed: error [in a|b] second line" in show(summary, width=90), "rich must not take it for markup"


def test_the_time_to_90_percent_is_a_column_where_there_is_a_curve(tmp_path: Path) -> None:
    for seed, seconds in enumerate((61.0, 63.0, 200.0)):
        put(tmp_path, "moco", seed=seed, cost={"seconds_to_90": seconds})
    put(tmp_path, "simclr")
    table = to_markdown(load_summary(tmp_path))
    header, _, *rows = read_cells(table)
    column = {row[0]: row[header.index("to 90 %")] for row in rows}
    assert column == {"moco": "01:03", "simclr": "–"}
    assert "to 90 %: mm:ss of training until kNN on the validation split" in table


def test_protocols_are_never_pooled(tmp_path: Path) -> None:
    put(tmp_path, seed=0, accuracy=0.9, protocol="aaaaaaaaaaaa")
    put(tmp_path, seed=1, accuracy=0.5, protocol="bbbbbbbbbbbb")
    summary = load_summary(tmp_path)
    assert sorted(summary["metrics.linear_top1.mean"]) == [0.5, 0.9]
    for text in (to_markdown(summary), show(summary)):
        assert "aaaaaaaa " in text
        assert "bbbbbbbb " in text
        assert "protocols differ: numbers of different protocols are not comparable" in text


def test_seeds_on_other_images_are_not_averaged_and_images_known_by_their_path_are_said(tmp_path: Path) -> None:
    put(tmp_path, dataset={"name": "folder", "fingerprint": "a" * 16})
    put(tmp_path, dataset={"name": "folder", "fingerprint": "b" * 16}, seed=1)
    put(tmp_path, dataset={"name": "folder", "root": "/data/im"}, seed=2)
    summary = load_summary(tmp_path)
    assert summary["seeds"].tolist() == [1, 1, 1]
    assert to_markdown(summary).count("images known by their path /data/im alone, as the record is older") == 1


def test_methods_on_other_backbones_are_shown_so(tmp_path: Path) -> None:
    put(tmp_path, "simclr", backbone="resnet18", stem="small")
    put(tmp_path, "random", backbone="resnet18", stem="small")
    put(tmp_path, "pixels", backbone=None, stem=None)
    assert "methods differ in" not in to_markdown(load_summary(tmp_path))
    put(tmp_path, "mae", backbone="test_vit", stem="small")
    text = to_markdown(load_summary(tmp_path))
    assert "methods differ in backbone as well, which may be what parts them; backbone= sets one for all" in text
    assert {"resnet18", "test_vit"} <= {cell for line in read_cells(text) for cell in line}


def test_null_and_missing_options_are_one_group(tmp_path: Path) -> None:
    put(tmp_path, seed=0, options={"queue": None, "temperature": 1}, stem=None)
    put(tmp_path, seed=1, options={"temperature": 1.0})
    put(tmp_path, "simclr", options={"queue": 4096, "clip": "none"})
    summary = load_summary(tmp_path)
    assert list(zip(summary["method"], summary["seeds"], strict=True)) == [("moco", 2), ("simclr", 1)]


def test_varying_names_what_tells_rows_apart(tmp_path: Path) -> None:
    put(tmp_path, "moco", options={"temperature": 0.2, "queue": 4096}, optimiser={"name": "sgd"})
    put(tmp_path, "simclr", options={"temperature": 0.5}, optimiser={"name": "sgd"})
    put(tmp_path, "pixels", seed=None, batch_size=None, optimiser=None)
    assert find_varying(load(tmp_path)[0]) == ["method"], "defaults and settings that do not apply tell nothing"
    put(tmp_path, "moco", options={"temperature": 0.2, "queue": 65536}, optimiser={"name": "sgd"})
    assert find_varying(load(tmp_path)[0]) == ["method", "options.queue"]
    assert find_varying(load_summary(tmp_path)) == ["method", "options.queue"]
    put(tmp_path, "simclr", options={"temperature": 0.5}, optimiser={"name": "sgd"}, batch_size=512)
    put(tmp_path, "simclr", options={"temperature": None}, optimiser={"name": "sgd"}, batch_size=512)
    assert set(find_varying(load(tmp_path)[0])) == {"method", "options.queue", "options.temperature", "batch_size"}


def test_markdown_is_a_sorted_rectangle(tmp_path: Path) -> None:
    put(tmp_path, "moco", accuracy=0.9, options={"queue": 4096})
    put(tmp_path, "moco", accuracy=0.91, options={"queue": 65536})
    put(tmp_path, "simclr", accuracy=0.97)
    put(tmp_path, "simclr", accuracy=0.1, dataset={"name": "cifar10", "limit": 0})
    header, rule, *rows = read_cells(to_markdown(load_summary(tmp_path)))
    assert header[:5] == ["method", "dataset", "queue", "seeds", "linear top-1 %"]
    assert header[5:] == ["kNN-20 %", "kNN-200 %", "effective rank", "views", "images/s", "time (mm:ss)", "peak memory"]
    assert {len(line) for line in (header, rule, *rows)} == {len(header)}
    assert set(rule) == {":---", "---:"}
    assert [row[:5] for row in rows] == [
        ["simclr", "cifar10", "–", "1", "10.0"],
        ["simclr", "digits", "–", "1", "97.0"],
        ["moco", "digits", "65536", "1", "91.0"],
        ["moco", "digits", "4096", "1", "90.0"],
    ]
    assert rows[0][7:] == ["31.2", "1.84M", "14,700", "02:05", "1.50 GiB"]


def test_devices_are_a_note_when_equal_and_a_column_when_not(tmp_path: Path) -> None:
    put(tmp_path, "moco")
    put(tmp_path, "simclr")
    assert "- device: Intel, 2 threads" in to_markdown(load_summary(tmp_path))
    put(tmp_path, "simclr", seed=1, cost={"device": "H200", "processes": 4})
    text = to_markdown(load_summary(tmp_path))
    assert "- device" not in text
    assert "| 4 x H200; Intel, 2 threads |" in text


def test_each_dataset_s_test_images_and_few_references_are_told(tmp_path: Path) -> None:
    digits = {"images": 200, "classes": 10, "largest_class": 0.1, "references": 200}
    put(tmp_path, "moco", test=digits)
    put(tmp_path, "moco", seed=1)  # a record from before
    text = to_markdown(load_summary(tmp_path))
    assert "- 200 test images; largest class 10.0 %\n" in text
    assert "- kNN-200: only 200 references, all of them vote\n" in text
    assert "kNN-20:" not in text
    assert "balanced" not in text
    unequal = {"images": 1200, "classes": 4, "largest_class": 0.5, "references": 900}
    few = {"images": 80, "classes": 4, "largest_class": 0.25, "references": 20}
    put(tmp_path, "simclr", dataset={"name": "folder"}, protocol="b" * 12, test=unequal)
    put(tmp_path, "simclr", dataset={"name": "folder"}, protocol="c" * 12, test=few)
    notes = to_markdown(load_summary(tmp_path)).partition("\n\n")[2]
    for line in (
        "digits: 200 test images; largest class 10.0 %\n",
        "folder, protocol bbbbbbbb: 1,200 test images; largest class 50.0 %, above 1.5 times an equal share of 25.0 %",
        "folder, protocol cccccccc: 80 test images; largest class 25.0 %\n",
        "digits: kNN-200: only 200 references",
        "folder, protocol cccccccc: kNN-20: only 20 references",
    ):
        assert f"- {line}" in notes
    assert notes.count("kNN-") == 3, "of 900 references not all vote"


def test_a_narrow_terminal_breaks_no_number(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, seed=seed, accuracy=0.9 + seed / 100)
    summary = load_summary(tmp_path)
    assert "31.2 ± 0.0" not in show(summary), "the same in every seed: no interval"
    narrow = show(summary, width=60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert all(text in narrow for text in ("91.0 ± 2.5", "1.84M", "02:05"))
    assert "columns left out of this narrow terminal: effective rank" in " ".join(narrow.split())


def test_csv_keeps_full_precision(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path, seed=seed, accuracy=0.9 + seed / 7e3)
    summary = load_summary(tmp_path)
    (back,) = csv.DictReader(io.StringIO(to_csv(summary)))
    assert list(back) == ["configuration", *summary.columns]
    numbers = [name for name in summary.columns if name.startswith(("metrics.", "cost.")) and name != "cost.devices"]
    expected = pytest.approx(take_single_row(summary)[numbers].tolist(), rel=0, abs=0, nan_ok=True)
    assert [float(back[name] or "nan") for name in numbers] == expected


def test_many_numbers_are_written_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    folder = put(tmp_path)
    numbers = {"protocol": "p", "settings": {}, "seconds": 1.0, "metrics": {f"n{i}": 0.5 for i in range(120)}}
    content = {"schema": 1, "key": record.read(folder)["key"], "evaluations": {"knn": numbers}}
    (folder / "evaluation.json").write_text(json.dumps(content))
    frame, problems = load(tmp_path)
    assert not problems
    assert "metrics.n119" in frame.assign(column=1)
    to_csv(summarise(frame))
    assert not [str(warning.message) for warning in recwarn]


def test_only_failures_make_a_table(tmp_path: Path) -> None:
    put(tmp_path, status="failed", reason="out of memory", cost={"views": None})
    summary = summarise(load(tmp_path)[0], ["linear_top1"])
    assert take_single_row(summary)["metrics.linear_top1.n"] == 0
    assert "1 failed: out of memory" in to_markdown(summary)


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    frame, _ = load(tmp_path)
    assert to_markdown(summarise(frame)).strip() == EMPTY
    assert to_rich(summarise(frame)).row_count == 1
    assert EMPTY in show(summarise(frame))
    assert to_csv(summarise(frame)).count("\n") == 1
    assert find_varying(frame) == []
    assert "no such folder" in load(tmp_path / "none")[1][0]


def test_two_thousand_records(tmp_path: Path) -> None:
    put(tmp_path)
    one = load(tmp_path)[0]
    frame = pd.concat([one] * 2000, ignore_index=True).assign(seed=[i % 5 for i in range(2000)])
    frame["options.temperature"] = [i // 5 / 1000 for i in range(2000)]
    summary = summarise(frame)
    assert summary["seeds"].tolist() == [5] * 400
    assert to_markdown(summary).count("\n| moco") == 400


def test_results_never_import_torch_and_the_slow_half_of_scipy_when_it_is_used(tmp_path: Path) -> None:
    put(tmp_path)
    script = (
        "import sys; from results.statistics import compare; assert 'scipy.stats' not in sys.modules\n"
        "from benchmark.__main__ import main\n"
        "assert main(['report', f'out={sys.argv[1]}']) == 0; assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "moco" in result.stdout


def test_a_narrow_terminal_gives_up_settings_that_the_method_tells_and_keeps_numbers(tmp_path: Path) -> None:
    """Presets give methods settings of their own; what is varied within a method stays."""
    for method, rate, augmentation in [("moco", 0.12, "crop+colour+blur"), ("simclr", 0.25, "crop+colour")]:
        for size in (64, 128):
            put(tmp_path, method, learning_rate=rate, augmentation=augmentation, batch_size=size)
    wide, narrow = (show(load_summary(tmp_path), width) for width in (200, 60))
    for header in ("learning_rate", "augmentation", "batch_size"):
        assert header in wide
    assert "batch_size" in narrow
    assert "crop+colour" not in narrow
    assert narrow.count("90.0") == 8, "linear and kNN"
    assert "columns left out of this narrow terminal: " in narrow
    assert "learning_rate" in narrow.split("columns left out of this narrow terminal: ")[1]
