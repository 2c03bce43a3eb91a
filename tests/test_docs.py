"""README and docs/: what a reader is told to type can be meant, all there is is named, and each page is found."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docs_commands
import pytest
import report_picture
from PIL import Image

from benchmark.contract import check
from benchmark.words import ablations, selection
from results import readme

ROOT = docs_commands.ROOT
README = ROOT / "README.md"
PAGES = docs_commands.list_pages()
MADE = ("docs/methods.md", "docs/presets.md")  # by another command, from the code


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with docs_commands.scratch() as path:
        yield path


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
@pytest.mark.usefixtures("inside")
def test_what_a_page_says_to_type_can_be_meant(page: Path) -> None:
    problems = docs_commands.find_problems(page.read_text(encoding="utf-8"))
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```sh\npython -m benchmark run methods=simclrr\n```", "did you mean 'simclr'"),
        ("```bash\npython -m benchmark plan methods=simclr \\\n    epoch=3\n```", "unknown key 'epoch'"),
        ("```bash\npython -m benchmark run methods=simclr epochs=many\n```", "a whole number is needed"),
        ("```bash\npython -m benchmark run methods=simclr dataset=folder dataset.root=gone\n```", "/gone'"),
        ("```bash\ntorchrun -m benchmark run methods=simclr preset=imagnet\n```", "imagenet"),
        ("```bash\npython -m benchmark evaluate evaluations=knnn\n```", "knn"),
        ("```bash\npython -m benchmark status in=runs\n```", "only out=FOLDER does"),
        ("```bash\npython -m benchmark export CELL out=DIR format=onxx\n```", "did you mean 'onnx'"),
        ("```bash\npython -m benchmark features CELL out=f.npz\n```", "needs CELL and IMAGES"),
        ("```bash\npython gone.py\n```", "no file 'gone.py'"),
        ("```bash\nmake demos\n```", "no target 'demos'"),
        ("```bash\npip install '.[gpu]'\n```", "no extra 'gpu'"),
        ("```bash\nbenchmark run\n```", "'benchmark' is no program of ours"),
        ("Run `python -m benchmark repot out=runs`.", "repot"),
        ("Run `python -m benchmark.no_such_module`.", "no module 'benchmark.no_such_module'"),
        ("With `moco.queues=12`.", "unknown key 'moco.queues'"),
        ("With `batch_norm=shufle:2`.", "shuffle"),
        ("With `slurm.nodes=0`.", "at least 1"),
        ("```console\n$ python -m benchmark run\n```", "a block is sh, bash, python or text, not 'console'"),
    ],
)
@pytest.mark.usefixtures("inside")
def test_what_cannot_be_meant_is_found(text: str, message: str) -> None:
    (problem,) = docs_commands.find_problems(text + "\n")
    assert message in problem


@pytest.mark.usefixtures("inside")
def test_what_a_reader_fills_in_may_be_anything() -> None:
    text = "`check NAME`, `python -m benchmark check NAME`, `dataset.root=DIR`, `out=`, `batch_norm=split:N`, "
    text += "`python -m benchmark profile methods=...`, `key=value`, `reference=METHOD`, `methods=simclr seeds=0,1`"
    assert docs_commands.find_problems(text) == []


@pytest.mark.usefixtures("inside")
def test_the_method_with_a_teacher_a_queue_and_tokens_keeps_the_contract() -> None:
    """Of docs/plugins.md; the other one there is checked as a command of the page."""
    for part in (check.check_gradients, check.check_resume, check.check_micro_batches):
        part("my_pkg.my_masked")


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 180


def test_lines_are_within_120() -> None:
    for page in PAGES:
        if page.relative_to(ROOT).as_posix() in MADE:
            continue
        of_records = False
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
            of_records = line.startswith("<!-- records") or (of_records and line != readme.END)
            free = of_records or line.startswith(("|", "!"))
            assert free or len(line) <= 120, f"{page.relative_to(ROOT)}:{number}"


def test_readme_s_table_has_every_method_in_its_family() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {family: re.findall(r"`(\w+)`", names) for family, names in rows}.keys() == selection.group_families().keys()
    for family, names in rows:
        assert sorted(re.findall(r"`(\w+)`", names)) == selection.group_families()[family]


def test_every_ablation_has_a_line() -> None:
    text = (ROOT / "docs/ablations.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE) == list(ablations.ABLATIONS)


def test_every_page_is_in_the_site_s_navigation_or_in_the_list_of_results() -> None:
    def list_leaves(tree: Any) -> Iterator[str]:
        for value in tree if isinstance(tree, list) else tree.values() if isinstance(tree, dict) else ():
            yield from list_leaves(value)
        if isinstance(tree, str):
            yield tree

    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    pages = set(list_leaves(site["nav"]))
    index = (ROOT / "docs/results/index.md").read_text(encoding="utf-8")
    pages |= {f"results/{name}" for name in re.findall(r"\]\((\w+\.md)\)", index)}
    assert {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:]} == pages


def test_the_picture_of_the_report_is_of_the_records_that_are_there() -> None:
    with Image.open(report_picture.PICTURE) as picture:
        assert picture.info["records"] == report_picture.digest(), "make picture"


def test_readme_s_links_lead_somewhere() -> None:
    """The site's builder looks at those of docs/ alone."""
    links = re.findall(r"\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert len(links) > 10
    headings = re.findall(r"^#+ (.+)$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).exists() if path else anchor in anchors, link
