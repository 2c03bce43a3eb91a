"""Tables and figures of README and docs/: made from records, and any number that is edited by hand is found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from results import readme, record
from results.report import study

ROOT = Path(__file__).parents[1]
TEXT = """# Demo

Before.

<!-- records: results/studies/demo -->
<!-- end of records -->

After.
"""


def put(folder: Path, method: str, seed: int, value: float, **settings: Any) -> None:
    """Write one synthetic record, as the training side would."""
    full = {"method": method, "options": {}, "dataset": {"name": "digits"}, "seed": seed} | settings
    cost = {"views": 100, "seconds": 61.0, "images_per_second": 50.0, "device": "cpu", "processes": 1}
    content = {"schema": 1, "key": folder.name, "protocol": "aaaaaaaaaaaa", "status": "finished", "reason": None}
    content |= {"settings": full, "metrics": {"linear_top1": value}, "cost": cost, "versions": {}, "commit": None}
    record.write(folder, content | {"dirty": None, "started": "", "finished": ""})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Finished cells, each with the checkpoint, log and settings that training leaves."""
    values = {"simclr": (0.971, 0.968, 0.975), "moco": (0.912, 0.915, 0.909)}
    for method, accuracies in values.items():
        for seed, value in enumerate(accuracies):
            folder = tmp_path / "runs" / f"{method}-digits-{seed}"
            put(folder, method, seed, value)
            for name in ("last.pt", "log.jsonl", "settings.json"):
                (folder / name).write_text("{}")
    return tmp_path / "runs"


@pytest.fixture
def page(tmp_path: Path, runs: Path) -> Path:
    path = tmp_path / "README.md"
    command = "python -m benchmark run methods=simclr,moco seeds=0,1,2"
    assert make(path, "--keep", str(runs), "demo", "--command", command) == 0
    path.write_text(TEXT)
    return path


def make(page: Path, *arguments: str) -> int:
    return readme.main(["--root", str(page.parent), *arguments])


def test_written_once_it_is_current(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(page, "--check") == 1, "nothing is there yet"
    assert page.read_text() == TEXT, "a check writes nothing"
    assert make(page) == 0
    text = page.read_text()
    assert text.startswith("# Demo\n\nBefore.\n\n<!-- records: results/studies/demo -->\n")
    assert text.endswith("<!-- end of records -->\n\nAfter.\n")
    assert "```bash\npython -m benchmark run methods=simclr,moco seeds=0,1,2\n```" in text
    assert "| simclr | 3 | 97.1 ± 1.3 |" in text
    assert "| moco | 3 | 91.2 (89.9 to 92.5) | 2 |" in text, "what can be told apart"
    capsys.readouterr()
    assert make(page, "--check") == 0
    assert capsys.readouterr().out == ""
    assert make(page) == 0
    assert page.read_text() == text


def test_an_edited_number_is_shown(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(page)
    text = page.read_text()
    page.write_text(text.replace("97.1 ± 1.3", "98.1 ± 1.3"))
    capsys.readouterr()
    assert make(page, "--check") == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines if "simclr | 3 | 9" in line and "±" in line] == ["-", "+"]
    page.write_text(text.replace("Before.", "Another text."))
    assert make(page, "--check") == 0, "what stands outside is the author's"


def change(folder: Path) -> None:
    """Another accuracy, written as the training side would."""
    content = record.read(folder)
    assert content is not None
    record.write(folder, content | {"metrics": {"linear_top1": 0.871}})


def test_a_changed_record_is_found(page: Path) -> None:
    make(page)
    change(page.parent / "results/studies/demo/simclr-digits-0")
    assert make(page, "--check") == 1


def test_one_seed_has_no_comparison(page: Path) -> None:
    for path in (page.parent / "results/studies/demo").glob("*-[12]"):
        shutil.rmtree(path)
    make(page)
    assert "1 seed: no interval" in page.read_text()
    assert "rank" not in page.read_text().replace("effective rank", "")


def test_published_curves_stand_beside_a_sweep(tmp_path: Path) -> None:
    for temperature, mean in ((0.1, 0.8), (0.5, 0.7), (1.0, 0.6)):
        for seed, more in enumerate((0.001, 0.002, 0.004)):
            folder = tmp_path / "results/studies/sweep" / f"{temperature}-{seed}"
            put(folder, "simclr", seed, mean + more * (1 + temperature), options={"temperature": temperature})
    text = study.render(tmp_path / "results/studies/sweep")
    assert (
        "| simclr | temperature | SimCLR paper (arXiv 2002.05709), table 5 | 0.1, 0.5, 1 | 3 | 0 | 0 | agree |" in text
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("studies/demo", "studies/dmeo", "no folder 'results/studies/dmeo'; there are: results/studies/demo; nearest"),
        ("<!-- end of records -->\n", "", "<!-- records: results/studies/demo --> has no <!-- end of records -->"),
        ("Before.", "<!-- end of records -->", "README.md: line 3: <!-- end of records --> without a beginning"),
        (
            "Before.",
            "<!-- records: results/studies/demo -->",
            "README.md: line 5: <!-- records: results/studies/demo --> before",
        ),
    ],
)
def test_bad_markers(page: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str) -> None:
    wrong = TEXT.replace(old, new)
    page.write_text(wrong)
    capsys.readouterr()
    for arguments in ((), ("--check",)):
        assert make(page, *arguments) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert message in printed
    assert page.read_text() == wrong


