"""``SpikingNetwork`` to ``Program``: thresholds folded, sums fused into membranes, integers where asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Synapse
from seenn.core.ops.arguments import integer
from seenn.data.preprocessing import Preprocessing
from seenn.errors import UnsupportedError
from seenn.runtime.lowering.lowering import ProgramLowering, obstacles
from seenn.runtime.lowering.program import InputScale, Program
from seenn.runtime.lowering.rounding import Calibration, Rounding
from seenn.runtime.lowering.scales import IntegerScale, Scale

LISTED = 3  # of what has no integer form


def lower(
    network: SpikingNetwork,
    *,
    timesteps: int,
    preprocessing: Preprocessing | None = None,
    float_sites: Iterable[str] = (),
    rounding: Rounding | None = None,
) -> Program:
    """The network in integers: spikes, exits and labels no longer depend on how it is run.

    Args:
        network: integrate-and-fire neurons with soft reset; affine ops and max-pooling between them.
        timesteps: T up to which no value may leave the range in which float32 is exact.
        preprocessing: makes the input's fixed-point scale that of 8-bit pixels; without it, the input is rounded to
            ``InputScale.fixed_point``.
        float_sites: names of layers that are kept out of int8: their weights get as many levels as the exact
            range allows.
        rounding: of the weights, from ``choose_rounding``; without it, the largest weight of each channel decides.

    Raises:
        UnsupportedError: a node has no integer form, or a value could leave the exact range; lists the first.
        ValueError: ``timesteps < 1``, ``float_sites`` names no synapse of this network, or a rounding that was made
            for another.
    """
    refuse_initial_steps(network)
    integer("timesteps", timesteps, low=1)
    named = frozenset(float_sites)
    layers = {node.name for node in network.graph if isinstance(node.op, Synapse)}
    if unknown := sorted(named - layers):
        raise ValueError(
            f"there are no layers {', '.join(unknown)} to keep in float: choose from {', '.join(sorted(layers))}"
        )
    if problems := obstacles(network):
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise UnsupportedError(
            f"{len(problems)} nodes have no exact integer form: {'; '.join(problems[:LISTED])}{more}. "
            "Run this network with the float32 or the reference engine"
        )
    if rounding is not None:
        rounding.check(network)
    return _lowered(network, timesteps, preprocessing, named, rounding or Rounding())


def choose_rounding(
    network: SpikingNetwork, batch: Batch, *, timesteps: int, preprocessing: Preprocessing | None = None
) -> Rounding | None:
    """How weights are rounded with the least error on ``batch``; None for a network that is not lowered.

    Args:
        network, timesteps, preprocessing: as for ``lower``.
        batch: constant images or frames, preprocessed; a few dozen samples are enough.
    """
    if network.initial_steps or obstacles(network):
        return None
    network = _on_cpu(network)
    found = Calibration(network, batch.to("cpu"), timesteps)
    try:
        _lowered(network, timesteps, preprocessing, frozenset(), found)
    except UnsupportedError:
        return None
    return found.rounding()


def _lowered(
    network: SpikingNetwork,
    timesteps: int,
    preprocessing: Preprocessing | None,
    named: frozenset[str],
    rounding: Calibration | Rounding,
) -> Program:
    scales = IntegerScale(timesteps=timesteps, float_sites=named, rounding=rounding)
    channels = network.input_shape[0]
    pixels = InputScale.fixed_point(channels) if preprocessing is None else InputScale.pixels(preprocessing)
    program = _program(network, scales, pixels)
    if scales.problems:
        raise UnsupportedError(
            f"{len(scales.problems)} sums could leave the range in which integers are exact (2^24 in a step, 2^31 in "
            f"all): {'; '.join(scales.problems)}. Run fewer timesteps, or in float: --engine float32, export --to onnx"
        )
    return program


def fold(network: SpikingNetwork) -> Program:
    """The same fusion in float: counts and membranes are those of the reference engine up to rounding."""
    refuse_initial_steps(network)
    return _program(network, Scale(), None)


def _program(network: SpikingNetwork, scale: Scale, pixels: InputScale | None) -> Program:
    lowered = _on_cpu(network)
    program = ProgramLowering(lowered, scale, pixels).run()
    lowered.to(network.device)  # where its ops compute
    return program


def _on_cpu(network: SpikingNetwork) -> SpikingNetwork:
    """The network, or a copy of it: lowering computes with its weights in float64 and looks at every number."""
    return network if network.device.type == "cpu" else copy.deepcopy(network).cpu()


def refuse_initial_steps(network: SpikingNetwork) -> None:
    """Raises UnsupportedError for a network that initialises its state by running it: a program does not."""
    if network.initial_steps:
        raise UnsupportedError(
            "this engine does not run the initial steps of a network: run it with the reference engine"
        )
