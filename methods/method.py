"""The contract of a method: what the engine gives it, what it returns, and who may write its state.

A method is written as if there were one process. `forward` works per sample, on any slice of a batch. `loss` works
on the whole global batch. Between the two stands the engine: it gathers the rows over the ranks, with gradients, and
calls `loss` on the same full batch everywhere. So no method holds a line of distributed code, negatives span all
devices, and memories hold the same bytes on every rank.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn


class Batch(NamedTuple):
    """Some images of the global batch, seen through the views that the method asked for."""

    views: list[Tensor]  # one (n, 3, H, W) float tensor a view; a jigsaw view is (n, 9, 3, p, p)
    index: Tensor  # type: ignore[assignment]  # (n,) int64, the row of each image in the training set
    labels: Tensor | None = None  # (n,) int64 for a supervised method, None for all others


class Progress(NamedTuple):
    """Where training is. Counters start at 0."""

    step: int
    steps: int
    epoch: int
    epochs: int


class Method(nn.Module):
    """What a method file defines, once.

    `forward` and `loss` read state. Only `after_step` and `before_epoch` write it, from gathered rows; so nothing in
    the graph is changed in place and a key cannot be its own negative. All state is in parameters and persistent
    buffers made in `__init__`: a checkpoint is the method, its optimiser and the step. `encoder` is what is
    evaluated. The projection head, where there is one, is the attribute `head`, a module that maps (n, width) to
    (n, D): `evaluate` measures it beside the encoder, and then it is thrown away like any other head.
    """

    family: str = ""  # where its signal comes from: one of `methods.FAMILIES`, which tables and figures group by
    views: tuple[str, ...] = ("crop", "crop")  # the views it wants, by name
    trains: bool = True  # False: a reference point, evaluated as it starts
    supervised: bool = False  # True: `Batch.labels` is given, and `classes` to `__init__`
    # True: `Batch.views` goes on behind the declared views with the small crops of the augmentation, of their own sizes
    multicrop: bool = False
    tokens: bool = False  # True: its backbone must be a vision transformer, whose tokens it masks
    # Its attribute that is a `MomentumCopy` of the encoder, which `evaluate` can measure too
    momentum_encoder: str = ""
    sized: bool = False  # True: the pixels of a view are given to `__init__` as `size`
    unscheduled: tuple[str, ...] = ()  # its modules whose learning rate stays at the peak
    ignores: tuple[str, ...] = ()  # run settings that cannot change its result, such as a seed
    recommends: dict[str, str] = {}  # run settings that its paper prescribes; presets and words override them  # noqa: RUF012
    # What `tune` tries of its options: two numbers are the ends of a range, searched on a logarithmic scale; texts are
    # choices, as words are written, "x0.5" being half of what the option is otherwise.
    search_space: dict[str, tuple[float, float] | tuple[str, ...]] = {}  # noqa: RUF012
    # Option -> what it counts, that a plan can say where there are too many for the data: `keys`, or neighbours, of
    # training images; `codes`, over which the embeddings of a step and a queue are spread; `clusters` of all
    # images, whose numbers may be joined by +.
    counts: dict[str, str] = {}  # noqa: RUF012
    # Option -> another one and the values with which alone it is read: {"margin": ("loss", "margin", "semi_hard")}; no
    # values: a number above 0. Where it is not read, a plan says so.
    read_with: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    # Options that its first records do not have: at their default they are in no key and no record, which so stay.
    younger: tuple[str, ...] = ()
    # Names that papers give to it with an option: name -> the words, for who asks for a method of that name.
    variants: dict[str, str] = {}  # noqa: RUF012
    version: int = 1  # of ours: raised when a change alters its numbers; cells of before then stay, as others

    @dataclass(frozen=True)
    class Config:
        """The method's own options; the paper's values are the defaults.

        It may have `require`, which takes any of `batch_size`, `epochs` and `images`, how many the training set has,
        and raises ValueError for a training that the method cannot have: `plan` and `run` refuse it.
        """

    encoder: nn.Module

    def __init__(self, config: Any, encoder: nn.Module, width: int, images: int, **told: int) -> None:
        """`encoder` maps (n, 3, H, W) to (n, `width`); `images` is the length of the training set.

        `told`: `classes` of a supervised method, `size` of a sized one.
        """
        super().__init__()
        self.config = config
        self.encoder = encoder

    def forward(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Per sample: named rows of leading size n. Differentiable where the paper has a gradient."""
        raise NotImplementedError(f"{type(self).__module__} has no forward")

    def loss(self, rows: dict[str, Tensor], at: Progress) -> dict[str, Tensor]:
        """On the global batch, in float32: {"loss": scalar} and further scalars to log."""
        raise NotImplementedError(f"{type(self).__module__} has no loss")

    def phase(self, at: Progress) -> Hashable:
        """What `forward` and `loss` make of `at.step` and `at.epoch`: steps of one phase do the same operations.

        Where a step is recorded as a CUDA graph, they may read `at.epoch` only if it is read here too; `at.step`,
        unless it is read here, is () int64 on the device then: for `Chance`, and for whole numbers.
        """
        return None

    # The hooks below run without gradients.

    def before_epoch(self, at: Progress, embed: Callable[[Callable[[Tensor], Tensor]], Tensor]) -> None:
        """At an epoch's start. `embed(f)` is f of every un-augmented training image in eval mode, (N, D), in order."""

    def after_backward(self, at: Progress) -> None:
        """Between backward and the optimiser's step: drop or scale gradients."""

    def after_step(self, rows: dict[str, Tensor], at: Progress) -> None:
        """After the optimiser's step, with the gathered, detached rows: momentum update, queue push, bank write."""

    def symptoms(self, logged: dict[str, float], rows: dict[str, Tensor]) -> Iterator[tuple[str, str]]:
        """Signs of a collapse that this method knows: (name, what is seen and the remedy). One whose name begins with
        "sign: " is no collapse; at the end of the training it is a warning in the record.

        `logged` are the means of the scalars of the last steps, `rows` the gathered, detached rows of the last one.
        Called some fifty times in a training, so it may read from the device.
        """
        yield from ()
