"""Pooling: windows, and the whole image."""

from __future__ import annotations

import operator

import torch
import torch.nn.functional as F
from torch import nn

from converter.onnx_import.ops.windows import Window, pad_window, window_of
from converter.onnx_import.registry import OnnxCall, Result, imports
from converter.onnx_import.values import Traced
from seenn.capture import Refused


@imports("GlobalAveragePool")
def global_average(call: OnnxCall) -> Result:
    """``nn.AdaptiveAvgPool2d(1)``."""
    return call.module(nn.AdaptiveAvgPool2d(1), call.image())


@imports("GlobalMaxPool")
def global_max(call: OnnxCall) -> Result:
    """``nn.AdaptiveMaxPool2d(1)``."""
    return call.module(nn.AdaptiveMaxPool2d(1), call.image())


@imports("MaxPool")
def max_pool(call: OnnxCall) -> Result:
    """``nn.MaxPool2d``. What lies outside the image never wins, so only the number of windows has to agree."""
    x = call.image()
    window = window_of(call, x, ())
    ceil = bool(call.attribute("ceil_mode", 0))
    small = all(2 * pad <= kernel for pad, kernel in zip(window.before, window.kernel, strict=True))
    if window.symmetric and small:
        return _max(call, x, window, window.before, ceil)
    if small and not ceil and _ceil_covers(x, window):
        return _max(call, x, window, window.before, True)
    return _max(call, pad_window(call, x, window, float("-inf")), window, (0, 0), ceil)


def _max(call: OnnxCall, x: Traced, window: Window, padding: tuple[int, int], ceil: bool) -> Traced:
    pool = nn.MaxPool2d(window.kernel, window.stride, padding, window.dilation, ceil_mode=ceil)
    return call.module(pool, x)


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
    x = call.image()
    window = window_of(call, x, ())
    ceil, include = bool(call.attribute("ceil_mode", 0)), bool(call.attribute("count_include_pad", 0))
    if window.dilation != (1, 1):
        raise Refused(f"dilations={list(window.dilation)}", "use average pooling without dilation")
    small = all(2 * pad <= kernel for pad, kernel in zip(window.before, window.kernel, strict=True))
    if window.symmetric and small:
        pool = nn.AvgPool2d(window.kernel, window.stride, window.before, ceil_mode=ceil, count_include_pad=include)
        return call.module(pool, x)
    pool = nn.AvgPool2d(window.kernel, window.stride, 0, ceil_mode=ceil)
    average = call.module(pool, pad_window(call, x, window))
    inside: torch.Tensor = pool(F.pad(torch.ones(1, 1, *x.shape[1:]), window.pads))  # share of each window
    if include or bool((inside == 1).all()):
        return average
    return call.function(operator.mul, average, call.buffer(1 / inside))
