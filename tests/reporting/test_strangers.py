"""Records and side files that others wrote: named where they cannot be used, and nothing in them is obeyed."""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import fuzz_folders
import pandas as pd
import pytest
import synthetic
from commandline import run_in_process
from test_report import put

from results import record
from results.frames.frame import load
from results.report import report

HOSTILE = "gpu\n\\input{/etc/passwd}\x1b]0;mine\x07\u202e"


def encode_png(width: int, height: int) -> str:
    """A PNG of one colour in base64, as small as it gets."""

    def encode_chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + width // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = encode_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    whole = b"\x89PNG\r\n\x1a\n" + header + encode_chunk(b"IDAT", rows) + encode_chunk(b"IEND", b"")
    return base64.b64encode(whole).decode()


def test_what_cannot_be_used_is_named_and_the_report_comes(tmp_path: Path, environment: Mapping[str, str]) -> None:
    synthetic.write(8, tmp_path, ("moco",))
    cells = sorted(path.parent for path in tmp_path.glob("*/record.json"))  # three seeds of each configuration
    content = json.dumps(json.loads((cells[0] / "record.json").read_text()) | {"resolved": "HERE"})
    looks = json.loads((cells[0] / "looks.json").read_text())
    looks["neighbours"]["png"] = encode_png(40_000, 10_000)
    bad_lines = '[1]\n{"step": 1e999, "epoch": 0, "loss": 1}\n{"step": 1, "epoch": 0, "loss": 2.0}\n'
    cases = [
        (cells[0] / "log.jsonl", bad_lines, "2 lines that cannot be read"),
        (cells[0] / "looks.json", "[" * 10**5, "nested too deep"),
        (cells[1] / "looks.json", json.dumps(looks), "a picture of 40000 x 10000 pixels"),
        (cells[2] / "evaluation.json", "[]", "not evaluations"),
        (cells[3] / "record.json", content.replace('"HERE"', "1" + "0" * 400), "a number too large"),
        (cells[4] / "record.json", content.replace('"HERE"', "1e999"), "a number too large"),
        (cells[5] / "record.json", content.replace('"HERE"', r'"\ud800"'), "surrogates not allowed"),
        (cells[6] / "record.json", content.replace('"HERE"', "[" * 50 + "]" * 50), "nested too deep"),
        (cells[7] / "record.json", "{}", "schema None"),
        (tmp_path / "forecasts.json", "{", "unreadable forecasts"),
    ]
    for path, text, _ in cases:
        path.write_text(text)
    result = run_in_process(["report", f"out={tmp_path}"], environment)
    assert result.returncode == 0
    notes = [line.removeprefix("left out: ") for line in result.stderr.splitlines() if line.startswith("left out: ")]
    assert len(notes) == len(cases)
    for path, _, reason in cases:
        assert any(reason in line and path.parent.name in line for line in notes), reason
    page = (tmp_path / "report/report.html").read_text().partition("<h2>Left out</h2>")[2]
    assert all(reason in page for _, _, reason in cases)


def test_texts_of_records_reach_no_terminal_latex_or_spreadsheet_as_commands(
    tmp_path: Path, environment: Mapping[str, str]
) -> None:
    put(tmp_path, cost={"device": HOSTILE}, note="=HYPERLINK(1)", link="![x](http://example.org/p.png) <img>")
    put(tmp_path, cost={"device": HOSTILE}, note="+1", link="x")
    failure = put(tmp_path, "simclr", status="failed", reason=HOSTILE)
    record.write(failure, (record.read(failure) or {}) | {"resolved": {"data": [HOSTILE, 7], "warnings": 8}})
    record.write_json(failure / "settings.json", {})
    (failure / "error.txt").write_text(HOSTILE)
    for words in (["report"], ["status"], ["logs", failure.name]):
        result = run_in_process([*words, f"out={tmp_path}"], environment)
        assert result.returncode == 0, result.stderr
        assert all(line.isprintable() for line in (result.stdout + result.stderr).splitlines())
        assert not {"\x1b", "\x07", "\u202e"} & set(result.stdout + result.stderr)
    folder = tmp_path / "report"
    assert not re.search(r"^\\input", (folder / "table.tex").read_text(), flags=re.MULTILINE)
    assert {"'=HYPERLINK(1)", "'+1"} <= set(pd.read_csv(folder / "results.csv")["note"].dropna())
    markdown = (folder / "table.md").read_text()
    assert "](http" not in markdown
    assert not re.search(r"(?<!\\)<img", markdown)


@pytest.mark.usefixtures("no_figure_files")
def test_the_page_runs_its_own_scripts_alone(tmp_path: Path) -> None:
    put(tmp_path)
    report.write(tmp_path, *load(tmp_path))
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)">', (tmp_path / "report/report.html").read_text())
    assert [part for part in policy.split("; ") if "unsafe" in part] == ["style-src-attr 'unsafe-inline'"]
    assert {"default-src 'none'", "base-uri 'none'", "form-action 'none'"} <= set(policy.split("; "))


def test_folders_with_hostile_files_end_in_order(tmp_path: Path, environment: Mapping[str, str]) -> None:
    """A few of those that tests/fuzz_folders.py makes."""
    os.environ |= {"COLUMNS": environment["COLUMNS"]}
    fuzz_folders.run_cases(range(4), tmp_path)
