"""A collapse is noticed when it lasts, forgiven when it passes, and its record says why and what helps."""

import copy
import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commandline import fork_pair, run_in_process
from torch import Tensor, nn

from benchmark.training.collapse import LEAST, PATIENCE, CollapseWatch
from methods.method import Method
from methods.parts.symptoms import at_chance

STEPS = 500  # a look every 10 steps; those behind step 50 count
EVERY = STEPS // 50


class Plain(Method):
    def __init__(self) -> None:
        super().__init__(None, nn.Identity(), 8, 100)


class Supervised(Plain):
    supervised = True


class Stuck(Plain):
    """Knows one sign, and keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[float] = []

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        self.shown.append(logged["loss"])
        if logged["loss"] > 4:
            yield "chance", f"loss stuck at {logged['loss']:.2f}; a lower learning rate helps"


class Near(Plain):
    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        yield from at_chance(logged["loss"], 5.0, "a lower learning rate helps")


HEALTHY = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
POINT = torch.ones(64, 8)
LINE = torch.linspace(-1, 1, 64)[:, None] * torch.ones(8)


def collect_verdicts(
    watch: CollapseWatch, bad: range, rows: Tensor = POINT, loss: float = 1.0, until: int = STEPS
) -> dict[int, str]:
    """The verdicts, by step, of a training whose steps in `bad` give `rows` and `loss`, the others healthy ones."""
    verdicts = {}
    for step in range(until):
        worse = step in bad
        scalars = {"loss": torch.tensor(loss if worse else 1.0)}
        verdict = watch.update(step, scalars, {"index": torch.arange(64), "z": rows if worse else HEALTHY})
        if verdict is not None:
            verdicts[step] = verdict
    return verdicts


@pytest.mark.parametrize("rows", [POINT, LINE, LINE[:, None].expand(64, 3, 8)])
def test_embeddings_of_rank_one_are_a_collapse_when_they_last(rows: Tensor) -> None:
    verdicts = collect_verdicts(CollapseWatch(Plain(), STEPS), range(200, STEPS), rows)
    assert min(verdicts) == 200 + PATIENCE * EVERY - 1, "the last step of the fifth look"
    assert max(verdicts) == STEPS - 1
    text = verdicts[STEPS - 1]
    assert text.startswith("effective rank ")
    assert "all on one line or point; a lower learning rate" in text
    assert len(text) <= 120, "tables cut what is longer"


def test_a_short_spell_is_forgiven_and_a_long_one_that_passes_too() -> None:
    assert not collect_verdicts(CollapseWatch(Plain(), STEPS), range(200, 200 + (PATIENCE - 1) * EVERY))
    verdicts = collect_verdicts(CollapseWatch(Plain(), STEPS), range(200, 300))
    assert max(verdicts) == 308, "no verdict behind the first healthy look"


def test_the_first_tenth_does_not_count() -> None:
    assert not collect_verdicts(CollapseWatch(Plain(), STEPS), range(50 + (PATIENCE - 1) * EVERY))
    assert min(collect_verdicts(CollapseWatch(Plain(), STEPS), range(STEPS))) == 50 + PATIENCE * EVERY - 1


def test_what_cannot_be_judged_is_no_sign() -> None:
    for rows in (POINT[:2], POINT[:, :1], POINT[:, 0], POINT * math.nan, POINT.long()):
        assert not collect_verdicts(CollapseWatch(Plain(), STEPS), range(STEPS), rows), rows.shape
    assert not collect_verdicts(CollapseWatch(Plain(), STEPS), range(STEPS), loss=math.nan), "the loop ends on that one"
    assert not collect_verdicts(CollapseWatch(Supervised(), STEPS), range(STEPS)), "two classes rightly make one line"


def test_short_trainings_are_looked_at_after_every_step_for_twenty_steps() -> None:
    assert min(collect_verdicts(CollapseWatch(Plain(), 30), range(30), until=30)) == 3 + LEAST - 1
    assert not collect_verdicts(CollapseWatch(Plain(), LEAST), range(LEAST), until=LEAST)


def test_the_method_is_told_the_means_and_its_own_sign_comes_first() -> None:
    method = Stuck()
    watch = CollapseWatch(method, STEPS)
    verdicts = collect_verdicts(watch, range(205, STEPS), HEALTHY, loss=5.0)
    assert min(verdicts) == 259, "the mean of steps 200 to 209 is 3"
    assert verdicts[STEPS - 1] == "loss stuck at 5.00; a lower learning rate helps"
    assert len(method.shown) == 45
    assert method.shown[15:17] == [3.0, 5.0]
    both = collect_verdicts(CollapseWatch(Stuck(), STEPS), range(200, STEPS), POINT, loss=5.0)
    assert both == dict.fromkeys(range(249, STEPS), "loss stuck at 5.00; a lower learning rate helps")


def test_signs_that_alternate_are_not_one_that_lasts() -> None:
    watch = CollapseWatch(Stuck(), STEPS)
    for step in range(STEPS):
        bad = step // EVERY % 2 == 1
        scalars = {"loss": torch.tensor(5.0 if bad else 1.0)}
        assert watch.update(step, scalars, {"z": HEALTHY if bad else POINT}) is None


def test_a_loss_near_chance_is_said_and_is_no_collapse() -> None:
    for loss, signs in ((4.97, ["loss of 4.970 is near 5.000"]), (4.9, [])):
        watch = CollapseWatch(Near(), STEPS)
        assert not collect_verdicts(watch, range(STEPS), HEALTHY, loss)
        assert [sign.partition(",")[0] for sign in watch.signs] == signs


@pytest.mark.parametrize(("last", "rose"), [(1.2, True), (1.05, False), (0.5, False)])
def test_a_loss_that_rises_by_more_than_a_tenth_is_said(last: float, rose: bool) -> None:
    """After the first tenth, in which MoCo's rightly rises."""
    watch = CollapseWatch(Plain(), STEPS)
    for step in range(STEPS):
        loss = 0.1 if step < STEPS // 10 else 1 + (last - 1) * step / STEPS
        watch.update(step, {"loss": torch.tensor(loss)}, {"z": HEALTHY})
    assert bool(watch.signs) is rose
    assert all(sign.startswith("loss rose from 1.02") for sign in watch.signs)


