"""What is forecast of cells, one by one and together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Forecast(NamedTuple):
    """Of one cell. `seconds` and `memory` are None where nothing is known or nothing fits."""

    seconds: float | None
    memory: int | None  # bytes at the peak, of one process
    how: str  # measured, records; like records (of the same method and backbone); unknown; does not fit; fails: why
    microbatch: int = 0  # with which this is, where all images at once do not fit; 0 is as asked for
    spread: float = 0.0  # of measured steps: the upper quartile over the median, less 1


@dataclass(frozen=True)
class Forecasts:
    """Of some cells, each on `processes` devices."""

    costs: list[Forecast]
    device: str
    processes: int
    workers: int  # of launcher=local, else 1
    measured: int  # shapes

    @property
    def hours(self) -> float:
        """Of devices, over all cells whose cost is known."""
        return sum(forecast.seconds or 0.0 for forecast in self.costs) * self.processes / 3600

    @property
    def unknown(self) -> int:
        """How many cells there are of which no cost is known."""
        return sum(forecast.seconds is None for forecast in self.costs)

    def wall(self, at_once: int, together: int = 1) -> float:
        """Seconds until all are done, so many jobs at once of so many cells, the longest first."""
        workers, seconds = [0.0] * max(1, at_once), [forecast.seconds or 0.0 for forecast in self.costs]
        jobs = (sum(seconds[i : i + together]) for i in range(0, len(seconds), together))
        for job in sorted(jobs, reverse=True):
            workers[workers.index(min(workers))] += job
        return max(workers)
