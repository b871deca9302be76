"""What int8 costs, layer by layer: the network with this layer's weights in int8 and all others left fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from seenn.batch import Batch
from seenn.core.ops import Synapse
from seenn.runtime import Engine, RoundingEngine, Session

if TYPE_CHECKING:
    from seenn.snn import SNN

NONE, ALL = "(none)", "(all)"
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class LayerLoss:
    """One layer in int8, or none of them (what integer thresholds and membranes cost), or all."""

    layer: str  # the synapse, "(none)" or "(all)"
    bits: int | None  # of its weights; None where no layer, or more than one, is meant
    weight_error: float | None  # ‖Ŵ − W‖ / ‖W‖; None likewise
    score_error: float  # ‖Δ‖ / ‖scores‖ against the float32 engine, of the scores summed up to T
    points_lost: float  # accuracy at T, percentage points below the float32 engine's


def layer_losses(
    snn: SNN, images: Tensor, labels: Tensor, timesteps: int, *, say: Callable[[str], None] = lambda text: None
) -> list[LayerLoss]:
    """Runs all T steps of ``images`` once for every layer, and once each with no and with every layer in int8.

    A layer whose weights the engine keeps finer than int8 anyway (the first, the head) loses nothing by them.

    Raises:
        UnsupportedError: the network has no integer form.
    """

    def scores(engine: Engine) -> Tensor:
        return Session(engine, None, timesteps, BATCH).run(Batch(images)).logits_sum.double()

    exact = scores(snn.make_engine("float32", timesteps=timesteps))
    right = (exact.argmax(-1) == labels).double().mean()

    def lost(layer: str, fine: list[str]) -> LayerLoss:
        say(f"int8 in {layer}")
        engine = snn.make_engine("int8", timesteps=timesteps, float_sites=fine)
        found = scores(engine)
        reports = engine.rounding if isinstance(engine, RoundingEngine) else ()
        report = next((report for report in reports if report.layer == layer), None)
        return LayerLoss(
            layer=layer,
            bits=None if report is None else report.bits,
            weight_error=None if report is None else report.weight_error,
            score_error=float((found - exact).norm() / exact.norm().clamp(min=1e-300)),
            points_lost=100 * float(right - (found.argmax(-1) == labels).double().mean()),
        )

    layers = [node.name for node in snn.network.graph if isinstance(node.op, Synapse)]
    each = [lost(layer, [other for other in layers if other != layer]) for layer in layers]
    return [lost(NONE, layers), *each, lost(ALL, [])]
