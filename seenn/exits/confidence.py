"""SEENN-I: stop as soon as the network is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from seenn.exits.policy import register_policy
from seenn.ops import State
from seenn.ops.arguments import number

Accumulation = Literal["sum", "mean"]


def softmax_confidence(
    t: Tensor, logits_sum: Tensor, *, temperature: float = 1.0, accumulation: Accumulation = "mean"
) -> Tensor:
    """Top softmax probability, ``[B]``: ``max softmax(S_t / α)``, or of ``S_t / (t·α)`` for the mean.

    The sum sharpens with t even when the network's opinion does not change; the mean does not.
    """
    scores = logits_sum / temperature
    if accumulation == "mean":
        scores = scores / t.to(scores.dtype).unsqueeze(-1)
    return scores.softmax(-1).amax(-1)


@register_policy("confidence")
@dataclass(frozen=True, kw_only=True)
class ConfidenceExit:
    """SEENN-I (Li et al., NeurIPS 2023): stop once the top softmax probability exceeds ``threshold``.

    The paper accumulates by sum, with temperature 8 for converted networks; the mean is the default here,
    because its probabilities mean the same at every t and compare with the ANN's.
    """

    kind: ClassVar[str] = "confidence"
    threshold: float = 0.9  # in (0, 1]; stops when strictly above, so 1 never stops early
    temperature: float = 1.0  # divides the logits, > 0
    accumulation: Accumulation = "mean"

    def __post_init__(self) -> None:
        number("threshold", self.threshold)
        number("temperature", self.temperature)
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold is a probability in (0, 1], got {self.threshold}")
        if not self.temperature > 0.0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.accumulation not in ("sum", "mean"):
            raise ValueError(f"accumulation must be 'sum' or 'mean', got {self.accumulation!r}")

    def start(self, images: Tensor) -> State:
        return ()

    def stop(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
        return self.confidence(t, logits_sum) > self.threshold, state

    def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
        return softmax_confidence(t, logits_sum, temperature=self.temperature, accumulation=self.accumulation)
