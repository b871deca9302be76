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
    """Stop every sample at ``timesteps``, whole ones; None runs to the engine's last one.

    With ``segment``, at the head of that number in the last of them.
    """

    kind: ClassVar[str] = "fixed"
    summary: ClassVar[str] = "the same number of steps for all"
    threshold_field: ClassVar[str] = "timesteps"
    timesteps: int | None = None  # >= 1
    segment: int | None = None  # >= 1; None: the last of the step

    def __post_init__(self) -> None:
        if self.timesteps is not None:
            integer("timesteps", self.timesteps, low=1)
        if self.segment is not None:
            integer("segment", self.segment, low=1)

    def start(self, inputs: Tensor) -> State:
        return ()

    def stop(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        if self.timesteps is None:
            return torch.zeros_like(progress.t, dtype=torch.bool), state
        there = progress.whole if self.segment is None else progress.segment >= self.segment
        return (progress.t >= self.timesteps) & there, state

    def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(progress.t, logits_sum)

    def calibrate(self, run: CachedRun, target: ExitTarget) -> ExitCalibration[FixedExit]:
        """The exit point that meets ``target`` best; without one its own, at most T steps.

        Raises:
            ValueError: a guarantee.
            CalibrationError: no number of steps meets the target, or more steps than were run.
        """
        if target.guaranteed:
            raise ValueError("a guarantee needs a rule with a score, and fixed has none: use confidence")
        points, last = len(run.cost), int(run.t[-1])
        steps = last if self.timesteps is None else self.timesteps
        run.whole_steps.refuse_never("a fixed exit after", steps)
        chosen = FixedExit(timesteps=steps, segment=self.segment)
        if target.given:
            curve = run.choices(torch.arange(points)[:, None].expand(points, len(run)))
            before, segment = divmod(target.best_point(curve, self.kind), run.segments)
            whole = segment + 1 == run.segments
            chosen = FixedExit(timesteps=before + 1, segment=None if whole else segment + 1)
        return run.judged(chosen)
