"""Logits and energy of every timestep, collected in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from seenn.analysis.synops import SampleMeter, dense_cost, fan_out
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork, evaluating
from seenn.core.ops import State
from seenn.data import Split
from seenn.distributed import world
from seenn.errors import CalibrationError
from seenn.exits import CachedRun, FixedExit, cost_of_steps
from seenn.exits.policy import ExitPolicy
from seenn.metrics.energy import snn_energy_pj
from seenn.runtime.reference import run_reference


def collect_run(
    network: SpikingNetwork,
    batches: Iterable[Batch],
    timesteps: int,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> CachedRun:
    """One pass without early exit, with the energy that each sample has used by each step; all on the CPU.

    ``E_n(t) = 4.6 pJ · (MACs once + MACs per step · t) + 0.9 pJ · SynOps of image n in steps 1 … t``.

    Under ``torchrun`` the processes take turns at the batches, and each gets the whole result.

    Raises:
        CalibrationError: there are no images.
        DataError: there are fewer batches than processes.
    """
    logits_sum, labels, synops = _collect(network, batches, timesteps, metered=True, progress=progress)
    energy = snn_energy_pj(dense_cost(network), synops, cost_of_steps(timesteps)[:, None])
    cost = cost_of_steps(timesteps, network.prepass)
    return CachedRun(logits_sum=logits_sum, labels=labels, energy_pj=energy, cost=cost)


def collect_logits(network: SpikingNetwork, batches: Iterable[Batch], timesteps: int) -> tuple[Tensor, Tensor]:
    """As :func:`collect_run`, without the energy: ``logits_sum`` ``[T, N, K]`` and labels ``[N]``.

    Raises:
        CalibrationError: there are no images.
        DataError: there are fewer batches than processes.
    """
    return _collect(network, batches, timesteps, metered=False)[:2]


def _collect(
    network: SpikingNetwork,
    batches: Iterable[Batch],
    timesteps: int,
    *,
    metered: bool,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Summed logits ``[T, N, K]``, labels ``[N]`` and, if metered, summed synaptic operations ``[T, N]``."""
    here, fans = world(), fan_out(network) if metered else {}
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []  # positions, logits, labels, synops
    number = done = 0
    with torch.no_grad(), evaluating(network):
        for batch in batches:
            images, labels = batch.inputs, batch.labels
            assert labels is not None
            if here.takes(number):
                meter = SampleMeter(fans, timesteps, len(batch))
                full = run_reference(
                    network,
                    images.to(network.device),
                    FixedExit(),
                    timesteps,
                    keep_logits=True,
                    observe=meter if metered else None,
                ).logits_sum_per_step
                assert full is not None
                positions = torch.arange(done, done + len(batch))
                parts.append((positions, full.cpu(), labels, meter.synops.cumsum(0)))
            number, done = number + 1, done + len(batch)
            progress(done)
    if not done:
        raise CalibrationError("there are no images to calibrate the exit on: got an empty split")
    here.enough(number, f"{done} images in batches")
    numbers, logits, targets, synops = zip(*parts, strict=True)
    order = torch.cat(numbers)
    return (
        here.in_order(torch.cat(logits, dim=1).transpose(0, 1), order).transpose(0, 1).contiguous(),
        here.in_order(torch.cat(targets), order),
        here.in_order(torch.cat(synops, dim=1).transpose(0, 1), order).transpose(0, 1).contiguous(),
    )


def start_states(policy: ExitPolicy, split: Split, *, limit: int | None = None, batch_size: int = 256) -> State:
    """What ``policy.start`` says about a split's images, in order; cheap for rules that look at logits only."""
    parts = [policy.start(batch.inputs) for batch in split.batches(batch_size, limit=limit)]
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))
