"""The bfloat16 engine: as float32, with synapses in half the precision and membranes in float32."""

from __future__ import annotations

from seenn.core.network import SpikingNetwork
from seenn.runtime.engine import ENGINES, EngineKind, EngineOptions
from seenn.runtime.engines.float32 import float_engine
from seenn.runtime.kernels.synapses import BFLOAT16
from seenn.runtime.slots import Engine


class _BFloat16(EngineKind):
    def make(self, network: SpikingNetwork, options: EngineOptions) -> Engine:
        return float_engine("bfloat16", network, [BFLOAT16])


ENGINES.register("bfloat16")(_BFloat16())
