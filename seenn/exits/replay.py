"""One pass without early exit, and policies replayed on what it gave."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.exits.budget import policy_macs
from seenn.exits.policy import ExitPolicy
from seenn.metrics.energy import MAC_PJ


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
