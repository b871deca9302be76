"""Engines by name."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from seenn import native
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data.preprocessing import Preprocessing
from seenn.errors import UnsupportedError, did_you_mean
from seenn.runtime.kernels.fused import FusedEngine
from seenn.runtime.kernels.synapses import BFLOAT16, FLOAT32, INT8, PLAIN, Kernel, exact_kernels, is_exact
from seenn.runtime.lowering import Rounding, choose_rounding, fold, lower
from seenn.runtime.reference_slots import ReferenceEngine
from seenn.runtime.slots import Engine

ENGINES = ("auto", "reference", "float32", "bfloat16", "int8")


def make_engine(
    name: str,
    network: SpikingNetwork,
    *,
    timesteps: int,
    preprocessing: Preprocessing | None = None,
    float_sites: Iterable[str] = (),
    calibration: Tensor | Rounding | None = None,
) -> Engine:
    """An engine for ``network``, on the network's device.

    ``auto`` is int8 where the network lowers to integers, because its answers are then the same for any
    batch, slot and number of threads; else float32, and the note says why; the reference engine where there are
    initial steps. Kernels that give the same
    integers are chosen by a short measurement.

    Args:
        name: one of ``ENGINES``.
        timesteps: the most that will be run; int8 proves that it is exact up to here.
        preprocessing, float_sites, calibration: see ``seenn.runtime.lowering.lower``.

    Raises:
        ValueError: unknown name.
        UnsupportedError: ``int8`` for a network that does not lower; any but the reference engine for initial steps.
    """
    device = network.device
    if name == "reference" or (name == "auto" and network.initial_steps):
        return ReferenceEngine(network)
    if name in ("float32", "bfloat16"):
        return _float_engine(name, network, device)
    if name not in ENGINES:
        raise ValueError(f"unknown engine {name!r}.{did_you_mean(name, ENGINES)}")
    if isinstance(calibration, Tensor):
        batch = Batch.of(calibration, network.input_shape)
        rounding = choose_rounding(network, batch, timesteps=timesteps, preprocessing=preprocessing)
    else:
        rounding = calibration
    try:
        program = lower(
            network,
            timesteps=timesteps,
            preprocessing=preprocessing,
            float_sites=float_sites,
            rounding=rounding,
        )
    except UnsupportedError as error:
        if name == "int8":
            raise
        engine = _float_engine("float32", network, device)
        engine.note += f"; not in integers: {error}"
        return engine
    engine = FusedEngine(
        program, exact_kernels(device), "int8", device, native.load("engine") if device.type == "cpu" else None
    )
    if calibration is None:
        engine.note += "; weights rounded by the largest of each channel, as there is no calibration"
    if program.coarser:
        places = ", ".join(f"{times} times at {name}" for name, times in program.coarser.items())
        engine.note += f"; a coarser fixed-point scale, so that {timesteps} steps fit: {places}"
    if device.type != "cpu" or not is_exact(INT8, device):
        engine.note += "; oneDNN int8 is missing or not exact here, so float holds the same integers"
    return engine


def _float_engine(name: str, network: SpikingNetwork, device: torch.device) -> FusedEngine:
    kernels: list[Kernel] = [PLAIN]
    if name == "bfloat16":
        kernels = [BFLOAT16]
    elif device.type == "cpu" and is_exact(FLOAT32, device):
        kernels = [FLOAT32, PLAIN]
    return FusedEngine(fold(network), kernels, name, device, native.load("engine") if device.type == "cpu" else None)
