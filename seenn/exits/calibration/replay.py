"""One pass without early exit, and policies replayed on what it gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seenn.core.network import compact
from seenn.core.ops import State
from seenn.errors import CalibrationError
from seenn.exits.calibration.target import ExitCalibration, Policy
from seenn.exits.policy import ExitPolicy, policy_macs
from seenn.exits.progress import Progress, cost_of_steps
from seenn.metrics import ExitCurve, correct_per_timestep, exit_curve
from seenn.metrics.energy import MAC_PJ

if TYPE_CHECKING:
    from seenn.exits.scored import ScoredExit

FIT_FRACTION = 1 / 3  # of the exit split: what a rule's own numbers are fitted on, not its threshold
_SPLIT_SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedRun:
    """One pass without early exit: what every sample would answer and cost if it stopped at each exit point.

    The first axis is the points at which a sample can stop, in order of cost: after t = 1 … T steps.
    """

    logits_sum: Tensor  # outputs summed up to there, [T, N, K]
    labels: Tensor  # int64 [N]
    energy_pj: Tensor | None = None  # estimate of the network alone up to there, float64 [T, N]; None: unknown
    cost: Tensor = field(default_factory=Tensor)  # full timesteps spent up to there, float64 [T]; empty: 1 … T
    state: State | None = None  # what one policy's ``start`` said about the samples, for ``of``

    def __post_init__(self) -> None:
        if not len(self.cost):
            object.__setattr__(self, "cost", cost_of_steps(len(self.logits_sum)))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, samples: Tensor) -> CachedRun:
        """Some of the samples, by index."""
        return replace(
            self,
            logits_sum=self.logits_sum[:, samples],
            labels=self.labels[samples],
            energy_pj=None if self.energy_pj is None else self.energy_pj[:, samples],
            state=None if self.state is None else compact(self.state, samples),
        )

    def refuse_never(self, rule: str, steps: int) -> None:
        """Raises CalibrationError for a rule that stops nobody before more steps than were run."""
        if steps > len(self.cost):
            raise CalibrationError(
                f"{rule} {steps} timesteps is never reached: the network runs for {len(self.cost)}; choose fewer"
            )

    def energy_with(self, policy: ExitPolicy) -> Tensor:
        """``energy_pj`` and what the policy's own network takes for a sample, float64 ``[T, N]``.

        Raises:
            ValueError: the run has no energies.
        """
        if self.energy_pj is None:
            raise ValueError("target_energy needs energy_pj, the energy of each sample up to each step")
        return self.energy_pj + MAC_PJ * policy_macs(policy)

    def of(self, policy: ExitPolicy, state: State | None = None) -> CachedRun:
        """The run as ``policy`` makes it: with its energy, and what it said about the samples at their start."""
        return replace(self, energy_pj=None if self.energy_pj is None else self.energy_with(policy), state=state)

    def correct(self) -> Tensor:
        """Whether each sample is right at each point, bool ``[T, N]``."""
        return correct_per_timestep(self.logits_sum, self.labels)

    def scores(self, policy: ScoredExit) -> Tensor:
        """See ``exit_scores``."""
        return exit_scores(policy, self.logits_sum, self.state, self.cost)

    def exits(self, policy: ExitPolicy) -> Tensor:
        """See ``replay``."""
        return replay(policy, self.logits_sum, self.state, self.cost)

    def choices(self, exits: Tensor) -> ExitCurve:
        """What each of M ways to stop gives, from their points ``[M, N]``, counted from 0; ``threshold`` counts them.

        From one to the next no sample may stop earlier.
        """
        return ExitCurve(
            threshold=torch.arange(len(exits), dtype=torch.float64),
            mean_timesteps=self.cost[exits].mean(1),
            accuracy=self.correct().gather(0, exits).double().mean(1),
            mean_energy_pj=None if self.energy_pj is None else self.energy_pj.gather(0, exits).mean(1),
        )

    def curve(self, policy: ScoredExit) -> ExitCurve:
        """Accuracy against mean cost and energy at every threshold of ``policy``."""
        return exit_curve(self.scores(policy), self.correct(), self.energy_pj, self.cost)

    def judged(self, policy: Policy) -> ExitCalibration[Policy]:
        """What ``policy``, as it is, does here."""
        point = self.choices((self.exits(policy) - 1)[None])
        return ExitCalibration(
            policy=policy,
            samples=len(self),
            accuracy=float(point.accuracy),
            full_accuracy=float(self.correct()[-1].double().mean()),
            mean_timesteps=float(point.mean_timesteps),
            mean_energy_pj=None if point.mean_energy_pj is None else float(point.mean_energy_pj),
        )


def replay(policy: ExitPolicy, logits_sum: Tensor, state: State | None = None, cost: Tensor | None = None) -> Tensor:
    """When each sample would stop, int64 ``[N]`` from 1, from logits cached for all T steps ``[T, N, K]``.

    ``state`` is what ``policy.start`` said about the samples' inputs; None: a rule that looks at logits only. ``cost``
    is that of stopping at each step, ``[T]``; None: 1 … T.
    """
    stops = _ask(policy.stop, policy, logits_sum[:-1], state, cost)
    at_last = torch.ones(logits_sum.shape[1], dtype=torch.bool)
    return 1 + torch.from_numpy(torch.stack([*stops, at_last]).numpy().argmax(0))


def exit_scores(
    policy: ScoredExit, logits_sum: Tensor, state: State | None = None, cost: Tensor | None = None
) -> Tensor:
    """The policy's score for every sample after every step that decides, ``[T, N]``; arguments as for ``replay``.

    The last step's decides nothing and repeats the one before: a rule may have numbers for T-1 steps only.
    """
    timesteps = len(logits_sum)
    scores = _ask(policy.score, policy, logits_sum[: max(timesteps - 1, 1)], state, cost)
    return torch.stack([*scores, scores[-1]][:timesteps])


def _ask(
    question: Callable[[Progress, Tensor, State], tuple[Tensor, State]],
    policy: ExitPolicy,
    logits_sum: Tensor,
    state: State | None,
    cost: Tensor | None,
) -> list[Tensor]:
    """What ``policy.stop`` or ``policy.score`` answers at each point of ``logits_sum``."""
    points, samples = logits_sum.shape[:2]
    cost = cost_of_steps(points) if cost is None else cost[:points]
    state = policy.start(logits_sum.new_zeros(samples, 0)) if state is None else state
    answers = []
    for progress, so_far in zip(Progress.points(cost, samples), logits_sum, strict=True):
        answer, state = question(progress, so_far, state)
        answers.append(answer)
    return answers


def first_above(scores: Tensor, thresholds: Tensor) -> Tensor:
    """When each sample stops, counted from 0, int64 ``[N]``, from scores ``[T, N]`` and thresholds ``[T-1]``."""
    stops = scores.double().numpy() > np.append(thresholds.double(), -np.inf)[:, None]
    return torch.from_numpy(stops.argmax(0))


def fit_split(samples: int) -> tuple[Tensor, Tensor]:
    """Indices of a third of the samples, and of the others; the same for every run."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return order.tensor_split([round(samples * FIT_FRACTION)])  # type: ignore[return-value]
