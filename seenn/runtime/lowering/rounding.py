"""What calibration images tell about rounding weights: where to cut them off, and the mean error that is left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seenn.core.graph import INPUT, Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import CumulativeDifference, StatefulOp, StatelessOp, Synapse
from seenn.runtime.lowering.values import Weighted, along

INT8_LEVELS = 127  # on either side of zero
CUTS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # of the largest weight


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounding:
    """What calibration images chose for a network, to be lowered again without them: all in the network's own units.

    Attributes:
        network: fingerprint of the network that it was made for.
        clips: by layer, where weights are cut off, as parts of each output channel's largest; float64 ``[O]``.
        corrections: by layer, the mean current that rounding takes away; float64 ``[O]``.

    Raises:
        ValueError: vectors of another form, not finite, or clips outside (0, 1].
    """

    network: str
    clips: Mapping[str, Tensor]
    corrections: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for layer, values in (*self.clips.items(), *self.corrections.items()):
            if values.dim() != 1 or values.dtype != torch.float64 or not bool(values.isfinite().all()):
                raise ValueError(
                    f"rounding of layer {layer}: expected finite float64 [O], got {values.dtype} {list(values.shape)}"
                )
        for layer, values in self.clips.items():
            if not bool(((values > 0) & (values <= 1)).all()):
                raise ValueError(f"rounding of layer {layer}: weights are cut off at a part in (0, 1] of the largest")

    def without(self, layers: Iterable[str]) -> Rounding:
        """The same, saying nothing of some layers."""
        left_out = set(layers)
        clips, corrections = (
            {layer: values for layer, values in chosen.items() if layer not in left_out}
            for chosen in (self.clips, self.corrections)
        )
        return replace(self, clips=clips, corrections=corrections)

    def clip(self, term: Weighted, levels: int) -> Tensor:
        """See ``Calibration``."""
        found = self.clips.get(term.layer) if levels <= INT8_LEVELS else None
        return torch.ones(len(term.weight), dtype=torch.float64) if found is None else self._of(term, found)

    def correction(self, term: Weighted, error: Tensor) -> tuple[Tensor | None, float | None]:
        """See ``Calibration``; how large the error is at the output is not known any more."""
        found = self.corrections.get(term.layer)
        return None if found is None else self._of(term, found), None

    def enter(self, layer: str, constant: Tensor | None, gain: Tensor) -> None:
        """Nothing to keep."""

    def _of(self, term: Weighted, values: Tensor) -> Tensor:
        if len(values) != len(term.weight):
            raise ValueError(
                f"rounding of layer {term.layer} is for {len(values)} output channels, and it has {len(term.weight)}"
            )
        return values.to(term.weight.device)


class NoCalibration:
    """Without images: the largest weight decides, and nothing is corrected."""

    def clip(self, term: Weighted, levels: int) -> Tensor:
        """1 for every channel."""
        return torch.ones(len(term.weight), dtype=torch.float64)

    def correction(self, term: Weighted, error: Tensor) -> tuple[Tensor | None, float | None]:
        """Nothing to correct, and nothing known about the output."""
        return None, None

    def enter(self, layer: str, constant: Tensor | None, gain: Tensor) -> None:
        """Nothing to keep."""


class Calibration:
    """Mean inputs of every synapse over a run of the float network; the weights are judged on them.

    Args:
        network: the float network.
        images: ``[N, C, H, W]``; a few dozen are enough.
        timesteps: T of the run.
    """

    def __init__(self, network: SpikingNetwork, images: Tensor, timesteps: int) -> None:
        self._inputs = mean_inputs(network, images, timesteps)
        self._clips: dict[str, Tensor] = {}
        self._corrections: dict[str, Tensor] = {}

    def found(self, network: SpikingNetwork) -> Rounding:
        """All that was chosen while ``network`` was lowered."""
        clips, corrections = (
            {layer: values.cpu() for layer, values in chosen.items()} for chosen in (self._clips, self._corrections)
        )
        return Rounding(network=network.graph.fingerprint(), clips=clips, corrections=corrections)

    def enter(self, layer: str, constant: Tensor | None, gain: Tensor) -> None:
        """Says what the layer's input is made of, so that it can be given in its source's units."""
        values = self._inputs[layer].double()
        self._inputs[layer] = (values if constant is None else values - constant) / gain

    def clip(self, term: Weighted, levels: int) -> Tensor:
        """The cut with the least squared output error, per output channel."""
        if levels > INT8_LEVELS:
            return torch.ones(len(term.weight), dtype=torch.float64)
        if term.layer not in self._clips:
            largest = term.weight.abs().flatten(1).amax(1).clamp(min=1e-300)
            best = torch.full_like(largest, torch.inf)
            chosen = torch.ones_like(largest)
            for cut in CUTS:
                unit = along(largest * cut / levels, 0, term.weight.dim())
                error = term.weight - (term.weight / unit).round().clamp(-levels, levels) * unit
                loss = self._response(term, error).square().mean(1)
                chosen = torch.where(loss < best, cut, chosen)
                best = torch.minimum(loss, best)
            self._clips[term.layer] = chosen
        return self._clips[term.layer]

    def correction(self, term: Weighted, error: Tensor) -> tuple[Tensor | None, float | None]:
        """The mean current that ``error`` in the weights takes away, ``[O]``; the relative error once it is back."""
        lost = self._response(term, error)
        mean = lost.mean(1)
        self._corrections[term.layer] = mean
        signal = self._response(term, term.weight).norm().clamp(min=1e-300)
        return mean, float((lost - mean.unsqueeze(1)).norm() / signal)

    def _response(self, term: Weighted, weight: Tensor) -> Tensor:
        """``[O, samples · positions]``, in float32: an estimate, not a result."""
        y = term.op.response(self._inputs[term.layer].float(), weight.float(), None)
        return y.movedim(1 + term.axis, 0).flatten(1).double()


def mean_inputs(network: SpikingNetwork, images: Tensor, timesteps: int) -> dict[str, Tensor]:
    """The mean over ``timesteps`` steps of every synapse's input, ``[N, ...]`` by node."""
    sums: dict[str, Tensor] = {}
    states: dict[str, tuple[Tensor, ...]] = {}

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Tensor:
        op = node.op
        if isinstance(op, Synapse):
            sums[node.name] = inputs[0] if node.name not in sums else sums[node.name] + inputs[0]
        if node.name in network.prefix and isinstance(op, CumulativeDifference):
            return op.constant(*inputs)
        if isinstance(op, StatefulOp):
            output, states[node.name] = op.step(inputs, states.get(node.name) or op.initial_state(*inputs))
            return output
        assert isinstance(op, StatelessOp)
        value: Tensor = op(*inputs)
        return value

    with torch.no_grad():
        for _ in range(timesteps):
            network.graph.evaluate(images, (), visit)
    return {name: total / timesteps for name, total in sums.items() if name != INPUT}
