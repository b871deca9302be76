"""Surrogates: what stands for the derivative of a spike, which is zero almost everywhere.

A binary neuron fires ``H(x)`` with ``x = (v − θ)/θ``, the distance of the membrane from its threshold in
thresholds. Forwards that is exact. Backwards, each class below gives its own bump for ``dH/dx``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Surrogate(Protocol):
    """The derivative of a spike with respect to ``x = (v − θ)/θ``."""

    def derivative_(self, x: Tensor) -> Tensor:
        """``dH/dx`` at ``x``, element by element, in place on ``x``."""


class _Positive:
    """Checks that every field is a positive finite number."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} of {type(self).__name__} must be positive and finite, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Triangle(_Positive):
    """``max(0, γ − |x|)/γ²`` (Bellec et al. 2018; γ = 1 for event data in SEENN)."""

    gamma: float = 1.0  # half-width, in thresholds

    def derivative_(self, x: Tensor) -> Tensor:
        if self.gamma == 1.0:
            return x.abs_().neg_().add_(1.0).clamp_min_(0.0)
        return x.abs_().mul_(-1 / self.gamma**2).add_(1 / self.gamma).clamp_min_(0.0)


@dataclass(frozen=True, kw_only=True)
class Dspike(_Positive):
    """``k·(1 − tanh²(k·x))/(2·tanh(k·R))`` for ``|x| ≤ R``, else 0 (Li et al. 2021; k = R = 3 in SEENN).

    The derivative of ``tanh(k·clip(x, −R, R))/(2·tanh(k·R)) + ½``, which rises from 0 to 1 over ``[−R, R]``.
    """

    k: float = 3.0  # steepness
    region: float = 3.0  # R, in thresholds

    def derivative_(self, x: Tensor) -> Tensor:
        inside = x.abs().le_(self.region)
        s = x.mul_(2 * self.k).sigmoid_()  # 1 − tanh²(y) = 4·σ(2y)·(1 − σ(2y)), in half the time
        return s.addcmul_(s, s, value=-1).mul_(2 * self.k / math.tanh(self.k * self.region)).mul_(inside)


@dataclass(frozen=True, kw_only=True)
class Arctan(_Positive):
    """``α/(2·(1 + (π/2·α·x)²))``, the derivative of ``atan(π/2·α·x)/π + ½`` (Fang et al. 2021, α = 2)."""

    alpha: float = 2.0

    def derivative_(self, x: Tensor) -> Tensor:
        return x.mul_(math.pi / 2 * self.alpha).square_().add_(1.0).reciprocal_().mul_(self.alpha / 2)


@dataclass(frozen=True, kw_only=True)
class Sigmoid(_Positive):
    """``α·σ(α·x)·(1 − σ(α·x))``, the derivative of ``σ(α·x)`` (α = 4 is customary)."""

    alpha: float = 4.0

    def derivative_(self, x: Tensor) -> Tensor:
        s = x.mul_(self.alpha).sigmoid_()
        return s.addcmul_(s, s, value=-1).mul_(self.alpha)


@dataclass(frozen=True, kw_only=True)
class Rectangle(_Positive):
    """``1/w`` for ``|x| ≤ w/2``, else 0 (STBP, Wu et al. 2018, w = 1)."""

    width: float = 1.0  # w, in thresholds

    def derivative_(self, x: Tensor) -> Tensor:
        return x.abs_().le_(self.width / 2).mul_(1 / self.width)


#: By the names that the command line knows.
SURROGATES: Mapping[str, type[Surrogate]] = {
    "dspike": Dspike,
    "triangle": Triangle,
    "arctan": Arctan,
    "sigmoid": Sigmoid,
    "rectangle": Rectangle,
}
