"""What a calibration is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Guarantee = Literal["marginal", "conditional"]


@dataclass(frozen=True, kw_only=True)
class ExitTarget:
    """At most one of a drop, a mean of timesteps and a mean energy; with a drop, the confidence that it holds.

    Raises:
        ValueError: several targets, or one out of range.
    """

    max_accuracy_drop: float | None = None  # ε below the accuracy at T, a fraction in [0, 1): 0.005 is half a point
    target_timesteps: float | None = None  # mean cost in full timesteps, >= 1
    target_energy: float | None = None  # mean per sample up to its exit, in pJ
    confidence: float | None = None  # 1 - δ in (0, 1): the drop then holds for new samples with this probability
    guarantee: Guarantee = "marginal"  # on average over all samples, or among those that stopped by t, for every t

    def __post_init__(self) -> None:
        drop, confidence = self.max_accuracy_drop, self.confidence
        if len(self._targets) > 1:
            raise ValueError("give one of max_accuracy_drop, target_timesteps and target_energy")
        if confidence is not None and (drop is None or not 0.0 < drop < 1.0):
            raise ValueError(f"a guarantee needs a max_accuracy_drop between 0 and 1, got {drop}")
        if confidence is not None and not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence is a probability between 0 and 1, got {confidence}")
        if self.guarantee not in ("marginal", "conditional"):
            raise ValueError(f"guarantee must be 'marginal' or 'conditional', got {self.guarantee!r}")
        if drop is not None and not 0.0 <= drop < 1.0:
            raise ValueError(f"max_accuracy_drop is a fraction in [0, 1), got {drop}")
        if self.target_timesteps is not None and not self.target_timesteps >= 1.0:
            raise ValueError(
                f"target_timesteps must be at least 1: every image takes one step, got {self.target_timesteps}"
            )

    @property
    def _targets(self) -> list[float]:
        every = (self.max_accuracy_drop, self.target_timesteps, self.target_energy)
        return [target for target in every if target is not None]

    @property
    def given(self) -> bool:
        """Whether there is anything to meet; without, a threshold is left as it is."""
        return bool(self._targets)
