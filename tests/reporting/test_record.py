"""A record is whole or absent, and a bad one is named and hides no other."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from results import record

ROOT = Path(__file__).parents[2]


def make_record(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "key": "9f3a",
        "protocol": "c0ffee",
        "status": "finished",
        "reason": None,
        "settings": {"method": "moco", "options": {"temperature": 0.2}, "seed": 0},
        "metrics": {"linear_top1": 0.98, "alignment": None},
        "cost": {"views": 1000, "seconds": 1.5},
        "versions": {"python": "3.11"},
        "commit": None,
        "dirty": None,
        "started": "2025-01-01T00:00:00",
        "finished": "2025-01-01T00:01:00",
    } | changes


def test_a_record_comes_back_as_written(tmp_path: Path) -> None:
    folder = tmp_path / "moco-digits-9f3a"
    assert record.read(folder) is None
    record.write(folder, make_record())
    assert record.read(folder) == make_record()
    assert [path.name for path in folder.iterdir()] == ["record.json"]
    names = list(json.loads((folder / "record.json").read_text()))
    assert names == [*make_record(), "checksum"], "keys keep their order"


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_record_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "cell"
    # Large enough to take many system calls, so that a kill often falls inside a write.
    script = (
        "import sys; from pathlib import Path; from results import record\n"
        "import json; base = json.loads(sys.argv[2]); turn = 0\n"
        "while True:\n"
        "    turn += 1\n"
        "    base['versions'] = {str(i): 'x' * (turn % 7) for i in range(20_000)}\n"
        "    record.write_json(Path(sys.argv[1]) / 'record.json', base)\n"
    )
    reads = 0
    for turn in range(6):
        writer = subprocess.Popen([sys.executable, "-c", script, str(folder), json.dumps(make_record())], cwd=ROOT)
        try:
            limit = time.monotonic() + 30
            while not folder.exists() and time.monotonic() < limit:
                time.sleep(0.01)
            until = time.monotonic() + 0.1 + 0.037 * turn
            while time.monotonic() < until:
                reads += record.read(folder) is not None  # raises on a part of a record
        finally:
            writer.kill()
            writer.wait()
        content = record.read(folder)
        assert content is None or len(content["versions"]) == 20_000
    assert reads > 0
    assert len(list(record.find(tmp_path))) == 1, "what a killed writer leaves is not taken for a record"


def test_another_cells_record_is_not_overwritten(tmp_path: Path) -> None:
    record.write(tmp_path, make_record())
    with pytest.raises(ValueError, match="holds the record of key 9f3a, given beef"):
        record.write(tmp_path, make_record(key="beef"))
    record.write(tmp_path, make_record(metrics={"linear_top1": 0.5}))
    content = record.read(tmp_path)
    assert content is not None
    assert content["metrics"] == {"linear_top1": 0.5}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": {"linear_top1": float("nan")}}, "'linear_top1' is nan, must be finite or null"),
        ({"metrics": {"linear_top1": float("inf")}}, "must be finite"),
        ({"metrics": {"linear_top1": "0.9"}}, "is str, must be a number"),
        ({"metrics": {"linear_top1": True}}, "is bool, must be a number"),
        ({"cost": {"seconds": float("nan")}}, "not written"),
        ({"settings": {"method": "moco", "path": Path("x")}}, "not written"),
        ({"settings": {}}, "settings.method"),
        ({"schema": 2}, "schema 2"),
        ({"key": ""}, "must not be empty"),
        ({"commit": 7}, "'commit' is int, must be str or null"),
        ({"status": "running"}, "'running' .allowed: finished, failed, collapsed, stopped"),
        ({"status": "collapsed"}, "must give its reason"),
    ],
)
def test_a_bad_record_is_refused_and_leaves_nothing(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        record.write(tmp_path, make_record(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", [field for field in make_record() if field != "schema"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    partial = {name: value for name, value in make_record().items() if name != field}
    with pytest.raises(ValueError, match=f"field '{field}' is missing"):
        record.write(tmp_path, partial)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema": 1, "key"', "unreadable record"),
        ("", "unreadable record"),
        ("[1]", "a record is an object, got list"),
        ("[" * 100_000, "unreadable record"),
        ('{"schema": 2}', "schema 2, this version reads and writes schema 1"),
        (json.dumps(make_record(metrics={"linear_top1": float("nan")})), "NaN is not JSON"),
    ],
)
def test_a_broken_file_is_named_and_hides_no_other(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/record.json").write_text(text)
    (tmp_path / "b/record.json").mkdir(parents=True)
    record.write(tmp_path / "deeper/c", make_record())
    with pytest.raises(ValueError, match=words) as error:
        record.read(tmp_path / "a")
    assert str(tmp_path / "a/record.json") in str(error.value)
    contents = list(record.find(tmp_path))
    assert [folder for folder, _ in contents] == [tmp_path / "a", tmp_path / "b", tmp_path / "deeper/c"]
    assert isinstance(contents[0][1], ValueError)
    assert isinstance(contents[1][1], ValueError)
    assert contents[2][1] == make_record()


def test_a_folder_that_does_not_exist_has_no_records(tmp_path: Path) -> None:
    assert list(record.find(tmp_path / "none")) == []


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    record.write_json(tmp_path / "settings.json", {"method": "moco"})
    assert (tmp_path / "settings.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_record_needs_the_standard_library_only() -> None:
    script = (
        "import sys; before = set(sys.modules); import results.record\n"
        "print(*{n.split('.')[0] for n in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["results"]


def test_a_record_that_was_changed_by_hand_is_no_record(tmp_path: Path) -> None:
    record.write(tmp_path, make_record(metrics={"linear_top1": 0.5}))
    path = tmp_path / "record.json"
    path.write_text(path.read_text().replace("0.5", "0.9"))
    with pytest.raises(ValueError, match="changed since it was written"):
        record.read(tmp_path)
    content = json.loads(path.read_text())
    del content["checksum"]
    path.write_text(json.dumps(content))  # as records of before are
    assert record.read(tmp_path) == content
