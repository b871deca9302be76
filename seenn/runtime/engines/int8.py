"""The int8 engine: integers throughout, so that answers do not depend on how they are computed.

Its section of a network's file holds how weights are rounded, chosen on calibration samples: every command then runs
the same integers.
"""

from __future__ import annotations

import math

from seenn import native
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.errors import UnsupportedError
from seenn.runtime.engine import ENGINES, EngineKind, EngineOptions, Section
from seenn.runtime.kernels.fused import FusedEngine
from seenn.runtime.kernels.synapses import INT8, exact_kernels, is_exact
from seenn.runtime.lowering import Rounding, choose_rounding, lower
from seenn.runtime.slots import Engine

SAMPLES = 64  # at most: a few dozen are enough to judge rounding by
BYTES = 1 << 30  # of the values that they have in the network, which are kept
_ROUNDED = "rounded to multiples of 1/128, up to ±16"


class _Int8(EngineKind):
    preference = 2

    def unsuited(self, options: EngineOptions) -> str | None:
        return None if options.preprocessing else f"inputs that are not 8-bit pixels would be {_ROUNDED}"

    def make(self, network: SpikingNetwork, options: EngineOptions) -> Engine:
        device, section = network.device, options.section
        if device.type not in ("cpu", "cuda"):
            raise UnsupportedError(
                f"int8 holds its integers in float64, which {device.type} has not: use the float32 engine"
            )
        program = lower(
            network,
            timesteps=options.timesteps,
            preprocessing=options.preprocessing,
            float_sites=options.float_sites,
            rounding=None if section is None else Rounding.from_section(section, network),
        )
        library = native.load("engine") if device.type == "cpu" else None
        engine = FusedEngine(program, exact_kernels(device, library), "int8", device, library)
        engine.no_frames = network.no_frames
        if section is None:
            engine.note += "; weights rounded by the largest of each channel, as there is no calibration"
        if options.preprocessing is None:
            engine.note += f"; inputs {_ROUNDED}"
        if program.coarser:
            places = ", ".join(f"{times} times at {name}" for name, times in program.coarser.items())
            engine.note += f"; a coarser fixed-point scale, so that {options.timesteps} steps fit: {places}"
        if device.type != "cpu" or not is_exact(INT8, device):
            engine.note += "; oneDNN int8 is missing or not exact here, so floats hold the same integers"
        return engine

    def prepare(self, network: SpikingNetwork, batch: Batch, options: EngineOptions) -> Section | None:
        """The rounding of least error on some of the samples; None where nothing is lowered."""
        if not len(batch):
            return None
        each = 4 * sum(math.prod(shape) for shape in network.shapes.values())
        samples = batch[: max(1, min(SAMPLES, BYTES // each))]
        found = choose_rounding(network, samples, timesteps=options.timesteps, preprocessing=options.preprocessing)
        return None if found is None else found.to_section()

    def check(self, section: Section, network: SpikingNetwork) -> None:
        Rounding.from_section(section, network)


ENGINES.register("int8")(_Int8())
