"""Alternating runs: what slows the machine down for a while slows every contender down."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one contender's runs."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle run."""
        return statistics.median(self.seconds)

    def to_json(self) -> dict[str, float | int]:
        """Median, extremes and number of runs."""
        return {
            "median_s": self.median,
            "min_s": min(self.seconds),
            "max_s": max(self.seconds),
            "runs": len(self.seconds),
        }


SETTLE_SECONDS = 0.05  # idle threads of a library go on spinning for work, and take the next one's core meanwhile


def alternate(work: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """All contenders in turn, ``repeats`` times; each once untimed before, so that it meets its own caches."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, run in work.items():
            time.sleep(SETTLE_SECONDS)
            run()
            finish()
            start = time.perf_counter()
            run()
            finish()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def finish() -> None:
    """Waits for the work that was handed to an accelerator."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Least-squares slope of log time over log size: 1 is linear growth."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in seconds]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)
