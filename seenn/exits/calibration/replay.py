"""One pass without early exit, and policies replayed on what it gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

    The first axis is the points at which a sample can stop, in order of cost: after t = 1 … T steps, or in a network
    with heads after every segment of each of them.
    """

    logits_sum: Tensor  # outputs summed up to there, [P, N, K]
    labels: Tensor  # int64 [N]
    energy_pj: Tensor | None = None  # estimate of the network alone up to there, float64 [P, N]; None: unknown
    cost: Tensor = field(default_factory=Tensor)  # full timesteps spent up to there, float64 [P]; empty: 1 … T
    segments: int = 1  # exits in a step: P = T · segments
    state: State | None = None  # what one policy's ``start`` said about the samples, for ``of``
    groups: Tensor | None = None  # int64 [N], of samples that are alike, as those of one patient; None: none are

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
            groups=None if self.groups is None else self.groups[samples],
        )

    @property
    def weights(self) -> Tensor:
        """Of each sample in its group's mean, float64 ``[N]``: 1 where there are no groups."""
        if self.groups is None:
            return torch.ones(len(self), dtype=torch.float64)
        _, place, size = np.unique(self.groups.numpy(), return_inverse=True, return_counts=True)
        return torch.from_numpy(1 / size[place])

    def independent(self) -> CachedRun:
        """One sample of each group, drawn at random, the same for every run; all where there are no groups."""
        if self.groups is None:
            return self
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(_SPLIT_SEED))
        _, first = np.unique(self.groups[order].numpy(), return_index=True)
        return self[order[torch.from_numpy(first)].sort().values]

    @property
    def t(self) -> Tensor:
        """The step of each point, int64 ``[P]``, from 1."""
        return torch.arange(len(self.cost)) // self.segments + 1

    @property
    def unit(self) -> str:
        """What the points are called."""
        return "timesteps" if self.segments == 1 else "exit points"

    @property
    def progress(self) -> Iterator[Progress]:
        """Where all samples stand at each point."""
        return Progress.points(self.cost, len(self), self.segments)

    @property
    def timesteps(self) -> int:
        """T."""
        return int(self.t[-1])

    @property
    def initial_steps(self) -> int:
        """Steps before the first that answers."""
        return round(float(self.cost[-1])) - self.timesteps

    @property
    def whole_steps(self) -> CachedRun:
        """As if samples could stop at the end of a step alone."""
        return self.only(slice(self.segments - 1, None, self.segments))

    def judged_by_itself(self) -> CachedRun:
        """As if the answer after all T steps were always right: accuracy is agreement with it."""
        return replace(self, labels=self.logits_sum[-1].argmax(-1))

    def only(self, points: Tensor | slice) -> CachedRun:
        """As if samples could stop at these points alone: the same exits of every step, from the first step on."""
        chosen = torch.arange(len(self.cost))[points]
        segments = len(chosen) // len({*self.t[chosen].tolist()})
        energy = None if self.energy_pj is None else self.energy_pj[chosen]
        logits_sum, cost = self.logits_sum[chosen], self.cost[chosen]
        return replace(self, logits_sum=logits_sum, energy_pj=energy, cost=cost, segments=segments)

    def refuse_never(self, rule: str, steps: int) -> None:
        """Raises CalibrationError for a rule that stops nobody before more steps, or exits, than were run."""
        if steps > len(self.cost):
            raise CalibrationError(
                f"{rule} {steps} {self.unit} is never reached: the network runs for {len(self.cost)}; choose fewer"
            )

    def energy_with(self, policy: ExitPolicy) -> Tensor:
        """``energy_pj`` and what the policy's own network takes for a sample, float64 ``[P, N]``.

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
        """Whether each sample is right at each point, bool ``[P, N]``."""
        return correct_per_timestep(self.logits_sum, self.labels)

    def scores(self, policy: ScoredExit) -> Tensor:
        """See ``exit_scores``."""
        return exit_scores(policy, self.logits_sum, self.state, self.cost, self.segments)

    def exits(self, policy: ExitPolicy) -> Tensor:
        """See ``replay``."""
        return replay(policy, self.logits_sum, self.state, self.cost, self.segments)

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
        exits = self.exits(policy) - 1
        point = self.choices(exits[None])
        return ExitCalibration(
            policy=policy,
            samples=len(self),
            accuracy=float(point.accuracy),
            full_accuracy=float(self.correct()[-1].double().mean()),
            mean_timesteps=self.initial_steps + float(self.t[exits].double().mean()),
            mean_cost=float(point.mean_timesteps),
            mean_energy_pj=None if point.mean_energy_pj is None else float(point.mean_energy_pj),
        )


def replay(
    policy: ExitPolicy,
    logits_sum: Tensor,
    state: State | None = None,
    cost: Tensor | None = None,
    segments: int = 1,
) -> Tensor:
    """At which exit point each sample would stop, int64 ``[N]`` from 1, from the logits cached for all ``[P, N, K]``.

    ``state`` is what ``policy.start`` said about the samples' inputs; None: a rule that looks at logits only. ``cost``
    is that of stopping at each point, ``[P]``; None: 1 … P. ``segments`` are the exits in a step.
    """
    stops = _ask(policy.stop, policy, logits_sum[:-1], state, cost, segments)
    at_last = torch.ones(logits_sum.shape[1], dtype=torch.bool)
    return 1 + torch.from_numpy(torch.stack([*stops, at_last]).numpy().argmax(0))


def exit_scores(
    policy: ScoredExit,
    logits_sum: Tensor,
    state: State | None = None,
    cost: Tensor | None = None,
    segments: int = 1,
) -> Tensor:
    """The policy's score for every sample at every point that decides, ``[P, N]``; arguments as for ``replay``.

    The last point's decides nothing and repeats the one before: a rule may have numbers for P-1 points only.
    """
    points = len(logits_sum)
    scores = _ask(policy.score, policy, logits_sum[: max(points - 1, 1)], state, cost, segments)
    return torch.stack([*scores, scores[-1]][:points])


def _ask(
    question: Callable[[Progress, Tensor, State], tuple[Tensor, State]],
    policy: ExitPolicy,
    logits_sum: Tensor,
    state: State | None,
    cost: Tensor | None,
    segments: int,
) -> list[Tensor]:
    """What ``policy.stop`` or ``policy.score`` answers at each point of ``logits_sum``."""
    points, samples = logits_sum.shape[:2]
    cost = cost_of_steps(points) if cost is None else cost[:points]
    state = policy.start(logits_sum.new_zeros(samples, 0)) if state is None else state
    answers = []
    for progress, so_far in zip(Progress.points(cost, samples, segments), logits_sum, strict=True):
        answer, state = question(progress, so_far, state)
        answers.append(answer)
    return answers


def first_above(scores: Tensor, thresholds: Tensor) -> Tensor:
    """When each sample stops, counted from 0, int64 ``[N]``, from scores ``[P, N]`` and thresholds ``[P-1]``."""
    stops = scores.double().numpy() > np.append(thresholds.double(), -np.inf)[:, None]
    return torch.from_numpy(stops.argmax(0))


def fit_split(samples: int, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Indices of a third of the samples, or of their groups, and of the others; the same for every run."""
    names, place = np.unique(np.arange(samples) if groups is None else groups.numpy(), return_inverse=True)
    count = len(names)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_SPLIT_SEED))
    fit, rest = order.tensor_split([round(count * FIT_FRACTION)])
    if groups is None:
        return fit, rest
    in_fit = torch.isin(torch.from_numpy(place), fit)
    return in_fit.nonzero()[:, 0], (~in_fit).nonzero()[:, 0]
