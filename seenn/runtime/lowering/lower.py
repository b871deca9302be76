"""``SpikingNetwork`` to ``Program``: thresholds folded, sums fused into membranes, integers where asked for."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from seenn.core.graph import Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import CumulativeDifference, IntegratingNeuron, Resize, StatefulOp, Synapse
from seenn.core.ops.arguments import integer
from seenn.data.preprocessing import Preprocessing
from seenn.errors import UnsupportedError
from seenn.runtime.lowering.program import InputGrid, Program
from seenn.runtime.lowering.rounding import Calibration, NoCalibration, Rounding
from seenn.runtime.lowering.settle import FloatGrid, IntegerGrid
from seenn.runtime.lowering.translate import LINEAR, MAXIMA, NEURONS, Translation, inner_op, moves


def lower(
    network: SpikingNetwork,
    *,
    timesteps: int,
    preprocessing: Preprocessing | None = None,
    float_sites: Iterable[str] = (),
    calibration: Tensor | Rounding | None = None,
) -> Program:
    """The network in whole numbers: spikes, exits and labels no longer depend on how it is run.

    Args:
        network: integrate-and-fire neurons with soft reset; affine ops and max-pooling between them.
        timesteps: T up to which no value may leave the range in which float32 is exact.
        preprocessing: makes the grid of the input that of 8-bit pixels; without it, the input is rounded to
            a fixed-point grid (``InputGrid.fixed_point``).
        float_sites: names of layers that are kept out of int8: their weights get as many levels as the exact
            range allows.
        calibration: preprocessed images ``[N, C, H, W]`` on which rounding is judged and mean errors are
            corrected, or what they chose, from ``choose_rounding``; without them, the largest weight of each channel
            decides.

    Raises:
        UnsupportedError: a node has no integer form, or a value could leave the exact range; lists all.
        ValueError: ``timesteps < 1``, ``float_sites`` names no synapse of this network, or a rounding that was made
            for another.
    """
    refuse_prepass(network)
    integer("timesteps", timesteps, low=1)
    named = frozenset(float_sites)
    layers = {node.name for node in network.graph if isinstance(node.op, Synapse)}
    if unknown := sorted(named - layers):
        raise ValueError(
            f"there are no layers {', '.join(unknown)} to keep in float: choose from {', '.join(sorted(layers))}"
        )
    if problems := [
        f"{node.name} ({node.op.kind}): {why}" for node in network.graph if (why := obstacle(node, network))
    ]:
        raise UnsupportedError(
            f"{len(problems)} nodes have no exact integer form: {'; '.join(problems)}. "
            "Run this network with the float32 or the reference engine"
        )
    found: Calibration | Rounding | NoCalibration = NoCalibration()
    if isinstance(calibration, Rounding):
        if calibration.network != network.graph.fingerprint():
            raise ValueError("this rounding was made for another network, or its weights have changed since")
        found = calibration.without(named)
    elif calibration is not None:
        found = Calibration(network, calibration, timesteps)
    return _lowered(network, timesteps, preprocessing, named, found)


def choose_rounding(
    network: SpikingNetwork, images: Tensor, *, timesteps: int, preprocessing: Preprocessing | None = None
) -> Rounding | None:
    """How weights are rounded with the least error on ``images``; None for a network that is not lowered.

    Args:
        network, timesteps, preprocessing: as for ``lower``.
        images: preprocessed, ``[N, C, H, W]``.
    """
    if network.initial_steps or any(obstacle(node, network) for node in network.graph):
        return None
    found = Calibration(network, images, timesteps)
    try:
        _lowered(network, timesteps, preprocessing, frozenset(), found)
    except UnsupportedError:
        return None
    return found.found(network)


def _lowered(
    network: SpikingNetwork,
    timesteps: int,
    preprocessing: Preprocessing | None,
    named: frozenset[str],
    calibration: Calibration | Rounding | NoCalibration,
) -> Program:
    grid = IntegerGrid(timesteps=timesteps, float_sites=named, calibration=calibration)
    channels = network.input_shape[0]
    pixels = InputGrid.fixed_point(channels) if preprocessing is None else InputGrid.pixels(preprocessing)
    program = Translation(network, grid, pixels).run()
    if grid.problems:
        raise UnsupportedError(
            f"{len(grid.problems)} sums could leave the range in which float32 is exact (16,777,216): "
            f"{'; '.join(grid.problems)}. Run fewer timesteps, or use the float32 or the reference engine"
        )
    return program


def fold(network: SpikingNetwork) -> Program:
    """The same fusion in float: counts and membranes are those of the reference engine up to rounding."""
    refuse_prepass(network)
    return Translation(network, FloatGrid(), None).run()


def refuse_prepass(network: SpikingNetwork) -> None:
    """Raises UnsupportedError for a network that needs a pre-pass: a program has none."""
    if network.initial_steps:
        raise UnsupportedError("this engine has no pre-pass: run this network with the reference engine")


def obstacle(node: Node, network: SpikingNetwork) -> str | None:
    """Why a node has no exact integer form; None where it has one."""
    op = node.op
    if (
        isinstance(op, (*LINEAR, *NEURONS))
        or moves(op)
        or (node.name in network.prefix and isinstance(inner_op(op), MAXIMA))
    ):
        return None
    if isinstance(op, CumulativeDifference):
        return None if isinstance(op.op, MAXIMA) else f"{op.op.kind} of a running mean is not whole-numbered"
    if isinstance(op, Resize):
        return f"{op.mode} interpolation multiplies by fractions"
    if op.affine or isinstance(op, IntegratingNeuron):
        return "this kind is not lowered"
    if isinstance(op, StatefulOp):
        return "its state does not stay on a grid (a leak, or a reset that is not by subtraction)"
    return "it is neither affine, nor a neuron, nor a maximum"
