"""The same number of timesteps for everyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.core.ops.arguments import integer
from seenn.exits.calibration.replay import CachedRun
from seenn.exits.calibration.target import ExitCalibration, ExitTarget
from seenn.exits.progress import Progress
from seenn.exits.registry import register_policy
from seenn.exits.scores import softmax_confidence


@register_policy("fixed")
@dataclass(frozen=True, kw_only=True)
class FixedExit:
    """Stop every sample at ``timesteps``; None runs to the engine's last one."""

    kind: ClassVar[str] = "fixed"
    summary: ClassVar[str] = "the same number of steps for all"
    threshold_field: ClassVar[str] = "timesteps"
    timesteps: int | None = None  # >= 1

    def __post_init__(self) -> None:
        if self.timesteps is not None:
            integer("timesteps", self.timesteps, low=1)

    def start(self, inputs: Tensor) -> State:
        return ()

    def stop(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        if self.timesteps is None:
            return torch.zeros_like(progress.t, dtype=torch.bool), state
        return progress.t >= self.timesteps, state

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(t, logits_sum)

    def calibrate(self, run: CachedRun, target: ExitTarget) -> ExitCalibration[FixedExit]:
        """The number of steps that meets ``target`` best; without one its own, at most T.

        Raises:
            ValueError: a guarantee.
            CalibrationError: no number of steps meets the target, or more steps than were run.
        """
        if target.confidence is not None:
            raise ValueError("a guarantee needs a rule with a score, and fixed has none")
        last = len(run.cost)
        steps = last if self.timesteps is None else self.timesteps
        run.refuse_never("a fixed exit after", steps)
        if target.given:
            curve = run.choices(torch.arange(last)[:, None].expand(last, len(run)))
            steps = target.best_point(curve, self.kind) + 1
        return run.judged(FixedExit(timesteps=steps))