@pytest.mark.parametrize("cut", [203, 230, 249, 250, 255, 305])
def test_a_resumed_training_comes_to_the_same_verdicts(cut: int, tmp_path: Path) -> None:
    """Cut between two looks, on one, before and behind the verdict; the state goes through a file, as a checkpoint."""

    def give(watch: CollapseWatch, steps: range) -> list[tuple[str | None, dict[str, Any]]]:
        states = []
        for step in steps:
            bad = 200 <= step < 300
            loss = torch.tensor(3.0 + step % 7 if bad else 1.0)
            verdict = watch.update(step, {"loss": loss, "rare": loss} if step % 3 else {"loss": loss}, {"z": HEALTHY})
            states.append((verdict, copy.deepcopy(watch.state_dict())))
        return states

    whole = give(CollapseWatch(Stuck(), STEPS), range(STEPS))
    assert any(verdict for verdict, _ in whole)
    first = CollapseWatch(Stuck(), STEPS)
    give(first, range(cut))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = CollapseWatch(Stuck(), STEPS)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert give(second, range(cut, STEPS)) == whole[cut:]


PLUGIN = '''"""A method that learns nothing: its head gives one embedding, or it tells of a stuck loss."""
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from methods.method import Method


class Still(Method):
    @dataclass(frozen=True)
    class Config:
        tells: bool = False  # of its loss

    def __init__(self, config, encoder, width, images):
        super().__init__(config, encoder, width, images)
        self.head = nn.Linear(width, 8)
        self.looks = 0

    def forward(self, batch, at):
        z = self.head(self.encoder(batch.views[0]))
        return {"z": z if self.config.tells else 0 * z + 1}

    def loss(self, rows, at):
        return {"loss": 0 * rows["z"].sum() + 5}

    def symptoms(self, logged, rows):
        self.looks += 1
        mark = os.environ.get("STOP_ONCE")
        if mark and self.looks == 3 and not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGTERM)
        if self.config.tells:
            yield "chance", f"loss stuck at {logged['loss']:.3f}; a lower learning rate helps"
'''

