"""What a calibration is asked for, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from seenn.errors import CalibrationError
from seenn.exits.policy import ExitPolicy
from seenn.metrics import ExitCurve

Guarantee = Literal["marginal", "conditional", "expected"]
#: What a drop is of: accuracy, or, without labels, how often the answer is that of all T steps.
Risk = Literal["accuracy", "disagreement"]
Policy = TypeVar("Policy", bound=ExitPolicy)


@dataclass(frozen=True, kw_only=True)
class ExitTarget:
    """At most one of a drop, a mean of timesteps and a mean energy; with a drop, the confidence that it holds.

    Raises:
        ValueError: several targets, or one out of range.
    """

    max_accuracy_drop: float | None = None  # ε below the accuracy at T, a fraction in [0, 1): 0.005 is half a point
    target_timesteps: float | None = None  # mean cost in full timesteps, > 0; at least 1 is possible without heads
    target_energy: float | None = None  # mean per sample up to its exit, in pJ
    confidence: float | None = None  # 1 - δ in (0, 1): the drop then holds for new samples with this probability
    guarantee: Guarantee | None = (
        None  # over all samples (marginal, the default), or those that stopped by t, every t; or on average
    )
    risk: Risk = "accuracy"

    def __post_init__(self) -> None:
        drop, confidence = self.max_accuracy_drop, self.confidence
        if len(self._targets) > 1:
            raise ValueError("give one of max_accuracy_drop, target_timesteps and target_energy")
        if confidence is not None and (drop is None or not 0.0 < drop < 1.0):
            raise ValueError(f"a guarantee needs a max_accuracy_drop between 0 and 1, got {drop}")
        if confidence is not None and not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence is a probability between 0 and 1, got {confidence}")
        if self.guarantee not in (None, "marginal", "conditional", "expected"):
            raise ValueError(f"guarantee must be 'marginal', 'conditional' or 'expected', got {self.guarantee!r}")
        if self.risk not in ("accuracy", "disagreement"):
            raise ValueError(f"risk must be 'accuracy' or 'disagreement', got {self.risk!r}")
        if self.risk != "accuracy" and not self.given:
            raise ValueError("risk says what a target bounds, and none is given: give max_accuracy_drop, or no risk")
        if self.guarantee == "expected" and (confidence is not None or drop is None or not drop > 0.0):
            raise ValueError("the expected guarantee is of a max_accuracy_drop above 0, and has no confidence")
        if self.guarantee not in (None, "expected") and confidence is None:
            raise ValueError("a guarantee needs a confidence, the probability that it holds with")
        if drop is not None and not 0.0 <= drop < 1.0:
            raise ValueError(f"max_accuracy_drop is a fraction in [0, 1), got {drop}")
        if self.target_timesteps is not None and not self.target_timesteps > 0.0:
            raise ValueError(f"target_timesteps is a mean of full timesteps above 0, got {self.target_timesteps}")

    @property
    def _targets(self) -> list[float]:
        every = (self.max_accuracy_drop, self.target_timesteps, self.target_energy)
        return [target for target in every if target is not None]

    @property
    def guaranteed(self) -> bool:
        """Whether the drop is bounded for new samples."""
        return self.confidence is not None or self.guarantee is not None

    @property
    def given(self) -> bool:
        """Whether there is anything to meet; without, a threshold is left as it is."""
        return bool(self._targets)

    def best_point(self, curve: ExitCurve, kind: str) -> int:
        """Index of the point of ``curve``, whose last is full T, that meets this target.

        With a drop ε: the cheapest whose accuracy is at most ε below that at T. With a mean cost or energy: the most
        accurate within it.

        Args:
            curve: what the rule can do.
            kind: name of the rule, for the message.

        Raises:
            CalibrationError: no point meets it; the message names the nearest.
        """
        if self.max_accuracy_drop is not None:
            # Accuracies are k/N: the allowance keeps «exactly ε below» within ε when floats round.
            return curve.cheapest(float(curve.accuracy[-1]) - self.max_accuracy_drop - 1e-12)
        in_steps = self.target_timesteps is not None
        limit = self.target_timesteps if in_steps else self.target_energy
        means = curve.mean_timesteps if in_steps else curve.mean_energy_pj
        assert limit is not None
        assert means is not None
        least, most = float(means[0]), float(means[-1])
        if not least <= limit <= most:
            unit, each = ("timesteps", "") if in_steps else ("pJ", " per image")
            raise CalibrationError(
                f"no threshold of the {kind} rule gives a mean of {limit:.6g} {unit}{each}: it can give {least:.6g} to "
                f"{most:.6g} {unit}, and the nearest is {min(max(limit, least), most):.6g}; ask for that, or use "
                "another rule"
            )
        return curve.best_within(limit, means)


@dataclass(frozen=True, kw_only=True)
class ExitCalibration(Generic[Policy]):
    """A policy and what it does on the data that its threshold was chosen on."""

    policy: Policy
    samples: int
    accuracy: float  # at the exit
    full_accuracy: float  # at T
    mean_timesteps: float  # initial steps included; one that was left at a head counts as a step
    mean_cost: float  # in full timesteps, initial steps included: less, where there are heads
    mean_energy_pj: float | None = None  # None where no energies were given

    @property
    def figures(self) -> dict[str, Any]:
        """The numbers, as JSON."""
        return {name: value for name, value in vars(self).items() if name != "policy"}
