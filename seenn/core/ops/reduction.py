"""Reductions over axes of each image that are not linear: maxima, norms and variances."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.core.ops.arguments import Axes, Flag, Integer
from seenn.core.ops.base import StatelessOp, register
from seenn.core.ops.shape import reduced_axis


class _Reduction(StatelessOp):
    island = True
    axes: Axes
    keepdim: Flag = False

    def channel_axis(self, axis: int, before: Sequence[int], after: Sequence[int]) -> int:
        return reduced_axis(self.axes, self.keepdim, axis, after)


@register("largest")
class Largest(_Reduction):
    """The maximum over ``axes``."""

    homogeneous = True

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].amax(self.axes, keepdim=self.keepdim)


@register("l2_norm")
class L2Norm(_Reduction):
    """``‖x‖₂`` over ``axes``: the aggregation of global response normalisation (GRN)."""

    homogeneous = True

    def forward(self, *inputs: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(inputs[0], dim=self.axes, keepdim=self.keepdim)
        return norm


@register("variance")
class Variance(_Reduction):
    """``Σ (x − mean)² / (n − correction)`` over the n values of ``axes``."""

    correction: Integer = 1

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.var(inputs[0], self.axes, correction=self.correction, keepdim=self.keepdim)
