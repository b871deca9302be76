"""SEENN-II: a policy network fixes each image's number of timesteps before the spiking network runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from seenn.errors import CalibrationError
from seenn.exits.policy import register_policy
from seenn.exits.policy_network import PolicyNetwork
from seenn.exits.scored import softmax_confidence
from seenn.ops import State


@register_policy("seenn-ii")
@dataclass(frozen=True, kw_only=True, eq=False)
class BudgetExit:
    """SEENN-II (Li et al., NeurIPS 2023): ``t = argmax_k policy(image)_k + 1``, chosen from the image alone.

    Its network runs once an image and is never free: ``macs`` belong in every figure.
    """

    kind: ClassVar[str] = "seenn-ii"
    network: PolicyNetwork  # one score for each number of timesteps 1 … T

    @property
    def timesteps(self) -> int:
        """T, the largest budget."""
        return self.network.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the policy network for one image."""
        return self.network.macs

    def start(self, images: Tensor) -> State:
        if images.dim() != 4:
            raise CalibrationError("the seenn-ii policy decides by the images, and was given none")
        return (self.network(images).argmax(-1) + 1,)

    def stop(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        (budget,) = state
        return t >= budget, state

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(t, logits_sum)


def policy_macs(policy: object) -> int:
    """Multiply-accumulates that ``policy`` itself does on an image: its ``macs``, 0 where it has none."""
    return int(getattr(policy, "macs", 0))
