"""The views of a step as one CUDA graph: all that was drawn goes over in one copy, and augmentation is then one launch.

Launched one by one, the some two hundred small kernels of two views keep the host busy for longer than a fast GPU
needs for a small network's whole step. In a graph every operation is done to all images and kept where it hits, which
costs a GPU more work: so only small views are recorded, or compiled ones, whose kernels do several operations in one
pass over the pixels. Their numbers are the usual ones up to rounding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from benchmark.augment.parameters import pack, unpack
from benchmark.data.files import Files
from benchmark.errors import explain
from benchmark.training.batches import Batches, Drawn, Fetched
from benchmark.training.recorded.graph import capture
from methods.method import Batch

WARM_UP = 3  # batches that are made the same way before it is recorded: they choose kernels and ask for memory
MOST = 1 << 22  # numbers of a view: where what masks throw away costs more than launches. By reckoning, not measured.


class RecordedViews:
    """Makes batches of what was fetched, as `Batches.augment` does; a batch is good until the next one."""

    def __init__(self, batches: Batches, compiled: bool = False, say: Callable[[str], None] = print) -> None:
        self.batches, self.taken = batches, 0
        self.augment = torch.compile(batches.augment, dynamic=False) if compiled else batches.augment
        self.replay: Callable[[], None] | None = None
        self.say, self.refused = say, False
        self.packed = torch.empty(0)  # on the device: rows and parameters of all views
        self.images: list[Tensor] = []  # on the device, where they do not lie there all the time
        self.batch: Batch | None = None

    def __call__(self, fetched: Fetched) -> Batch:
        packed = pack(_numbers(fetched))
        if self.packed.shape != packed.shape:
            device = self.batches.device
            self.packed, self.replay, self.taken = torch.empty_like(packed, device=device), None, 0
            self.images = [torch.empty_like(image, device=device) for image in fetched.images]
        for place, new in zip([self.packed, *self.images], [packed, *fetched.images], strict=True):
            place.copy_(new.pin_memory(), non_blocking=True)
        if self.replay is None and self.taken == WARM_UP and not self.refused:
            try:
                self.replay = capture(lambda: self._augment(fetched))
            except RuntimeError as error:
                self.refused = True
                self.say(f"views are not recorded as a CUDA graph: {explain(error)}")
        if self.replay is None:
            self.taken += 1
            self._augment(fetched)
        else:
            self.replay()
        assert self.batch is not None
        return self.batch

    def _augment(self, like: Fetched) -> None:
        """Make the batch of what `packed` and `images` hold, which is of the shapes of `like`."""
        rows, *numbers = unpack(self.packed, _numbers(like))
        drawn = list[Drawn]()
        for one in like.drawn:
            count = len(one.tensors())
            drawn.append(one.place(numbers[:count]))
            numbers = numbers[count:]
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # TF32 would be faster: not exact enough
            self.batch = self.augment(Fetched(rows, self.images, drawn))


def augmenter(
    batches: Batches, mode: str, compiled: bool, say: Callable[[str], None] = lambda text: None
) -> Callable[[Fetched], Batch]:
    """What makes batches of what was fetched, under `record=mode`, by a compiler's kernels where `compiled`."""
    if mode == "off" or not can_record(batches, compiled):
        return batches.augment
    return RecordedViews(batches, compiled, say)


def can_record(batches: Batches, compiled: bool = False) -> bool:
    """Whether one process makes views on a GPU, small or compiled, and not of files that it crops as it reads them."""
    alone = batches.device.type == "cuda" and batches.world.size == 1 and not isinstance(batches.split.images, Files)
    largest = max([batches.size, *batches.augmentation.small_sides])
    return alone and (compiled or 3 * largest**2 * batches.batch_size <= MOST)


def _numbers(fetched: Fetched) -> list[Tensor]:
    """The rows, and all that was drawn, one view after the other."""
    return [fetched.rows, *(tensor for drawn in fetched.drawn for tensor in drawn.tensors())]
