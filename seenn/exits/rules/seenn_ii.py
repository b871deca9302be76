"""SEENN-II: a policy network fixes each image's number of timesteps before the spiking network runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits.policy_network import PolicyNetwork
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scored import Threshold, ThresholdExit


@register_policy("seenn-ii")
@dataclass(frozen=True, kw_only=True, eq=False)
class BudgetExit(ThresholdExit):
    """SEENN-II (Li et al., NeurIPS 2023): ``t = argmax_k policy(image)_k + 1``, chosen from the image alone.

    As a rule with a threshold: stop at the first t with ``policy_t - max_{k>t} policy_k > threshold``. At 0 that is the
    argmax (the last of equal ones); calibration may move it, below 0 towards fewer timesteps, above towards more. The
    unit is that of log-probabilities. Its network runs once an image and is never free: ``macs`` belong in every
    figure.
    """

    summary: ClassVar[str] = "a policy network that saw the image says so (SEENN-II)"
    made_with: ClassVar[str] = "seenn train-policy"
    network: PolicyNetwork  # one score for each number of timesteps 1 … T, or for each exit point
    threshold: Threshold = 0.0

    @property
    def budgets(self) -> int:
        """How many there are to choose from: T, or all exit points."""
        return self.network.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the policy network for one image."""
        return self.network.macs

    def start(self, inputs: Tensor) -> State:
        if inputs.dim() != 4:
            raise CalibrationError(
                "the seenn-ii policy decides by the images, and was given none: give images, not frames"
            )
        scores = self.network(inputs)
        later = scores.flip(-1).cummax(-1).values.flip(-1)[:, 1:]
        last = torch.full_like(scores[:, :1], torch.inf)  # T is the most it can ask for
        return (torch.cat([scores[:, :-1] - later, last], dim=-1),)

    def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        (margins,) = state
        return margins.gather(-1, (progress.point - 1).clamp(max=self.budgets - 1)[:, None]).squeeze(-1), state
