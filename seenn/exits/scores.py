"""What rules read from summed logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from seenn.core.ops.arguments import number
from seenn.errors import CalibrationError
from seenn.exits.progress import Progress

Accumulation = Literal["sum", "mean"]


def accumulated(t: Tensor, logits_sum: Tensor, accumulation: Accumulation) -> Tensor:
    """``S_t`` or ``S_t / t``, ``[B, K]``. The sum sharpens with t even when the opinion does not change."""
    return logits_sum / t.to(logits_sum.dtype).unsqueeze(-1) if accumulation == "mean" else logits_sum


def check_accumulation(value: object) -> None:
    """Refuses anything but 'sum' and 'mean'."""
    if value not in ("sum", "mean"):
        raise ValueError(f"accumulation must be 'sum' or 'mean', got {value!r}")


def softmax_confidence(
    t: Tensor, logits_sum: Tensor, *, temperature: float = 1.0, accumulation: Accumulation = "mean"
) -> Tensor:
    """Top softmax probability, ``[B]``: ``max softmax(S_t / α)``, or of ``S_t / (t·α)`` for the mean."""
    return accumulated(t, logits_sum / temperature, accumulation).softmax(-1).amax(-1)


def top_two_gap(scores: Tensor) -> Tensor:
    """Largest minus second largest, ``[B]`` from ``[B, K]``; infinite where there is only one class."""
    if scores.shape[-1] < 2:
        return torch.full_like(scores[..., 0], torch.inf)
    top = scores.topk(2, dim=-1).values
    return top[..., 0] - top[..., 1]


def normalized_entropy(log_probabilities: Tensor) -> Tensor:
    """``H(p) / log K`` in [0, 1], ``[B]`` from ``log p`` ``[B, K]``; 0 where there is only one class."""
    entropy = -(log_probabilities.exp() * log_probabilities).sum(-1)
    return entropy / math.log(max(log_probabilities.shape[-1], 2))


def numbers(name: str, value: object) -> float | tuple[float, ...]:
    """``value`` as a finite float, or as a tuple of at least one."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise ValueError(f"{name} is empty; expected one number, or one per timestep")
        return tuple(number(name, single) for single in value)
    return number(name, value)


def numbers_per_timestep(name: str, value: object) -> tuple[float, ...]:
    """The same always as a tuple: one number is one for every timestep."""
    found = numbers(name, value)
    return found if isinstance(found, tuple) else (found,)


def at_point(values: tuple[float, ...], progress: Progress) -> Tensor:
    """``values[point - 1]`` for every sample, ``[B]``; float64, so that a threshold is exactly what was chosen.

    Raises:
        CalibrationError: the policy was calibrated for fewer timesteps or exits than are run.
    """
    point = progress.point
    if not torch.compiler.is_compiling() and point.numel() and int(point.max()) > len(values):
        at, unit = ("t", "timesteps") if progress.segments == 1 else ("exit point", "exit points")
        raise CalibrationError(
            f"the exit policy has numbers for {len(values)} {unit}, but is asked at {at} = {int(point.max())}: "
            "run as many timesteps as it was calibrated for, or calibrate it again"
        )
    exact = torch.float32 if point.device.type == "mps" else torch.float64  # Apple's GPUs know no other
    return torch.tensor(values, dtype=exact, device=point.device)[point - 1]
