"""Alternating runs, so that what slows the machine down for a while slows every contender down; and how time grows."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seenn.device import full_precision
from seenn.runtime import Engine

Work = Callable[[], object]
TIMESTEPS = (1, 2, 4, 8)
SETTLE_SECONDS = 0.05  # idle threads of a library go on spinning for work, and take the next one's core meanwhile


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


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Times by what was varied."""

    of: str  # what was varied
    times: Mapping[int, Timing]  # by its value

    @property
    def slope(self) -> float:
        """Least-squares slope of log time over log size: 1 is linear growth."""
        sizes, seconds = list(self.times), [timing.median for timing in self.times.values()]
        return statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, seconds))).slope

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        times = {str(size): timing.to_json() for size, timing in self.times.items()}
        return {"of": self.of, "slope": self.slope, "times": times}


def alternate(work: Mapping[str, Work], repeats: int) -> dict[str, Timing]:
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


def grow(of: str, work: Mapping[int, Work], repeats: int) -> Growth:
    """Times work of several sizes in alternation."""
    timed = alternate({str(size): run for size, run in work.items()}, repeats)
    return Growth(of=of, times={size: timed[str(size)] for size in work})


def grow_timesteps(
    engine: Engine, images: Tensor, repeats: int, *, timesteps: Sequence[int] = TIMESTEPS, of: str = "timesteps"
) -> Growth:
    """The steps of images that all run on."""
    steps = _steps(engine, images)
    return grow(of, {count: partial(steps, count) for count in timesteps}, repeats)


def step_of(engine: Engine, images: Tensor) -> Work:
    """One step of images that all run."""
    return partial(_steps(engine, images), 1)


def _steps(engine: Engine, images: Tensor) -> Callable[[int], None]:
    """Runs so many steps, as a session does."""
    slots = engine.open(len(images))
    rows = torch.arange(len(images))
    slots.load(rows, images)

    def run(count: int) -> None:
        with full_precision(engine.device):
            for _ in range(count):
                slots.step(rows)

    return run


def finish() -> None:
    """Waits for the work that was handed to an accelerator."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()
