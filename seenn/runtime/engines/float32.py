"""The float32 engine: the lowered network in real arithmetic, with fused sums."""

from __future__ import annotations

from collections.abc import Sequence

from seenn import native
from seenn.core.network import SpikingNetwork
from seenn.runtime.engine import ENGINES, EngineKind, EngineOptions
from seenn.runtime.kernels.fused import FusedEngine
from seenn.runtime.kernels.synapses import FLOAT32, PLAIN, Kernel, is_exact
from seenn.runtime.lowering import fold
from seenn.runtime.slots import Engine


def float_engine(name: str, network: SpikingNetwork, kernels: Sequence[Kernel]) -> FusedEngine:
    """The network lowered without rounding, its synapses computed by ``kernels``."""
    device = network.device
    library = native.load("engine") if device.type == "cpu" else None
    engine = FusedEngine(fold(network), kernels, name, device, library)
    engine.no_frames = network.no_frames
    return engine


class _Float32(EngineKind):
    preference = 1

    def make(self, network: SpikingNetwork, options: EngineOptions) -> Engine:
        onednn = network.device.type == "cpu" and is_exact(FLOAT32, network.device)
        return float_engine("float32", network, [FLOAT32, PLAIN] if onednn else [PLAIN])


ENGINES.register("float32")(_Float32())
