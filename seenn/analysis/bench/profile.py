"""Where a step's time goes, site by site."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.analysis.bench.timing import finish
from seenn.errors import UnsupportedError
from seenn.runtime import Engine
from seenn.runtime.kernels.fused import FusedEngine


@dataclass(frozen=True, kw_only=True)
class SiteProfile:
    """One part of a step, for one image."""

    name: str  # the value that is computed
    milliseconds: float
    share: float  # of the step's time
    macs: int  # multiply-accumulates of the synapses in it, were every input dense
    spike_rate: float | None  # spikes per neuron and step; None where no neurons fire


def profile_sites(engine: Engine, images: Tensor, *, timesteps: int = 2, repeats: int = 5) -> list[SiteProfile]:
    """Times each instruction of a step on as many images as go through the network together.

    Best of ``repeats`` for each, in the last of ``timesteps`` steps; spike rates are of that step.

    Raises:
        UnsupportedError: the engine has no instructions.
    """
    if not isinstance(engine, FusedEngine):
        raise UnsupportedError(
            f"the {engine.name} engine has no instructions whose time could be measured: use another"
        )
    rows = min(len(images), engine.tile)
    slots = engine.open(rows)
    best: dict[str, float] = {}
    rates: dict[str, float] = {}
    for _ in range(repeats):
        slots.load(torch.arange(rows), images[:rows])
        with torch.inference_mode():
            for step in range(timesteps):
                found: dict[str, float] = {}
                for thunk in slots.thunks(rows):
                    finish()
                    start = time.perf_counter()
                    thunk.run()
                    finish()
                    found[thunk.label] = found.get(thunk.label, 0.0) + time.perf_counter() - start
                    if thunk.counts is not None:
                        rates[thunk.label] = float(thunk.counts().abs().mean())
                if step == timesteps - 1:
                    best = {name: min(value, best.get(name, value)) for name, value in found.items()}
    total = sum(best.values())
    macs = _macs(engine)
    return [
        SiteProfile(
            name=name,
            milliseconds=1000 * seconds / rows,
            share=seconds / total,
            macs=macs.get(name, 0),
            spike_rate=rates.get(name),
        )
        for name, seconds in best.items()
    ]


def _macs(engine: FusedEngine) -> Mapping[str, int]:
    """Of the synapses that each instruction of a step computes."""
    from seenn.runtime.lowering.program import SynapseTerm

    shapes = engine.program.buffers
    found: dict[str, int] = {}
    for total in engine.program.sums():
        for term in total.terms:
            if isinstance(term, SynapseTerm):
                output, source = shapes[total.target].shape, shapes[term.source].shape
                found[total.target] = found.get(total.target, 0) + term.op.macs(output, source)
    return found
