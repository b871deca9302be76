"""Values during lowering: sums that are not yet computed, over buffers that are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from seenn.runtime.lowering.program import GainTerm, SynapseTerm, Term


@dataclass(frozen=True, kw_only=True)
class Value:
    """``Σ terms + constant`` in the network's own unit; nothing has been computed or rounded for it yet.

    A gain has the shape of its source. Constants (biases, what a pixel of 0 means) go through every affine op in
    float64, zero padding included, and are rounded once, where they are used.
    """

    shape: tuple[int, ...]  # without the batch
    terms: tuple[Term, ...]
    constant: Tensor | None  # float64, of ``shape``

    @property
    def buffer(self) -> GainTerm | None:
        """The one buffer that this value is a multiple of, if it is."""
        if len(self.terms) == 1 and isinstance(self.terms[0], GainTerm) and self.terms[0].gain.shape == self.shape:
            return self.terms[0]
        return None

    @property
    def unit(self) -> tuple[GainTerm, Tensor | None]:
        """The buffer of a computed value, and the constant beside it."""
        assert self.buffer is not None
        return self.buffer, self.constant

    def times(self, factor: Tensor, axis: int | None) -> Value | None:
        """The value times a factor per channel of ``axis`` (None: of any shape); None where terms forbid it."""
        terms: list[Term] = []
        one = axis is None and factor.numel() == 1
        if one:
            factor = factor.view(())
        for term in self.terms:
            if isinstance(term, GainTerm) and (one or axis is not None or term.gain.shape == self.shape):
                terms.append(replace(term, gain=term.gain * along(factor, axis, term.gain.dim())))
            elif isinstance(term, SynapseTerm) and (one or term.axis(len(self.shape)) == axis):
                outputs = None if axis is None else 0
                terms.append(replace(term, weight=term.weight * along(factor, outputs, term.weight.dim())))
            else:
                return None
        constant = None if self.constant is None else self.constant * along(factor, axis, self.constant.dim())
        return Value(shape=self.shape, terms=tuple(terms), constant=constant)

    @property
    def synapses(self) -> list[SynapseTerm]:
        """The terms that go through weights."""
        return [term for term in self.terms if isinstance(term, SynapseTerm)]

    def plus(self, constant: Tensor | None) -> Value:
        """The value plus a constant that broadcasts to it."""
        if constant is None:
            return self
        total = constant if self.constant is None else self.constant + constant
        return replace(self, constant=total.expand(self.shape))


def along(vector: Tensor, axis: int | None, dims: int) -> Tensor:
    """``vector`` (scalar or ``[C]``) viewed so that it broadcasts along ``axis`` of ``dims`` axes."""
    if axis is None or vector.dim() == 0:
        return vector
    shape = [1] * dims
    shape[axis] = -1
    return vector.view(shape)


def spread(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Smallest and largest value along every other axis than ``axis``, ``[C]`` each."""
    rows = values.movedim(axis, 0).reshape(values.shape[axis], -1)
    return rows.amin(1), rows.amax(1)


def integrate(total: Tensor, x: Tensor) -> None:
    """``total += x``, integers in float32, where the total may be int32."""
    total.add_(x if total.is_floating_point() else x.to(total.dtype))


def batched(op: torch.nn.Module, *values: Tensor) -> Tensor:
    """``op`` on values without a batch axis."""
    result: Tensor = op(*(value.unsqueeze(0) for value in values))
    return result.squeeze(0)


def compressed(values: Tensor) -> Tensor:
    """The same tensor for broadcasting: every axis along which it does not vary has size 1."""
    for axis in range(values.dim()):
        first = values.narrow(axis, 0, 1)
        if values.shape[axis] > 1 and (values.stride(axis) == 0 or bool((values == first).all())):
            values = first
    return values
