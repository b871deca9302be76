"""What int8 costs, layer by layer: the network with this layer's weights in int8 and all others left fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Synapse
from seenn.data.preprocessing import Preprocessing
from seenn.runtime import Engine, Section, Session, make_engine
from seenn.runtime.lowering import LayerReport

NONE, ALL = "(none)", "(all)"
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class LayerLoss:
    """One layer in int8, or none of them (what grids of thresholds and membranes cost), or all.

    Attributes:
        layer: the synapse, ``(none)`` or ``(all)``.
        bits: of its weights; None where no layer, or more than one, is meant.
        weight_error: ``‖Ŵ − W‖ / ‖W‖``; None likewise.
        score_error: ``‖Δ‖ / ‖scores‖`` against the float32 engine, of the scores summed up to T.
        points_lost: accuracy at T, percentage points below the float32 engine's.
    """

    layer: str
    bits: int | None
    weight_error: float | None
    score_error: float
    points_lost: float

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return dict(vars(self))


def layer_losses(
    network: SpikingNetwork,
    images: Tensor,
    labels: Tensor,
    timesteps: int,
    preprocessing: Preprocessing | None = None,
    *,
    section: Section | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[LayerLoss]:
    """Runs all T steps of ``images`` once for every layer, and once each with no and with every layer in int8.

    ``section`` is what int8 keeps in the network's file, or None. A layer whose weights the engine keeps finer than
    int8 anyway (the first, the head) loses nothing by them.

    Raises:
        UnsupportedError: the network has no integer form.
    """

    def scores(engine: Engine) -> Tensor:
        return Session(engine, None, timesteps, BATCH).run(Batch(images)).logits_sum.double()

    exact = scores(make_engine("float32", network, timesteps=timesteps))
    right = (exact.argmax(-1) == labels).double().mean()

    def lost(layer: str, fine: list[str]) -> LayerLoss:
        say(f"int8 in {layer}")
        engine = make_engine(
            "int8",
            network,
            timesteps=timesteps,
            preprocessing=preprocessing,
            float_sites=fine,
            sections={} if section is None else {"int8": section},
        )
        found = scores(engine)
        report = reports(engine).get(layer)
        return LayerLoss(
            layer=layer,
            bits=None if report is None else report.bits,
            weight_error=None if report is None else report.weight_error,
            score_error=float((found - exact).norm() / exact.norm().clamp(min=1e-300)),
            points_lost=100 * float(right - (found.argmax(-1) == labels).double().mean()),
        )

    layers = [node.name for node in network.graph if isinstance(node.op, Synapse)]
    each = [lost(layer, [other for other in layers if other != layer]) for layer in layers]
    return [lost(NONE, layers), *each, lost(ALL, [])]


def reports(engine: Engine) -> dict[str, LayerReport]:
    """What rounding did to each layer of an int8 engine."""
    from seenn.runtime.kernels.fused import FusedEngine

    return {report.layer: report for report in engine.program.report} if isinstance(engine, FusedEngine) else {}
