"""Pooling: windows, and the whole image."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from converter.onnx_import.ops.windows import Window, pad_window, window_of
from converter.onnx_import.registry import OnnxCall, Result, imports
from converter.onnx_import.values import Traced
from seenn.capture import Refused

_GLOBAL = {
    "GlobalAveragePool": (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    "GlobalMaxPool": (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
}
_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


@imports(*_GLOBAL)
def global_pool(call: OnnxCall) -> Result:
    """``nn.AdaptiveAvgPool2d(1)`` or ``nn.AdaptiveMaxPool2d(1)`` and their like."""
    x, axes = call.spatial()
    return call.module(_GLOBAL[call.node.op_type][axes - 1](1), x)


@imports("MaxPool")
def max_pool(call: OnnxCall) -> Result:
    """``nn.MaxPool2d``. What lies outside the image never wins, so only the number of windows has to agree."""
    x, axes = call.spatial()
    window = window_of(call, x, ())
    ceil = bool(call.attribute("ceil_mode", 0))
    small = all(2 * pad <= kernel for pad, kernel in zip(window.before, window.kernel, strict=True))
    if window.symmetric and small:
        return _max(call, x, window, window.before, ceil)
    if small and not ceil and _ceil_covers(x, window):
        return _max(call, x, window, window.before, True)
    return _max(call, pad_window(call, x, window, float("-inf")), window, (0,) * axes, ceil)


def _max(call: OnnxCall, x: Traced, window: Window, padding: tuple[int, ...], ceil: bool) -> Traced:
    make: Any = _MAX[len(padding) - 1]
    return call.module(make(window.kernel, window.stride, padding, window.dilation, ceil_mode=ceil), x)


def _ceil_covers(x: Traced, window: Window) -> bool:
    """Whether padding as before on both sides, rounded up, gives as many windows as the uneven padding does."""
    for i, size in enumerate(x.shape[1:]):
        reach = (window.kernel[i] - 1) * window.dilation[i] + 1
        stride, before = window.stride[i], window.before[i]
        wanted = (size + before + window.after[i] - reach) // stride + 1
        found = -(-(size + 2 * before - reach) // stride) + 1
        found -= (found - 1) * stride >= size + before  # torch drops a window that starts outside
        if found != wanted:
            return False
    return True


@imports("AveragePool")
def average_pool(call: OnnxCall) -> Result:
    """``nn.AvgPool2d``; uneven padding is added before, and its effect on the average taken out again."""
    x, axes = call.spatial()
    make: Any = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[axes - 1]
    window = window_of(call, x, ())
    ceil, include = bool(call.attribute("ceil_mode", 0)), bool(call.attribute("count_include_pad", 0))
    if set(window.dilation) != {1}:
        raise Refused(f"dilations={list(window.dilation)}", "use average pooling without dilation")
    small = all(2 * pad <= kernel for pad, kernel in zip(window.before, window.kernel, strict=True))
    if window.symmetric and small:
        pool = make(window.kernel, window.stride, window.before, ceil_mode=ceil, count_include_pad=include)
        return call.module(pool, x)
    pool = make(window.kernel, window.stride, 0, ceil_mode=ceil)
    average = call.module(pool, pad_window(call, x, window))
    inside: torch.Tensor = pool(F.pad(torch.ones(1, 1, *x.shape[1:]), window.pads))  # share of each window
    if include or bool((inside == 1).all()):
        return average
    return call.function(operator.mul, average, call.buffer(1 / inside))
