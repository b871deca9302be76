"""As good as asked: the conversion with the fewest spikes that keeps to what its user wants.

A neuron whose range is r fires about T·Γ·x/r spikes for an activation x: their number grows with T·Γ, the levels that T
steps tell apart, and so does how well they say what the ANN says. Candidates are therefore in the order of T·Γ, and the
first that is good enough is found by bisection. More levels come before more steps: the same number of spikes arrives
more evenly in fewer steps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from converter.checks import CheckReport
from converter.config import ConvertConfig
from converter.conversion import Conversion
from seenn.errors import ConversionError
from seenn.neurons import NEURONS

LEVELS = (1, 2, 4, 8, 15, 31, 63, 127)
TIMESTEPS = (1, 2, 4, 8, 16, 32, 64)
_FEWEST, _MOST = 4, 16  # timesteps, where the levels are chosen too


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the spiking network must keep to at T, on images that calibration did not see; whatever is not None.

    Raises:
        ValueError: a share outside [0, 1].
    """

    min_agreement: float | None = None  # share of images on which ANN and SNN give the same label
    max_accuracy_drop: float | None = None  # of the accuracy, a share too

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, got {value!r}")

    def __bool__(self) -> bool:
        return self != Goal()

    def reached(self, report: CheckReport) -> bool:
        """Whether these images say so.

        Raises:
            ConversionError: they cannot: no labels, or no classes.
        """
        if self.min_agreement is not None and report.agreement is None:
            raise ConversionError(
                "quantities do not agree or disagree: give levels and timesteps, and see output_error"
            )
        agrees = self.min_agreement is None or (report.agreement or 0) >= self.min_agreement
        return agrees and (self.max_accuracy_drop is None or report.accuracy_drop <= self.max_accuracy_drop)


@dataclass(frozen=True)
class Attempt:
    """One candidate, converted and checked."""

    config: ConvertConfig
    conversion: Conversion
    report: CheckReport

    def to_json(self) -> dict[str, Any]:
        """For manifests."""
        return {
            "levels": self.config.max_spikes,
            "encoder_levels": self.config.encoder_levels,
            "timesteps": self.config.timesteps,
            "spikes": self.report.spikes["spikes"],
            "agreement": self.report.agreement,
            "accuracy_drop": None if self.report.ann_accuracy is None else self.report.accuracy_drop,
        }

    def __str__(self) -> str:
        drop = "" if self.report.ann_accuracy is None else f", accuracy drop {100 * self.report.accuracy_drop:.2f} %"
        return (
            f"T = {self.config.timesteps} with {self.config.max_spikes} levels: agreement "
            f"{100 * (self.report.agreement or 0):.2f} %{drop}"
        )


def candidates(config: ConvertConfig, fixed: Collection[str]) -> list[ConvertConfig]:
    """``config`` with other levels, of encoders too, and timesteps, but for the ``fixed`` ones; fewest spikes first."""
    kind, free = NEURONS.get(config.neuron), {"levels", "encoder_levels", "timesteps"} - set(fixed)
    levels: Sequence[int] = (
        [n for n in LEVELS if kind.least_levels <= n <= kind.most_levels] if "levels" in free else LEVELS
    )
    if kind.most_levels == 1 or not free & {"levels", "encoder_levels"}:
        levels = ()
    steps: Sequence[int] = (config.timesteps,)
    if "timesteps" in free:
        steps = [t for t in TIMESTEPS if not levels or _FEWEST <= t <= _MOST]
    changes: list[dict[str, Any]] = [{"timesteps": steps[0], "levels": n, "encoder_levels": n} for n in levels or [0]]
    changes += [{**changes[-1], "timesteps": t} for t in steps[1:]]
    return [replace(config, **{name: n for name, n in change.items() if name in free and n}) for change in changes]


def cheapest(
    goal: Goal, choices: Sequence[ConvertConfig], attempt: Callable[[ConvertConfig], Attempt]
) -> tuple[Attempt, list[Attempt]]:
    """The first of ``choices`` that reaches the goal, and all that were tried.

    Raises:
        ConversionError: none does; it says how near the best comes.
    """
    tried: dict[ConvertConfig, Attempt] = {}

    def reached(choice: ConvertConfig) -> bool:
        tried[choice] = attempt(choice)
        return goal.reached(tried[choice].report)

    found = bisect_left(choices, True, key=reached)
    if found == len(choices):
        best = max(tried.values(), key=lambda one: one.report.agreement or 0)
        asked = ", ".join(f"{name} {value}" for name, value in asdict(goal).items() if value is not None)
        raise ConversionError(
            f"{asked} is not reached; the best is {best}. Ask for less, give more calibration images, or choose "
            "another neuron, recipe or correction"
        )
    return tried[choices[found]], list(tried.values())
