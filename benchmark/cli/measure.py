"""`profile` and `check`: where a method's time goes, and whether it keeps the contract. Nothing is recorded."""

from __future__ import annotations

from benchmark.cli import checks
from benchmark.display import columns
from benchmark.errors import UsageError
from benchmark.settings import schema
from benchmark.words import selection


def print_profile(words: list[str], json: bool) -> int:
    """`profile`: a training step in its parts, beside the encoder alone."""
    request = checks.read_request(words)
    from benchmark.launch import in_process  # behind the words: torch takes its time
    from benchmark.profiling import profile, profile_table

    device = in_process.claim_spare(request.runtime)
    subjects = profile.profile(request.cells, device, request.runtime.compile, request.runtime.record)
    if json:
        print(profile_table.to_json(subjects, device))
        return 0
    rows = profile_table.build_table(subjects)
    columns.show(rows[0], rows[1:])
    for subject in subjects:
        for note in subject.notes:
            print(f"{subject.cell.method}: {note}")
    print(profile_table.write_legend(device))
    return 0


def check_methods(words: list[str]) -> int:
    """`check`: the contract, on each method that is named."""
    if not words:
        raise UsageError("check needs the name of a method, such as: check simclr")
    names = selection.accept(words)
    for name in names:
        schema.describe(name)
    from benchmark.contract import check  # behind the words: torch takes its time

    results = [check.check(name) for name in names]
    return 0 if all(results) else 1
