"""The commands on a folder of cells: `report`, `status`, `serve`, `cancel`, `logs`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmark.cells import plan, writable
from benchmark.cli import checks
from benchmark.display import columns
from benchmark.errors import UsageError
from benchmark.launch import cluster
from benchmark.words.runtime_words import read_out, read_report, read_serve
from results import files
from results.quantity import quantify


def write_report(words: list[str]) -> int:
    """`report`: the tables of all records, printed and written to report/."""
    out, reference, project = read_report(words)
    checks.require_folder(out)
    writable.require(out, out / "report")
    from benchmark.cli import reporting  # behind the words: pandas takes its time

    if not any(out.rglob("record.json")):
        print(f"note: no cell has ended yet; `python -m benchmark status out={out}` lists all", file=sys.stderr)
    reporting.write(out, reference, project)
    return 0


def print_status(words: list[str]) -> int:
    """`status`: every cell, and its job on a cluster."""
    out = _read_folder(words)
    jobs, news = cluster.describe_jobs(out)
    if news:
        print(f"{news}; what follows is from the folder alone", file=sys.stderr)
    states = [plan.read_state(folder) for folder in plan.list_folders(out)]
    titles = plan.write_titles(plan.read_cells(out)[0])
    header = ["cell", "settings", "state", *(["job", "", ""] if jobs else []), ""]
    rows = []
    for state in states:
        name = state.folder.name
        job = jobs.get(name, ("", "", "")) if jobs else ()
        rows.append([name, titles.get(name, "").partition(" ")[2], state.word, *job, state.detail])
    columns.show(header, rows)
    counts = {word: sum(state.word == word for state in states) for word in sorted({s.word for s in states})}
    print(", ".join(f"{count} {word}" for word, count in counts.items()) or f"no cells below {out}")
    return 0


def serve_page(words: list[str]) -> int:
    """`serve`: the cells in a browser, until Ctrl-C."""
    out, port = read_serve(words)
    checks.require_folder(out)
    from benchmark.serve import server  # which no other command needs

    server.serve(out, port)
    return 0


def cancel_jobs(words: list[str]) -> int:
    """`cancel`: end the cluster's jobs of the folder."""
    count = cluster.cancel(_read_folder(words))
    print(f"{quantify(count, 'job')} cancelled; what their cells have done is kept, and the same command goes on")
    return 0


def print_log(words: list[str]) -> int:
    """`logs`: what the job, or the process, of a cell wrote last."""
    names = [word for word in words if "=" not in word]
    out = _read_folder([word for word in words if "=" in word])
    if len(names) != 1:
        raise UsageError("logs needs the name of one cell; `python -m benchmark status` lists them")
    folder = plan.find(out, names)[0]
    text = cluster.log(out, folder.name)
    if not text and (folder / "error.txt").exists():
        text = files.read_text(folder / "error.txt", errors="replace")
    text = text or f"{folder.name}: no job of it has written anything, and it has not failed"
    for line in text.splitlines():
        print(files.make_printable(line))
    return 0


def _read_folder(words: list[str]) -> Path:
    """The folder that `out=` names, which is there."""
    out = Path(read_out(words).out)
    checks.require_folder(out)
    return out
