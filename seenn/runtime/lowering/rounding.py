"""What calibration samples tell about rounding weights: where to cut them off, and the mean error that is left."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.graph import Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Synapse
from seenn.errors import CheckpointError
from seenn.runtime.engine import Section
from seenn.runtime.lowering.program import SynapseTerm
from seenn.runtime.lowering.values import along

INT8_LEVELS = 127  # on either side of zero
CUTS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # of the largest weight
_BYTES = 1 << 28  # of a few values over time, while mean outputs are found
_PARTS = ("clips", "corrections")


@dataclass(frozen=True, kw_only=True, eq=False)
class Rounding:
    """What ``choose_rounding`` chose for a network, all in the network's own units; nothing where it is empty.

    Attributes:
        network: fingerprint of the network that it was made for.
        clips: by layer, where weights are cut off, as parts of each output channel's largest; float64 ``[O]``.
        corrections: by layer, the mean current that rounding takes away; float64 ``[O]``.

    Raises:
        ValueError: vectors of another form, not finite, or clips outside (0, 1].
    """

    network: str = ""
    clips: Mapping[str, Tensor] = field(default_factory=dict)
    corrections: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for layer, values in (*self.clips.items(), *self.corrections.items()):
            if values.dim() != 1 or values.dtype != torch.float64 or not bool(values.isfinite().all()):
                raise ValueError(
                    f"rounding of layer {layer}: expected finite float64 [O], got {values.dtype} {list(values.shape)}"
                )
        for layer, values in self.clips.items():
            if not bool(((values > 0) & (values <= 1)).all()):
                raise ValueError(f"rounding of layer {layer}: weights are cut off at a part in (0, 1] of the largest")

    def check(self, network: SpikingNetwork) -> None:
        """Raises ValueError if this was made for another network."""
        if self.network != network.graph.fingerprint():
            raise ValueError("the int8 rounding was made for another network, or its weights have changed since")

    def to_section(self) -> Section:
        """What a file holds."""
        tensors = {f"{part}:{layer}": values for part in _PARTS for layer, values in getattr(self, part).items()}
        return Section(json=self.network, tensors=tensors)

    @classmethod
    def from_section(cls, section: Section, network: SpikingNetwork) -> Rounding:
        """What ``to_section`` gave.

        Raises:
            CheckpointError: it is damaged, or was made for another network.
        """
        found: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
        layers = {node.name for node in network.graph}
        for name, values in section.tensors.items():
            part, _, layer = name.partition(":")
            if part not in found or layer not in layers:
                raise CheckpointError(f"the tensor int8:{name} belongs to no layer's rounding: write the file again")
            found[part][layer] = values
        try:
            rounding = cls(network=str(section.json), **found)
            rounding.check(network)
        except ValueError as error:
            raise CheckpointError(f"{error}: write the file again") from error
        return rounding

    def clip(self, term: SynapseTerm, levels: int) -> Tensor:
        """See ``Calibration``."""
        found = self.clips.get(term.layer) if levels <= INT8_LEVELS else None
        return torch.ones(len(term.weight), dtype=torch.float64) if found is None else self._of(term, found)

    def correction(self, term: SynapseTerm, error: Tensor) -> Tensor | None:
        """See ``Calibration``."""
        found = self.corrections.get(term.layer)
        return None if found is None else self._of(term, found)

    def _of(self, term: SynapseTerm, values: Tensor) -> Tensor:
        if len(values) != len(term.weight):
            raise ValueError(
                f"rounding of layer {term.layer} is for {len(values)} output channels, and it has {len(term.weight)}"
            )
        return values.to(term.weight.device)


class Calibration:
    """Chooses a ``Rounding`` while a network is lowered: the weights are judged on their mean inputs over a run.

    Args:
        network: the float network.
        batch: constant images or frames; a few dozen samples are enough.
        timesteps: T of the run.
    """

    def __init__(self, network: SpikingNetwork, batch: Batch, timesteps: int) -> None:
        images = batch.inputs.mean(0) if batch.is_sequence else batch.inputs
        self._network = network
        self._inputs = mean_inputs(network, images, mean_outputs(network, batch, timesteps))
        self._sources: dict[str, Tensor] = {}  # the inputs, in units of their buffers
        self._clips: dict[str, Tensor] = {}
        self._corrections: dict[str, Tensor] = {}

    def rounding(self) -> Rounding:
        """All that was chosen."""
        clips, corrections = (
            {layer: values.cpu() for layer, values in chosen.items()} for chosen in (self._clips, self._corrections)
        )
        return Rounding(network=self._network.graph.fingerprint(), clips=clips, corrections=corrections)

    def clip(self, term: SynapseTerm, levels: int) -> Tensor:
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

    def correction(self, term: SynapseTerm, error: Tensor) -> Tensor:
        """The mean current that ``error`` in the weights takes away, ``[O]``."""
        self._corrections[term.layer] = mean = self._response(term, error).mean(1)
        return mean

    def _response(self, term: SynapseTerm, weight: Tensor) -> Tensor:
        """``[O, samples · positions]``, in float32: an estimate, not a result."""
        if term.layer not in self._sources:
            x, gain = self._inputs.pop(term.layer).double(), term.gain
            assert gain is not None
            x = (x if term.beside is None else x - term.beside) / gain
            self._sources[term.layer] = x.where(gain != 0, 0.0).float()  # what is multiplied by 0 has weights of 0
        y = term.op.response(self._sources[term.layer], weight.float(), None)
        return y.movedim(1 + term.axis(y.dim() - 1), 0).flatten(1).double()


def mean_outputs(network: SpikingNetwork, batch: Batch, timesteps: int) -> dict[str, Tensor]:
    """The mean output of every site's neurons over ``timesteps`` steps, ``[N, ...]``."""
    found: dict[str, list[Tensor]] = {site: [] for site in network.sites}
    largest = max(math.prod(shape) for shape in network.shapes.values())
    with torch.no_grad():
        for part in batch.split(max(1, _BYTES // (16 * timesteps * largest))):
            network.unroll(part.inputs, timesteps, observe=lambda site, y: found[site].append(y.mean(0)))
    return {site: torch.cat(parts) for site, parts in found.items()}


def mean_inputs(network: SpikingNetwork, images: Tensor, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean over time of every synapse's input, ``[N, ...]`` by node, from mean images and mean ``outputs``.

    Between neurons everything is affine, or acts on means.
    """
    found: dict[str, Tensor] = {}

    def visit(node: Node, inputs: tuple[Tensor, ...]) -> Tensor:
        if isinstance(node.op, Synapse):
            (found[node.name],) = inputs
        return outputs[node.name] if node.op.fires else node.op.constant(*inputs)

    with torch.no_grad():
        network.graph.evaluate(images, (), visit)
    return found
