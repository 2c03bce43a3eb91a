"""Random numbers of a method: a function of (image, step, place) in `forward`, a stream everywhere else.

`forward` works on any slice of a batch, on any process. A stream of numbers would depend on where the slice was cut;
those of `Chance` are counters through a mixing function, as in Salmon et al., Parallel Random Numbers: As Easy as 1, 2,
3 (SC 2011); the mixing is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). `loss` and the hooks see
the whole batch: they `draw` from torch's stream, which the engine seeds anew each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number: SplitMix64's increment
MIX = (-4658895280553007687, -7723592293110705685)  # 0xBF58476D1CE4E5B9 and 0x94D049BB133111EB, its multipliers
BITS = 23  # of a uniform number: with a half behind them they are what float32 holds, so that none rounds to 1


class Chance(nn.Module):
    """One stream of numbers, chosen by torch's seed when it is made: methods have other ones in each run's seed."""

    salt: Tensor  # () int64

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("salt", torch.randint(2**62, ()))

    def uniform(self, index: Tensor, step: int | Tensor, *shape: int) -> Tensor:
        """(n, *shape) float32 in (0, 1), a function of the images `index` (n,) and the step: a number, or () int64."""
        places = torch.arange(math.prod(shape), device=index.device)
        number = step if isinstance(step, Tensor) else draw(lambda: torch.tensor(step), self.salt.device)
        start = _mix(_mix(self.salt + number * GOLDEN) + index * GOLDEN)  # (n,)
        bits = _mix(start[:, None] + (places + 1) * GOLDEN)
        return ((_right(bits, 64 - BITS).float() + 0.5) / 2**BITS).unflatten(1, shape)

    def normal(self, index: Tensor, step: int | Tensor, *shape: int) -> Tensor:
        """The same, standard normal (Box and Muller 1958)."""
        u, v = self.uniform(index, step, 2, *shape).unbind(dim=1)
        return (-2 * u.log()).sqrt() * (2 * math.pi * v).cos()

    def integers(self, index: Tensor, step: int | Tensor, below: int) -> Tensor:
        """(n,) int64 in 0 to `below` - 1."""
        return (self.uniform(index, step, 1).squeeze(1) * below).long().clamp(max=below - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser; products of tensors wrap around, as they should (of Python's integers they would not)."""
    x = (x ^ _right(x, 30)) * MIX[0]
    x = (x ^ _right(x, 27)) * MIX[1]
    return x ^ _right(x, 31)


def _right(x: Tensor, bits: int) -> Tensor:
    """A logical shift: torch's keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


Make = Callable[[], Tensor]


def draw(make: Make, device: torch.device) -> Tensor:
    """`make()`, numbers from torch's stream on the CPU, on `device`: so all devices draw alike, and none is waited for.

    Where steps are recorded and replayed, `make` is called anew for each: of what it uses only the stream may change.
    """
    return _DRAW.get()(make, device)


@contextmanager
def drawing_by(draw: Callable[[Make, torch.device], Tensor]) -> Iterator[None]:
    """Within, another `draw` serves methods: what records a step."""
    token = _DRAW.set(draw)
    try:
        yield
    finally:
        _DRAW.reset(token)


def send(make: Make, device: torch.device) -> Tensor:
    """What `draw` does where nothing is recorded."""
    numbers = make()
    return (numbers.pin_memory() if device.type == "cuda" else numbers).to(device, non_blocking=True)


_DRAW: ContextVar[Callable[[Make, torch.device], Tensor]] = ContextVar("draw", default=send)
