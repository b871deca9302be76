"""Labels and exits of a reader beside those of the reference engine, and which differences rounding explains."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seenn.core.network import SpikingNetwork
from seenn.errors import ExportError
from seenn.exits import Progress
from seenn.exits.scored import ScoredExit
from seenn.export.exporter import REPORT, Subject
from seenn.export.witness import EPS, ROUNDINGS

MOST_TIES = 0.002  # of the images; one is always allowed


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """The network's answers, and what its own rounding in float32 moves.

    All samples run all T steps together, and the rule is asked afterwards: what one batch computes does not depend on
    who has left another.

    Attributes:
        labels, exit_timestep: int64 ``[N]``.
        logits_sum: at the exit, ``[N, K]``.
        margin: how far the score of each step was from its limit, ``[T, N]``; infinite where nothing is compared.
        score_bound, logits_bound: how far another program may be, in a score and in a summed output.
    """

    labels: Tensor
    exit_timestep: Tensor
    logits_sum: Tensor
    margin: Tensor
    score_bound: float
    logits_bound: float

    @classmethod
    def of(cls, subject: Subject) -> Reference:
        """Runs the network in float32 and in float64, from start to end."""
        found, others = _run(subject.network, subject), _run(copy.deepcopy(subject.network).double(), subject)
        logits_sum, same = found[0], (found[1] == others[1]).cummin(0).values  # spikes agree so far
        exits, margin, scores = _replay(subject, logits_sum)
        apart = (scores.double() - _replay(subject, others[0])[2].double()).abs()[same & scores.isfinite()]
        at_exit = logits_sum[exits - 1, torch.arange(len(exits))]
        away = (logits_sum - others[0]).abs().amax(-1)[same]
        return cls(
            labels=at_exit.argmax(-1),
            exit_timestep=exits,
            logits_sum=at_exit,
            margin=margin,
            score_bound=ROUNDINGS * max(EPS, float(apart.max()) if len(apart) else 0.0),
            logits_bound=ROUNDINGS * max(EPS * float(logits_sum.abs().max()), float(away.max()) if len(away) else 0.0),
        )

    def judge(
        self, reader: str, labels: Tensor, exit_timestep: Tensor, logits: Tensor, clean: Tensor
    ) -> dict[str, Any]:
        """Compares a reader's answers.

        Args:
            reader: what errors call it.
            labels, exit_timestep: its answers.
            logits: its mean outputs up to the exit.
            clean: which images had no tie between membrane and threshold; of others the outputs may differ.

        Raises:
            ExportError: an answer differs and is no tie, or there are too many ties.
        """
        same_exit = exit_timestep == self.exit_timestep
        first = torch.minimum(exit_timestep, self.exit_timestep) - 1
        at_threshold = self.margin.gather(0, first[None])[0].abs() <= self.score_bound
        top = self.logits_sum.topk(min(2, self.logits_sum.shape[-1]), dim=-1).values
        level = (top[:, 0] - top[:, -1]) <= self.logits_bound
        tie = torch.where(same_exit, level, at_threshold) | ~clean
        differ = ~same_exit | (labels != self.labels)
        if bool((wrong := differ & ~tie).any()):
            at = int(wrong.nonzero()[0, 0])
            raise ExportError(
                f"{reader} answers otherwise for {int(wrong.sum())} of {len(wrong)} images: image {at} gets label "
                f"{int(labels[at])} after {int(exit_timestep[at])} steps, expected {int(self.labels[at])} after "
                f"{int(self.exit_timestep[at])}: {REPORT}"
            )
        ties = int(differ.sum())
        if ties > max(1, MOST_TIES * len(self.labels)):
            raise ExportError(
                f"{reader}: {ties} of {len(differ)} images lie so close to a threshold that rounding decides, more "
                f"than {MOST_TIES:.1%}: calibrate another threshold"
            )
        away = (logits * exit_timestep[:, None] - self.logits_sum).abs().amax(-1)[same_exit & clean]
        largest = float(away.max()) if len(away) else 0.0
        if not largest <= self.logits_bound:
            raise ExportError(
                f"{reader}: summed outputs are {largest:.2e} away from the network's, and its own rounding explains "
                f"{self.logits_bound:.2e}: {REPORT}"
            )
        return {
            "labels_and_exits_equal": len(self.labels) - ties,
            "answers_that_are_ties": ties,
            "images_with_ties": int((~clean).sum()),
            "mean_exit_timestep": float(self.exit_timestep.double().mean()),
            "score_bound": self.score_bound,
            "summed_logits_difference": largest,
            "summed_logits_tolerance": self.logits_bound,
        }


def _run(network: SpikingNetwork, subject: Subject) -> tuple[Tensor, Tensor]:
    """Summed outputs ``[T, N, K]``, and a number for all spikes of a step, ``[T, N]``."""
    batch = subject.batch.to("cpu", network.dtype)
    total, state = torch.zeros(()), None
    sums: list[Tensor] = []
    spikes: list[Tensor] = []
    for t in range(1, subject.timesteps + 1):
        marks: list[Tensor] = []

        def see(site: str, counts: Tensor, marks: list[Tensor] = marks) -> None:
            weights = torch.rand(counts[0].numel(), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            marks.append(counts.flatten(1).double() @ weights)

        output, state = network.advance(network.encode(batch.frame(t)), state, see)
        total = total + output
        sums.append(total)
        spikes.append(torch.stack(marks).sum(0))
    return torch.stack(sums), torch.stack(spikes)


def _replay(subject: Subject, logits_sum: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """When the rule stops each sample ``[N]``; score minus limit and score in every step that it is asked in."""
    timesteps, count = logits_sum.shape[:2]
    margin, scores = (torch.full((timesteps, count), torch.inf) for _ in range(2))
    policy = subject.policy
    exits = torch.full((count,), timesteps)
    state = policy.start(subject.batch.frame(1))
    for t in range(1, timesteps):
        progress = Progress.at(t, count, t + subject.network.initial_steps)
        if isinstance(policy, ScoredExit):
            score, _ = policy.score(progress, logits_sum[t - 1], state)
            scores[t - 1], margin[t - 1] = score, score - policy.limit(progress)
        stop, state = policy.stop(progress, logits_sum[t - 1], state)
        exits = torch.where(stop & (exits == timesteps), t, exits)
    return exits, margin.nan_to_num(nan=torch.inf), scores.nan_to_num(nan=torch.inf)