def test_a_study_holds_records_only(page: Path, runs: Path) -> None:
    study = page.parent / "results/studies/demo"
    assert sorted({path.name for path in study.rglob("*") if path.is_file()}) == ["command.txt", "record.json"]
    assert len(list(study.rglob("record.json"))) == 6
    name = "moco-digits-0/record.json"
    assert json.loads((study / name).read_text()) == json.loads((runs / name).read_text())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": {"name": "folder", "root": "/home/me/images"}}, "the absolute path /home/me/images"),
        ({"dataset": {"name": "folder", "root": "~/images"}}, "the absolute path ~/images"),
    ],
)
def test_a_record_with_somebody_s_path_is_not_kept(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], message: str
) -> None:
    put(runs / "simclr-folder-9", "simclr", 9, 0.5, **settings)
    assert make(tmp_path / "README.md", "--keep", str(runs), "demo") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists(), "all or nothing"


def test_bad_input_of_keep(tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "README.md"
    assert make(page, "--keep", str(tmp_path / "nowhere"), "demo") == 2
    assert "nowhere: no records" in capsys.readouterr().err
    assert make(page, "--keep", str(runs), "../demo") == 2
    assert "study '../demo': letters, digits, - and _ are allowed" in capsys.readouterr().err
    assert make(page, "--keep", str(runs), "demo", "--command", "benchmark run dataset.root=/home/me") == 2
    assert "--command holds the absolute path /home/me" in capsys.readouterr().err
    (runs / "moco-digits-0/record.json").write_text("{")
    assert make(page, "--keep", str(runs), "demo") == 2
    assert "unreadable record" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_study_that_is_kept_has_a_page_a_figure_and_a_line_in_the_list(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = page.parent / "docs/results/demo.md"
    assert "| simclr | 3 | 97.1 ± 1.3 |" in own.read_text()
    figure = own.parent / "demo/accuracy.svg"
    assert "</svg>" in figure.read_text()
    own.write_text(own.read_text().replace("# demo", "# Two methods on digits"))
    index = own.parent / "index.md"
    index.write_text("<!-- studies: results/studies -->\n<!-- end of records -->\n")
    assert make(page) == 0
    assert "| [Two methods on digits](demo.md) | digits | 2 | 6 | 3 | cpu |" in index.read_text()
    assert make(page, "--check") == 0
    own.unlink()
    capsys.readouterr()
    assert make(page, "--check") == 1
    assert capsys.readouterr().out == "docs/results/demo.md is missing\n"


def test_a_figure_of_other_records_is_found_and_drawn_anew(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = page.parent / "docs/results/demo/accuracy.svg"
    page.write_text('<img src="docs/results/demo/accuracy.svg">\n')
    before = figure.read_text()
    change(page.parent / "results/studies/demo/simclr-digits-0")
    assert make(page, "--check") == 1
    assert "accuracy.svg is not drawn from the records that are there now" in capsys.readouterr().out
    assert make(page) == 0
    assert figure.read_text() != before
    assert make(page, "--check") == 0
    page.write_text("![No such figure](docs/results/demo/acuracy.svg)\n")
    assert make(page) == 2
    assert "no figure 'acuracy'; there are: accuracy, " in capsys.readouterr().err


def test_a_comparison_alone(page: Path) -> None:
    page.write_text("<!-- comparison: results/studies/demo reference=moco -->\n<!-- end of records -->\n")
    assert make(page) == 0
    text = page.read_text()
    assert "| simclr | 3 | 97.1 (95.9 to 98.4) | 1 | +5.9" in text
    assert "| note |" not in text, "a column in which nothing stands"
