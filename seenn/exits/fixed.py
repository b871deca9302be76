"""The same number of timesteps for everyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.core.ops.arguments import integer
from seenn.exits.policy import register_policy
from seenn.exits.scored import softmax_confidence


@register_policy("fixed")
@dataclass(frozen=True, kw_only=True)
class FixedExit:
    """Stop every sample at ``timesteps``; None runs to the engine's last one."""

    kind: ClassVar[str] = "fixed"
    timesteps: int | None = None  # >= 1

    def __post_init__(self) -> None:
        if self.timesteps is not None:
            integer("timesteps", self.timesteps, low=1)

    def start(self, images: Tensor) -> State:
        return ()

    def stop(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        if self.timesteps is None:
            return torch.zeros_like(t, dtype=torch.bool), state
        return t >= self.timesteps, state

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(t, logits_sum)
