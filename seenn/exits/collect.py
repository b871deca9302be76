"""Logits and energy of every timestep, once, and policies replayed on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seenn.data import Split
from seenn.distributed import world
from seenn.engines.reference import run_reference
from seenn.errors import CalibrationError
from seenn.exits.budget import policy_macs
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.metrics.energy import MAC_PJ, snn_energy_pj
from seenn.metrics.synops import SampleMeter, dense_cost, fan_out
from seenn.network import SpikingNetwork, evaluating
from seenn.ops import State


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedRun:
    """One pass without early exit: what every sample would answer and cost if it stopped after t steps."""

    logits_sum: Tensor  # outputs summed up to t, [T, N, K]
    labels: Tensor  # int64 [N]
    energy_pj: Tensor  # estimate of the network alone up to t, float64 [T, N]; see ``seenn.metrics.energy``
    prepass: int = 0  # steps that every image took before t = 1; ``energy_pj`` includes them

    def energy_with(self, policy: ExitPolicy) -> Tensor:
        """``energy_pj`` and what the policy's own network takes for an image, float64 ``[T, N]``."""
        return self.energy_pj + MAC_PJ * policy_macs(policy)

    def __getitem__(self, samples: Tensor) -> CachedRun:
        """Some of the samples, by index or mask."""
        logits_sum, energy_pj = self.logits_sum[:, samples], self.energy_pj[:, samples]
        return replace(self, logits_sum=logits_sum, labels=self.labels[samples], energy_pj=energy_pj)


def collect_run(
    network: SpikingNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
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
    t = torch.arange(1, timesteps + 1, dtype=torch.float64)[:, None]
    energy = snn_energy_pj(dense_cost(network), synops, t)
    return CachedRun(logits_sum=logits_sum, labels=labels, energy_pj=energy, prepass=network.prepass)


def collect_logits(
    network: SpikingNetwork, batches: Iterable[tuple[Tensor, Tensor]], timesteps: int
) -> tuple[Tensor, Tensor]:
    """As :func:`collect_run`, without the energy: ``logits_sum`` ``[T, N, K]`` and labels ``[N]``.

    Raises:
        CalibrationError: there are no images.
        DataError: there are fewer batches than processes.
    """
    return _collect(network, batches, timesteps, metered=False)[:2]


def _collect(
    network: SpikingNetwork,
    batches: Iterable[tuple[Tensor, Tensor]],
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
        for images, labels in batches:
            if here.takes(number):
                meter = SampleMeter(fans, timesteps, len(images))
                full = run_reference(
                    network,
                    images.to(network.device),
                    FixedExit(),
                    timesteps,
                    keep_logits=True,
                    observe=meter if metered else None,
                ).logits_sum_per_step
                assert full is not None
                positions = torch.arange(done, done + len(images))
                parts.append((positions, full.cpu(), labels, meter.synops.cumsum(0)))
            number, done = number + 1, done + len(images)
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


def start_states(policy: ExitPolicy, split: Split, *, limit: int | None = None, batch_size: int = 256) -> State:
    """What ``policy.start`` says about a split's images, in order; cheap for rules that look at logits only."""
    parts = [policy.start(images) for images, _ in split.batches(batch_size, limit=limit)]
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))
