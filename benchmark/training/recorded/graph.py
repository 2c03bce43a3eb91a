"""Work that is launched kernel by kernel once, recorded as a CUDA graph, and from then on launched at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from methods.parts.chance import Make, drawing_by

Work = Callable[[], None]


def capture(work: Work) -> Work:
    """Record what `work` launches, which is not run; returns what runs it. RuntimeError where it can't be recorded."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph):
            work()
    except BaseException:
        torch.cuda.set_stream(stream)  # torch leaves its own where the end of a capture fails
        raise
    return graph.replay


def rehearse(work: Work, method: nn.Module) -> Work:
    """The same without a GPU: `work` is run for what it draws and given back, to be run again on what lies there."""
    state = {name: value.clone() for name, value in method.state_dict().items()}
    work()
    method.load_state_dict(state)

    def launch() -> None:
        method.zero_grad(set_to_none=True)
        work()

    return launch


class Graph:
    """`work` as a graph, with what it draws: those numbers lie on the device, and are made anew before each replay."""

    def __init__(self, work: Work, record: Callable[[Work], Work] = capture) -> None:
        self.drawn: list[tuple[Make, Tensor]] = []
        self.launch = record(partial(_run, work, self.drawn))

    def draw(self) -> None:
        """Make all that the next replay draws, in the recorded order, from torch's stream."""
        for make, buffer in self.drawn:
            numbers = make()
            buffer.copy_(numbers.pin_memory() if buffer.is_cuda else numbers, non_blocking=True)


def _run(work: Work, drawn: list[tuple[Make, Tensor]]) -> None:
    known = iter(drawn[:])

    def hold(make: Make, device: torch.device) -> Tensor:
        """The place of the next draw; a new one while this is recorded."""
        _, buffer = next(known, (None, None))
        if buffer is None:
            numbers = make()
            buffer = torch.empty_like(numbers, device=device) if device.type == "cuda" else numbers
            drawn.append((make, buffer))
        return buffer

    with drawing_by(hold):
        work()
