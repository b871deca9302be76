"""Logits and energy of every timestep, once, and policies replayed on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.engines.reference import run_reference
from seenn.errors import CalibrationError
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.metrics.energy import snn_energy_pj
from seenn.metrics.synops import SampleMeter, dense_cost, fan_out
from seenn.network import SpikingNetwork, evaluating
from seenn.ops import State


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedRun:
    """One pass without early exit: what every sample would answer and cost if it stopped after t steps."""

    logits_sum: Tensor  # outputs summed up to t, [T, N, K]
    labels: Tensor  # int64 [N]
    energy_pj: Tensor  # estimate of the network alone up to t, float64 [T, N]; see ``seenn.metrics.energy``

    def __getitem__(self, samples: Tensor) -> CachedRun:
        """Some of the samples, by index or mask."""
        logits_sum, energy_pj = self.logits_sum[:, samples], self.energy_pj[:, samples]
        return CachedRun(logits_sum=logits_sum, labels=self.labels[samples], energy_pj=energy_pj)


def collect_run(
    network: SpikingNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
    timesteps: int,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> CachedRun:
    """``collect_logits``, with the energy that each sample has used by each step, from the spikes of the same pass.

    ``E_n(t) = 4.6 pJ · (MACs once + MACs per step · t) + 0.9 pJ · SynOps of image n in steps 1 … t``.

    Raises:
        CalibrationError: there are no images.
    """
    cost, fans = dense_cost(network), fan_out(network)
    synops: list[Tensor] = []

    def measured() -> Iterable[tuple[Tensor, Tensor, SampleMeter]]:
        for images, labels in batches:
            meter = SampleMeter(fans, timesteps, len(images))
            yield images, labels, meter
            synops.append(meter.synops.cumsum(0))
            progress(sum(part.shape[1] for part in synops))

    logits_sum, labels = _collect(network, measured(), timesteps)
    t = torch.arange(1, timesteps + 1, dtype=torch.float64)[:, None]
    energy = snn_energy_pj(cost, torch.cat(synops, dim=1), t)
    return CachedRun(logits_sum=logits_sum, labels=labels, energy_pj=energy)


def collect_logits(
    network: SpikingNetwork, batches: Iterable[tuple[Tensor, Tensor]], timesteps: int
) -> tuple[Tensor, Tensor]:
    """One pass without early exit: ``logits_sum`` ``[T, N, K]`` and labels ``[N]``, on the CPU.

    Raises:
        CalibrationError: there are no images.
    """
    return _collect(network, ((images, labels, None) for images, labels in batches), timesteps)


def _collect(
    network: SpikingNetwork, batches: Iterable[tuple[Tensor, Tensor, SampleMeter | None]], timesteps: int
) -> tuple[Tensor, Tensor]:
    logits, labels = [], []
    with torch.no_grad(), evaluating(network):
        for images, target, meter in batches:
            full = run_reference(
                network, images.to(network.device), FixedExit(), timesteps, keep_logits=True, observe=meter
            ).logits_sum_per_step
            assert full is not None
            logits.append(full.cpu())
            labels.append(target)
    if not logits:
        raise CalibrationError("there are no images to calibrate the exit on: got an empty split")
    return torch.cat(logits, dim=1), torch.cat(labels)


def replay(policy: ExitPolicy, logits_sum: Tensor, state: State | None = None) -> Tensor:
    """When each sample would stop, int64 ``[N]``, from logits cached for all T steps ``[T, N, K]``.

    ``state`` is what ``policy.start`` said about the samples' images; None: a rule that looks at logits only.
    """
    timesteps, n = logits_sum.shape[:2]
    exit_timestep = torch.full((n,), timesteps)
    running = torch.ones(n, dtype=torch.bool)
    state = policy.start(logits_sum.new_zeros(n, 0)) if state is None else state
    for step in range(1, timesteps):
        stop, state = policy.stop(torch.full((n,), step), logits_sum[step - 1], state)
        exit_timestep[running & stop] = step
        running &= ~stop
    return exit_timestep
