"""Pooling. Averages are linear and act on every step; maxima are not (see ``CumulativeDifference``)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import Flag, Pair, PositivePair
from seenn.core.ops.base import Spans, StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value


@register("avg_pool2d")
class AvgPool2d(StatelessOp):
    """Windowed average, ``[B, C, H, W] -> [B, C, H', W']``."""

    affine = True
    kernel: PositivePair
    stride: PositivePair
    padding: Pair = (0, 0)
    ceil_mode: Flag = False
    count_include_pad: Flag = True

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.avg_pool2d(inputs[0], self.kernel, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def route(self, *events: Tensor) -> Tensor:
        return F.avg_pool2d(events[0], self.kernel, self.stride, self.padding, self.ceil_mode, divisor_override=1)

    def windows(self, shape: Sequence[int], out: Sequence[int]) -> tuple[Spans, Spans]:
        """See ``StatelessOp.windows``."""
        rows, columns = (
            [(max(0, n * stride - edge), min(size, n * stride - edge + kernel)) for n in range(count)]
            for size, count, kernel, stride, edge in zip(
                shape[-2:], out[-2:], self.kernel, self.stride, self.padding, strict=True
            )
        )
        return rows, columns

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.average(self, inputs[0])


@register("adaptive_avg_pool2d")
class AdaptiveAvgPool2d(StatelessOp):
    """Average to a fixed output size, ``[B, C, H, W] -> [B, C, *size]``."""

    affine = True
    size: PositivePair = (1, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        (x,) = inputs
        even = None if self.size == (1, 1) else self._even(x)
        return F.adaptive_avg_pool2d(x, self.size) if even is None else F.avg_pool2d(x, *even)

    def route(self, *events: Tensor) -> Tensor:
        (x,) = events
        if even := self._even(x):
            return F.avg_pool2d(x, *even, divisor_override=1)
        rows, columns = self.windows(x.shape, self.size)
        cells = [x[:, :, top:bottom, left:right].sum((2, 3)) for top, bottom in rows for left, right in columns]
        return torch.stack(cells, -1).view(*x.shape[:2], *self.size)

    def windows(self, shape: Sequence[int], out: Sequence[int]) -> tuple[Spans, Spans]:
        """See ``StatelessOp.windows``; starts round down, ends up."""
        rows, columns = (
            [(n * size // count, -(-(n + 1) * size // count)) for n in range(count)]
            for size, count in zip(map(int, shape[-2:]), map(int, out[-2:]), strict=True)
        )
        return rows, columns

    def _even(self, x: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Lengths and strides of the same windows as plain pooling's, which exports better, where there are such."""
        even = [
            _even(windows, int(size))
            for windows, size in zip(self.windows(x.shape, self.size), x.shape[2:], strict=True)
        ]
        if even[0] is None or even[1] is None:
            return None
        return (even[0][0], even[1][0]), (even[0][1], even[1][1])

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return lowering.average(self, inputs[0])


def _even(windows: Sequence[tuple[int, int]], size: int) -> tuple[int, int] | None:
    """Length and distance of windows that are all alike and end where the image does; None for others."""
    start, stop = windows[0]
    length, stride = stop - start, windows[1][0] if len(windows) > 1 else stop - start
    alike = all(window == (n * stride, n * stride + length) for n, window in enumerate(windows))
    return (length, stride) if alike and stride and (size - length) // stride + 1 == len(windows) else None


@register("max_pool2d")
class MaxPool2d(StatelessOp):
    """Windowed maximum, ``[B, C, H, W] -> [B, C, H', W']``."""

    homogeneous = True
    selects = True
    kernel: PositivePair
    stride: PositivePair
    padding: Pair = (0, 0)
    dilation: PositivePair = (1, 1)
    ceil_mode: Flag = False

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.max_pool2d(inputs[0], self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode)


@register("adaptive_max_pool2d")
class AdaptiveMaxPool2d(StatelessOp):
    """Maximum to a fixed output size, ``[B, C, H, W] -> [B, C, *size]``."""

    homogeneous = True
    selects = True
    size: PositivePair = (1, 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(inputs[0], self.size)
