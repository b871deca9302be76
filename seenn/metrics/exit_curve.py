"""Accuracy against mean cost for every exit threshold at once, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn.errors import CalibrationError
from seenn.metrics.checks import check_correct, check_finite


@dataclass(frozen=True, eq=False)
class ExitCurve:
    """What each threshold costs and gives, ascending: point 0 always stops at t=1, the last never early.

    All float64 ``[M]`` on the CPU. ``threshold`` rises strictly, ``mean_timesteps`` too in the curve of a score,
    ``accuracy`` need not. ``mean_energy_pj`` never falls; it is None where no energies were given.
    """

    threshold: Tensor  # c in 'stop at the first t with score > c', in the score's unit
    mean_timesteps: Tensor  # mean cost in full timesteps, steps before the first that answers included
    accuracy: Tensor  # at the exits, in [0, 1]
    mean_energy_pj: Tensor | None = None  # pJ per image up to the exits

    def __post_init__(self) -> None:
        shapes = [list(values.shape) for values in vars(self).values() if values is not None]
        if self.threshold.dim() != 1 or not len(self.threshold) or shapes != [shapes[0]] * len(shapes):
            raise ValueError(f"ExitCurve: shapes are {shapes}; expected [M] each, at least one point")
        check_finite("ExitCurve", "thresholds", self.threshold)

    def __len__(self) -> int:
        return len(self.threshold)

    def cheapest(self, min_accuracy: float) -> int:
        """Index of the smallest mean timesteps with ``accuracy >= min_accuracy``.

        Raises:
            CalibrationError: no threshold reaches ``min_accuracy``.
        """
        reached = (self.accuracy >= min_accuracy).nonzero()
        if not len(reached):
            best = int(self.accuracy.argmax())
            raise CalibrationError(
                f"no exit threshold reaches an accuracy of {min_accuracy:.4f}: the best is "
                f"{float(self.accuracy[best]):.4f} at {float(self.mean_timesteps[best]):.2f} mean timesteps; "
                f"ask for less accuracy, or run the network for more timesteps"
            )
        return int(reached[0])

    def best_within(self, limit: float, means: Tensor | None = None) -> int:
        """Index of the highest accuracy with ``means <= limit``; of equals the first.

        ``means`` are ``mean_timesteps``, or those given: ``mean_energy_pj``.

        Raises:
            ValueError: even point 0 needs more.
        """
        means = self.mean_timesteps if means is None else means
        if limit < float(means[0]):
            raise ValueError(f"ExitCurve.best_within: got {limit}; expected at least {float(means[0]):g}")
        return int(self.accuracy[: int((means <= limit).sum())].argmax())

    def pareto(self) -> ExitCurve:
        """The points that no cheaper point matches: accuracy then rises strictly as well."""
        best_before = self.accuracy.cummax(dim=0).values[:-1]
        return self.only(torch.cat([torch.tensor([True]), self.accuracy[1:] > best_before]))

    def only(self, points: Tensor) -> ExitCurve:
        """Some of the points, by mask."""
        some: dict[str, Any] = {name: None if v is None else v[points] for name, v in vars(self).items()}
        return ExitCurve(**some)


def exit_curve(
    scores: Tensor, correct: Tensor, energy_pj: Tensor | None = None, cost: Tensor | None = None
) -> ExitCurve:
    """The exact curve of the rule 'stop at the first t with ``scores[t] > c``, forced at T' over every c.

    A sample stops at the first t where its *running maximum* exceeds c. So as c falls, its exit moves only
    when c passes a value at which that maximum rose, from the next rise (or T) to this one. All these events
    sorted by value and summed cumulatively are the curve, exact for whole steps; equal values switch together.

    The thresholds are scores that occurred (the lowest: the float just below the smallest first score), so
    each is representable in the scores' own type and ``score > c`` gives the same exits in float32 as here.
    O(NT log NT); at most N(T-1)+1 points.

    Args:
        scores: the rule's score, float32 or float64, ``[T, N]``. The last step's scores decide nothing.
        correct: whether sample n is right with t steps, bool ``[T, N]``.
        energy_pj: what sample n has used after t steps, float64 ``[T, N]``, not falling with t.
        cost: full timesteps spent after t, float64 ``[T]``, rising; None: 1 … T.

    Raises:
        ValueError: shapes or types that do not fit, no samples, scores or energies that are not finite.
    """
    where = "exit_curve"
    check_correct(where, correct)
    if scores.dtype not in (torch.float32, torch.float64) or scores.shape != correct.shape:
        raise ValueError(
            f"{where}: scores are {scores.dtype} {list(scores.shape)}; expected float32 or float64 "
            f"{list(correct.shape)}, the shape of correct"
        )
    check_finite(where, "scores", scores)
    if energy_pj is not None:
        if energy_pj.shape != correct.shape:
            raise ValueError(f"{where}: energies are {list(energy_pj.shape)}; expected {list(correct.shape)}")
        check_finite(where, "energies", energy_pj)
    scores, correct = scores.detach().cpu(), correct.cpu()
    timesteps, samples = scores.shape
    spent = (torch.arange(1, timesteps + 1) if cost is None else cost.detach().cpu()).double()

    maximum = scores[:-1].cummax(dim=0).values  # [T-1, N]
    rises = torch.ones_like(maximum, dtype=torch.bool)
    rises[1:] = maximum[1:] > maximum[:-1]
    t, n = rises.nonzero(as_tuple=True)  # events; t counts from 0
    following = _next_rise(rises)[t, n]
    value, order = maximum[t, n].sort(descending=True)

    # With c at a value, the events in front of its first occurrence have switched; with c below, all have.
    first = torch.ones_like(value, dtype=torch.bool)
    first[1:] = value[1:] != value[:-1]
    switched = torch.cat([first.nonzero().flatten(), torch.tensor([len(value)])])
    below = torch.nextafter(scores[0].min(), torch.tensor(-torch.inf, dtype=scores.dtype))

    def mean_at_exit(values: Tensor) -> Tensor:
        """Of ``values`` ``[T, N]`` over the samples, at each threshold."""
        change = (values[t, n] - values[following, n])[order].cumsum(0)
        change = torch.cat([change.new_zeros(1), change])[switched]
        return ((values[-1].sum() + change).double() / samples).flip(0)

    return ExitCurve(
        threshold=torch.cat([value[first], below[None]]).double().flip(0),
        mean_timesteps=mean_at_exit(spent[:, None].expand(-1, samples)),
        accuracy=mean_at_exit(correct.long()),
        mean_energy_pj=None if energy_pj is None else mean_at_exit(energy_pj.detach().cpu().double()),
    )


def _next_rise(rises: Tensor) -> Tensor:
    """Index of the first rise strictly after each t, T-1 where there is none: ``[T-1, N]``."""
    last = len(rises)
    index = torch.where(rises, torch.arange(last)[:, None], last)
    from_here_on = index.flip(0).cummin(dim=0).values.flip(0)
    return torch.cat([from_here_on[1:], torch.full_like(index[:1], last)])
