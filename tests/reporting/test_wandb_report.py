"""`report wandb=ENTITY/PROJECT`: what a server on this machine is given, and what is written where there is none.

It proves the request, not how W&B draws it. That what the panels ask for was logged is in test_tracking.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commandline import PATIENCE, run_in_process

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")

from wandb_server import KEY, Server

from benchmark.errors import UsageError
from benchmark.words.runtime_words import read_report
from results import record
from results.report import wandb_report

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of wandb-workspaces itself
    pytest.mark.usefixtures("no_figure_files"),
]


def put(
    out: Path, method: str, seed: int, status: str = "finished", protocol: str = "aaaaaaaaaa", **options: Any
) -> None:
    """One record of a sweep over a temperature and an augmentation."""
    key = f"{method}{len(list(record.find(out)))}"
    settings = {"method": method, "seed": seed, "epochs": 10, "dataset": {"name": "digits"}, "backbone": "resnet18"}
    settings |= {"augmentation": options.pop("augmentation", "crop"), "options": {"dim": 128} | options}
    content: dict[str, Any] = {"schema": 1, "key": key, "protocol": protocol, "status": status, "settings": settings}
    content |= {"reason": None if status == "finished" else "no luck", "cost": {"seconds": 10.0 + seed, "views": 100}}
    content["cost"] |= {"device": "CPU", "processes": 1, "seconds_to_90": 4.0}
    content |= {"metrics": {"linear_top1": 0.9 + seed / 100} if status == "finished" else {}, "versions": {}}
    content |= {"commit": None, "dirty": None, "started": "2025-01-01T00:00:00", "finished": "2025-01-01T00:01:00"}
    record.write(out / f"{method}-digits-{key}", content)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "Lena's x=1 sweep"
    for seed in (0, 1):
        for temperature in (0.1, 1.0):
            put(folder, "simclr", seed, temperature=temperature)
        put(folder, "simclr", seed, temperature=0.1, augmentation="crop+colour")
        put(folder, "moco", seed, temperature=0.2)
    put(folder, "moco", 2, status="failed", temperature=0.2)
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(wandb_report, "WAIT", PATIENCE)  # the client's imports count
    with Server() as one:
        yield one


@pytest.fixture(autouse=True)
def _no_client_left() -> Iterator[None]:
    """What the client keeps in this process, its settings and its service, is not the next test's."""
    yield
    import wandb

    wandb.teardown()


def report(out: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "NETRC"))}
    home = {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(out.parent), "COLUMNS": "200"}
    return run_in_process(["report", f"out={out}", *words], others | home | environment)


def list_grids(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]


def list_panels(grid: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(panel["viewType"], panel["config"]) for panel in grid["panelBankSectionConfig"]["panels"]]


def read_filters(runset: dict[str, Any]) -> dict[str, Any]:
    conditions = runset["filters"]["filters"]
    assert all(condition["op"] == "=" and not condition["disabled"] for condition in conditions)
    return {f"{condition['key']['section']}:{condition['key']['name']}": condition["value"] for condition in conditions}