SMALL = [
    "methods=extra.still",
    "dataset.limit=180",
    "view_size=16",
    "backbone=test_resnet",
    "stem=native",
    "batch_size=32",
    "epochs=6",
    "log_every=4",
    "threads=1",
    "device=cpu",
]


@pytest.fixture
def plugin(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "still.py").write_text(PLUGIN)
    return environment | {"PYTHONPATH": os.pathsep.join([environment["PYTHONPATH"], str(tmp_path)])}


def run(
    out: Path, environment: dict[str, str], *words: str, processes: int = 1, code: int = 0
) -> tuple[dict[str, Any], list[int], str]:
    """The record, the steps in its log, and what was printed."""
    call = ["run", *SMALL, *words, f"out={out}"]
    if processes == 1:
        result = run_in_process(call, environment)
        codes, printed = [result.returncode], result.stdout + result.stderr
    else:
        codes, printed = fork_pair(call, environment, out)
    assert codes == [code] * processes, printed
    if code:
        return {}, [], ""
    (path,) = out.glob("*/record.json")
    steps = [json.loads(line)["step"] for line in (path.parent / "log.jsonl").read_text().splitlines()]
    return json.loads(path.read_text()), steps, printed


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_stuck_loss_ends_the_cell_early_if_asked(processes: int, tmp_path: Path, plugin: dict[str, str]) -> None:
    record, steps, printed = run(tmp_path, plugin, "tells=true", "stop_collapsed=true", processes=processes)
    assert record["status"] == "collapsed"
    assert record["reason"] == "loss stuck at 5.000; a lower learning rate helps"
    assert record["metrics"] == {}
    assert steps == [4, 8, 12, 16, 20, 23], "30 steps, 3 of them in the first tenth, 20 looks; the last: where it ended"
    assert record["cost"]["views"] == 23 * 32 * 2
    assert record["cost"]["processes"] == processes
    assert "a lower learning rate helps" in " ".join(printed.split())


def test_a_cell_that_is_stopped_and_goes_on_ends_at_the_same_step(tmp_path: Path, plugin: dict[str, str]) -> None:
    words = ("tells=true", "stop_collapsed=true")
    environment = plugin | {"STOP_ONCE": str(tmp_path / "stopped")}
    run(tmp_path / "out", environment, *words, code=128 + signal.SIGTERM)
    assert next((tmp_path / "out").glob("*/last.pt")).is_file()
    record, steps, _ = run(tmp_path / "out", environment, *words)
    assert record["status"] == "collapsed"
    assert steps[-1] == 23


def test_without_being_asked_the_cell_is_trained_evaluated_and_collapsed(
    tmp_path: Path, plugin: dict[str, str]
) -> None:
    record, steps, printed = run(tmp_path, plugin, "tells=true")
    assert record["status"] == "collapsed"
    assert record["reason"] == "loss stuck at 5.000; a lower learning rate helps"
    assert {"linear_top1", "knn20_top1", "effective_rank"} <= set(record["metrics"])
    assert steps[-1] == 30
    assert "loss stuck at 5.000" in printed
    stopped, _, _ = run(tmp_path, plugin, "tells=true", "stop_collapsed=true")
    assert stopped == record, "how to run a cell is no part of its address"


def test_a_head_that_gives_one_embedding_is_noticed(tmp_path: Path, plugin: dict[str, str]) -> None:
    """The features of its encoder are healthy: only the training can tell."""
    record, _, _ = run(tmp_path, plugin)
    assert record["status"] == "collapsed"
    assert record["reason"].startswith("effective rank 0.0 of the embeddings: all on one line or point; ")
    assert record["metrics"]["effective_rank"] > 1.1
