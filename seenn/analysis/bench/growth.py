"""How a step's time grows: with the number of steps, with the images at once, with the size of the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn.analysis.bench.timing import Timing, alternate, slope
from seenn.runtime import Engine, Slots

TIMESTEPS = (1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Times by what was varied.

    Attributes:
        of: what was varied.
        times: by its value.
    """

    of: str
    times: Mapping[int, Timing]

    @property
    def slope(self) -> float:
        """Of log time over log size: 1 is linear."""
        return slope(list(self.times), [timing.median for timing in self.times.values()])

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        times = {str(size): timing.to_json() for size, timing in self.times.items()}
        return {"of": self.of, "slope": self.slope, "times": times}


def grow(of: str, work: Mapping[int, Callable[[], object]], repeats: int) -> Growth:
    """Times work of several sizes in alternation."""
    timed = alternate({str(size): run for size, run in work.items()}, repeats)
    return Growth(of=of, times={size: timed[str(size)] for size in work})


def loaded(engine: Engine, images: Tensor) -> Slots:
    """Slots that all run."""
    slots = engine.open(len(images))
    slots.load(torch.arange(len(images)), images)
    return slots


def grow_timesteps(
    engine: Engine, images: Tensor, repeats: int, *, timesteps: Sequence[int] = TIMESTEPS, of: str = "timesteps"
) -> Growth:
    """The steps of images that all run on."""
    slots = loaded(engine, images)

    def steps(count: int) -> Callable[[], object]:
        return lambda: [slots.step(len(images)) for _ in range(count)]

    return grow(of, {count: steps(count) for count in timesteps}, repeats)


def step_of(engine: Engine, images: Tensor) -> Callable[[], object]:
    """One step of images that all run."""
    slots = loaded(engine, images)
    return lambda: slots.step(len(images))
