"""Where a step's time goes, site by site."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.analysis.bench.timing import finish
from seenn.errors import UnsupportedError
from seenn.runtime import DividedSlots, Engine, StepPart


@dataclass(frozen=True, kw_only=True)
class SiteProfile:
    """One part of a step, for one image."""

    name: str  # the value that is computed
    milliseconds: float
    share: float  # of the step's time
    macs: int  # multiply-accumulates of the synapses in it, were every input dense
    spike_rate: float | None  # spikes per neuron and step; None where no neurons fire


def profile_sites(engine: Engine, images: Tensor, *, timesteps: int = 2, repeats: int = 5) -> list[SiteProfile]:
    """Times each part of a step on as many images as go through the network together.

    Best of ``repeats`` for each, in the last of ``timesteps`` steps; spike rates are of that step.

    Raises:
        UnsupportedError: the engine does not divide its steps.
    """
    slots = engine.open(len(images))
    if not isinstance(slots, DividedSlots):
        raise UnsupportedError(
            f"the {engine.name} engine does not divide its steps into parts whose time could be measured: use another"
        )
    seconds: dict[str, float] = {}
    rates: dict[str, float] = {}
    parts: dict[str, StepPart] = {}
    for _ in range(repeats):
        slots.load(torch.arange(len(images)), images)
        with torch.inference_mode():
            for step in range(timesteps):
                found: dict[str, float] = {}
                for part in slots.parts(len(images)):
                    parts[part.name] = part
                    finish()
                    start = time.perf_counter()
                    part.run()
                    finish()
                    found[part.name] = found.get(part.name, 0.0) + time.perf_counter() - start
                    if part.counts is not None:
                        rates[part.name] = float(part.counts().abs().mean())
                if step == timesteps - 1:
                    seconds = {name: min(value, seconds.get(name, value)) for name, value in found.items()}
    total = sum(seconds.values())
    return [
        SiteProfile(
            name=name,
            milliseconds=1000 * spent / parts[name].rows,
            share=spent / total,
            macs=parts[name].macs,
            spike_rate=rates.get(name),
        )
        for name, spent in seconds.items()
    ]