def check(spec: dict[str, Any], named: bool) -> None:
    """The panels of a sweep, by method and by what varies; `named` run sets say whose project they are of."""
    texts = [block["content"] for block in spec["blocks"] if block["type"] == "markdown-block"]
    assert "| method |" in texts[0]
    assert "simclr" in texts[0]
    by_method, over = list_grids(spec)
    same = {"run:group": "Lena's x=1 sweep", "config:protocol": "aaaaaaaaaa", "summary:status": "finished"}
    (together,) = by_method["runSets"]
    assert read_filters(together) == same
    assert together["grouping"] == [{"section": "config", "name": "method.value"}]
    assert [read_filters(runs) for runs in over["runSets"]] == [
        same | {"config:method": name} for name in ("moco", "simclr")
    ]
    for runs in by_method["runSets"] + over["runSets"]:
        assert runs.get("project") == ({"name": "proj", "entityName": "me", "id": "cDox"} if named else None)
    (bar, bars), (line, lines), *curves = list_panels(by_method)
    assert (bar, bars["metrics"], bars["groupBy"]) == (
        "Bar Chart",
        [f"summary_metrics.{wandb_report.ACCURACY}"],
        "method.value",
    )
    assert (line, lines["xAxis"], lines["metrics"]) == ("Run History Line Plot", wandb_report.STEP, [wandb_report.LOSS])
    assert lines["groupAgg"] == "mean"
    assert "groupArea" not in lines, "the spread would be over configurations as well as seeds"
    assert [config["xAxis"] for _, config in curves] == ["epoch", "views", "seconds"]
    assert all(config["metrics"] == [wandb_report.VALIDATION] for _, config in curves)
    accuracy = f"summary:{wandb_report.ACCURACY}"
    pairs = [
        (kind, config.get("xAxis", config.get("groupBy")), config.get("yAxis")) for kind, config in list_panels(over)
    ]
    assert sorted(pairs) == sorted(
        [
            ("Scatter Plot", f"summary:{wandb_report.SECONDS}", accuracy),
            ("Scatter Plot", "config:options.value.temperature", accuracy),
            ("Bar Chart", "augmentation.value", None),
        ]
    )
    assert next(config for _, config in list_panels(over) if "temperature" in str(config))["xAxisLogScale"] is True


def test_a_report_is_saved_with_panels_of_what_was_logged(out: Path, server: Server) -> None:
    result = report(out, server.environment(), "wandb=me/proj")
    assert result.returncode == 0, result.stderr
    (view,) = [variables for name, variables in server.calls if name == "upsertView"]
    assert (view["entityName"], view["projectName"], view["type"]) == ("me", "proj", "runs")
    check(json.loads(view["spec"]), named=True)
    assert result.stdout.splitlines()[-1].startswith(f"http://127.0.0.1:{server.server_port}/me/proj/reports/")


def test_a_project_that_is_not_there_is_said_and_the_specification_is_kept(out: Path, server: Server) -> None:
    result = report(out, server.environment(), "wandb=me/other")
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert "there is no project me/other; send its runs first, with `wandb sync`" in line
    assert "Traceback" not in result.stderr
    assert not [name for name, _ in server.calls if name == "upsertView"]
    check(json.loads((out / "wandb_report.json").read_text())["spec"], named=False)


@pytest.mark.parametrize(
    "environment", [{}, {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}], ids=["no key", "no network"]
)
def test_without_network_the_specification_is_written(out: Path, environment: dict[str, str]) -> None:
    result = report(out, environment, "wandb=me/proj")
    assert result.returncode == 0, result.stderr
    why = "does not answer" if environment else "no key is configured"
    assert why in result.stdout.splitlines()[-1]
    assert str(out / "wandb_report.json") in result.stdout
    specification = json.loads((out / "wandb_report.json").read_text())
    assert (specification["entity"], specification["project"]) == ("me", "proj")
    assert specification["title"].startswith("Lena's x=1 sweep")
    check(specification["spec"], named=False)
    assert "ranks, corrected for all pairs" in json.dumps(specification["spec"]), "how they were made, beside the ranks"


@pytest.mark.parametrize("word", ["me", "/proj", "me/", "me/a/b", "me/a,b"])
def test_a_malformed_target_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match=f"^wandb={word}: "):
        read_report([f"wandb={word}"])


def test_each_protocol_has_panels_of_its_own(out: Path) -> None:
    """Numbers of two protocols are not comparable."""
    from results.frames import frame

    put(out, "swav", 0, protocol="bbbbbbbbbb")
    spec = wandb_report.specify(frame.load(out)[0], "", wandb_report.Target("me", "proj", "g"))["spec"]
    protocols = [read_filters(runs)["config:protocol"] for grid in list_grids(spec) for runs in grid["runSets"]]
    assert protocols == ["aaaaaaaaaa"] * 3 + ["bbbbbbbbbb"] * 2
