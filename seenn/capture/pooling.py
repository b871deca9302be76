"""Average and maximum pooling, windowed, adaptive and global."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, any_layout, handles
from seenn.capture.parts import by_part, flat
from seenn.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d, Scale


@handles(nn.AvgPool2d)
@by_part
def avg_pool(call: Call) -> Result:
    m = call.module
    assert isinstance(m, nn.AvgPool2d)
    return _avg(call, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override)


@handles(F.avg_pool2d)
@by_part
def avg_pool_function(call: Call) -> Result:
    kernel = call.argument(1, "kernel_size")
    return _avg(
        call,
        kernel,
        call.argument(2, "stride") or kernel,
        call.argument(3, "padding", 0),
        call.argument(4, "ceil_mode", False),
        call.argument(5, "count_include_pad", True),
        call.argument(6, "divisor_override"),
    )


def _avg(call: Call, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool, divisor: Any) -> Result:
    if divisor is not None and ceil:
        raise Refused("divisor_override with ceil_mode", "scale the next layer's weights instead")
    include = include or divisor is not None
    op = AvgPool2d(kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil, count_include_pad=include)
    pooled = Made(op, (call.args[0],))
    return pooled if divisor is None else Made(Scale(factor=op.kernel[0] * op.kernel[1] / divisor), (pooled,))


@handles(nn.AvgPool1d)
def avg_pool_1d(call: Call) -> Result:
    """The average of images one pixel high."""
    m = call.module
    assert isinstance(m, nn.AvgPool1d)
    return _avg_row(call, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad)


@handles(F.avg_pool1d)
def avg_pool_1d_function(call: Call) -> Result:
    kernel = call.argument(1, "kernel_size")
    return _avg_row(
        call,
        kernel,
        call.argument(2, "stride") or kernel,
        call.argument(3, "padding", 0),
        call.argument(4, "ceil_mode", False),
        call.argument(5, "count_include_pad", True),
    )


def _avg_row(call: Call, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool) -> Result:
    kernel, stride, padding = (n if isinstance(n, int) else n[0] for n in (kernel, stride, padding))
    op = AvgPool2d(
        kernel=(1, kernel), stride=(1, stride), padding=(0, padding), ceil_mode=ceil, count_include_pad=include
    )
    return flat(call, lambda image: Made(op, (image,)))


@handles(nn.MaxPool2d)
@by_part
def max_pool(call: Call) -> Result:
    m = call.module
    assert isinstance(m, nn.MaxPool2d)
    return _max(call, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)


@handles(F.max_pool2d, F.max_pool2d_with_indices, torch.max_pool2d)
@by_part
def max_pool_function(call: Call) -> Result:
    kernel = call.argument(1, "kernel_size")
    return _max(
        call,
        kernel,
        call.argument(2, "stride") or kernel,
        call.argument(3, "padding", 0),
        call.argument(4, "dilation", 1),
        call.argument(5, "ceil_mode", False),
        call.argument(6, "return_indices", False),
    )


def _max(call: Call, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, indices: bool) -> Result:
    if indices:
        raise Refused("return_indices=True", "classifiers need the values only")
    op = MaxPool2d(kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil)
    return Made(op, (call.args[0],))


@handles(nn.AdaptiveAvgPool2d)
@by_part
def adaptive_avg(call: Call) -> Result:
    assert isinstance(call.module, nn.AdaptiveAvgPool2d)
    return Made(AdaptiveAvgPool2d(size=_size(call, call.module.output_size)), (call.args[0],))


@handles(F.adaptive_avg_pool2d)
@by_part
def adaptive_avg_function(call: Call) -> Result:
    return Made(AdaptiveAvgPool2d(size=_size(call, call.argument(1, "output_size"))), (call.args[0],))


@handles(nn.AdaptiveMaxPool2d)
@by_part
def adaptive_max(call: Call) -> Result:
    assert isinstance(call.module, nn.AdaptiveMaxPool2d)
    return Made(AdaptiveMaxPool2d(size=_size(call, call.module.output_size)), (call.args[0],))


@handles(F.adaptive_max_pool2d, F.adaptive_max_pool2d_with_indices)
@by_part
def adaptive_max_function(call: Call) -> Result:
    return Made(AdaptiveMaxPool2d(size=_size(call, call.argument(1, "output_size"))), (call.args[0],))


@handles(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
@any_layout
def nothing(call: Call) -> Result:
    """Dropout does nothing outside training."""
    if isinstance(call.module, nn.modules.dropout._DropoutNd) and call.module.training and call.module.p > 0:
        raise Refused("drops values at random in training mode", "call model.eval() first, or take the dropout out")
    return Alias(call.args[0])


@handles(F.dropout, F.dropout1d, F.dropout2d, F.alpha_dropout, torch.dropout, torch.feature_dropout)
@any_layout
def functional_dropout(call: Call) -> Result:
    """Does nothing outside training; the default argument is ``training=True``, a well-known trap."""
    default = call.node.target in (F.dropout, F.dropout1d, F.dropout2d)
    if call.argument(2, "training", default):
        raise Refused("dropout that is always on", "pass training=self.training")
    return Alias(call.args[0])


def _size(call: Call, size: Any) -> tuple[int, int]:
    pair = size if isinstance(size, tuple | list) else (size, size)
    spatial = call.shape()[2:]
    resolved = tuple(own if want is None else want for want, own in zip(pair, spatial, strict=True))
    return (resolved[0], resolved[1])
