"""`evaluate`: measure finished cells, or a backbone as it comes, by more than the record holds."""

from __future__ import annotations

from pathlib import Path

from benchmark import environment
from benchmark.cells import plan
from benchmark.cli import checks
from benchmark.cli.run import run_request
from benchmark.display.messages import say
from benchmark.errors import UsageError
from benchmark.settings import address
from benchmark.words import evaluate_words
from benchmark.words.cell_words import Request


def evaluate_cells(words: list[str]) -> int:
    """The cells that words name are run first, like any others; those of a folder are there."""
    if environment.is_torchrun():
        raise UsageError("evaluate is one process's work: run it without torchrun")
    checks.print_note(environment.leave_group())
    checks.require_writable(words)
    request = evaluate_words.read(words)
    out, code = Path(request.runtime.out), 0
    from benchmark.cells import evaluations  # behind the words: torch takes its time

    if request.cells:
        evaluations.require_use(request, request.cells)
        code = run_request(checks.check_request(Request(request.cells, request.runtime, request.notes)), False)
    if code >= 128:
        return code
    checks.require_folder(out)
    if request.cells is None:
        folders = plan.find(out, request.names) or list(plan.list_folders(out))
    else:
        folders = [out / address.name_folder(cell) for cell in request.cells]
    from benchmark.cli import reporting
    from benchmark.launch import in_process

    measured = evaluations.measure(request, folders, in_process.claim_spare(request.runtime), say)
    reporting.print_evaluations(folders)
    return 1 if measured == 1 else code or measured
