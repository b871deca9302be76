"""Logits of every timestep, once, and policies replayed on them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from seenn.engines.reference import run_reference
from seenn.errors import CalibrationError
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.network import SpikingNetwork, evaluating


def collect_logits(
    network: SpikingNetwork, batches: Iterable[tuple[Tensor, Tensor]], timesteps: int
) -> tuple[Tensor, Tensor]:
    """One pass without early exit: ``logits_sum`` ``[T, N, K]`` and labels ``[N]``, on the CPU.

    Raises:
        CalibrationError: there are no images.
    """
    logits, labels = [], []
    with torch.no_grad(), evaluating(network):
        for images, target in batches:
            full = run_reference(
                network, images.to(network.device), FixedExit(), timesteps, keep_logits=True
            ).logits_sum_per_step
            assert full is not None
            logits.append(full.cpu())
            labels.append(target)
    if not logits:
        raise CalibrationError("there are no images to calibrate the exit on: got an empty split")
    return torch.cat(logits, dim=1), torch.cat(labels)


def replay(policy: ExitPolicy, logits_sum: Tensor) -> Tensor:
    """When each sample would stop, int64 ``[N]``, from logits cached for all T steps ``[T, N, K]``.

    For rules that look at logits only; ``start`` is given no images.
    """
    timesteps, n = logits_sum.shape[:2]
    exit_timestep = torch.full((n,), timesteps)
    running = torch.ones(n, dtype=torch.bool)
    state = policy.start(logits_sum.new_zeros(n, 0))
    for step in range(1, timesteps):
        stop, state = policy.stop(torch.full((n,), step), logits_sum[step - 1], state)
        exit_timestep[running & stop] = step
        running &= ~stop
    return exit_timestep
