"""What is seen of a run where there is no terminal."""

import time

import pytest

from benchmark.display.progress import ProgressDisplay
from results.quantity import quantify


def test_a_line_a_minute_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with ProgressDisplay(3) as display:
        display.cell("simclr seed=0")
        for step in range(1000, 1401):  # it goes on from a checkpoint, a step a second
            display.step(step, 2000, 4.5)
            clock[0] += 1
        display.end("finished", [800])
        display.cell("moco seed=0")
        clock[0] += 5
        display.end("failed", [400])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[1/3] simclr seed=0"
    assert lines[1] == "[1/3] simclr seed=0: step 1,060 of 2,000, loss 4.5000, 16 min left"
    assert len(lines) == 2 + 400 // 60 + 2
    assert lines[-3] == "[1/3] simclr seed=0: finished, 7 min; 2 to go, 1 of them about 13 min"
    assert lines[-1] == "[2/3] moco seed=0: failed, 5 s; 1 to go, about 7 min"


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (1, "cell", "1 cell"),
        (0, "cell", "0 cells"),
        (2, "class", "2 classes"),
        (1200, "image", "1,200 images"),
    ],
)
def test_one_thing_is_not_said_as_many(number: int, noun: str, text: str) -> None:
    assert quantify(number, noun) == text
