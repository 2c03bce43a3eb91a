"""Equal keys are equal code: each method file has a version, and an edit that may alter numbers is seen.

`make versions` writes versions.json as the files are now.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import run_in_process

import methods
from benchmark.cells import plan
from benchmark.settings import address, resolve, schema
from benchmark.settings.cell import restore
from benchmark.words import cell_words
from methods import sources

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).with_name("versions.json")
PLUGIN = '''"""Mine."""
from torch import nn
from methods.method import Method
from .helper import scale
class Mine(Method):
    ignores = ("seed", "backbone", "weights", "stem")
    trains = False
    def __init__(self, config, encoder, width, images):
        super().__init__(config, nn.Flatten(), width, images)
'''


def hash_methods() -> dict[str, dict[str, Any]]:
    """File -> digest of its source without comments and docstrings, and of a method its version."""
    files = [path for folder in ("", "parts") for path in sorted((methods.FOLDER / folder).glob("*.py"))]
    table: dict[str, dict[str, Any]] = {}
    for path in files:
        if path.name == "__init__.py" or path.stem == "sources":
            continue
        own = {"version": methods.describe(path.stem).version} if path.stem in methods.names() else {}
        table[path.relative_to(methods.FOLDER).as_posix()] = own | {"source": sources.digest_file(path)}
    return table


def test_a_method_whose_numbers_change_has_a_new_version() -> None:
    entries = json.loads(KEPT.read_text())
    changed = [name for name, entry in hash_methods().items() if entries.get(name) != entry] + sorted(
        set(entries) - set(hash_methods())
    )
    assert not changed, (
        f"{', '.join(changed)}: another source than when the versions were last looked at. Where a method's numbers "
        "change for the same settings (of a file of parts/, those of the methods that import it), raise `version` on "
        "its class; then run `make versions`"
    )


def test_a_raised_version_is_another_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (methods.FOLDER / "simclr.py").read_text()
    before = resolve.build({"method": "simclr"})
    (tmp_path / "simclr.py").write_text(text.replace("(Method):\n", "(Method):\n    version = 2\n", 1))
    monkeypatch.setattr(methods, "FOLDER", tmp_path)
    assert methods.version("simclr") == "2"
    schema.method_version.cache_clear()
    after = resolve.build({"method": "simclr"})
    schema.method_version.cache_clear()
    assert (before.method_version, after.method_version) == ("", "2")
    assert address.hash_cell(before) != address.hash_cell(after)


def test_options_that_came_later_leave_the_keys_of_cells_without_them() -> None:
    """By a record of before `hardness` and `class_share`, and by the words that made it."""
    (folder, *_) = sorted((ROOT / "results/studies/digits_all").glob("simclr-*"))
    record = json.loads((folder / "record.json").read_text())
    old = restore(record["settings"])
    assert "hardness" not in old.options
    young = replace(old, options=old.options | {"hardness": 0.0, "class_share": 0.0})
    assert address.hash_cell(old) == address.hash_cell(young) == record["key"]
    assert address.identify(young)["options"] == old.options
    assert address.hash_cell(replace(old, options=old.options | {"hardness": 1.0})) != record["key"]
    cells = cell_words.read(["methods=simclr", "simclr.hardness=0,1"]).cells
    assert plan.find_varying(cells) == ["options.hardness"]


def test_a_plugin_is_what_it_and_its_package_say(write_plugin: Callable[[str], str], tmp_path: Path) -> None:
    name = write_plugin(PLUGIN)
    package = tmp_path / name.partition(".")[0]
    (package / "helper.py").write_text("from . import table\ndef scale(x):\n    return x * table.FACTOR\n")
    (package / "table.py").write_text("FACTOR = 2\n")
    (package / "unused.py").write_text("A = 1\n")
    first = methods.version(name)
    (package / "helper.py").write_text(
        'from . import table\n\n\ndef scale(x):\n    """Doubled."""  # twice\n    return x * table.FACTOR\n'
    )
    (package / "unused.py").write_text("A = 2\n")
    assert methods.version(name) == first, "comments, docstrings, layout, and what is not imported, change nothing"
    (package / "table.py").write_text("FACTOR = 3\n")
    assert methods.version(name) != first, "of a module that a module of the package imports"


def test_a_single_file_is_what_it_and_the_files_beside_it_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name = f"single_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("import json, torch\nfrom beside_it import scale\n")
    methods.trust([name])
    monkeypatch.chdir(tmp_path)
    lone = methods.version(name)
    (tmp_path / "beside_it.py").write_text("def scale(x):\n    return x\n")
    first = methods.version(name)
    (tmp_path / "beside_it.py").write_text("def scale(x):\n    return 2 * x\n")
    assert len({lone, first, methods.version(name)}) == 3


def test_an_edited_plugin_begins_a_new_cell_and_resumes_no_old_one(
    write_plugin: Callable[[str], str], tmp_path: Path, environment: dict[str, str]
) -> None:
    name = write_plugin(PLUGIN)
    package = tmp_path / name.partition(".")[0]
    (package / "helper.py").write_text("def scale(x):\n    return x\n")

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        """As in a new process: what this one knows of the package is forgotten."""
        schema.method_version.cache_clear()
        for module in [module for module in sys.modules if module.partition(".")[0] == package.name]:
            del sys.modules[module]
        return run_in_process([*words, f"out={tmp_path / 'runs'}"], environment)

    train_words = ("run", f"methods={name}", "dataset.limit=60", "view_size=8", "threads=1")
    assert call(*train_words).returncode == 0
    (record,) = (tmp_path / "runs").glob("*/record.json")
    old = json.loads(record.read_text())
    assert old["settings"]["method_version"] == old["resolved"]["method_version"] == methods.version(name)
    record.unlink()
    (package / "helper.py").write_text("def scale(x):\n    return 2 * x\n")
    result = call("resume", f"trust={name}")
    assert result.returncode == 0
    assert f"{record.parent.name}: the code of {name} has changed" in result.stderr
    assert not record.exists()
    assert call(*train_words).returncode == 0
    (new,) = (tmp_path / "runs").glob("*/record.json")
    assert json.loads(new.read_text())["key"] != old["key"]


if __name__ == "__main__":
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in hash_methods().items())
    KEPT.write_text("{\n" + lines + "\n}\n")
